"""The factorial of fixed frames: its cells, and the tables made from its CSV."""

import importlib
import pathlib
import shutil

import numpy as np
import pytest

from ltjax.train.check import check

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def factorial():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        patch.syspath_prepend(ROOT / "experiments")
        yield importlib.import_module("experiments.etf_factorial.run")


@pytest.mark.parametrize("dataset", ["mnist1d", "mnist"])
def test_every_cell_is_a_run_that_differs_from_the_others(factorial, dataset):
    points = list(factorial.points(dataset, 100, 0, 30, 3))
    assert len(points) == 4 * 3 * 2 * 2 * 2
    configs = [check(point.config) for point in points]
    assert len(set(map(repr, configs))) == 96
    assert len({tuple(point.key.values()) for point in points}) == 96
    for point, config in zip(points, configs, strict=True):
        key, head = point.key, config.head
        fixed = key["head"].startswith("fixed")
        assert head.name == ("etf" if fixed else "linear")
        assert head.batch_norm == (key["features"] == "BN+l2")
        assert fixed or head.use_bias is False  # a frame has no bias either
        scaled = key["features"] == "BN+l2" and key["loss"] != "DR"
        assert head.scale == (10.0 if scaled else 1.0)
        assert config.method.mixup == (1.0 if key["mixup"] == "yes" else 0.0)
        assert config.weights.name == key["balance"]
        assert key["steps"] == int(config.total.split()[0])


def test_narrow_features_leave_no_room_for_a_simplex(factorial):
    point = next(iter(factorial.points("mnist1d", 100, 6, 50, 2)))
    config = check(point.config)
    assert config.model.widths == (32, 64, 6)
    assert config.total == "50 steps" and point.key["width"] == 6


def row(head, loss, few, **levels):
    metrics = {
        f"{name}_{part}": value
        for name, value in {
            "balanced_accuracy": few + 10,
            "many": 90.0,
            "medium": 50.0,
            "few": few,
            "worst": 1.0,
            "ece": 5.0,
        }.items()
        for part, value in (("mean", f"{value:.3f}"), ("std", "0.500"))
    }
    setting = {"dataset": "toy", "profile": "exp", "imf": "10", "width": "8"}
    rest = {"balance": "none", "features": "plain", "mixup": "no", **levels}
    more = {"nc1": "0.25", "nc2_angles": "0.1", "few_cosine": "-0.11"}
    return {
        **setting,
        "steps": "40",
        "head": head,
        "loss": loss,
        **rest,
        **metrics,
        **more,
        "seeds": "0 1 2",
    }


# Pairs of cells that differ in the head alone: 30 - 20 and 28 - 24 points.
ROWS = [
    row("learnable", "CE", 20.0),
    row("fixed ETF", "CE", 30.0),
    row("learnable", "LA", 24.0),
    row("fixed ETF", "LA", 28.0),
    row("fixed ETF", "DR", 99.0),  # without a partner
]


def test_effects_are_means_over_pairs(factorial):
    mean, error, pairs = factorial.effect(ROWS, "head", "fixed ETF", "few")
    # Changes 10 and 4: standard deviation sqrt(18), over the root of two.
    assert (mean, pairs) == (7.0, 2) and error == pytest.approx(3.0)
    mean, error, pairs = factorial.effect(ROWS, "loss", "LA", "few")
    assert (mean, error, pairs) == (1.0, pytest.approx(3.0), 2)  # 4 and -2
    assert factorial.effect(ROWS, "loss", "DR", "few")[::2] == (69.0, 1)
    diverged = row("fixed ETF", "CE", float("nan"), mixup="yes")
    assert factorial.effect([*ROWS, diverged], "mixup", "yes", "few")[2] == 0
    assert (
        factorial.cells_table([diverged, *ROWS])
        .splitlines()[-1]
        .startswith("| fixed ETF | CE | none | plain | yes | – |")
    )
    none = factorial.effect(ROWS, "mixup", "yes", "few")
    assert np.isnan(none[0]) and none[2] == 0


def test_readme_is_written_from_the_rows(factorial, tmp_path, monkeypatch):
    shutil.copy(ROOT / "experiments/etf_factorial/README.md", tmp_path)
    monkeypatch.setattr(factorial, "HERE", tmp_path)
    monkeypatch.setattr(factorial, "read_rows", lambda path: ROWS)
    factorial.table()
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert "### toy, exp profile, ratio 10, 8 features" in lines
    assert "5 of 96 cells, 3 seeds, 40 steps." in lines
    expected = "| head | fixed ETF | learnable | 2 | +7.0 ± 3.0 | +0.0 ± 0.0 |"
    assert f"{expected} +7.0 ± 3.0 |" in lines
    assert not any(line.startswith("| mixup | yes") for line in lines)  # no such row
    # Among fixed heads dot regression has a partner: 99 - 30 points.
    assert "| loss | DR | CE | 1 | +69.0 | +0.0 | +69.0 |" in lines
    cells = [line for line in lines if line.startswith("| fixed ETF | DR |")]
    assert cells == [
        "| fixed ETF | DR | none | plain | no | 109.0 ± 0.5 | 90.0 ± 0.5 |"
        " 50.0 ± 0.5 | 99.0 ± 0.5 | 0.25 | -0.11 |"
    ]
