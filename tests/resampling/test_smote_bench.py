"""The SMOTE benchmark runs, and its two sides make the same number of points."""

import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("experiments.bench.smote")


def test_ratio_and_memory(bench):
    ratio = bench.measure_ratio(3000, 8, repeats=1)
    # floor(3000 r^k / sum r^k) with r = 100^(-1/9) and the rest in the first class: the
    # largest has 1212 examples, to which all ten are filled.
    assert int(ratio["new_points"]) == 10 * 1212 - 3000
    assert float(ratio["ratio"]) > 0 and float(ratio["largest_gap_of_means"]) < 6
    memory = bench.measure_memory(3000, 8)
    assert memory["new_points"] == ratio["new_points"]
    assert float(memory["peak_gib"]) >= float(memory["peak_gib_before"]) > 0


def test_sizes_of_the_problem(bench):
    features, labels = bench.problem(3000, 8)
    counts = bench.np.bincount(labels)
    assert features.shape == (3000, 8) and counts.sum() == 3000
    assert counts[0] / counts[-1] == pytest.approx(100, rel=0.1)
