"""Every method of every config beyond the supervised ones: broken off and resumed.

A few of them are also run on several devices, see test_slices.py; what their steps
compute is tested under tests/methods.
"""

import importlib.util
import pathlib

import pytest

from ltjax.config_file import load_config
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.restore import earlier_columns
from ltjax.train.stages import check_stages, train_stages

TESTS = pathlib.Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def _golden():
    path = TESTS / "golden" / "regenerate.py"
    spec = importlib.util.spec_from_file_location("ltjax_golden_methods", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = _golden()
CASES = [(file, name) for file, names in golden.METHODS.items() for name in names]
SELFSUP = golden.load(golden.CONFIGS / "selfsup_lt.py").METHODS
CASES += [("selfsup_lt", name) for name in SELFSUP]
# Inside of pre-training too: a queue, masks, a table, and proportions counted before.
CASES += [("selfsup_lt", f"{n},probe=false") for n in ("moco", "sdclr", "bcl", "gh")]


class Broken(Exception):
    """The process ends here."""


def breaking_at(run, step):
    """The run, ending while its plan of `step` is asked for."""

    def plan(index):
        if index == step:
            raise Broken
        return run.plan(index)

    return run._replace(plan=plan)


@pytest.mark.parametrize(("file", "method"), CASES, ids=lambda x: x)
def test_it_trains_and_ends_at_the_same_bits(
    file, method, devices, tmp_path, assert_same
):
    spec = f"{golden.CONFIGS / file}.py:method={method},smoke"
    runs = check_stages(load_config(["--config", spec]))
    with devices(1):
        calm = train_stages(runs, tmp_path / "calm", tensorboard=False)
        # All stages but the last one are finished already.
        first, last = runs[:-1], runs[-1]
        if first:
            train_stages(first, tmp_path / "run", tensorboard=False)
        place = tmp_path / "run" / last.folder
        built = build(last.config, said=earlier_columns(last.config, place))
        with pytest.raises(Broken):
            loop.run(
                breaking_at(built, built.info.total_steps - 1),
                place,
                tensorboard=False,
            )
        resumed = train_stages(runs, tmp_path / "run", tensorboard=False)
    assert 0 < resumed.start_step < built.info.total_steps
    assert_same(resumed.state, calm.state)
    judged = [key for key in calm.metrics if key.startswith("eval/test/")]
    assert judged
