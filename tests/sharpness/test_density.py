"""Kernel densities against the definition in float64, and numbers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.sharpness import density_weights, log_density, median_bandwidth

POINTS = np.array([[0.0], [0.0], [0.0], [3.0]])


def slow_log_density(features, bandwidth):
    squared = ((features[:, None] - features[None]) ** 2).sum(-1)
    exponent = -squared / (2 * bandwidth**2)
    top = exponent.max(1)
    return top + np.log(np.exp(exponent - top[:, None]).mean(1))


def test_known_numbers_of_a_toy(x64):
    p = jnp.exp(log_density(jnp.asarray(POINTS), bandwidth=1.0))
    np.testing.assert_allclose(p, [0.7527772491] * 3 + [0.2583317474], atol=1e-10)
    w = p**-0.5
    np.testing.assert_allclose(w, [1.1525685303] * 3 + [1.9674835466], atol=1e-9)
    ours = density_weights(jnp.asarray(POINTS), bandwidth=1.0, alpha=0.5)
    np.testing.assert_allclose(ours[3] / ours[0], 1.7070425705, rtol=1e-10)
    np.testing.assert_allclose(ours, w / w.mean(), rtol=1e-10)
    # At a distance of 5 the kernel is exp(-12.5) = 3.7267e-6.
    far = jnp.array([[0.0], [0.0], [0.0], [5.0]])
    p = np.exp(log_density(far, bandwidth=1.0))
    np.testing.assert_allclose(p, [0.750000932] * 3 + [0.250002795], atol=5e-10)
    for alpha, near, lone in (
        (1.0, 1.333331677, 3.999955281),
        (0.5, 1.154699821, 1.999988820),
    ):
        w = np.array([near] * 3 + [lone])
        np.testing.assert_allclose(p**-alpha, w, atol=1e-9)
        ours = density_weights(far, bandwidth=1.0, alpha=alpha)
        np.testing.assert_allclose(ours, w / w.mean(), atol=1e-9)


@pytest.mark.parametrize("block_size", [7, 50, 64])
def test_blocks_agree_with_the_definition(block_size):
    rng = np.random.default_rng(0)
    # Far from the origin, where |a|^2 + |b|^2 - 2ab would cancel.
    features = rng.normal(size=(50, 8)) * 0.3 + 100
    expected = slow_log_density(features, 0.4)
    found = log_density(
        features.astype(np.float32), bandwidth=0.4, block_size=block_size
    )
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1)
    ordered = np.sort(distances + np.diag(np.full(50, np.inf)), axis=1)
    h = median_bandwidth(features.astype(np.float32), block_size=block_size)
    np.testing.assert_allclose(h, np.median(ordered[:, 7]), rtol=1e-4)  # ceil(sqrt 50)


def test_high_dimension_does_not_underflow():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(40, 2000)).astype(np.float32)
    found = log_density(features, bandwidth=1.0)
    # Every point is alone: only its own kernel is left, exp(-2000) is 0 in float32.
    np.testing.assert_allclose(found, -np.log(40), rtol=1e-6)
    weights = density_weights(features)
    assert np.isfinite(weights).all()


def test_scaling_and_duplication_change_nothing(x64):
    rng = np.random.default_rng(2)
    features = jnp.asarray(rng.normal(size=(30, 3)))
    weights = density_weights(features, bandwidth=0.5)
    scaled = density_weights(7 * features, bandwidth=3.5)
    np.testing.assert_allclose(scaled, weights, rtol=1e-10)
    np.testing.assert_allclose(  # the default bandwidth scales along
        density_weights(7 * features), density_weights(features), rtol=1e-10
    )
    double = jnp.concatenate([features, features])
    np.testing.assert_allclose(
        density_weights(double, bandwidth=0.5),
        jnp.concatenate([weights, weights]),
        rtol=1e-10,
    )


def test_exponent_clipping_and_constancy(x64):
    rng = np.random.default_rng(3)
    features = np.concatenate([rng.normal(size=(60, 2)) * 0.01, [[5.0, 5.0]]])
    features = jnp.asarray(features)
    flat = density_weights(features, bandwidth=0.02, alpha=0.0)
    np.testing.assert_allclose(flat, 1.0, rtol=1e-12)
    free = density_weights(features, bandwidth=0.02, alpha=2.0, clip=None)
    clipped = density_weights(features, bandwidth=0.02, alpha=2.0)
    for weights in (free, clipped):
        np.testing.assert_allclose(jnp.mean(weights), 1.0, rtol=1e-10)
    assert float(free.max() / jnp.median(free)) > 100
    np.testing.assert_allclose(clipped.max() / jnp.median(clipped), 10.0, rtol=1e-10)
    gradient = jax.grad(lambda f: density_weights(f, bandwidth=0.02).sum())(features)
    np.testing.assert_array_equal(gradient, 0)


def test_refusals():
    with pytest.raises(ValueError, match="coincide"):
        median_bandwidth(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="at least 2"):
        median_bandwidth(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="neighbor is 3"):
        median_bandwidth(np.eye(3), neighbor=3)
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        density_weights(np.zeros(4))
    with pytest.raises(ValueError, match="bandwidth"):
        log_density(np.eye(3), bandwidth=0.0)
    with pytest.raises(ValueError, match="alpha"):
        density_weights(np.eye(3), alpha=-1.0)
    with pytest.raises(TypeError, match="floating"):
        density_weights(np.eye(3, dtype=int))


def test_collapsed_clusters_keep_their_densities_in_float32():
    # Spread 1e-4 of the distance to the origin: |a|^2 + |b|^2 - 2ab would be noise.
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((6, 32))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    points = np.repeat(centers, 30, axis=0) + 1e-4 * rng.standard_normal((180, 32))
    points = points.astype(np.float32)
    exact = points.astype(np.float64)
    squared = np.square(exact[:, None] - exact[None]).sum(axis=-1)
    h = np.median(np.sqrt(np.sort(squared, axis=1)[:, 14]))  # ceil(sqrt(180)) = 14
    expected = slow_log_density(exact, h)
    assert median_bandwidth(points) == pytest.approx(h, rel=1e-5)
    np.testing.assert_allclose(log_density(points, bandwidth=h), expected, atol=1e-5)
