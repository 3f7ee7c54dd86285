"""Durations: every unit in steps, and what is none."""

import pytest

from ltjax.durations import duration_steps


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("7 steps", 7),
        ("1 step", 1),
        ("0 steps", 0),
        ("0%", 0),
        ("3 epochs", 252),
        ("0.5 epochs", 42),
        ("1 epoch", 84),
        ("1280 examples", 10),
        ("1e3 steps", 1000),
        ("25%", 250),
        ("100 %", 1000),
        (" 5steps ", 5),
        # Never less than a step, unless it is none at all.
        ("0.001 epochs", 1),
        ("1 examples", 1),
        ("0.01%", 1),
    ],
)
def test_a_duration_in_steps(text, steps):
    options = {"steps_per_epoch": 84, "batch_size": 128, "total_steps": 1000}
    assert duration_steps(text, **options) == steps


@pytest.mark.parametrize(
    "text",
    ["", "5", "steps", "five steps", "-3 steps", "5 hours", "5 steps 3", "1.2.3 steps"],
)
def test_what_is_not_a_duration(text):
    with pytest.raises(ValueError, match="is not a duration, expected a number and a"):
        duration_steps(text, steps_per_epoch=84, batch_size=128, total_steps=1000)


def test_a_share_of_nothing():
    with pytest.raises(ValueError, match="'5%' is not a duration"):
        duration_steps("5%", steps_per_epoch=84, batch_size=128)


def test_more_steps_than_a_counter_holds():
    sizes = {"steps_per_epoch": 84, "batch_size": 128}
    assert duration_steps(f"{2**31 - 1} steps", **sizes) == 2**31 - 1
    for text in (f"{2**31} steps", "1e300 epochs"):
        with pytest.raises(ValueError):
            duration_steps(text, **sizes)
