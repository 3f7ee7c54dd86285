"""What the experiments' grids share: rows, kept runs, runs that diverge."""

import importlib
import pathlib
import shutil

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def grid():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "experiments")
        yield importlib.import_module("grid")


@pytest.fixture
def small(grid):
    def config():
        config = grid.small_config("mnist1d", "method=ce,smoke", tuning=False)
        config.total = "4 steps"
        config.replicas.seeds = (0, 1)
        config.model.name = "mlp"
        config.schedule.name = "constant"
        return config

    return config


def test_a_point_is_run_once_and_its_row_says_where_from(grid, small, tmp_path):
    path = tmp_path / "rows.csv"
    one = grid.Point({"method": "ce"}, small(), "configs/x.py:method=ce")
    (row,) = grid.run_points([one], path)
    assert (row["method"], row["seeds"], row["steps"]) == ("ce", "0 1", "4")
    assert row["config"] == "configs/x.py:method=ce"
    assert 0 <= float(row["balanced_accuracy_mean"]) <= 100
    assert grid.run_points([one], path) == [row]  # from the file


def test_a_classifier_is_put_on_the_kept_run(grid, small, tmp_path):
    base = str(tmp_path / "base")
    points = [
        grid.Point({"method": "ce"}, small(), "ce", base),
        grid.Point({"method": "la"}, small(), "ce", base, "la", {"tau": 0.0}),
        grid.Point({"method": "far"}, small(), "ce", base, "la", {"tau": 50.0}),
    ]
    plain, same, far = grid.run_points(points, tmp_path / "rows.csv")
    assert (tmp_path / "base" / "checkpoints").is_dir()
    # tau = 0 changes nothing; with 50 nothing but the rarest class is ever predicted.
    assert same["balanced_accuracy_mean"] == plain["balanced_accuracy_mean"]
    assert float(far["balanced_accuracy_mean"]) == pytest.approx(10.0)


def test_a_lost_run_is_made_again_for_what_builds_on_it(grid, small, tmp_path):
    base, path = tmp_path / "base", tmp_path / "rows.csv"
    points = [grid.Point({"method": "ce"}, small(), "ce", str(base))]
    grid.run_points(points, path)
    shutil.rmtree(base)
    grid.run_points(points, path)
    assert not base.exists()  # nobody needs it
    points += [
        grid.Point({"method": "la"}, small(), "ce", str(base), "la", {"tau": 1.0})
    ]
    assert [r["method"] for r in grid.run_points(points, path)] == ["ce", "la"]
    assert base.exists()


def test_a_diverged_point_is_a_row_too(grid, small, tmp_path):
    config = small()
    config.optimizer.lr = 1e30
    (row,) = grid.run_points([grid.Point({"m": "x"}, config, "x")], tmp_path / "r.csv")
    assert np.isnan(float(row["balanced_accuracy_mean"]))
    assert grid.cell(row, "few") == "–"
    rows = [row, {"balanced_accuracy_mean": "12.5"}]
    assert max(rows, key=grid.score) is rows[1]  # never chosen


def test_a_setting_of_a_grid_diverges_alone(grid, small, tmp_path):
    config = small()
    config.replicas.seeds = (0,)
    config.replicas.grid = {"optimizer.lr": (0.05, 1e30)}
    points = [grid.Point({"m": "x"}, config, "x")]
    fine, lost = grid.run_points(points, tmp_path / "r.csv")
    assert (fine["lr"], lost["lr"]) == ("0.05", "1e+30")  # without their section
    assert 0 <= float(fine["balanced_accuracy_mean"]) <= 100
    assert np.isnan(float(lost["balanced_accuracy_mean"]))


def test_tuning_never_sees_the_final_data(grid):
    for dataset in ("mnist1d", "mnist"):
        tuning = grid.small_config(dataset, "method=ce", tuning=True)
        final = grid.small_config(dataset, "method=ce", tuning=False)
        assert not set(tuning.replicas.seeds) & set(final.replicas.seeds)
        differ = {name for name in final.data if final.data[name] != tuning.data[name]}
        assert differ == {{"mnist1d": "seed", "mnist": "subset_seed"}[dataset]}
