"""Logit adjustment, balanced softmax and the consistent pairwise family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from ltjax.class_stats import log_prior, prior
from ltjax.classifiers import adjust_logits
from ltjax.losses import (
    balanced_softmax,
    logit_adjusted,
    pairwise_consistent,
    pairwise_margin,
    softmax_cross_entropy,
    vector_scaling,
)

COUNTS = np.array([100, 20, 5])
LOGITS = np.array([[1.0, 0.5, -0.2]])

# A population of three inputs (rows) and three classes: p(x, y).
JOINT = np.array([[0.30, 0.05, 0.01], [0.20, 0.10, 0.02], [0.10, 0.12, 0.10]])
MARGINAL = JOINT.sum(axis=0)
BALANCED = np.log(JOINT) - np.log(MARGINAL)  # log p(x | y): the balanced Bayes scores


def risk(loss):
    """Expected loss of free logits [3, 3] under the population."""
    rows, classes = np.divmod(np.arange(9), 3)
    weights = JOINT.reshape(-1)
    return lambda z: jnp.sum(weights * loss(z.reshape(3, 3)[rows], classes))


def minimize(loss):
    value_and_grad = jax.jit(jax.value_and_grad(risk(loss)))
    solution = scipy.optimize.minimize(
        lambda z: [np.asarray(v, np.float64) for v in value_and_grad(jnp.asarray(z))],
        np.zeros(9),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-9, "maxiter": 1000},
    )
    return centered(solution.x.reshape(3, 3))


def centered(scores):
    return scores - scores.mean(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("tau", "label", "loss"),
    [(1.0, 2, 4.323567586496), (2.0, 2, 7.216171024888), (1.0, 0, 0.127835312942)],
)
def test_logit_adjusted_numbers(x64, tau, label, loss):
    value = logit_adjusted(LOGITS, np.array([label]), COUNTS, tau=tau)
    np.testing.assert_allclose(value, [loss], rtol=1e-11)


def test_logit_adjusted_gradient(x64):
    gradient = jax.grad(lambda z: logit_adjusted(z, np.array([2]), COUNTS)[0])(LOGITS)
    np.testing.assert_allclose(
        gradient[0], [0.879998292, 0.106749189, -0.986747480], atol=1e-9
    )
    np.testing.assert_allclose(gradient.sum(), 0.0, atol=1e-15)


def test_balanced_softmax_is_adjustment_by_one(x64):
    value = balanced_softmax(LOGITS, np.array([2]), COUNTS)
    np.testing.assert_allclose(value, [4.323567586496], rtol=1e-12)
    np.testing.assert_allclose(
        balanced_softmax(LOGITS, np.array([2]), 7 * COUNTS), value, rtol=1e-14
    )


def test_traced_tau_and_counts_give_the_same_numbers():
    labels = np.array([2])
    traced = jax.jit(lambda n, t: logit_adjusted(jnp.float32(LOGITS), labels, n, tau=t))
    np.testing.assert_allclose(
        traced(COUNTS, 1.7),
        logit_adjusted(jnp.float32(LOGITS), labels, COUNTS, tau=1.7),
        rtol=1e-6,
    )


def test_gradient_with_respect_to_tau_is_the_expected_log_prior_minus_its_own(x64):
    def loss(tau):
        return logit_adjusted(LOGITS, np.array([2]), COUNTS, tau=tau)[0]

    pi = log_prior(COUNTS)
    p = jax.nn.softmax(LOGITS[0] + 1.3 * pi)
    np.testing.assert_allclose(jax.grad(loss)(1.3), np.sum(p * pi) - pi[2], rtol=1e-12)


def test_pairwise_consistent_number(x64):
    delta = np.sqrt(prior(COUNTS))
    np.testing.assert_allclose(
        delta / prior(COUNTS), [1.118033989, 2.5, 5.0], atol=1e-9
    )
    value = pairwise_consistent(LOGITS, np.array([2]), COUNTS, delta)
    np.testing.assert_allclose(value, [14.947444038078], rtol=1e-12)


def test_pairwise_consistent_is_a_pairwise_margin(x64):
    delta = np.array([3.0, 1.0, 0.2])
    margins = np.log(delta)[None, :] - np.log(delta)[:, None]
    labels = np.array([0, 1, 2])
    logits = np.tile(LOGITS, (3, 1))
    np.testing.assert_allclose(
        pairwise_consistent(logits, labels, COUNTS, delta),
        pairwise_margin(logits, labels, delta / prior(COUNTS), margins),
        rtol=1e-12,
    )


def test_delta_must_be_positive():
    with pytest.raises(ValueError, match="pairwise_consistent: delta is"):
        pairwise_consistent(LOGITS, np.array([2]), COUNTS, np.array([1.0, 0.0, 1.0]))
    with pytest.raises(
        ValueError, match=r"pairwise_consistent: delta has shape \(2,\)"
    ):
        pairwise_consistent(LOGITS, np.array([2]), COUNTS, np.ones(2))


@pytest.mark.parametrize(
    "delta",
    [MARGINAL, np.ones(3), np.sqrt(MARGINAL), np.array([3.0, 1.0, 0.2])],
    ids=["prior", "one", "root", "other"],
)
def test_every_delta_finds_the_balanced_scores(x64, delta):
    # Class counts enter only by their proportions, so the marginal serves as counts.
    optimum = minimize(lambda z, y: pairwise_consistent(z, y, MARGINAL, delta))
    np.testing.assert_allclose(optimum, centered(BALANCED), atol=1e-6)
    assert np.argmax(optimum, axis=1).tolist() == [0, 1, 2]


def test_margins_without_weights_find_other_scores(x64):
    margins = np.tile(np.array([0.2, 0.3, 0.5])[:, None], 3)
    optimum = minimize(lambda z, y: pairwise_margin(z, y, np.ones(3), margins))
    assert np.argmax(optimum, axis=1).tolist() == [0, 0, 1]
    gap = np.max(np.abs(optimum - centered(BALANCED)))
    np.testing.assert_allclose(gap, 0.87, atol=0.005)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_adjusting_in_the_loss_or_afterwards_has_one_optimum(x64, tau):
    plain = np.log(JOINT / JOINT.sum(axis=1, keepdims=True))  # cross-entropy's optimum
    np.testing.assert_allclose(
        jax.grad(risk(softmax_cross_entropy))(plain.reshape(-1)), 0.0, atol=1e-15
    )
    adjusted = adjust_logits(plain, MARGINAL, tau=tau)
    slope = jax.grad(risk(lambda z, y: logit_adjusted(z, y, MARGINAL, tau=tau)))
    np.testing.assert_allclose(slope(adjusted.reshape(-1)), 0.0, atol=1e-15)


def test_factors_leave_the_decision_to_an_arbitrary_constant(x64):
    # Both scores below are optimal for VS with gamma > 0, and they decide differently.
    factor = (MARGINAL / MARGINAL.max()) ** 0.5
    slope = jax.grad(
        risk(lambda z, y: vector_scaling(z, y, MARGINAL, gamma=0.5, tau=1.0))
    )
    decisions = []
    for constant in (-4.0, 4.0):
        scores = (BALANCED + constant) / factor
        np.testing.assert_allclose(slope(scores.reshape(-1)), 0.0, atol=1e-14)
        decisions.append(np.argmax(scores, axis=1).tolist())
    assert decisions[0] != decisions[1]
