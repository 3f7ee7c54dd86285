"""One run of every kind of supervision: trained, broken off, resumed, on many devices.

Each comes from its shipped config, smoked: two streams with a table that is refined,
candidate sets with a table of confidences, contrastive pairs judged by neighbours and
by a probe that is a stage, pairs of examples judged by areas, a class for every pixel,
modalities that learn in turns. Then the other methods with tables by row, on one device
and on eight.
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


def smoked(file: str, arguments: str, *changes: str):
    """The checked runs of a shipped config, with changes as on the command line."""
    return check_stages(
        load_config(
            ["--config", str(CONFIGS / f"{file}.py:{arguments},smoke")]
            + [f"--config.{change}" for change in changes]
        )
    )


def stages(name: str):
    """The checked runs of a slice."""
    return smoked(SLICES[name][0], f"method={name}")


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


# A run over more than one epoch, whose rows lie on five of eight devices.
SMALL = (
    "model.name=mlp",
    "model.hidden=(16,)",
    "batch_size=32",
    "total=7 steps",
    "eval_every=0 steps",
    "checkpoint_every=0 steps",
)
UNNORMED = "model.norm=none"
# By name: config, arguments, changes, tables. Steps write the tables of partial labels,
# refreshes on the host the others; SoLar's counts on the device.
TABLES = {
    "lw": ("partial_lt", "method=lw,records", (UNNORMED,), ("confidence",)),
    "cavl": ("partial_lt", "method=cavl", (UNNORMED,), ("confidence",)),
    "corr": (
        "partial_lt",
        "method=corr,records,mixup=4.0",
        (UNNORMED, "method.warmup=1 steps"),
        ("confidence",),
    ),
    "solar": (
        "partial_lt",
        "method=solar",
        (UNNORMED, "method.queue=2", "method.warmup=2 steps", "method.ramp=4 steps"),
        ("confidence",),
    ),
    "solar_estimate": (
        "partial_lt",
        "method=solar",
        (UNNORMED, "method.queue=2", "method.estimate=3 steps"),
        ("confidence",),
    ),
    "rolt": (
        "noisy_lt",
        "method=rolt,drw",
        (UNNORMED, "method.start=2 steps", "method.late=4 steps"),
        ("clean", "logits", "scores", "surrogate"),
    ),
    "rcal": (
        "noisy_lt",
        "method=rcal,pretrain=False",
        (UNNORMED,),
        ("anchor", "kept"),
    ),
    "sel_cl": (
        "noisy_lt",
        "method=sel_cl,tune=False",
        (UNNORMED, "method.neighbors=9", "method.quantile=1.0"),
        ("selected",),
    ),
    "sel_cl_tune": (
        "noisy_lt",
        "method=supervised",
        (
            UNNORMED,
            "method.name=sel_cl_tune",
            "method.neighbors=9",
            "method.quantile=1.0",
        ),
        ("selected",),
    ),
    "har": ("noisy_lt", "method=har", ("model.norm=batch",), ("held",)),
    "crest": ("semi_lt", "method=crest_plus", (UNNORMED,), ("adopted",)),
}
QUICK = ("rolt",)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in TABLES
    ],
)
def test_tables_by_row_are_those_of_one_device(name, devices, tmp_path, assert_same):
    file, arguments, changes, tables = TABLES[name]
    states = {}
    for count in (1, 8):
        with devices(count):
            runs = smoked(file, arguments, *SMALL, *changes)
            place = tmp_path / str(count)
            states[count] = train_stages(runs, place, tensorboard=False).state
    for table in tables:
        rows = states[8].method_state[table]
        assert rows.sharding.shard_shape(rows.shape)[1] == rows.shape[1] // 8
        assert len(np.unique(rows)) > 1  # none is as it began
    one, eight = (
        jax.tree.map(np.asarray, (state.params, state.method_state))
        for state in states.values()
    )
    assert_same(eight, one, rtol=1e-4, atol=1e-5)
