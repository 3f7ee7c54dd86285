import numpy as np
import pytest

from ltjax.report.cells import (
    Cell,
    append_csv,
    cell,
    cell_text,
    csv_text,
    markdown_grid,
    read_rows,
)


def test_cells():
    assert cell(None) == Cell(None, None)
    assert cell(np.array([0.25])) == Cell(25.0, None)
    assert cell(np.array([0.25, np.nan])) == Cell(None, None)
    mean, std = cell(np.array([0.1, 0.2, 0.6]))
    assert mean == pytest.approx(30) and std == pytest.approx(700**0.5)
    mean, std = cell(np.array([1.0, 3.0]), factor=1.0)
    assert mean == 2.0 and std == pytest.approx(2**0.5)


def test_cells_as_text():
    assert cell_text(Cell(71.249, 0.451), 1) == "71.2 ± 0.5"
    assert cell_text(Cell(-2.0, None), 3) == "-2.000"
    assert cell_text(Cell(None, None)) == "–"


def test_grids_say_how_they_are_aligned():
    assert markdown_grid(["a", "b", "c"], [["x", 1, "y"]], align="lrl") == (
        "| a | b | c |\n| :-- | --: | :-- |\n| x | 1 | y |\n"
    )
    assert markdown_grid(["a"], []) == "| a |\n| :-- |\n"
    with pytest.raises(ValueError, match="'lr' has 2 cells, expected one for each of"):
        markdown_grid(["a", "b", "c"], [], align="lr")
    with pytest.raises(ValueError, match=r"\['x'\] has 1 cells"):
        markdown_grid(["a", "b"], [["x"]])


def test_numbers_in_csv_stay_numbers():
    numbers = ["-1.5", "+2", "-inf", ""]
    assert [csv_text(x) for x in numbers] == numbers


def test_csv_grows_and_keeps_its_columns(tmp_path):
    path = tmp_path / "results" / "some.csv"
    assert read_rows(path) == []
    append_csv(path, [{"a": "1", "b": "x, y"}])
    append_csv(path, [{"a": "2", "b": ""}])
    assert path.read_text().splitlines() == ["a,b", '1,"x, y"', "2,"]
    assert read_rows(path) == [{"a": "1", "b": "x, y"}, {"a": "2", "b": ""}]
    with pytest.raises(ValueError, match=r"has the columns \['a', 'b'\]"):
        append_csv(path, [{"a": "3", "c": ""}])
