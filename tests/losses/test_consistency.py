"""Consistency with guessed targets: FixMatch's and MixMatch's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses

# Compiled, so that a test costs one program and not one per operation.
consistency = jax.jit(losses.consistency, static_argnames="distance")
softmax_cross_entropy = jax.jit(losses.softmax_cross_entropy)


def test_fixmatch_numbers(x64):
    # The labelled part is plain cross-entropy.
    labelled = softmax_cross_entropy(np.array([[1.0, 0.0, -1.0]]), np.array([0]))
    np.testing.assert_allclose(labelled, [0.40760596444438], rtol=0, atol=1e-13)

    # softmax(3, 0, 0) = e^3 / (e^3 + 2): sure enough for a threshold of 0.9.
    weak = np.exp([[3.0, 0.0, 0.0]]) / (np.exp(3.0) + 2)
    np.testing.assert_allclose(weak.max(), 0.909442999, rtol=0, atol=1e-9)
    confident = weak.max(axis=-1) >= 0.9
    guess = np.argmax(weak, axis=-1)

    def total(z):
        return consistency(z, guess, weights=confident)[0]

    # log(2e + 1) - 1, and softmax(1, 1, 0) - (1, 0, 0).
    graded = jax.jit(jax.value_and_grad(total))
    value, gradient = graded(np.array([[1.0, 1.0, 0.0]]))
    np.testing.assert_allclose(value, 0.86199480405825, rtol=0, atol=1e-13)
    np.testing.assert_allclose(value, np.log(2 * np.e + 1) - 1, rtol=0, atol=1e-13)
    expected = [[-0.577681202, 0.422318798, 0.155362403]]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-9)


def test_mixmatch_numbers(x64):
    logits, target = np.array([[1.0, 0.0, -1.0]]), np.array([[0.6, 0.3, 0.1]])
    value = consistency(logits, target, distance="squared_error")
    np.testing.assert_allclose(value, [0.0024702378978879], rtol=0, atol=1e-13)
    # As far apart as can be: (1^2 + 1^2) / K.
    far = consistency(
        np.array([[900.0, 0.0, 0.0]]), np.array([1]), distance="squared_error"
    )
    np.testing.assert_allclose(far, [2 / 3], rtol=0, atol=1e-13)


@pytest.mark.parametrize("distance", ["cross_entropy", "squared_error"])
def test_no_gradient_into_targets_and_weights(distance, x64):
    logits = np.array([[1.0, 0.0, -1.0]])

    def total(target, weights):
        loss = consistency(logits, target, weights=weights, distance=distance)
        return jnp.sum(loss)

    graded = jax.jit(jax.grad(total, argnums=(0, 1)))
    gradients = graded(np.array([[0.6, 0.3, 0.1]]), np.array([0.5]))
    assert all(not np.any(gradient) for gradient in gradients)


@pytest.mark.parametrize("distance", ["cross_entropy", "squared_error"])
def test_index_and_one_hot_agree(distance, x64):
    logits = np.random.default_rng(0).normal(size=(4, 3))
    labels = np.array([0, 2, 1, 1])
    one_hot = np.eye(3)[labels]
    np.testing.assert_allclose(
        consistency(logits, labels, distance=distance),
        consistency(logits, one_hot, distance=distance),
        rtol=1e-12,
    )


def test_weights_multiply_and_zero_weights_cost_nothing(x64):
    logits = np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    target = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    weights = np.array([0.25, 0.0])
    plain = consistency(logits, target)
    np.testing.assert_allclose(
        consistency(logits, target, weights=weights), weights * plain
    )
    gradient = jax.grad(lambda z: jnp.sum(consistency(z, target, weights=np.zeros(2))))(
        logits
    )
    assert not np.any(gradient)
    # A mask with a NaN weight in a masked row.
    weights = np.array([1.0, np.nan])
    where = np.array([True, False])
    value = consistency(logits, target, weights=weights, where=where)
    np.testing.assert_allclose(value, [plain[0], 0.0])


def test_bad_input_is_refused():
    logits, labels = jnp.zeros((2, 3)), jnp.zeros(2, jnp.int32)
    with pytest.raises(ValueError, match=r"weights have shape \(2, 1\), expected \(2,"):
        losses.consistency(logits, labels, weights=jnp.ones((2, 1)))
    with pytest.raises(ValueError, match="distance is 'kl', expected one of"):
        losses.consistency(logits, labels, distance="kl")
    with pytest.raises(TypeError, match="consistency: labels have dtype bool"):
        losses.consistency(logits, labels > 0)
