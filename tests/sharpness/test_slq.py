"""Lanczos, Ritz values, quadrature density and traces of known operators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.sharpness import (
    Tridiagonal,
    hutchinson_trace,
    lanczos,
    ritz,
    spectral_density,
)

DIAGONAL = np.array([-1.0, 0.0, 2.0, 5.0])
KEY = jax.random.key(0)


def run(diagonal, start, steps):
    diagonal = jnp.asarray(diagonal)
    return lanczos(lambda v: diagonal * v, jnp.asarray(start), steps, key=KEY)


def test_a_diagonal_operator(x64):
    found = run(DIAGONAL, np.ones(4), 4)
    np.testing.assert_allclose(
        found.alpha, (1.5, 2.6428571429, 1.6298701299, 0.2272727273), atol=1e-9
    )
    np.testing.assert_allclose(
        found.beta, (2.2912878475, 1.6413036133, 1.0414944761), atol=1e-9
    )
    expected = {
        2: ((-0.2900393221, 4.4328964650), (0.6209901208, 0.3790098792)),
        3: (
            (-0.7790406522, 1.5863293153, 4.9654386096),
            (0.4083929183, 0.3312807791, 0.2603263026),
        ),
        4: (DIAGONAL, (0.25,) * 4),
    }
    for steps, (values, weights) in expected.items():
        ours = ritz(run(DIAGONAL, np.ones(4), steps))
        np.testing.assert_allclose(ours[0], values, atol=1e-9)
        np.testing.assert_allclose(ours[1], weights, atol=1e-9)
    # More steps than dimensions are not taken.
    assert len(run(DIAGONAL, np.ones(4), 9).alpha) == 4


def test_breakdown_goes_on_in_the_rest_of_the_space(x64):
    # An eigenvector as start: beta_1 = 0, and still every eigenvalue is found.
    found = run(DIAGONAL, np.array([0.0, 0.0, 1.0, 0.0]), 4)
    assert found.beta[0] == 0
    values, weights = ritz(found)
    np.testing.assert_allclose(values, DIAGONAL, atol=1e-10)
    np.testing.assert_allclose(weights, (0, 0, 1, 0), atol=1e-12)
    # Repeated eigenvalues: a Krylov space holds each of them once only.
    repeated = np.array([1.0, 1.0, 1.0, 3.0, 3.0])
    np.testing.assert_allclose(
        ritz(run(repeated, np.ones(5), 5))[0], repeated, atol=1e-10
    )
    # The zero operator.
    np.testing.assert_array_equal(ritz(run(np.zeros(3), np.ones(3), 3))[0], 0)


def test_convergence_in_float32_and_interlacing():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(200, 200)))
    spectrum = np.concatenate([rng.normal(size=197) * 0.1, [-3.0, 8.0, 20.0]])
    matrix = jnp.asarray(basis * spectrum @ basis.T, jnp.float32)

    def matvec(v):
        return jnp.matmul(matrix, v, precision="highest")

    start = jax.random.rademacher(KEY, (200,), jnp.float32)
    extremes = []
    for steps in (2, 4, 8, 16, 32):
        values, weights = ritz(lanczos(matvec, start, steps, key=KEY))
        assert abs(weights.sum() - 1) < 1e-12
        extremes.append((values[0], values[-1]))
    low, high = np.array(extremes).T
    assert (np.diff(low) <= 1e-5).all() and (np.diff(high) >= -1e-5).all()
    np.testing.assert_allclose((low[-1], high[-1]), (-3.0, 20.0), rtol=1e-5)
    # Without re-orthogonalization a converged value appears again and again.
    assert (np.abs(values - 20.0) < 0.5).sum() == 1


def test_density_is_a_density_of_the_quadrature():
    values = np.array([[-1.0, 0.0, 4.0], [-2.0, 1.0, 5.0]])
    weights = np.array([[0.2, 0.5, 0.3], [0.1, 0.4, 0.5]])
    grid, density = spectral_density(values, weights, points=20_001)
    spacing = grid[1] - grid[0]
    np.testing.assert_allclose(density.sum() * spacing, 1.0, rtol=1e-12)
    np.testing.assert_allclose((grid[0], grid[-1]), (-1.51, 4.51))
    near_one = (np.abs(grid - 1.0) < 0.2).nonzero()
    # 1.51 wide of the outer values is cut off: masses relative to what is inside.
    inside = 0.2 + 0.5 + 0.3 + 0.4
    mass = density[near_one].sum() * spacing
    np.testing.assert_allclose(mass, 0.4 / inside, rtol=1e-6)
    # The width is sqrt(1e-5 * length of the interval).
    peak = density[near_one].max()
    np.testing.assert_allclose(peak, mass / np.sqrt(2 * np.pi * 1e-5 * 6.02), rtol=1e-3)


def test_hutchinson_estimates_with_an_error_that_covers_it():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(50, 50))
    matrix = jnp.asarray(root @ root.T, jnp.float32)
    exact = float(jnp.trace(matrix))
    trace, error = hutchinson_trace(
        lambda v: matrix @ v, 50, key=KEY, probes=200, tolerance=0.0
    )
    assert 0 < error < 0.1 * exact
    assert abs(trace - exact) < 4 * error
    # A diagonal operator has no variance: two probes are enough.
    calls = []
    diagonal = jnp.asarray(DIAGONAL, jnp.float32)
    trace, error = hutchinson_trace(
        lambda v: calls.append(0) or diagonal * v, 4, key=KEY
    )
    assert (trace, error, len(calls)) == (6.0, 0.0, 2)


def test_refusals():
    with pytest.raises(ValueError, match="num_steps is 0"):
        run(DIAGONAL, np.ones(4), 0)
    with pytest.raises(ValueError, match=r"expected 1 axes \[P\]"):
        run(DIAGONAL, np.ones((2, 2)), 2)
    with pytest.raises(ValueError, match="probes is 1"):
        hutchinson_trace(lambda v: v, 3, key=KEY, probes=1)
    values, weights = ritz(Tridiagonal(np.array([2.0]), np.array([])))
    assert values == [2.0] and weights == [1.0]
