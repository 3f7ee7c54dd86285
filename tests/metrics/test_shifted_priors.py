"""Exponential and random test priors, and accuracy under them, by hand."""

import numpy as np
import pytest

from ltjax.metrics import dirichlet_priors, exponential_prior, prior_accuracy


def test_ranks_decide_and_ties_share():
    # Ranks 2, 0, 1: shares 1, 9, 3 of 13.
    found = exponential_prior([5, 80, 15], ratio=9)
    np.testing.assert_allclose(found, np.array([1, 9, 3]) / 13)
    back = exponential_prior([5, 80, 15], ratio=9, backward=True)
    np.testing.assert_allclose(back, np.array([9, 1, 3]) / 13)
    for backward in (False, True):
        tied = exponential_prior([7, 7, 1], ratio=9, backward=backward)
        assert tied[0] == tied[1]
        np.testing.assert_allclose(tied[2], (9 if backward else 1) / 13)
    np.testing.assert_allclose(exponential_prior([3, 1], ratio=1), [0.5, 0.5])


def test_accuracy_is_the_weighted_recall_of_the_classes_that_occur():
    recall = np.array([[1.0, 0.5, 0.0], [1.0, np.nan, 0.5]])
    priors = [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]
    found = prior_accuracy(recall, priors)
    np.testing.assert_allclose(found[0], [0.625, 0.5])
    np.testing.assert_allclose(found[1, 0], (0.5 + 0.125) / 0.75)
    assert np.isnan(found[1, 1])


def test_draws_have_the_mean_and_deviation_of_their_dirichlet():
    w, size = np.array([0.7, 0.2, 0.1]), 50.0
    drawn = dirichlet_priors(w, size=size, draws=20_000, seed=1)
    np.testing.assert_allclose(drawn.sum(1), 1)
    np.testing.assert_allclose(drawn.mean(0), w, atol=2e-3)
    # Var = w (1 - w) / (S + 1), beside (0.05 w)^2 / 3 at most of the jitter.
    want = np.sqrt(w * (1 - w) / (size + 1))
    np.testing.assert_allclose(drawn.std(0), want, rtol=0.06)
    again = dirichlet_priors(w, size=size, draws=20_000, seed=1)
    np.testing.assert_array_equal(drawn, again)


@pytest.mark.parametrize("prior", [[0.5, 0.6], [1.5, -0.5], [np.nan, 1.0]])
def test_a_prior_that_does_not_sum_to_one_is_refused(prior):
    with pytest.raises(ValueError, match="non-negative shares that sum to 1"):
        prior_accuracy([0.5, 0.5], [prior])
    with pytest.raises(ValueError, match="non-negative shares that sum to 1"):
        dirichlet_priors(prior, size=1, draws=1)
