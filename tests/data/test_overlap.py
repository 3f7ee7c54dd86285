"""Evaluation examples that are trained on are counted, and refused if all are."""

import logging

import numpy as np
import pytest

from ltjax.data import DataError, array_source
from ltjax.data.overlap import check_overlap, find_overlap

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 4, 4, 3), np.uint8)
LABELS = np.arange(40) % 2
TRAIN = array_source(IMAGES[:30], LABELS[:30])


def test_shared_examples_are_counted_whatever_their_place_and_label():
    other = array_source(IMAGES[[3, 35, 29, 36, 3]], [1, 1, 0, 0, 0])
    assert find_overlap(TRAIN, other) == (3, 5, True)
    assert find_overlap(TRAIN.select([0, 1, 2]), other) == (0, 5, True)


def test_some_are_a_warning_with_their_number(caplog):
    check_overlap(TRAIN, {"val": array_source(IMAGES[25:33], LABELS[25:33])})
    assert "5 of the 8 examples of the val split are training" in caplog.text
    caplog.clear()
    check_overlap(TRAIN, {"test": array_source(IMAGES[30:], LABELS[30:])})
    assert not caplog.records


def test_all_are_refused():
    with pytest.raises(DataError, match="all 30 examples of the test split are train"):
        check_overlap(TRAIN, {"test": TRAIN})


def test_features_of_few_values_repeat(caplog):
    # Four different rows in all: that test rows occur in training says nothing.
    rows = np.stack(np.meshgrid([0.0, 1.0], [0.0, 1.0]), -1).reshape(4, 2)
    many = array_source(np.tile(rows, (5, 1)), np.arange(20) % 2)
    check_overlap(many, {"test": many})
    assert "20 of the 20" in caplog.text
    # Nor does it if the few that are tested happen to differ.
    check_overlap(many, {"test": many.select([0, 1, 2])})
    assert "3 of the 3" in caplog.text


def test_larger_splits_are_not_compared_and_the_log_says_so(caplog):
    caplog.set_level(logging.INFO)
    check_overlap(TRAIN, {"test": TRAIN}, max_bytes=60 * 48 - 1)
    assert "too large to look for shared examples" in caplog.text
    with pytest.raises(DataError):
        check_overlap(TRAIN, {"test": TRAIN}, max_bytes=60 * 48)
