"""Grids as the command line has them."""

import pytest

from ltjax.config_file import UsageError
from ltjax.sweeps.grid import canonical, points_of, read_grid


def test_commas_inside_of_brackets_and_quotes_separate_nothing():
    found = read_grid(["model.hidden=(16, 32),(64,)", "label='a,b',c"])
    assert found == {"model.hidden": ("(16, 32)", "(64,)"), "label": ("'a,b'", "c")}


def test_a_key_may_be_written_as_the_override_is():
    assert read_grid(["--config.loss.tau=1"]) == read_grid(["loss.tau=1.0"])


@pytest.mark.parametrize(
    ("text", "one"),
    [("0.50", "0.5"), ("1e-3", "0.001"), ("1.0", "1"), ("7", "7"), ("80%", "80%")],
)
def test_numbers_have_one_spelling(text, one):
    assert canonical(text) == one


def test_points_are_told_apart_by_key_and_value():
    points = list(points_of(read_grid(["a.x=1,2", "a.y=1,2"])))
    assert len(set(points)) == 4
    assert frozenset({("a.x", "1"), ("a.y", "2")}) in points


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["loss.tau"], "--grid is 'loss.tau', expected KEY=VALUE,VALUE"),
        (["loss.tau="], "--grid is 'loss.tau=', expected KEY=VALUE"),
        (["=1"], "--grid is '=1', expected KEY=VALUE"),
        (["loss.tau=1,,2"], "expected KEY=VALUE"),
        (["loss.tau=1,2,1.0"], "which has the value 1 twice"),
        (["loss.tau=1", "loss.tau=2"], "but loss.tau has values already"),
        (["seed=0,-1"], "expected whole numbers from 0"),
        (["seed=0.5"], "expected whole numbers from 0"),
        (["seed=first"], "expected whole numbers from 0"),
    ],
)
def test_what_is_no_grid(texts, message):
    with pytest.raises(UsageError) as refusal:
        read_grid(texts)
    assert message in str(refusal.value)
