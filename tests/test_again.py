"""Points of the first tables that are run again, and how both rows are compared."""

from pathlib import Path

import pytest

from ltjax.train.check import check

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def again():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        patch.syspath_prepend(ROOT / "experiments")
        from experiments.again import __main__ as module

        yield module


def test_every_point_has_one_row_in_its_table_with_the_same_seeds_and_steps(again):
    found = again.points()
    assert {one.table for one in found} == {
        "supervised_lt",
        "etf_factorial",
        "sharpness",
    }
    for one in found:
        config = check(one.point.config)
        assert " ".join(map(str, config.replicas.seeds)) == one.row["seeds"]
        assert config.total == f"{one.row['steps']} steps"
        assert not one.point.workdir


def test_both_rows_and_their_change(again):
    numbers = ("balanced_accuracy_mean", "balanced_accuracy_std", "few_mean", "few_std")

    def row(*values):
        return dict(zip(numbers, map(str, values), strict=True))

    then = row(80, 1, 50, 3)
    point = again.Point({"name": "CE", "imf": 100}, None, "", workdir="kept")
    one = again.earlier("supervised_lt", point, [{"name": "CE", "imf": "100", **then}])
    now = {**one.point.key, **row(80.5, 1.2, 48, 2)}
    text = again.comparison([one], [now])
    assert "| supervised_lt | CE 100 | all | 80.0 ± 1.0 | 80.5 ± 1.2 | 0.50 |" in text
    assert "| few | 50.0 ± 3.0 | 48.0 ± 2.0 | -2.00 |" in text
    assert again.comparison([one], []) == "No rows yet."
    with pytest.raises(ValueError):  # the table has no such row
        again.earlier("supervised_lt", point, [])
