"""The AUC benchmark compares equal numbers; both of its tables fill."""

import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def auc(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("experiments.bench.auc")


def test_losses_equal_their_sum_over_pairs_and_are_measured(auc, monkeypatch):
    chosen = {name: auc.LOSSES[name] for name in ("auc_square", "auc_hinge[2]")}
    monkeypatch.setattr(auc, "LOSSES", chosen)
    rows = auc.measure_losses(60, repeats=1)  # asserts that the values agree
    assert {row["subject"] for row in rows} == set(chosen)
    assert all(float(row["ratio"]) > 0 for row in rows)


def test_baseline_is_scaled_to_all_pairs(auc, monkeypatch):
    monkeypatch.setattr(auc, "PAIRS", 54 * 2)  # two of the six positives
    monkeypatch.setattr(auc, "LOSSES", {"auc_square": auc.LOSSES["auc_square"]})
    seen = {}

    def ratios(baseline, subjects, *, repeats):
        seen["pairs"] = baseline()[1][0].size
        ratio = auc.common.Ratio(6.0, 3.0, 9.0, 0.6, 0.1, 1, 6.0)
        return dict.fromkeys(subjects, ratio)

    monkeypatch.setattr(auc.common, "interleaved_ratios", ratios)
    (row,) = auc.measure_losses(60, repeats=1)
    assert seen["pairs"] == 2
    assert [row[k] for k in ("ratio", "ratio_low", "ratio_high")] == ["2", "1", "3"]
    assert row["baseline_milliseconds"] == "300.000"


def test_metrics_equal_scikit_learn_and_are_measured(auc):
    rows = auc.measure_metrics(60, repeats=1)  # asserts that the values agree
    assert len(rows) == 7
    assert all(float(row["ratio"]) > 0 for row in rows)
