"""From a config to a run: what data and config must agree on, and what a run holds."""

import re

import jax
import numpy as np
import pytest

from ltjax.options import ConfigError
from ltjax.train import build as building
from ltjax.train import parts
from ltjax.train.build import build, run_name
from ltjax.train.lanes import replica_table

CLASSES, PER_CLASS = 3, 12
NPZ = {
    "data.profile": "none",
    "data.max_count": 0,
    "batch_size": 8,
    "total": "4 steps",
}


def write_npz(folder, *, inputs=None, labels=None, test_labels=None):
    """train.npz and test.npz of small float inputs; returns the data set's name."""
    rng = np.random.default_rng(0)
    if labels is None:
        labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    if inputs is None:
        inputs = rng.normal(size=(len(labels), 5)).astype(np.float32)
    np.savez(folder / "train.npz", inputs=inputs, labels=labels)
    other = np.arange(CLASSES) if test_labels is None else np.asarray(test_labels)
    test_inputs = rng.normal(size=(len(other), 5)).astype(np.float32)
    np.savez(folder / "test.npz", inputs=test_inputs, labels=other)
    return f"npz:{folder}/{{split}}.npz"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.counts": (5, 5)}, "expected 3 counts no larger than the available"),
        ({"data.counts": (5, 13, 5)}, "config.data.counts is (5, 13, 5), expected 3"),
        ({"data.counts": (12, 0, 5)}, "class 1 has no training example (1 empty)"),
        ({"data.counts": (12, -1, 5)}, "counts is (12, -1, 5), expected a number >= 0"),
    ],
    ids=["length", "too many", "zero", "negative"],
)
def test_counts_that_do_not_fit(tiny, tmp_path, changes, message):
    config = NPZ | {"data.name": write_npz(tmp_path), "data.profile": "counts"}
    with pytest.raises(ValueError, match=re.escape(message)):
        build(tiny(config | changes))


def test_counts_that_fit_are_those_of_the_run(tiny, tmp_path):
    config = NPZ | {"data.name": write_npz(tmp_path), "data.profile": "counts"}
    run = build(tiny(config | {"data.counts": (12, 7, 2)}))
    assert run.info.class_counts.tolist() == [12, 7, 2]


def test_an_empty_class_is_refused(tiny, tmp_path):
    name = write_npz(tmp_path, labels=np.repeat([0, 2], 12))
    message = "class 1 has no training example"
    with (
        pytest.warns(UserWarning, match="1 of 3 classes have no example, e.g. class 1"),
        pytest.raises(ConfigError, match=message),
    ):
        build(tiny(NPZ | {"data.name": name}))


def test_a_label_outside_the_classes(tiny, tmp_path):
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    labels[7] = CLASSES
    name = write_npz(tmp_path, labels=labels)
    config = NPZ | {"data.name": name, "data.num_classes": CLASSES}
    with pytest.raises(ValueError, match=r"lie in \[0, 3\), but labels\[7\] is 3"):
        build(tiny(config))


def test_splits_of_different_classes(tiny, tmp_path):
    name = write_npz(tmp_path, test_labels=[0, 1, 2, 3])
    with pytest.raises(ConfigError, match="train split has 3 classes, test split 4"):
        build(tiny(NPZ | {"data.name": name}))


def test_lengths_that_differ(tiny, tmp_path):
    name = write_npz(tmp_path, inputs=np.zeros((35, 5), np.float32))
    with pytest.raises(ValueError, match=r"shape \(35, 5\), but there are 36 labels"):
        build(tiny(NPZ | {"data.name": name}))


@pytest.mark.parametrize("feed", ["resident", "streaming"])
def test_images_that_are_not_finite(train, tmp_path, feed):
    inputs = np.zeros((36, 5), np.float32)
    inputs[[11, 20], 3] = np.nan, np.inf
    name = write_npz(tmp_path, inputs=inputs)
    workdir = tmp_path / "run"
    message = r"input 11 is not finite \(2 such example\(s\)\)"
    with pytest.raises(ValueError, match=message):
        train(NPZ | {"data.name": name, "data.feed": feed}, workdir=workdir)
    assert not workdir.exists()


def test_a_profile_that_empties_a_class(tiny):
    # 40 / 100^(7/9) = 1.11, 40 / 100^(8/9) = 0.67.
    with pytest.raises(ValueError, match="leave class 8 without an example"):
        build(tiny({"data.imbalance_factor": 100.0}))


def test_a_batch_larger_than_the_data(tiny):
    with pytest.raises(ValueError, match="batch_size 160 exceeds the 159 examples"):
        build(tiny({"batch_size": 160}))


