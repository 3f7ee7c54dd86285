"""Candidate sets: who is in them, and how often."""

import math

import numpy as np
import pytest

from ltjax.data import candidates as module
from ltjax.data.candidates import (
    CIFAR100_SUPERCLASSES,
    candidate_sets,
    candidate_subsets,
    hierarchical_ambiguity,
    label_dependent_ambiguity,
    mean_candidates,
    uniform_ambiguity,
)

LABELS = np.random.default_rng(0).integers(0, 10, 20_000)


def test_uniform_sets_are_the_formula_on_uniform_numbers():
    drawn = np.random.Generator(np.random.PCG64(7)).random((50, 10))
    expected = (drawn < 0.3) | np.eye(10, dtype=bool)[LABELS[:50]]
    sets = candidate_sets(LABELS[:50], uniform_ambiguity(10, 0.3), seed=7)
    assert sets.dtype == bool and np.array_equal(sets, expected)


def test_blocks_draw_the_same_numbers(monkeypatch):
    matrix = uniform_ambiguity(10, 0.3)
    whole = candidate_sets(LABELS[:50], matrix, seed=7)
    monkeypatch.setattr(module, "_BLOCK", 70)
    assert np.array_equal(candidate_sets(LABELS[:50], matrix, seed=7), whole)


def test_sets_grow_with_the_ambiguity():
    small, large = (
        candidate_sets(LABELS, uniform_ambiguity(10, q), seed=1) for q in (0.3, 0.5)
    )
    assert np.all(large | ~small)


@pytest.mark.parametrize(
    "matrix",
    [
        uniform_ambiguity(10, 0.5),
        label_dependent_ambiguity(10),
        hierarchical_ambiguity([0, 0, 1, 1, 1, 2, 2, 2, 2, 3], within=0.6, across=0.1),
    ],
    ids=["uniform", "label dependent", "hierarchical"],
)
def test_frequencies_are_the_probabilities(matrix):
    sets = candidate_sets(LABELS, matrix, seed=3)
    assert np.all(sets[np.arange(LABELS.size), LABELS])
    for k in range(10):
        # 2,000 draws each: five standard deviations are at most 5 * 0.5 / sqrt(1900).
        frequency = sets[LABELS == k].mean(axis=0)
        np.testing.assert_allclose(frequency, matrix[k], atol=0.058)


def test_label_dependent_probabilities():
    matrix = label_dependent_ambiguity(10)
    np.testing.assert_array_equal(matrix[8], [0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0, 1.0, 0.5])


def test_hierarchy_of_cifar100():
    groups = np.array(CIFAR100_SUPERCLASSES)
    assert np.bincount(groups).tolist() == [5] * 20
    # Apple, mushroom, orange, pear and sweet pepper: fruit and vegetables.
    assert np.flatnonzero(groups == 4).tolist() == [0, 51, 53, 57, 83]
    matrix = hierarchical_ambiguity(groups, within=8 * 0.05, across=0.05)
    np.testing.assert_allclose(matrix.sum(axis=1), 1 + 4 * 8 * 0.05 + 95 * 0.05)
    np.testing.assert_allclose(matrix.sum(axis=1), 7.35)
    assert np.all(hierarchical_ambiguity(groups, within=0.5).sum(axis=1) == 3)


def test_at_least_two_candidates():
    sets = candidate_sets(LABELS, uniform_ambiguity(10, 0.1), seed=2, at_least=2)
    plain = candidate_sets(LABELS, uniform_ambiguity(10, 0.1), seed=2)
    alone = plain.sum(axis=1) == 1
    assert np.all(sets[alone].sum(axis=1) == 2)
    assert np.array_equal(sets[~alone], plain[~alone])
    added = np.argmax(sets & ~plain, axis=1)[alone]
    shares = np.bincount((added - LABELS[alone]) % 10, minlength=10)[1:] / alone.sum()
    np.testing.assert_allclose(shares, 1 / 9, atol=0.02)


def test_subsets_have_the_sizes_of_uniform_subsets():
    sets = candidate_subsets(LABELS, 10, seed=1)
    assert np.all(sets[np.arange(LABELS.size), LABELS])
    sizes = np.bincount(sets.sum(axis=1), minlength=11) / LABELS.size
    expected = [math.comb(10, s) / (2**10 - 2) for s in range(1, 10)]
    assert sizes[0] == sizes[10] == 0
    np.testing.assert_allclose(sizes[1:10], expected, atol=0.02)
    assert mean_candidates(sets) == pytest.approx(5.0, abs=0.06)
    # Wrong labels are exchangeable.
    wrong = np.array([sets[LABELS != k, k].mean() for k in range(10)])
    np.testing.assert_allclose(wrong, 4 / 9, atol=0.02)


def test_subsets_of_many_classes_do_not_overflow():
    sets = candidate_subsets(np.zeros(20, int), 1100)
    assert 500 < mean_candidates(sets) < 600


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform_ambiguity(3, 1.5), "ambiguity is 1.5"),
        (lambda: hierarchical_ambiguity([0, 1], within=1.6), "within is 1.6"),
        (lambda: hierarchical_ambiguity([[0]], within=0.5), "superclasses has shape"),
        (lambda: label_dependent_ambiguity(2, [0.5, 0.5]), "fewer than 2"),
        (lambda: candidate_sets([3], np.eye(3)), r"must lie in \[0, 3\)"),
        (lambda: candidate_sets([0], np.ones((2, 3))), r"\(2, 3\), expected \[K, K\]"),
        (lambda: candidate_sets([0], 2 * np.eye(2)), r"must lie in \[0, 1\]"),
        (lambda: candidate_sets([0], np.eye(3), at_least=3), "at_least is 3"),
        (lambda: candidate_subsets([0], 1), "num_classes is 1"),
        (lambda: mean_candidates([1, 0]), r"candidates has shape \(2,\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
