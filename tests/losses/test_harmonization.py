"""Geometric harmonization: the frame, the labels by transport, the loss by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.classifiers import simplex_etf
from ltjax.losses import geometric_harmonization
from ltjax.losses.harmonization import (
    harmonized_logits,
    latent_prior,
    surrogate_labels,
    update_latent_logits,
)

LOGITS = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
OTHER = np.array([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
HALF = np.array([0.5, 0.5])
labels_of = jax.jit(surrogate_labels)


def ref_sinkhorn(logits, prior, strength, iterations):
    """The scaling of the columns and then of the rows, without logarithms."""
    kernel, size = np.exp(strength * logits), len(logits)
    c = np.full(size, 1 / size)
    for _ in range(iterations):
        r = prior / (kernel.T @ c)
        c = 1 / size / (kernel @ r)
    return size * r[None, :] * kernel * c[:, None]


def test_frame_is_a_simplex():
    """M M^T = K/(K-1) (I - 1/K): here with the classes as columns."""
    frame = simplex_etf(jax.random.key(0), 128, 100)
    expected = (np.eye(100) - 0.01) * 100 / 99
    np.testing.assert_allclose(frame.T @ frame, expected, atol=1e-6)
    np.testing.assert_allclose(frame.sum(axis=1), 0, atol=1e-6)


def test_features_at_the_vertices(x64):
    """t_k = sqrt((K-1)/K), the others -t_k/(K-1); then the least loss there is."""
    frame = simplex_etf(jax.random.key(0), 128, 100)
    logits = jax.jit(harmonized_logits)(7 * frame.T, frame)
    np.testing.assert_allclose(np.diag(logits), 0.994987437, atol=5e-10)
    np.testing.assert_allclose(logits[0, 1:], -0.010050378, atol=5e-10)
    np.testing.assert_allclose(logits[0, 0] + 99 * logits[0, 1], 0, atol=1e-12)
    log_p = jax.nn.log_softmax(logits / 0.1, axis=1)
    np.testing.assert_allclose(-2 * np.diag(log_p), 0.008529332, atol=5e-10)
    # With strength so large that the labels are one-hot.
    loss = jax.jit(functools.partial(geometric_harmonization, iterations=3))
    found = loss(frame.T, 3 * frame.T, frame, np.full(100, 0.01), strength=400.0)
    np.testing.assert_allclose(found, 0.008529332, atol=5e-10)
    # Theorem 3.4, with gamma = 1 and the cosines themselves: C = -1/(K - 1).
    cosines = frame.T @ frame
    bound = -2 * np.diag(jax.nn.log_softmax(cosines, axis=1))
    np.testing.assert_allclose(bound, 2 * np.log1p(99 * np.exp(-1 / 99 - 1)), rtol=1e-6)
    np.testing.assert_allclose(bound, 7.224754612, atol=5e-6)


def test_labels_by_transport(x64):
    one = labels_of(LOGITS, HALF, strength=2.0, iterations=1)
    expected = [[0.866394505, 0.133605495], [0.566957622, 0.433042378]]
    np.testing.assert_allclose(one.labels[:2], expected, atol=5e-10)
    np.testing.assert_allclose(one.labels[2], [0.106162691, 0.893837309], atol=5e-10)
    means = one.labels.mean(axis=0)
    np.testing.assert_allclose(means, [0.513171606, 0.486828394], atol=5e-10)
    np.testing.assert_allclose(one.error, 0.013171606, atol=5e-10)
    for prior, expected in [
        (HALF, [0.856087307, 0.545663791, 0.098248903]),
        (np.array([0.8, 0.2]), [0.982073235, 0.917084002, 0.500842762]),
    ]:
        found = labels_of(LOGITS, prior, strength=2.0, iterations=300)
        np.testing.assert_allclose(found.labels[:, 0], expected, atol=5e-10)
        np.testing.assert_allclose(found.labels.sum(axis=1), 1, rtol=1e-14)
        np.testing.assert_allclose(found.labels.mean(axis=0), prior, atol=1e-12)
        by_hand = ref_sinkhorn(LOGITS, prior, 2.0, 300)
        np.testing.assert_allclose(found.labels, by_hand, rtol=1e-12)


def test_labels_stop_early_and_leave_out_empty_classes(x64):
    early = labels_of(LOGITS, HALF, strength=2.0, tol=1e-3, iterations=300)
    assert 1 < early.iterations < 10 and early.error <= 1e-3
    means = np.abs(early.labels.mean(axis=0) - HALF).max()
    np.testing.assert_allclose(early.error, means, rtol=1e-9)
    empty = labels_of(LOGITS, np.array([1.0, 0.0]), strength=2.0, iterations=5)
    np.testing.assert_array_equal(empty.labels, [[1, 0]] * 3)
    where = np.array([True, False, True])
    dirty = np.where(where[:, None], LOGITS, np.nan)
    found = labels_of(dirty, HALF, strength=2.0, iterations=20, where=where)
    expected = ref_sinkhorn(LOGITS[where], HALF, 2.0, 20)
    np.testing.assert_allclose(found.labels[where], expected, rtol=1e-12)
    assert not np.any(found.labels[1])


def test_loss_of_three_images(x64):
    """In two dimensions and with the axes as the frame, logits are the features."""

    def loss(first, second):
        return geometric_harmonization(first, second, np.eye(2), HALF, strength=2.0)

    value, gradient = jax.jit(
        jax.value_and_grad(lambda a, b: jnp.mean(loss(a, b)), (0, 1))
    )(LOGITS, OTHER)
    np.testing.assert_allclose(value, 2.760257292, atol=5e-10)
    scaled = jax.jit(loss)(3 * LOGITS, OTHER / 7)
    np.testing.assert_allclose(scaled.mean(), 2.760257292, atol=5e-10)
    # Labels are constants: the gradient is that of the cross-entropies alone.
    q1, q2 = (ref_sinkhorn(t, HALF, 2.0, 300) for t in (LOGITS, OTHER))

    def constant_labels(a, b):
        log_p = [
            jax.nn.log_softmax(x / jnp.linalg.norm(x, axis=1, keepdims=True) / 0.1)
            for x in (a, b)
        ]
        return -jnp.mean(jnp.sum(q1 * log_p[1] + q2 * log_p[0], axis=1))

    expected = jax.jit(jax.grad(constant_labels, (0, 1)))(LOGITS, OTHER)
    for one, two in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-9)
    of_frame = jax.jit(
        jax.grad(
            lambda f, p: jnp.sum(geometric_harmonization(LOGITS, OTHER, f, p)), (0, 1)
        )
    )(np.eye(2), HALF)
    assert not np.any(of_frame[0]) and not np.any(of_frame[1])


def test_table_and_proportions():
    seen = np.array([True, False, True])
    old = np.array([[1.0, 0.0], [np.nan, np.nan], [0.0, 1.0]], np.float32)
    new = update_latent_logits(old, seen, LOGITS, decay=0.9)
    np.testing.assert_allclose(new, [[1, 0], [0.8, 0.6], [0, 1]], rtol=1e-6)
    table = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.0, 1.0]])
    visited = np.array([True, True, True, False])
    np.testing.assert_allclose(latent_prior(table, visited), [2 / 3, 1 / 3], rtol=1e-6)
    floored = latent_prior(table, visited, floor=100.0)
    np.testing.assert_allclose(floored, [102 / 203, 101 / 203], rtol=1e-6)
    nothing = latent_prior(table, np.zeros(4, bool))
    np.testing.assert_allclose(nothing, 0.5)


def test_bad_input_is_named():
    z, frame = np.ones((3, 2), np.float32), np.eye(2)
    with pytest.raises(ValueError, match=r"frame has shape \(3, 2\), expected \[2"):
        geometric_harmonization(z, z, np.ones((3, 2)), HALF)
    with pytest.raises(ValueError, match=r"surrogate_labels: prior has shape \(3,\)"):
        geometric_harmonization(z, z, frame, np.ones(3))
    for prior in ([0.0, 0.0], [1.5, -0.5], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="surrogate_labels: prior is .* expected"):
            surrogate_labels(z, np.array(prior))
    with pytest.raises(ValueError, match="iterations is 0"):
        surrogate_labels(z, HALF, iterations=0)
    with pytest.raises(ValueError, match="temperature is 0"):
        geometric_harmonization(z, z, frame, HALF, temperature=0.0)
    with pytest.raises(ValueError, match="update_latent_logits: decay is 2"):
        update_latent_logits(z, np.ones(3, bool), z, decay=2.0)
