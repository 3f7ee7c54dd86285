"""A run of denoising: broken off and resumed, and shared by eight devices."""

import pathlib

import jax
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.check import check

CONFIGS = pathlib.Path(__file__).resolve().parents[3] / "configs"


class Broken(Exception):
    """The process ends here."""


def made():
    config = load_config(
        ["--config", f"{CONFIGS / 'diffusion_digits.py'}:method=denoising,smoke"]
    )
    config.model.control, config.model.low_rank, config.model.attends = False, 0, 0
    config.evaluators = {"denoising": {"levels": 2}}
    return build(check(config))


@pytest.fixture(scope="module")
def finished(devices, tmp_path_factory):
    with devices(1):
        return loop.run(made(), tmp_path_factory.mktemp("calm"), tensorboard=False)


@pytest.mark.slow
def test_broken_off_it_ends_at_the_same_bits(finished, devices, tmp_path, assert_same):
    assert finished.state.ema is not None  # averages are part of what comes back
    with devices(1):
        run = made()

        def plan(step):
            if step == run.info.total_steps - 1:
                raise Broken
            return run.plan(step)

        with pytest.raises(Broken):
            loop.run(run._replace(plan=plan), tmp_path, tensorboard=False)
        resumed = loop.run(made(), tmp_path, tensorboard=False)
    assert 0 < resumed.start_step < run.info.total_steps
    assert_same(resumed.state, finished.state)
    loss = finished.metrics["eval/test/denoising_loss"]
    assert loss.shape == (1,) and np.isfinite(loss).all()


@pytest.mark.slow
def test_on_eight_devices_it_is_the_run_of_one(
    finished, devices, tmp_path, assert_same
):
    with devices(8):
        shared = loop.run(made(), tmp_path, tensorboard=False)
    assert_same(
        jax.tree.map(np.asarray, shared.state.params),
        jax.tree.map(np.asarray, finished.state.params),
        rtol=2e-3,
        atol=2e-4,
    )
