"""One run of every kind of supervision: trained, broken off, resumed, on many devices.

Each comes from its shipped config, smoked: two streams with a table that is refined,
candidate sets with a table of confidences, contrastive pairs judged by neighbours and
by a probe that is a stage, pairs of examples judged by areas, a class for every pixel,
modalities that learn in turns.
"""

import pathlib

import jax
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.stages import check_stages, train_stages

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
SLICES = {
    "darp": ("semi_lt", "eval/test/balanced_accuracy"),
    "proden": ("partial_lt", "eval/test/balanced_accuracy"),
    "simclr": ("selfsup_lt", "eval/test/balanced_accuracy"),
    "auc_square": ("auc_lt", "eval/test/auc_ovo"),
    "ce": ("segmentation_scenes", "eval/test/mean_iou"),
    "reconboost": ("multimodal_digits", "eval/test/balanced_accuracy"),
}


class Broken(Exception):
    """The process ends here."""


def stages(name: str, **changes):
    """The checked runs of a slice, with changes by dotted name."""
    config = load_config(
        ["--config", str(CONFIGS / f"{SLICES[name][0]}.py:method={name},smoke")]
        + [f"--config.{key}={value}" for key, value in changes.items()]
    )
    return check_stages(config)


def breaking_at(step: int):
    """An edit of a run that ends it while its plan of `step` is asked for."""

    def edit(run):
        def plan(index):
            if index == step:
                raise Broken
            return run.plan(index)

        return run._replace(plan=plan)

    return edit


# The longest is slow as a whole: it compiles a program for each of its stages.
EACH = [
    pytest.param(name, marks=pytest.mark.slow if name == "reconboost" else ())
    for name in SLICES
]


@pytest.fixture(scope="module", params=EACH)
def finished(request, devices, tmp_path_factory):
    """(name, result, workdir) of an uninterrupted slice."""
    workdir = tmp_path_factory.mktemp(request.param)
    with devices(1):
        result = train_stages(stages(request.param), workdir, tensorboard=False)
    return request.param, result, workdir


def test_a_slice_is_judged_by_its_own_measure(finished):
    name, result, workdir = finished
    values = result.metrics[SLICES[name][1]]
    assert values.shape == (1,) and 0 <= values[0] <= 1
    most = 4 if name == "reconboost" else 2  # its programs: each alone, one, both
    assert all(count <= most for count in result.traces.values())
    if name == "simclr":  # its first stage has no classes to be accurate about
        files = sorted(path.name for path in workdir.iterdir())
        assert files == ["0_pretrain", "1_probe"]
        with np.load(next((workdir / "0_pretrain/evaluation").glob("test_6.npz"))) as f:
            assert "summary/knn_balanced_accuracy" in f
            assert "summary/balanced_accuracy" not in f


def test_broken_off_it_ends_at_the_same_bits(finished, devices, tmp_path, assert_same):
    name, result, _ = finished
    runs = stages(name)
    with devices(1):
        # In the last stage, one step after its first checkpoint.
        first = [*runs[:-1]]
        if first:
            train_stages(first, tmp_path, tensorboard=False)
        last = runs[-1]
        place = tmp_path / last.folder
        built = build(last.config)
        with pytest.raises(Broken):
            loop.run(
                breaking_at(built.info.total_steps - 1)(built), place, tensorboard=False
            )
        resumed = train_stages(runs, tmp_path, tensorboard=False)
    assert 0 < resumed.start_step < built.info.total_steps
    assert_same(resumed.state, result.state)


# Tables by row are what devices might tell apart.
@pytest.mark.parametrize(
    "finished",
    [
        pytest.param(name, marks=() if name == "proden" else pytest.mark.slow)
        for name in SLICES
    ],
    indirect=True,
)
def test_on_eight_devices_it_is_the_run_of_one(
    finished, devices, tmp_path, assert_same
):
    name, result, _ = finished
    with devices(8):
        shared = train_stages(stages(name), tmp_path, tensorboard=False)
    # Confident guesses may flip by rounding; no threshold is that close here.
    assert_same(
        jax.tree.map(np.asarray, (shared.state.params, shared.state.method_state)),
        jax.tree.map(np.asarray, (result.state.params, result.state.method_state)),
        rtol=2e-3,
        atol=2e-4,
    )
