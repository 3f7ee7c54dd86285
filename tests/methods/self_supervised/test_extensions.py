"""Everything at once (SDCLR, TS, BCL, GH), broken off, resumed; what is refused."""

import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.options import ConfigError
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.check import check

pytestmark = pytest.mark.usefixtures("compile_quickly")
SMOKE = "configs/selfsup_lt.py:method=bcl_d,probe=false,smoke"
ALL = (
    "method.harmony=1.0",
    "method.harmony_classes=8",
    "method.temperature_shape=cosine",
    "model.norm=none",
    "eval_every=0 steps",
)


def config(*changes):
    changes = (f"--config.{change}" for change in changes)
    return check(load_config(["--config", SMOKE, *changes]))


class Broken(Exception):
    """The process ends here."""


def test_masks_scores_and_proportions_resume_at_the_same_bits(
    devices, tmp_path, assert_same
):
    chosen = config(*ALL)

    def broken(run):
        def plan(index):
            if index == 5:
                raise Broken
            return run.plan(index)

        return run._replace(plan=plan)

    with devices(1):
        whole = loop.run(build(chosen), tmp_path / "whole", tensorboard=False)
        with pytest.raises(Broken):
            loop.run(broken(build(chosen)), tmp_path / "parts", tensorboard=False)
        again = loop.run(build(chosen), tmp_path / "parts", tensorboard=False)
    assert again.start_step == 3
    assert_same(again.state, whole.state)
    kept = whole.state.method_state
    assert set(kept) == {"masks", "boost", "latent", "prior", "frame"}
    assert np.any(kept["boost"]["score"] > 0) and np.any(kept["latent"]["seen"])
    assert np.ptp(kept["prior"]) > 0  # counted, no longer uniform


def test_what_keeps_a_row_for_each_example_needs_each_of_them_once():
    with pytest.raises(ConfigError) as told:
        config("sampler.name=class_balanced", "augment.name=none")
    assert "keep one row for each; expected 'instance'" in str(told.value)
    assert "cannot vary its strength by example" in str(told.value)
