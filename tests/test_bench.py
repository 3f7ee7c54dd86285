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


def test_provenance_names_versions_and_hardware(bench):
    origin = bench("common").provenance()
    assert all(isinstance(value, str) for value in origin.values())
    assert origin["ltjax"] == ltjax.__version__
    assert origin["backend"] == "cpu" and origin["device"]
    assert list(origin)[:3] == ["date", "ltjax", "commit"]  # columns of the results


# Files of losses that a softmax cross-entropy is a fair baseline of; those of pairs,
# lists, features and experts are not.
MEASURED = (
    "_affine",
    "class_balanced",
    "consistency",
    "dot_regression",
    "logit_adjustment",
    "margins",
    "partial_label",
    "sigmoid",
    "softmax",
    "vector_scaling",
)


@pytest.mark.slow
def test_every_loss_of_these_files_is_measured(bench):
    rows = bench("losses").measure(8, 5, repeats=1)
    measured = {row["loss"].split("[")[0] for row in rows}
    public = {
        name
        for name in ltjax.losses.__all__
        if getattr(ltjax.losses, name).__module__.rpartition(".")[2] in MEASURED
    }
    assert measured == {"optax", *public} - {"ldam_margins"}  # statistics, no loss
    assert all(float(row["ratio"]) > 0 for row in rows)


def test_path_is_measured_against_a_grid(bench):
    row = bench("posthoc").measure(400, 10, repeats=1)
    assert float(row["best_on_path"]) >= float(row["best_on_grid"]) > 0.3
    assert float(row["ratio"]) > 0


def test_refinement_is_measured_against_the_published_loop(bench):
    rows = bench("darp").measure(300, 5, 20.0, 2.0, repeats=1)
    newton, passes = rows
    assert (newton["solver"], passes["solver"]) == ("newton", "coordinate")
    assert float(newton["violation"]) < 1e-10 and int(newton["steps"]) <= 15
    # Ten passes, by exact roots and by the secants of the published loop, agree.
    distances = float(passes["distance"]), float(passes["published_distance"])
    assert distances[0] == pytest.approx(distances[1], rel=0.5)
    assert all(float(row["ratio"]) > 0 for row in rows)


@pytest.mark.slow
def test_blocks_neighbors_and_probes_are_measured(bench):
    contrastive = bench("contrastive")
    blocked = contrastive.measure_losses(32, (8,), repeats=1, of_cpu=True)
    assert [row["subject"] for row in blocked] == ["nt_xent[8]", "sup_con[8]"]
    assert {row["baseline"] for row in blocked} == {"all at once, processor time"}
    assert all(float(row["gap"]) < 1e-4 for row in blocked)
    (votes,) = contrastive.measure_knn(8, 120, repeats=1)
    assert float(votes["gap"]) == 0
    (probe,) = contrastive.measure_probe(256, 2, 3, repeats=1)
    assert float(probe["gap"]) > -1e-4


def test_augmentation_is_measured_against_pillow(bench):
    augment = bench("augment")
    assert augment.PEERS.keys() == {change.op for change in augment.FIXMATCH}
    row, *_ = augment.measure(2, 16, repeats=1, names=["distort_color"])
    assert row["baseline"] == "Pillow"
    assert float(row["ratio"]) > 0 and float(row["images_per_second"]) > 0


def test_augmentation_is_measured_against_torchvision(bench, interpreter):
    """A process that claims 500 s a call takes its place; only ours is measured."""
    augment = bench("augment")
    assert {change.op for change in augment.TORCHVISION} == augment.PEERS.keys()
    fake = interpreter(
        "import sys\n"
        "assert sys.argv[2:] == ['experiments.bench.augment_torch', '4', '8', '9']\n"
        "print('ready 2 0.2', flush=True)\n"
        "for line in sys.stdin:\n"
        "    print('done 500', flush=True)\n"
    )
    (row,) = augment.measure_torchvision(4, 8, 1, fake)
    assert (row["subject"], row["batch"], row["size"]) == ("rand_augment", "4", "8")
    assert row["baseline"] == "torchvision 0.2, torch 2"
    assert float(row["baseline_milliseconds"]) == pytest.approx(5e5, rel=0.01)
    assert 0 < float(row["milliseconds"]) < 5e5


def test_entries_of_the_pool_have_the_magnitudes_of_torchvision(bench):
    """At 9 of 30: 0.9 * 0.3 around 1, 8 bits less 4 * 0.3 rounded, and so on."""
    augment = bench("augment")
    level, found = augment.MAGNITUDE / augment.HIGHEST, {}
    for change in augment.TORCHVISION:
        value = change.low + level * (change.high - change.low)
        value = value * 32 if change.of_side else value
        value = value // 1 if change.whole else value
        found.setdefault(change.op, []).append(pytest.approx(value))
    assert found["rotate"] == [9, 9] and found["shear_x"] == [0.09, 0.09]
    assert found["translate_y"] == [4, 4]  # 150 / 331 * 32 * 0.3 = 4.35
    assert found["posterize"] == [7, 7] and found["solarize"] == [178.5, 178.5]
    assert found["color"] == [0.73, 1.27]
    assert {len(values) for values in found.values()} == {2}  # all are as likely
