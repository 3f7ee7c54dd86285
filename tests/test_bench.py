"""The benchmark scripts run, and measure what they say."""

import importlib
import pathlib

import pytest

import ltjax.losses

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def bench(monkeypatch):
    """Imports experiments.bench.<name>."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"experiments.bench.{name}")


def test_ratio_on_a_clock_that_the_calls_advance(bench, monkeypatch):
    common = bench("common")
    now, calls = [0.0], []

    def takes(name, seconds):
        def call():
            calls.append(name)
            now[0] += seconds

        return call

    monkeypatch.setattr(common.time, "perf_counter", lambda: now[0])
    ratios = common.interleaved_ratios(
        takes("base", 0.004),
        {"same": takes("same", 0.004), "longer": takes("longer", 0.1)},
        repeats=2,
        least_seconds=0.02,
    )
    assert ratios["same"].median == pytest.approx(1.0)
    assert ratios["longer"].median == pytest.approx(25.0)
    assert ratios["longer"].seconds == pytest.approx(0.1)
    assert ratios["longer"].baseline_seconds == pytest.approx(0.004)
    # Two calls of each for compiling and sizing; then at least 0.02 s a measurement,
    # first the baseline, then the subject, and the other way round.
    timed = "".join(name[0] for name in calls[6:])
    assert timed == "bbbbbsssss" + "bbbbbl" + "sssssbbbbb" + "lbbbbb"


def test_csv_grows_and_keeps_its_columns(bench, tmp_path):
    common = bench("common")
    path = tmp_path / "results" / "some.csv"
    common.append_csv(path, [{"a": "1", "b": "x, y"}])
    common.append_csv(path, [{"a": "2", "b": ""}])
    assert path.read_text().splitlines() == ["a,b", '1,"x, y"', "2,"]
    with pytest.raises(ValueError, match=r"has the columns \['a', 'b'\]"):
        common.append_csv(path, [{"a": "3", "c": ""}])


def test_provenance_names_versions_and_hardware(bench):
    origin = bench("common").provenance()
    assert all(isinstance(value, str) for value in origin.values())
    assert origin["ltjax"] == ltjax.__version__
    assert origin["backend"] == "cpu" and origin["device"]


def test_every_loss_is_measured(bench):
    rows = bench("losses").measure(8, 5, repeats=1)
    measured = {row["loss"].split("[")[0] for row in rows}
    assert measured == {"optax", *ltjax.losses.__all__}
    assert all(float(row["ratio"]) > 0 for row in rows)


def test_path_is_measured_against_a_grid(bench):
    row = bench("posthoc").measure(400, 10, repeats=1)
    assert float(row["best_on_path"]) >= float(row["best_on_grid"]) > 0.3
    assert float(row["ratio"]) > 0


def test_augmentation_is_measured_against_pillow(bench):
    augment = bench("augment")
    assert augment.PEERS.keys() == {change.op for change in augment.FIXMATCH}
    row, *_ = augment.measure(2, 16, repeats=1, names=["distort_color"])
    assert float(row["ratio"]) > 0 and float(row["images_per_second"]) > 0
