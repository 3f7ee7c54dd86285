"""Tables of seeded rows, and the grids that make them."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ltjax.train.stages import check_stages

ROOT = Path(__file__).resolve().parent.parent
GRIDS = (
    "weak",
    "selfsup",
    "measures.experts",
    "measures.reconboost",
    "measures.drauc",
    "measures.auc",
    "measures.tkpr",
    "measures.aucseg",
    "measures.autkc",
)


@pytest.fixture(scope="module", autouse=True)
def importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield


def rows_of(**methods):
    """Rows of one setting: name -> accuracies by seed."""
    return [
        {"method": name, "seed": str(seed), "all": str(value)}
        for name, values in methods.items()
        for seed, value in enumerate(values)
    ]


def test_an_ordering_holds_if_every_seed_says_so():
    from experiments.seeded import Claim, claims_table, differences, verdict

    rows = rows_of(a=(70, 71, 75), b=(69, 70, 70), c=(72, 68, 70))

    def claim(better, worse):
        sides = {"method": better}, {"method": worse}
        return Claim(f"{better} above {worse}", "here", *sides, "all")

    claims = [claim("a", "b"), claim("b", "a"), claim("c", "a"), claim("d", "a")]
    found = [differences(rows, one) for one in claims]
    np.testing.assert_array_equal(found[0], [1, 1, 5])
    assert [verdict(x) for x in found] == ["holds", "reversed", "open", "open"]
    text = claims_table(rows, claims)
    assert text.startswith(
        "Of 3 published orderings, 1 holds in every seed, 1 is reversed in every seed,"
        " and 1 is open."
    )
    assert claims_table(rows, claims[:1]).startswith(
        "Of 1 published ordering, 1 holds in every seed, 0 are reversed in every seed,"
        " and 0 are open."
    )
    # 7/3 and the root of (2 (4/3)^2 + (8/3)^2) / 2
    assert "| a above b | here | all | 2.3 ± 2.3 | holds |" in text
    assert "d above a" not in text  # no rows


def test_one_seed_proves_nothing():
    from experiments.seeded import verdict

    assert verdict(np.asarray([3.0])) == "open"
    assert verdict(np.asarray([3.0, np.nan])) == "open"  # a seed diverged


def test_a_point_says_how_to_get_its_config():
    from experiments.seeded import shipped_point

    asked = {"key": {"method": "CE"}, "file": "auc_lt", "arg": "method=ce"}
    changes = {"optimizer.lr": 0.3, "eval_every": "3 steps"}
    point = shipped_point(**asked, changes=changes, smoke=False, total="9 steps")
    assert point.command == (
        "configs/auc_lt.py:method=ce --config.optimizer.lr=0.3"
        " '--config.eval_every=3 steps'"
    )
    config = point.config
    assert (config.optimizer.lr, config.total) == (0.3, "9 steps")
    assert config.replicas.seeds == (0, 1, 2)
    small = shipped_point(**asked, smoke=True, total="9 steps")
    assert small.command == "configs/auc_lt.py:method=ce"
    assert small.config.total == "6 steps" and small.config.replicas.seeds == (0,)


def test_what_a_run_lacks_is_no_number():
    from experiments.seeded import Trained

    run = SimpleNamespace(info=SimpleNamespace(replicas=[{}, {}]))
    for result in (None, SimpleNamespace(metrics={"other": np.ones(2)})):
        found = Trained(run, result, 1.0).metric("eval/test/map")
        np.testing.assert_array_equal(found, [np.nan, np.nan])


def test_the_tables_of_weak_supervision():
    from experiments.weak.table import text

    key = {"table": "semi", "ratio": "100", "method": "FixMatch"}
    numbers = {"many": "90", "medium": "80", "few": "nan"}
    rows = [
        {
            **key,
            "setting": "reversed",
            "seed": seed,
            "balanced_accuracy": all,
            **numbers,
        }
        for seed, all in (("0", "70"), ("1", "72"))
    ]
    free = {**key, "method": "labelled only", "setting": "any", **numbers}
    rows.append({**free, "seed": "0", "balanced_accuracy": "60"})
    found = text(rows)
    reversed_part = found[found.index("**Ratio 100, reversed**") :]
    assert "| FixMatch | 71.0 ± 1.4 | 90.0 ± 0.0 | 80.0 ± 0.0 | – |" in reversed_part
    assert "| labelled only | 60.0 | 90.0 | 80.0 | – |" in reversed_part
    assert "| FixMatch above labelled only | ratio 100, reversed |" in found
    assert "| DARP" not in found
    assert "### Noisy labels\n\nNo rows yet." in found


def test_true_masses_are_those_of_the_unlabelled_profile():
    from experiments.weak.points import TOLD, changes_of

    assert changes_of("FixMatch", 100, "reversed") is None
    for setting, ends in {"consistent": (300, 3), "reversed": (3, 300)}.items():
        changes = changes_of(TOLD, 100, setting)
        counts = changes["pseudo_labels.counts"]
        assert changes["pseudo_labels.masses"] == "given" and len(counts) == 10
        assert (counts[0], counts[-1]) == ends


def test_the_tables_of_self_supervision():
    from experiments.selfsup.points import COLUMNS
    from experiments.selfsup.table import text

    rows = [
        {"method": "SimCLR", "data": data, "ratio": "100", "seed": str(seed)}
        | dict.fromkeys(COLUMNS, str(value + seed))
        for data, value in (("long-tailed", 80), ("balanced", 85))
        for seed in (0, 1)
    ]
    found = text(rows)
    assert "| SimCLR: balanced above long-tailed | ratio 100 | probe all | 5.0" in found
    assert found.count("| SimCLR | 8") == 2


def test_learners_are_tuned_within_one_budget_on_data_of_their_own():
    from experiments.selfsup import points, tuning
    from experiments.selfsup.trials import OWN

    (final,) = check_stages(points.points()[1].config)
    tried = dict.fromkeys(OWN, 0)
    for point in tuning.points():
        (stage,) = check_stages(point.config)
        tried[point.key["method"]] += 1
        assert stage.config.total == "500 steps"
        assert stage.config.data.seed != final.config.data.seed
        assert not {*stage.config.replicas.seeds} & {*final.config.replicas.seeds}
    assert {*points.TAIL_AWARE} - {*tried} == {"DnC"}  # it has stages of its own
    assert {*tried.values()} == {4}


def test_supervised_stages_are_those_of_the_runs_from_scratch():
    from experiments.selfsup import supervised

    runs = {tuple(p.key.values()): check_stages(p.config) for p in supervised.points()}
    assert len(runs) == 12
    for loss in supervised.LOSSES:
        (scratch,) = runs[supervised.SCRATCH, loss]
        (longer,) = runs[supervised.LONGER, loss]
        for learner in supervised.LEARNERS:
            first, then = (stage.config for stage in runs[learner, loss])
            assert [first.total, then.total] == ["1000 steps", "1500 steps"]
            assert longer.config.total == "2500 steps"
            for name in ("method", "loss", "weights", "sampler", "head", "total"):
                assert getattr(then, name) == getattr(scratch.config, name), name
            for name in ("optimizer", "schedule", "augment", "model", "data", "seed"):
                assert getattr(then, name) == getattr(scratch.config, name), name
            assert then.replicas.seeds == (0, 1, 2)


def test_learners_on_images_are_those_on_signals():
    from experiments.selfsup import images, points

    found = images.points()
    assert len({tuple(point.key.items()) for point in found}) == len(found) == 6
    for point in found:
        (stage,) = check_stages(point.config)
        assert stage.config.data.name == "mnist" and "data=mnist," in point.command
    rows = [
        {"method": method, "data": data, "ratio": "100", "seed": str(seed)}
        | dict.fromkeys(points.COLUMNS, str(value + seed))
        for method, data, value in (
            ("SimCLR", "long-tailed", 80),
            ("SimCLR", "balanced", 85),
            ("TS", "long-tailed", 82),
        )
        for seed in (0, 1)
    ]
    text = images.text(rows)
    assert "| TS above SimCLR | ratio 100 | probe few | 2.0 ± 0.0 | holds |" in text
    assert "| SimCLR: balanced above long-tailed | ratio 100 | probe all | 5.0" in text
    assert "**Pre-trained on the balanced set, ratio 100**" in text
    groups = points.shot_classes("mnist")
    # 5000 x 100^(-k/9): the 4th class has 1077 examples, the 7th 232, the 8th 139.
    assert [groups[name].sum() for name in ("many", "medium", "few")] == [4, 3, 3]


def test_the_weights_of_rwsam_are_all_that_tells_it_from_asam():
    from experiments.selfsup import points

    runs = {
        point.key["method"]: check_stages(point.config)[-1].config
        for point in points.points()
        if point.key["data"] == "long-tailed"
    }
    shared = ("method", "head", "augment", "model", "data", "optimizer", "schedule")
    for base in points.SHARP:
        sharp, plain = runs[f"{base} + rwSAM"], runs[f"{base} + ASAM"]
        for name in (*shared, "total", "batch_size", "seed"):
            assert getattr(sharp, name) == getattr(plain, name), name
        assert sharp.gradient.adaptive and plain.gradient.name == "asam"
        for name in ("rho", "perturb", "late"):
            assert getattr(sharp.gradient, name) == getattr(plain.gradient, name)


def test_the_best_trial_is_that_of_the_probe():
    from experiments.selfsup.trials import best_trials
    from experiments.selfsup.tuning import text

    rows = [
        {"method": method, "trial": trial, "probe_all": value}
        | {"probe_few": "1", "probe_std": "2"}
        for method, found in (
            ("BYOL", {"rate 1": "nan", "momentum 0.996": "80"}),
            ("SimCLR", {"rate 1": "9.5", "temperature 0.1": "80"}),
            ("SimSiam", {"rate 1": "nan", "rate 0.06": "nan", "decay 0.0005": "70"}),
        )
        for trial, value in {"defaults": "8", **found}.items()
    ]
    more = {**rows[0], "trial": "momentum 0.9", "probe_all": "79"}
    rows = [more, *rows]
    # SimCLR lacks a trial; one that diverged is never the best.
    assert best_trials(rows) == {"BYOL": "momentum 0.996", "SimSiam": "decay 0.0005"}
    assert text([]) == "No trials yet."
    shown = text(rows).splitlines()[2:]
    assert shown[:2] == [
        "| SimCLR | defaults | 8 | 1 | 2 |",
        "| SimCLR | rate 1 | 9.5 | 1 | 2 |",
    ]
    assert "| BYOL | **momentum 0.996** | 80 | 1 | 2 |" in shown


def test_the_tables_of_experts():
    from experiments.measures.experts.points import COLUMNS, GRID

    rows = [
        {"method": method, "ratio": "50", "seed": str(seed)}
        | dict.fromkeys(COLUMNS, str(value + seed))
        for method, value in (("LA", 80), ("CE", 70))
        for seed in (0, 1)
    ]
    found = GRID.text(rows)
    assert "| LA above CE | ratio 50 | priors uniform | 10.0 ± 0.0 | holds |" in found
    assert "| CE above LA | ratio 50 | priors forward 50 | -10.0" in found
    assert "| LA | 80.5 ± 0.7 |" in found and "**Ratio 100**" not in found


def test_the_tables_of_modalities():
    from experiments.measures.reconboost.points import COLUMNS, GRID

    rows = [
        {"method": method, "absent": "0.3", "seed": str(seed)}
        | dict.fromkeys(COLUMNS, str(value + seed))
        for method, value in (("ReconBoost", 80), ("joint training", 90))
        for seed in (0, 1)
    ]
    found = GRID.text(rows)
    line = "| ReconBoost above joint training | 30% of the images are noise | alone"
    assert f"{line} signal | -10.0 ± 0.0 |" in found
    assert "**0% of the images" not in found
    assert "| joint training | 90.5 ± 0.7 |" in found


def test_the_tables_of_corrupted_digits():
    from experiments.measures.drauc.points import COLUMNS, GRID

    rows = [
        {"method": method, "share": "0.1", "seed": str(seed)}
        | dict.fromkeys(COLUMNS, str(value + seed))
        for method, value in (("AUCM", 80), ("DRAUC, by class", 84))
        for seed in (0, 1)
    ]
    found = GRID.text(rows)
    line = "| DRAUC, by class above AUCM | share of positives 0.1 | severity 5 |"
    assert f"{line} 4.0 ± 0.0 |" in found
    assert "| AUCM | 80.5 ± 0.7 |" in found and "| CE |" not in found


def test_the_score_of_techniques_against_their_gain():
    from experiments.measures.gate import points
    from experiments.measures.gate.table import agreement, gains, text

    closeness = {"none": 50, "pseudo": 52, "control": 60, "low_rank": 49}
    probe = {"none": 70, "pseudo": 71, "control": 69, "low_rank": 68}
    rows = [
        {"technique": name, "seed": str(seed), "data": "glyphs"}
        | dict.fromkeys(points.METRICS, "0")
        | {"closeness": str(closeness[name] + seed), "probe": str(probe[name] - seed)}
        for name in closeness
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(gains(rows, "closeness"), [2, 2, 10, 10, -1, -1])
    np.testing.assert_array_equal(gains(rows, "probe"), [1, 1, -1, -1, -2, -2])
    # Only edges have the other sign. No technique changes the rare classes.
    told = agreement(rows)
    assert "Of 6 pairs of technique and seed" in told and "same sign in 4" in told
    found = text(rows)
    assert "| edges (control branch) | 60.5 ± 0.7 |" in found
    assert "| better features | guessed class (prompt) | probe | 1.0 ± 0.0 |" in found
    assert text([]) == "No rows yet."
    for point in points.points():
        stages = check_stages(point.config)
        assert [s.config.replicas.seeds for s in stages] == [(point.key["seed"],)] * 3


def test_frames_differ_by_more_than_their_runs():
    from experiments.measures.collapse.table import frame_effect

    # Residuals are 1/2 up and down: a sum of squares of 1 with one degree of freedom.
    values = np.array([[10.0, 21.0], [13.0, 22.0]])
    spread, noise, p = frame_effect(values)
    assert spread == pytest.approx(2**0.5)  # means 15.5 and 17.5
    assert noise == pytest.approx(0.5**0.5)
    assert p == pytest.approx(2 / np.pi * np.arctan(0.5))  # |t| above 2


def test_similar_classes_are_neighbours_in_the_frames_that_say_so():
    from experiments.measures.collapse.points import CHOSEN, alignments

    aligned, opposed = (one["permutation"] for one in CHOSEN.values())
    found = alignments([aligned, *range(1, 30), opposed])
    assert found.argmax() == 0 and found.argmin() == 30


def test_the_tables_of_frames():
    from experiments.measures.collapse.points import CLAIMS, METRICS, OWN, TIMES
    from experiments.measures.collapse.points import points as every
    from experiments.measures.collapse.table import text

    keys = [{k: str(v) for k, v in point.key.items()} for point in every()]
    for point in every():
        (stage,) = check_stages(point.config)
        assert stage.config.replicas.seeds == (0, 1, 2)
    rows = [
        {"dim": "5", "frame": frame, "at": at, "seed": str(seed)}
        | dict.fromkeys(METRICS, str(value + seed + late))
        | {"margin_low": str(50 + late - value + seed * (value - 70))}
        for frame, value in ((OWN, 70), ("aligned", 73), ("opposed", 71))
        for at, late in (("60 %", 0), ("100 %", 5))
        for seed in (0, 1)
    ]
    found = text(rows)
    title = "opposite pairs in 5 dimensions"
    line = "| larger margins at the end than after 60 %"
    assert f"{line} | {title} | margin low | 5.0 ± 0.0 | holds |" in found
    line = "| similar classes aligned above opposed |"
    assert f"{line} {title} | balanced accuracy | 2.0 ± 0.0 | holds |" in found
    assert "quantile with test accuracy is -1.00." in found
    assert "3 frames of equal inner products: the test accuracies deviate" in found
    assert "| aligned | 78.5 ± 0.7 |" in found and "simplex" not in found
    assert text([]) == "No rows yet."
    for claim in CLAIMS:
        for side in (claim.better, claim.worse):
            key = {k: v for k, v in side.items() if k != "at"}
            assert side["at"] in TIMES and key in keys


@pytest.mark.parametrize("name", GRIDS)
def test_every_point_is_a_config_of_its_own_that_passes_the_checks(name):
    module = importlib.import_module(f"experiments.{name}.points")
    points = module.points()
    keys = {tuple(point.key.items()) for point in points}
    assert len(keys) == len(points)
    for point in points:
        for stage in check_stages(point.config):
            assert stage.config.replicas.seeds == (0, 1, 2)


def test_rows_of_trials_are_those_of_the_configs_as_they_are():
    from experiments.grid import read_rows
    from experiments.selfsup import tuning
    from experiments.selfsup.trials import RESULTS

    commands = {tuple(p.key.values()): p.command for p in tuning.points()}
    for row in read_rows(RESULTS):
        assert row["config"] == commands[row["method"], row["trial"]]


def test_learners_under_gh_and_their_controls_differ_by_its_loss():
    from experiments.selfsup import points

    runs = {
        point.key["method"]: point.config
        for point in points.points()
        if point.key["data"] == "long-tailed"
    }
    assert len(points.WITH_GH) == 5
    for better, control in points.WITH_GH:
        one, other = runs[better].to_dict(), runs[control].to_dict()
        assert one["method"].pop("harmony") == 1 and other["method"].pop("harmony") == 0
        for name in ("harmony_ramp", "harmony_every"):
            assert one["method"].pop(name).endswith("%") and other["method"].pop(name)
        one.pop("label"), other.pop("label")
        assert one == other and one["head"]["dim"] == 128


def test_stages_of_divide_and_contrast_fit_the_budget():
    from experiments.selfsup import points

    (point,) = [
        p for p in points.points() if p.key["method"] == "DnC" and "long" in str(p.key)
    ]
    stages = {stage.folder[2:]: stage.config for stage in check_stages(point.config)}
    assert [stages[name].total for name in ("base", "pretrain")] == [
        "400 steps",
        "200 steps",
    ]
    # 5000 examples but for rounding, in batches of 256: experts have 400 steps too.
    assert {stages[f"expert{k}"].total for k in (1, 2, 3)} == {"21 epochs"}
    assert abs(21 * points._counts(point.config.data).sum() / 256 - 400) < 20


@pytest.mark.parametrize("name", GRIDS)
def test_claims_are_about_points_of_the_grid(name):
    module = importlib.import_module(f"experiments.{name}.points")
    keys = [
        {column: str(value) for column, value in point.key.items()}
        for point in module.points()
    ]
    claims = module.CLAIMS
    claims = claims if isinstance(claims, list) else sum(claims.values(), [])
    for side in (side for one in claims for side in (one.better, one.worse)):
        assert any(side.items() <= key.items() for key in keys), side


@pytest.mark.parametrize(
    ("grid", "chosen"),
    [
        ("weak", ["semi", "FixMatch", "uniform"]),
        ("weak", ["partial", "LW", "RECORDS", "50", "0.5"]),
        ("weak", ["noisy", "CDR", "10", "40%"]),
        ("selfsup", ["SDCLR"]),
        ("measures.experts", ["SADE", "50"]),
        ("measures.reconboost", ["OGM", "0.3"]),
        ("measures.drauc", ["DRAUC,", "class"]),
        ("measures.auc", ["square"]),
        ("measures.tkpr", ["distribution-balanced"]),
        ("measures.aucseg", ["AUCSeg"]),
        ("measures.gate", ["0"]),
        ("measures.autkc", ["hinge"]),
        ("measures.collapse", ["opposed"]),
    ],
)
@pytest.mark.slow
def test_a_small_run_fills_its_rows(grid, chosen, tmp_path):
    command = [sys.executable, "-m", f"experiments.{grid}", "--smoke", "--jobs", "1"]
    command += ["--out", str(tmp_path), "--only", *chosen]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "FAILED" not in done.stdout
    from experiments.grid import read_rows

    name = grid.rpartition(".")[2]
    rows = read_rows(tmp_path / f"{name}.csv")
    metrics = {"selfsup": "probe_all", "experts": "priors_mean"}
    metrics |= {"drauc": "mean", "gate": "probe", "auc": "auc_ovo", "tkpr": "map"}
    metrics |= {"aucseg": "mean_iou"}
    metric = metrics.get(name, "balanced_accuracy")
    assert rows
    assert all(0 <= float(row[metric]) <= 100 for row in rows)
