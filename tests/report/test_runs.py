import shutil
import subprocess
import sys

import numpy as np
import pytest

from ltjax.report import group_runs, read_run
from ltjax.report.runs import group_title


def test_importing_the_report_needs_neither_jax_nor_matplotlib():
    code = (
        "import sys, ltjax.report; "
        "sys.exit(sorted({'jax', 'matplotlib', 'tensorflow'} & set(sys.modules)) != [])"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_run_is_read_with_its_facts(ce):
    run = read_run(ce)
    assert (run.name, run.data, run.split, run.step) == ("CE", "toy", "test", 100)
    assert run.seeds == (0, 1) and run.imbalance_factor == 20
    assert run.class_counts.tolist() == [200, 50, 10]
    assert {k: v.tolist() for k, v in run.groups.items()} == {
        "many": [True, False, False],
        "medium": [False, True, False],
        "few": [False, False, True],
    }
    np.testing.assert_allclose(run.recall, [[0.9, 0.6, 0.3], [1.0, 0.6, 0.1]])
    np.testing.assert_allclose(run.summary["few"], [0.3, 0.1])
    np.testing.assert_allclose(run.summary["balanced_accuracy"], [0.6, 1.7 / 3])
    assert run.epochs == 2
    assert run.hours == pytest.approx(100 / 0.5 / 3600)


def test_groups_follow_the_runs_own_limits(workdir):
    path = workdir(
        "run",
        confusion=[[[1, 0], [0, 1]]],
        class_counts=[60, 40],
        shot_groups={"many": 50, "few": 45},
    )
    groups = read_run(path).groups
    assert groups["many"].tolist() == [True, False]
    assert groups["few"].tolist() == [False, True]


def test_curves_have_one_column_per_replica(ce, la):
    steps, values = read_run(ce).curve("train/loss")
    assert steps.tolist() == [50, 100]
    np.testing.assert_array_equal(values, [[2.0, 1.0], [1.0, 0.5]])
    np.testing.assert_array_equal(read_run(la).curve("train/loss")[1], [[1.5], [0.75]])
    steps, values = read_run(ce).curve("time/steps_per_s")
    np.testing.assert_array_equal(values, [[0.5, 0.5]])
    assert read_run(ce).curve("no/such")[1].shape == (0, 2)


def test_a_value_that_was_not_finite_is_nan(workdir):
    records = [
        {"step": 1, "x": None, "std": {"x": None}, "replicas": {"x": [None, 2.0]}}
    ]
    path = workdir(
        "run",
        confusion=np.ones((2, 2, 2)),
        class_counts=[9, 9],
        records=records,
    )
    np.testing.assert_array_equal(read_run(path).curve("x")[1], [[np.nan, 2.0]])


def test_a_grid_falls_apart_into_settings(workdir):
    confusion = [[[k, 10 - k], [10 - k, k]] for k in (9, 8, 7, 6)]
    hypers = [{"lr": 0.1, "rho": rho} for rho in (0.05, 0.2, 0.05, 0.2)]
    records = [
        {"step": 1, "x": 2.5, "std": {"x": 1.3}, "replicas": {"x": [1, 2, 3, 4]}}
    ]
    path = workdir(
        "grid",
        method="SAM",
        confusion=confusion,
        class_counts=[200, 10],
        seeds=[0, 0, 1, 1],
        hypers=hypers,
        records=records,
    )
    small, large = read_run(path).settings()
    assert (small.name, large.name) == ("SAM (rho=0.05)", "SAM (rho=0.2)")
    assert small.seeds == large.seeds == (0, 1)
    np.testing.assert_allclose(small.summary["accuracy"], [0.9, 0.7])
    np.testing.assert_allclose(large.summary["accuracy"], [0.8, 0.6])
    np.testing.assert_array_equal(large.curve("x")[1], [[2, 4]])


def test_seeds_alone_stay_together(ce):
    assert [run.members for run in read_run(ce).settings()] == [(0, 1)]


def test_groups_put_the_reference_first_and_keep_data_apart(ce, la, workdir):
    other = workdir("b", method="LA", confusion=[np.eye(2) * 9], class_counts=[9, 3])
    groups = group_runs([read_run(other), read_run(la), read_run(ce)])
    assert {title: [r.name for r in runs] for title, runs in groups.items()} == {
        "toy, exp profile, imbalance factor 3": ["LA"],
        "toy, exp profile, imbalance factor 20": ["CE", "LA"],
    }
    first = group_runs([read_run(ce), read_run(la)], reference="la")
    assert [r.name for r in next(iter(first.values()))] == ["LA", "CE"]


def test_equal_names_get_their_folder(ce, tmp_path):
    shutil.copytree(ce, tmp_path / "again")
    runs = next(iter(group_runs([read_run(ce), read_run(tmp_path / "again")]).values()))
    assert [run.name for run in runs] == ["CE [ce]", "CE [again]"]


def test_titles_name_what_differs(ce):
    (ce / "evaluation" / "test_100.npz").rename(ce / "evaluation" / "val_100.npz")
    run = read_run(ce, split="val")
    assert group_title(run) == "toy, exp profile, imbalance factor 20, val split"


def test_beyond_a_thousand_classes_vectors_do(workdir):
    path = workdir("big", confusion=np.ones((1, 2, 2)), class_counts=[30, 30])
    file = path / "evaluation" / "test_100.npz"
    vectors = {"correct": [[1, 3]], "support": [[2, 4]], "predicted": [[3, 3]]}
    np.savez(file, **{k: np.array(v) for k, v in vectors.items()})
    run = read_run(path)
    np.testing.assert_allclose(run.recall, [[0.5, 0.75]])
    assert run.summary["balanced_accuracy"].tolist() == [0.625]


def test_what_a_run_is_judged_by(ce, judged_workdir):
    run = read_run(ce)
    assert run.judged == "balanced_accuracy" and len(run.columns) == 7
    column = {"key": "auc", "title": "AUC", "best": "max", "meaning": "area"}
    path = judged_workdir(
        "auc",
        columns=[column, {**column, "key": "nc1"}],  # the training set's, not here
        judged=["eval/val/auc", "max"],
        summary={"auc": [0.5, 0.75]},
    )
    run = read_run(path)
    assert run.judged == "auc" and [c.key for c in run.columns] == ["auc"]
    assert run.summary["auc"].tolist() == [0.5, 0.75]
    assert run.recall is None and not run.has_counts


def test_varied_options_are_named_as_shortly_as_possible(workdir):
    hypers = [{"loss.tau": t, "loss.gamma": 1.0, "method.tau": t} for t in (0.5, 2.0)]
    path = workdir(
        "grid",
        confusion=np.ones((2, 2, 2)),
        class_counts=[20, 10],
        hypers=hypers,
    )
    run = read_run(path)
    assert run.settings()[0].name == "CE (loss.tau=0.5, method.tau=0.5)"
    for hyper in hypers:
        hyper["method.tau"] = 0.0
    run.info["replicas"] = [{"seed": 0, "hyper": hyper} for hyper in hypers]
    assert [part.name for part in run.settings()] == ["CE (tau=0.5)", "CE (tau=2)"]


def test_facts_of_the_run_come_first(judged_workdir):
    path = judged_workdir("a", summary={"x": [1.0]}, many=50, few=5, shot_groups=None)
    run = read_run(path)
    assert run.backbone == "resnet18" and run.shot_limits == (50, 5)


def test_folders_of_one_name_are_told_apart_by_those_above(workdir):
    numbers = {"confusion": [np.eye(3)], "class_counts": (200, 50, 5)}
    runs = [read_run(workdir(f"{name}/1_crt", **numbers)) for name in ("a", "b")]
    ((_, named),) = group_runs(runs).items()
    assert [run.name for run in named] == ["CE [a/1_crt]", "CE [b/1_crt]"]
