"""Class masses of an unlabelled set: confusion matrices, and likelihood."""

import numpy as np
import pytest
import scipy.optimize

from ltjax.pseudo_labels import em_prior, shift_estimate, soft_confusion


def test_confusion_by_hand():
    rows = [[0.8, 0.2, 0.0], [0.6, 0.4, 0.0], [0.1, 0.7, 0.2]]
    confusion = soft_confusion(rows, [0, 0, 1], 3)
    np.testing.assert_allclose(
        confusion, [[0.7, 0.1, 0], [0.3, 0.7, 0], [0, 0.2, 1]], atol=1e-12
    )


def test_numbers():
    estimate = shift_estimate([[0.8, 0.3], [0.2, 0.7]], [55, 45])
    np.testing.assert_allclose(estimate.class_mass, [50, 50])
    assert estimate.inverted
    assert estimate.condition == pytest.approx(2.0265507, abs=1e-7)
    identity = shift_estimate(np.eye(3), [5, 0, 7])
    np.testing.assert_allclose(identity.class_mass, [5, 0, 7])


def test_masses_are_found_again():
    rng = np.random.default_rng(0)
    confusion = 0.7 * np.eye(6) + 0.3 * rng.dirichlet(np.ones(6), size=6).T
    mass = np.array([500.0, 200, 90, 40, 17, 8])
    estimate = shift_estimate(confusion, confusion @ mass)
    np.testing.assert_allclose(estimate.class_mass, mass, rtol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_nearest_masses_are_those_of_a_general_solver(seed):
    rng = np.random.default_rng(seed)
    confusion = 0.4 * np.eye(5) + 0.6 * rng.dirichlet(np.full(5, 0.5), size=5).T
    predicted = 100 * rng.dirichlet(np.full(5, 0.3))
    estimate = shift_estimate(confusion, predicted)
    assert np.all(estimate.class_mass >= 0)
    np.testing.assert_allclose(estimate.class_mass.sum(), 100)
    if estimate.inverted:
        np.testing.assert_allclose(confusion @ estimate.class_mass, predicted)
        return
    # Non-negative least squares, with a heavy row for the sum.
    system = np.concatenate([confusion, 1e5 * np.ones((1, 5))])
    nearest, _ = scipy.optimize.nnls(system, np.append(predicted, 1e7))
    np.testing.assert_allclose(estimate.class_mass, nearest, atol=1e-3)


def test_some_of_those_cases_are_infeasible():
    confusion = np.array([[0.6, 0.4], [0.4, 0.6]])
    estimate = shift_estimate(confusion, [90, 10])  # a share of 0.6 at most
    assert not estimate.inverted
    np.testing.assert_allclose(estimate.class_mass, [100, 0], atol=1e-9)


def test_useless_classifiers_are_not_inverted():
    confusion = np.full((3, 3), 1 / 3) + 1e-4 * (np.eye(3) - 1 / 3)
    estimate = shift_estimate(confusion, [40, 30, 30])
    assert not estimate.inverted and estimate.condition > 100
    assert np.all(estimate.class_mass >= 0)
    np.testing.assert_allclose(estimate.class_mass.sum(), 100)
    np.testing.assert_allclose(shift_estimate(confusion, [0, 0, 0]).class_mass, 0)


def test_em_maximizes_the_likelihood():
    # d/dpi of 2 log(.9 pi + .1 (1 - pi)) + log(.2 pi + .8 (1 - pi)) is 0 at 61/72.
    prior = em_prior([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]], [0.5, 0.5], iterations=5000)
    np.testing.assert_allclose(prior, [61 / 72, 11 / 72], atol=1e-7)


def test_em_finds_the_shift_of_calibrated_predictions():
    # Two values of a feature, seen by the Bayes rule of the training prior (1/2, 1/2).
    likelihood = np.array([[0.8, 0.2], [0.3, 0.7]])  # p(x | class), by rows
    new = np.array([0.9, 0.1])
    posterior = likelihood.T / likelihood.T.sum(axis=1, keepdims=True)
    shares = new @ likelihood
    rows = np.repeat(posterior, np.rint(1000 * shares).astype(int), axis=0)
    np.testing.assert_allclose(em_prior(rows, [7, 7], iterations=5000), new, atol=1e-6)


def test_em_without_evidence():
    np.testing.assert_allclose(em_prior(np.zeros((3, 2)), [3, 1]), [0.75, 0.25])
    empty = em_prior([[0.5, 0.3, 0.2]] * 2, [0.5, 0.5, 0.0])
    assert empty[2] == 0 and np.all(np.isfinite(empty))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: soft_confusion(np.ones((2, 3)), [0], 3), r"expected \(1, 3\)"),
        (lambda: soft_confusion(np.ones((1, 3)), [3], 3), r"must lie in \[0, 3\)"),
        (lambda: shift_estimate(np.eye(2), [1, 2, 3]), r"confusion has shape \(2, 2\)"),
        (lambda: shift_estimate(np.eye(2), [1, -2]), "predicted_mass must be >= 0"),
        (lambda: shift_estimate(np.eye(2) * np.nan, [1, 2]), "confusion must be >= 0"),
        (lambda: em_prior(np.ones((2, 3)), [1, 1]), r"training_prior has shape"),
        (lambda: em_prior(np.ones((2, 2)), [0, 0]), "training_prior is"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
