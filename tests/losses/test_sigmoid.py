"""One-vs-rest losses: numbers and numerics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax.losses import sigmoid_cross_entropy, sigmoid_focal

LOGITS = np.array([[1.0, 0.5, -0.2]])
TAIL = np.array([2])


def test_sigmoid_cross_entropy_is_the_sum_of_its_terms(x64):
    terms = [1.313261688, 0.974076984, 0.798138869]
    value = sigmoid_cross_entropy(LOGITS, TAIL)
    np.testing.assert_allclose(value, [3.085477541], atol=1e-9)
    np.testing.assert_allclose(value, [sum(terms)], atol=2e-9)


@pytest.mark.parametrize(
    ("gamma", "loss"), [(0.5, 2.483199497), (1.0, 2.005238416), (2.0, 1.320571192)]
)
def test_sigmoid_focal_numbers(x64, gamma, loss):
    value = sigmoid_focal(LOGITS, TAIL, gamma=gamma)
    np.testing.assert_allclose(value, [loss], atol=1e-9)


def test_targets_need_not_be_a_distribution():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32)
    targets = jnp.asarray(np.random.default_rng(1).random((4, 5)) > 0.5, jnp.float32)
    expected = optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=-1)
    values = sigmoid_cross_entropy(logits, targets)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    expected = optax.sigmoid_focal_loss(logits, targets, gamma=1.5).sum(axis=-1)
    values = sigmoid_focal(logits, targets, gamma=1.5)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_very_wrong_logits_keep_their_modulator():
    # For z_y = -100 the answer is surely wrong, and the modulator is 1.
    logits, label = jnp.array([[-100.0, -100.0]]), jnp.array([0])
    for gamma in (0.5, 2.0):
        value, gradient = jax.value_and_grad(
            lambda z, g=gamma: sigmoid_focal(z, label, gamma=g)[0]
        )(logits)
        np.testing.assert_allclose(value, 100.0, rtol=1e-6)
        np.testing.assert_allclose(gradient, [[-1.0, 0.0]], atol=1e-6)


def test_curvature_at_zero_is_that_of_the_logistic_function():
    # A head that starts at zero: |z| in the loss must not leave a kink there.
    hessian = jax.hessian(lambda z: sigmoid_cross_entropy(z, jnp.array([1]))[0])
    curvature = hessian(jnp.zeros((1, 2)))[0, :, 0, :]
    np.testing.assert_allclose(curvature, np.eye(2) / 4, rtol=1e-6)


def test_negative_gamma_is_refused():
    with pytest.raises(ValueError, match="sigmoid_focal: gamma is -1"):
        sigmoid_focal(LOGITS, TAIL, gamma=-1)