def test_a_warm_up_longer_than_the_run(tiny):
    changes = {"schedule.name": "cosine", "schedule.warmup": "30 steps"}
    message = "'30 steps' = 30 steps, expected less than the run's 24"
    with pytest.raises(ConfigError, match=message):
        build(tiny(changes))


def test_missing_data_name_the_command(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("LTJAX_DATA_DIR", raising=False)
    config = {"data.name": "cifar10", "augment.name": "cifar"}
    with pytest.raises(FileNotFoundError, match="set LTJAX_DATA_DIR .*ltjax prepare"):
        build(tiny(config))
    with pytest.raises(FileNotFoundError, match="ltjax prepare cifar10"):
        build(tiny(config | {"data.data_dir": str(tmp_path)}))


def test_the_pool_is_there_for_evaluators_that_ask(tiny):
    """All stored signals, of which the long-tailed set is a part."""
    asked = build(tiny({"evaluators": {"full_probe": {}}, "data.imbalance_factor": 5}))
    stored = asked.config.data.options.train_per_class * asked.info.num_classes
    assert asked.pool_set.size == stored > asked.train_set.size
    assert build(tiny({"evaluators": {"probe": {}}})).pool_set is None


def test_an_unwritable_workdir(train, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="workdir .*file/run cannot be written"):
        train(workdir=tmp_path / "file" / "run")


def test_names_of_runs_that_have_no_label(tiny):
    names = {
        "CE": {},
        "LA + sam": {"loss.name": "la", "gradient.name": "sam"},
        "CE + DRW": {"weights.name": "class_balanced", "weights.start": "80%"},
        "CE + batch + square_root": {
            "weights.name": "batch",
            "sampler.name": "square_root",
        },
    }
    assert {name: run_name(tiny(changes)) for name, changes in names.items()} == {
        name: name for name in names
    }


def test_replicas_are_seeds_within_the_points_of_the_grid(tiny):
    grid = {"optimizer.lr": (0.1, 0.2), "loss.tau": (0.5, 1)}
    config = tiny(
        {"seed": 7, "replicas.seeds": (0, 3), "loss.name": "la", "replicas.grid": grid}
    )
    table = replica_table(config)
    assert [replica["seed"] for replica in table] == [7, 10] * 4
    points = [(r["hyper"]["optimizer.lr"], r["hyper"]["loss.tau"]) for r in table[::2]]
    # A ConfigDict sorts its keys: loss.tau is the outer one.
    assert points == [(0.1, 0.5), (0.2, 0.5), (0.1, 1.0), (0.2, 1.0)]
    # What the grid does not vary stands at the config's value, in every replica.
    rest = {"optimizer.weight_decay": 2e-4, "method.posthoc_tau": 0.0}
    for replica in table:
        assert {name: replica["hyper"][name] for name in rest} == rest
        assert replica["hyper"].keys() == {"optimizer.lr", "loss.tau", *rest}


# ------------------------------------------------------------------- padding masks


@pytest.fixture
def masks_seen(tiny, monkeypatch):
    """The masks that the network of a run gets while its step is traced."""

    def of(changes):
        seen, make_model = [], parts.make_model

        def spied(*given):
            model = make_model(*given)

            def forward(*args, mask=None, **options):
                seen.append(mask)
                return model.forward(*args, mask=mask, **options)

            return model._replace(forward=forward)

        with monkeypatch.context() as patch:
            patch.setattr(parts, "make_model", spied)
            run = building.build(tiny(changes))

        def first_step():
            state = run.init(0, run.info.replicas[0]["hyper"])
            rows = run.feed.rows(*(part[0] for part in run.plan(0)))
            key = jax.random.key(0)
            batch = run.feed.batch(run.feed.arrays, rows, key, train=True)
            return run.step(state, batch, program=run.program(0))

        jax.eval_shape(first_step)
        steps = range(3 * run.info.steps_per_epoch)
        full = all(np.all(run.plan(step)[1]) for step in steps)
        return seen, full

    return of


@pytest.mark.parametrize(
    "changes",
    [{}, {"sampler.name": "class_balanced"}, {"gradient.name": "sam"}],
    ids=["instance", "class_balanced", "sam"],
)
def test_full_batches_come_without_a_mask(masks_seen, changes):
    seen, full = masks_seen(changes)
    assert full
    assert seen and all(mask is None for mask in seen)


def test_padded_batches_come_with_theirs(masks_seen):
    seen, full = masks_seen({"sampler.remainder": "pad"})
    assert not full
    assert seen and all(mask is not None for mask in seen)
