"""Workdirs as the training loop writes them, without training anything."""

import json
import types

import numpy as np
import pytest


def write_workdir(
    path,
    *,
    method="CE",
    confusion,
    class_counts,
    bins=None,
    seeds=None,
    hypers=None,
    records=(),
    step=100,
    data="toy",
    **info,
):
    """A run folder; `confusion` is [R, K, K], `bins` three [R, K, J] sums or None."""
    confusion = np.asarray(confusion, np.int64)
    replicas = len(confusion)
    seeds = list(range(replicas)) if seeds is None else seeds
    hypers = [{"lr": 0.1}] * replicas if hypers is None else hypers
    if bins is None:
        # Every prediction in one bin with confidence 3/4.
        count = np.zeros((*confusion.shape[:2], 15))
        count[..., 11] = confusion.sum(-1)
        correct = np.zeros_like(count)
        correct[..., 11] = np.diagonal(confusion, axis1=1, axis2=2)
        bins = (count, 0.75 * count, correct)
    (path / "evaluation").mkdir(parents=True)
    np.savez_compressed(
        path / "evaluation" / f"test_{step}.npz",
        confusion=confusion,
        bin_count=bins[0],
        bin_confidence=bins[1],
        bin_correct=bins[2],
        invalid=np.zeros(replicas, np.int64),
    )
    facts = {
        "method": method,
        "data": data,
        "num_classes": confusion.shape[-1],
        "class_counts": np.asarray(class_counts).tolist(),
        "replicas": [
            {"seed": s, "hyper": h} for s, h in zip(seeds, hypers, strict=True)
        ],
        "imbalance_factor": max(class_counts) / min(class_counts),
        "num_params": 1234,
        "subset": "9f2c",
        "shot_groups": {"many": 100, "few": 20},
        "versions": {"python": "3.11.2", "jax": "0.10.2", "ltjax": "0.1.0"},
        "code": "abc1234",
        "hardware": {"platform": "cpu", "device": "cpu", "devices": 1, "cpu": "Xeon"},
        **info,
    }
    config = {
        "label": method,
        "total": f"{step} steps",
        "data": {"name": data, "profile": "exp"},
        "model": {"name": "mlp"},
        "loss": {"name": method.lower(), "tau": 1.0},
    }
    (path / "run.json").write_text(json.dumps(facts))
    (path / "config.json").write_text(json.dumps(config))
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (path / "metrics.jsonl").write_text(lines)
    return path


@pytest.fixture
def workdir(tmp_path):
    """A function name, **contents -> the path of a new workdir."""
    return lambda name, **contents: write_workdir(tmp_path / name, **contents)


@pytest.fixture
def judged_workdir(tmp_path):
    """The path of a new workdir whose evaluation holds summaries only."""

    def make(name, *, summary, method="run", counts=(200, 50, 10), **info):
        replicas = len(next(iter(summary.values())))
        path = write_workdir(
            tmp_path / name,
            method=method,
            confusion=np.ones((replicas, len(counts), len(counts))),
            class_counts=counts,
            **{"backbone": "resnet18", **info},
        )
        np.savez(
            path / "evaluation" / "test_100.npz",
            **{f"summary/{key}": np.array(values) for key, values in summary.items()},
        )
        return path

    return make


# Recalls (.9, .6, .3) and (1, .6, .1): balanced accuracy 60 and 56.667 %.
TWO_SEEDS = [
    [[9, 1, 0], [3, 6, 1], [4, 3, 3]],
    [[10, 0, 0], [4, 6, 0], [5, 4, 1]],
]
# Recalls (.8, .7, .6): balanced accuracy 70 %.
ONE_SEED = [[[8, 1, 1], [2, 7, 1], [2, 2, 6]]]
# One many-, one medium- and one few-shot class.
COUNTS = [200, 50, 10]


def train_record(step, loss, **extra):
    mean = sum(loss) / len(loss)
    record = {"step": step, "epoch": step / 50, "train/loss": mean, **extra}
    if len(loss) > 1:
        record |= {"std": {}, "replicas": {"train/loss": loss}}
    return record


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """A folder of two comparable workdirs, evaluated twice."""
    root = tmp_path_factory.mktemp("runs")
    records = [
        {"step": 50, "eval/test/balanced_accuracy": 0.5, "eval/test/few": 0.1},
        {"step": 100, "eval/test/balanced_accuracy": 0.6, "eval/test/few": 0.2},
    ]
    common = dict(class_counts=COUNTS, records=records)
    write_workdir(root / "b_ce", confusion=TWO_SEEDS, **common)
    write_workdir(root / "a_la", method="LA <b>", confusion=ONE_SEED, **common)
    return root


@pytest.fixture
def ce(workdir):
    """Workdir of a two-seed run of the reference."""
    records = [
        train_record(50, [2.0, 1.0]),
        train_record(100, [1.0, 0.5], **{"time/steps_per_s": 0.5}),
    ]
    return workdir("ce", confusion=TWO_SEEDS, class_counts=COUNTS, records=records)


@pytest.fixture
def la(workdir):
    """Workdir of a one-seed run of another method."""
    records = [train_record(50, [1.5]), train_record(100, [0.75])]
    return workdir(
        "la", method="LA", confusion=ONE_SEED, class_counts=COUNTS, records=records
    )


@pytest.fixture
def toy():
    """The confusions and counts of `ce` and `la`, for other workdirs."""
    return types.SimpleNamespace(
        counts=COUNTS, two_seeds=TWO_SEEDS, one_seed=ONE_SEED, record=train_record
    )


@pytest.fixture(scope="session")
def write_runs():
    """`write_workdir`, for fixtures that outlive a test."""
    return write_workdir
