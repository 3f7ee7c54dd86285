"""The solver behind the probes, on functions whose minimum is known."""

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.classifiers._newton import newton_cg


def solve(objective, start, scale=1.0, **options):
    options = {"tol": 1e-10, "max_iterations": 50, "max_products": 50} | options
    return jax.jit(
        lambda x: newton_cg(objective, x, lambda _: lambda g: scale * g, **options)
    )(start)


def test_quadratic_of_condition_1e6(x64):
    curvature = np.logspace(-3, 3, 8)
    target = np.arange(8.0)
    objective = lambda x: 0.5 * jnp.sum(curvature * (x - target) ** 2)
    found = solve(objective, np.zeros(8), scale=1 / curvature)
    np.testing.assert_allclose(found.x, target, atol=1e-6)
    assert found.gradient_norm <= 1e-10 and found.iterations <= 12


def test_long_steps_are_halved(x64):
    """A full Newton step on log cosh overshoots from beyond 1.09."""
    found = solve(lambda x: jnp.sum(jnp.log(jnp.cosh(x))), np.array([3.0, -2.0]))
    np.testing.assert_allclose(found.x, 0, atol=1e-10)


def test_stops_where_nothing_falls_any_more():
    """In float32 a tolerance of 0 is out of reach; not all steps are used up."""
    found = solve(lambda x: jnp.sum(jnp.cosh(x - 0.3)), jnp.zeros(3), tol=0.0)
    np.testing.assert_allclose(found.x, 0.3, rtol=1e-5)
    assert found.iterations < 50


def test_flat_direction(x64):
    """A direction without curvature or slope is left alone."""
    objective = lambda x: jnp.cosh(x[0] - x[1])
    found = solve(objective, np.array([2.0, 1.0]))
    np.testing.assert_allclose(found.x, [1.5, 1.5], rtol=1e-10)
