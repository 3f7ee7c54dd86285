"""The AUC benchmark compares equal numbers; both of its tables fill."""

import importlib
import pathlib

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def auc(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("experiments.bench.auc")


def test_losses_equal_their_sum_over_pairs_and_are_measured(auc, monkeypatch):
    names = ("auc_square", "auc_hinge[2]", "partial_auc_cvar")
    chosen = {name: auc.LOSSES[name] for name in names}
    monkeypatch.setattr(auc, "LOSSES", chosen)
    rows = list(auc.measure_losses(60, repeats=1))  # asserts that the values agree
    assert {row["subject"] for row in rows} == set(chosen)
    assert all(float(row["baseline_mib"]) >= 0 for row in rows)
    assert all(float(row["ratio"]) > 0 for row in rows)


def test_losses_of_several_classes_equal_their_tables(auc, monkeypatch):
    monkeypatch.setattr(auc, "CLASSES", 3)
    chosen = [("auc_square", "ovo"), ("auc_exp", "ovr")]
    monkeypatch.setattr(auc, "OF_CLASSES", chosen)
    rows = list(auc.measure_class_losses(30, repeats=1))  # the values agree
    assert [row["subject"] for row in rows] == ["auc_square, ovo", "auc_exp, ovr"]
    asked = {}
    monkeypatch.setattr(auc, "PAIRS", 100)
    monkeypatch.setattr(auc, "OF_CLASSES", chosen[:1])
    monkeypatch.setattr(auc, "fast", lambda *a: None)
    monkeypatch.setattr(auc, "all_class_pairs", lambda *a: None)
    monkeypatch.setattr(auc, "against_pairs", lambda *a: asked.update({a[0]: a[5:7]}))
    list(auc.measure_class_losses(30, repeats=1))
    (up, down), scale = asked["auc_square, ovo"]
    timed = sum(len(u) * len(d) for u, d in zip(up, down, strict=True))
    every = sum((30 - len(d)) * len(d) for d in down)
    assert timed <= 100 + 3 * 30 and scale == every / timed


def test_baseline_is_scaled_to_all_pairs(auc, monkeypatch):
    monkeypatch.setattr(auc, "PAIRS", 54 * 2)  # two of the six positives
    monkeypatch.setattr(auc, "LOSSES", {"auc_square": auc.LOSSES["auc_square"]})
    seen = {}

    def ratios(baseline, subjects, *, repeats, clock):
        seen["pairs"] = baseline()[1][0].size
        ratio = auc.common.Ratio(6.0, 3.0, 9.0, 0.6, 0.1, 1, 6.0)
        return dict.fromkeys(subjects, ratio)

    monkeypatch.setattr(auc.common, "interleaved_ratios", ratios)
    (row,) = auc.measure_losses(60, repeats=1)
    assert seen["pairs"] == 2
    assert [row[k] for k in ("ratio", "ratio_low", "ratio_high")] == ["2", "1", "3"]
    assert row["baseline_milliseconds"] == "300.000" and not row["baseline_mib"]


def test_metrics_equal_scikit_learn_and_are_measured(auc):
    rows = list(auc.measure_metrics(60, repeats=1))  # asserts that the values agree
    assert len(rows) == 7
    assert all(float(row["ratio"]) > 0 for row in rows)


def test_the_loss_of_pixels_equals_that_of_all_scores_and_is_measured(auc):
    (row,) = auc.measure_pixels((1, 4, 4, 3), repeats=1)
    assert (row["subject"], row["examples"]) == ("pixel_auc", "16")
    assert float(row["ratio"]) > 0 and row["mib"]


class Peer:
    """Answers like the process of the libraries: half of the squared margins."""

    told = ("2", "1", "1.1")

    def __init__(self):
        self.value, self.asked = 0.0, []

    def ask(self, line=""):
        if line:
            library, name, place, *kept = line.split()
            self.asked.append(f"{library} {name}")
            with np.load(place) as stored:
                scores, up = stored["scores"], stored["labels"] == 1
            gaps = 1 - scores[up][:, None] + scores[~up][None, :]
            self.value = np.mean(gaps**2) / (1 if library == "LibAUC" else 2)
            if kept:
                slopes = np.zeros_like(scores)
                slopes[up], slopes[~up] = -gaps.sum(1), gaps.sum(0)
                half = 1 if library == "LibAUC" else 2
                np.save(kept[0], 2 * slopes / gaps.size / half)
        return self.value


def test_a_table_of_pairs_is_not_asked_of_large_sizes(auc, monkeypatch):
    names = ("LibAUC", "squared"), ("XCurve", "square")
    monkeypatch.setattr(auc, "PEERS", {name: auc.PEERS[name] for name in names})
    monkeypatch.setitem(auc.LARGEST, "LibAUC", 50)
    asked = {}
    for size in (40, 60):
        peer = Peer()
        rows = list(auc.measure_peers(size, 1, peer))  # asserts that the values agree
        assert {row["subject"] for row in rows} == {"auc_square"}
        asked[size] = peer.asked
    assert asked == {40: ["LibAUC squared", "XCurve square"], 60: ["XCurve square"]}
    assert rows[0]["baseline"] == "XCurve 1.1, torch 2"


def test_peers_are_compared_in_double_precision(auc, monkeypatch):
    names = ("LibAUC", "squared"), ("XCurve", "square")
    monkeypatch.setattr(auc, "PEERS", {name: auc.PEERS[name] for name in names})
    found = list(auc.differences_in_float64(40, Peer()))
    assert [name for name, *_ in found] == ["LibAUC squared", "XCurve square"]
    assert max(max(apart) for _, *apart in found) < 1e-14


def test_growth_is_the_exponent_from_size_to_size(auc):
    rows = [
        {"subject": name, "baseline": "x", "examples": str(n), "milliseconds": str(t)}
        for n, t in ((10, 3.0), (1000, 300.0), (2000, 1200.0))
        for name in ("a",)
    ]
    found = [row.get("growth") for row in auc.with_growth(iter(rows))]
    assert found == [None, "1.00", "2.00"]
