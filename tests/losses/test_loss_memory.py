"""Momentum losses and memorization scores of the published definitions."""

import jax
import numpy as np
import pytest

from ltjax.losses.loss_memory import (
    memorization_scores,
    momentum_loss,
    standardize_losses,
)

LOSSES = np.array([1.0, 2.0, 4.0, 5.5])
ALL = np.ones(4, bool)
scores = jax.jit(memorization_scores)


def test_two_epochs_by_hand(x64):
    """Mean 3.125, largest deviation 2.375: M = (x - 3.125) / 4.75 + 1/2."""
    first = momentum_loss(np.full(4, np.nan), ~ALL, LOSSES)
    np.testing.assert_array_equal(first, LOSSES)
    expected = [0.052631579, 0.263157895, 0.684210526, 1.0]
    np.testing.assert_allclose(scores(first, ALL), expected, atol=5e-10)
    np.testing.assert_allclose((LOSSES - 3.125) / 4.75 + 0.5, expected, atol=5e-10)
    second = momentum_loss(first, ALL, np.array([3.0, 1.0, 4.0, 2.0]), beta=0.97)
    np.testing.assert_allclose(second, [1.06, 1.97, 4, 5.395], rtol=1e-14)
    found = scores(second, ALL)
    expected = [0.052976516, 0.251774986, 0.695248498, 1.0]
    np.testing.assert_allclose(found, expected, atol=5e-10)
    # The strengths of RandAugment that the code makes of them: 10 + 20 M.
    strengths = [11.059530311, 15.035499727, 23.904969962, 30.0]
    np.testing.assert_allclose(10 + 20 * found, strengths, atol=1e-8)


def test_scores_of_all_sorts_of_losses(x64):
    losses = np.random.default_rng(0).gamma(2.0, size=50)
    every = np.ones(50, bool)
    found = scores(losses, every)
    np.testing.assert_allclose(scores(3 * losses - 7, every), found, rtol=1e-11)
    assert np.isclose(found.min(), 0) or np.isclose(found.max(), 1)
    np.testing.assert_allclose(np.mean(2 * found - 1), 0, atol=1e-14)
    last = momentum_loss(losses, every, losses[::-1], beta=0.0)
    np.testing.assert_array_equal(last, losses[::-1])


def test_equal_losses_and_unseen_examples():
    equal = scores(np.full(4, 0.1, np.float32), ALL)
    np.testing.assert_array_equal(equal, 0.5)
    seen = np.array([True, True, False, True])
    memory = np.array([1.0, 2.0, np.nan, 6.0], np.float32)
    # Mean 3, largest deviation 3, over those seen only.
    np.testing.assert_allclose(scores(memory, seen), [1 / 6, 1 / 3, 0, 1], rtol=1e-6)
    found = scores(memory, seen, unseen=0.5)
    np.testing.assert_allclose(found[2], 0.5)
    np.testing.assert_array_equal(scores(memory, ~ALL), 0)


def test_standardized_losses():
    found = standardize_losses(LOSSES, where=np.array([True, True, True, False]))
    expected = (LOSSES[:3] - 7 / 3) / np.std(LOSSES[:3])
    np.testing.assert_allclose(found, [*expected, 0], rtol=1e-6)
    np.testing.assert_array_equal(standardize_losses(np.ones(3)), 0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"memory has shape \(3,\), expected \(4,\)"):
        momentum_loss(LOSSES[:3], ALL, LOSSES)
    with pytest.raises(ValueError, match="momentum_loss: beta is 1.5"):
        momentum_loss(LOSSES, ALL, LOSSES, beta=1.5)
    with pytest.raises(ValueError, match=r"where has shape \(2,\)"):
        memorization_scores(LOSSES, ALL[:2])
