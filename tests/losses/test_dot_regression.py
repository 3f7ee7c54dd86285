"""Dot regression: numbers of the paper, of its code, and what sets them apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import dot_regression, softmax_cross_entropy

FRAME = np.sqrt(1.5) * (np.eye(3) - 1 / 3)  # simplex ETF with U = I
FEATURE = np.array([[0.6, 0.0, 0.8]])


def test_frame_of_the_numbers_below():
    np.testing.assert_allclose(
        FRAME[:, 0], [0.816496581, -0.408248290, -0.408248290], atol=1e-9
    )


@pytest.mark.parametrize(("label", "loss"), [(2, 0.175085042869), (0, 0.350034017148)])
def test_numbers(x64, label, loss):
    value = dot_regression(FEATURE, np.array([label]), FRAME)
    np.testing.assert_allclose(value, [loss], rtol=1e-11)


def test_gradient_pulls_along_the_own_class_vector_only(x64):
    gradient = jax.grad(lambda h: dot_regression(h, np.array([2]), FRAME)[0])(FEATURE)
    np.testing.assert_allclose(
        gradient[0], [0.241581624, 0.241581624, -0.483163248], atol=1e-9
    )
    cosine = FEATURE[0] @ FRAME[:, 2]
    np.testing.assert_allclose(gradient[0], -(1 - cosine) * FRAME[:, 2], rtol=1e-12)


def test_mixed_labels_are_a_mixture_of_losses(x64):
    first = dot_regression(FEATURE, np.array([2]), FRAME)
    second = dot_regression(FEATURE, np.array([0]), FRAME)
    np.testing.assert_allclose(0.7 * first + 0.3 * second, [0.227569735153], rtol=1e-11)


def test_balance_within_the_batch(x64):
    # Batch counts (3, 1, 0), and the first example has label 0.
    features = np.concatenate([FEATURE, np.eye(3)])
    labels = np.array([0, 0, 0, 1])
    for balance, loss in (("batch", 0.233356011432), ("sqrt_batch", 0.285801578210)):
        values = dot_regression(features, labels, FRAME, class_balance=balance)
        np.testing.assert_allclose(values[0], loss, rtol=1e-11)


def test_price_of_length(x64):
    # ||h|| = 1, so the penalty is itself, whatever the weight of the class; h = 3 h_0
    # costs 3 times the regression of the unit feature and 3 times the price.
    features = np.concatenate([FEATURE, np.eye(3)])
    labels = np.array([0, 0, 0, 1])
    for balance, loss in (("none", 0.350034017148), ("batch", 0.233356011432)):
        options = {"class_balance": balance, "norm_penalty": 0.01}
        values = dot_regression(features, labels, FRAME, **options)
        np.testing.assert_allclose(values[0], loss + 0.01, rtol=1e-11)
        values = dot_regression(3 * features, labels, FRAME, **options)
        np.testing.assert_allclose(values[0], 3 * (loss + 0.01), rtol=1e-11)


def test_price_of_length_draws_along_the_feature(x64):
    def loss(h, price):
        return dot_regression(h, np.array([2]), FRAME, norm_penalty=price)[0]

    gradient = jax.grad(loss)
    pull = gradient(2 * FEATURE, 0.01) - gradient(2 * FEATURE, 0.0)
    np.testing.assert_allclose(pull, 0.01 * FEATURE, atol=1e-15)
    assert np.all(np.isfinite(gradient(0 * FEATURE, 0.01)))
    with pytest.raises(ValueError, match="dot_regression: norm_penalty is -1"):
        loss(FEATURE, -1)


def test_batch_balance_is_the_mean_over_the_classes_present(x64):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(9, 3))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels = np.array([0, 0, 0, 0, 0, 0, 2, 2, 0])
    values = dot_regression(features, labels, FRAME, class_balance="batch")
    cosines = np.sum(features * FRAME[:, labels].T, axis=1)
    terms = 0.5 * (1 - cosines) ** 2
    by_class = [terms[labels == k].mean() for k in (0, 2)]
    np.testing.assert_allclose(jnp.mean(values), np.mean(by_class), rtol=1e-12)


def test_global_balance_weighs_by_the_inverse_frequency(x64):
    labels, counts = np.array([0, 2]), np.array([100, 20, 5])
    features = np.tile(FEATURE, (2, 1))
    plain = dot_regression(features, labels, FRAME)
    values = dot_regression(
        features, labels, FRAME, class_balance="global", class_counts=counts
    )
    np.testing.assert_allclose(values / plain, 125 / (3 * counts[labels]), rtol=1e-13)


@pytest.mark.parametrize("balance", ["batch", "sqrt_batch"])
def test_batch_of_one_class_has_nothing_to_balance(balance):
    features = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)), jnp.float32)
    labels = np.full(4, 1)
    np.testing.assert_array_equal(
        dot_regression(features, labels, FRAME, class_balance=balance),
        dot_regression(features, labels, FRAME),
    )


def test_minimum_is_at_the_class_vector():
    values = dot_regression(FRAME.T, np.arange(3), FRAME)
    np.testing.assert_allclose(values, np.zeros(3), atol=1e-13)
    assert np.all(dot_regression(FRAME.T, np.array([1, 2, 0]), FRAME) > 0.5)


def test_through_a_normalization_the_gradient_is_tangent(x64):
    def loss(h):
        unit = h / jnp.linalg.norm(h, axis=-1, keepdims=True)
        return dot_regression(unit, np.array([0]), FRAME)[0]

    h = np.array([[1.5, -0.3, 0.7]])
    gradient = jax.grad(loss)(h)
    np.testing.assert_allclose(np.sum(gradient * h), 0.0, atol=1e-14)
    assert np.linalg.norm(gradient) > 0.1


def test_rotating_features_and_frame_changes_nothing(x64):
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    features = np.tile(FEATURE, (3, 1))
    labels = np.arange(3)
    np.testing.assert_allclose(
        dot_regression(features @ rotation.T, labels, rotation @ FRAME),
        dot_regression(features, labels, FRAME),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        softmax_cross_entropy(features @ rotation.T @ (rotation @ FRAME), labels),
        softmax_cross_entropy(features @ FRAME, labels),
        rtol=1e-12,
    )


def test_zero_feature_has_a_finite_gradient():
    value, gradient = jax.value_and_grad(
        lambda h: dot_regression(h, jnp.array([1]), FRAME)[0]
    )(jnp.zeros((1, 3)))
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_arguments_are_checked():
    label = np.array([2])
    with pytest.raises(ValueError, match="class_balance is 'class', expected one of"):
        dot_regression(FEATURE, label, FRAME, class_balance="class")
    with pytest.raises(ValueError, match="class_counts is None"):
        dot_regression(FEATURE, label, FRAME, class_balance="global")
    with pytest.raises(ValueError, match="class_counts is given"):
        dot_regression(FEATURE, label, FRAME, class_counts=np.ones(3))
    with pytest.raises(ValueError, match=r"have 3 dimensions, but frame has shape \(4"):
        dot_regression(FEATURE, label, np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"labels have shape \(2,\), expected \(1,\)"):
        dot_regression(FEATURE, np.array([0, 1]), FRAME)
