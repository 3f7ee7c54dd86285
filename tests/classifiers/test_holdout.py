"""Held-out shares and folds of a long-tailed training set."""

import re

import numpy as np
import pytest

from ltjax.classifiers import crossfit_folds, holdout_indices

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [100, 24, 9, 5]))


def test_a_fifth_of_every_class_rounded_down():
    held = holdout_indices(LABELS, 4)
    assert np.bincount(LABELS[held]).tolist() == [20, 4, 1, 1]
    assert np.all(np.diff(held) > 0)
    assert held.dtype == np.int64


def test_products_that_fall_just_below_an_integer_count_as_it():
    # 0.29 * 100 = 28.999999999999996
    held = holdout_indices(np.zeros(100, np.int32), 1, fraction=0.29)
    assert held.size == 29


def test_the_draw_depends_on_the_seed_only():
    np.testing.assert_array_equal(
        holdout_indices(LABELS, 4, seed=3), holdout_indices(LABELS, 4, seed=3)
    )
    draws = {tuple(holdout_indices(LABELS, 4, seed=s)) for s in range(5)}
    assert len(draws) == 5


def test_every_example_is_as_likely():
    # 400 draws of 1 in 5: a hit count has mean 80 and standard deviation 8.
    labels = np.repeat([0, 1], 5)
    hits = np.zeros(10)
    for seed in range(400):
        hits[holdout_indices(labels, 2, seed=seed)] += 1
    assert hits.sum() == 800
    assert np.all(np.abs(hits - 80) < 40)


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_the_fraction_that_the_message_names_is_enough(size):
    labels = np.array([0] * 50 + [1] * size)
    with pytest.raises(ValueError, match="expected at least") as caught:
        holdout_indices(labels, 2, fraction=0.1)
    found = re.search(r"expected at least (0\.\d+)\. Drop", str(caught.value))
    held = holdout_indices(labels, 2, fraction=float(found[1]))
    assert np.bincount(labels[held])[1] == 1


def test_a_class_of_one_example_can_spare_none():
    with pytest.raises(ValueError, match="no other would: every class needs 2"):
        holdout_indices(np.array([0] * 50 + [1]), 2)


def test_classes_too_small_to_spare_one_are_refused():
    with pytest.raises(ValueError, match=r"class 1 has 4 example\(s\).*crossfit_folds"):
        holdout_indices(np.array([0] * 10 + [1] * 4), 2)
    with pytest.raises(ValueError, match=r"class 2 has 0 example\(s\)"):
        holdout_indices(np.array([0] * 10 + [1] * 5), 3)
    with pytest.raises(ValueError, match="holdout_indices: fraction is 1.0"):
        holdout_indices(LABELS, 4, fraction=1.0)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\)"):
        holdout_indices(LABELS, 3)


@pytest.mark.parametrize("num_folds", [2, 5])
def test_folds_share_out_every_class_and_the_whole(num_folds):
    labels = np.random.default_rng(1).permutation(
        np.repeat(np.arange(6), [40, 11, 7, 3, 2, 1])
    )
    folds = crossfit_folds(labels, 6, num_folds=num_folds)
    table = np.zeros((6, num_folds), int)
    np.add.at(table, (labels, folds), 1)
    assert np.all(np.ptp(table, axis=1) <= 1)
    assert np.ptp(table.sum(axis=0)) <= 1


def test_folds_depend_on_the_seed():
    same = [crossfit_folds(LABELS, 4, seed=1) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert np.any(same[0] != crossfit_folds(LABELS, 4, seed=2))


def test_one_fold_is_no_fold():
    with pytest.raises(ValueError, match="crossfit_folds: num_folds is 1"):
        crossfit_folds(LABELS, 4, num_folds=1)
