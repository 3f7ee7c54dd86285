"""Minimization of smooth convex functions by truncated Newton steps, on the device."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# Halvings of a step before the search gives up.
_HALVINGS = 30


class Minimum(NamedTuple):
    """Where the solver stopped: x, the value, the gradient's norm, the steps taken."""

    x: jax.Array
    value: jax.Array
    gradient_norm: jax.Array
    iterations: jax.Array


def newton_cg(
    objective: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    preconditioner: Callable[[jax.Array], Callable[[jax.Array], jax.Array]],
    *,
    tol: Any,
    max_iterations: int,
    max_products: int,
) -> Minimum:
    """Minimizes a convex function.

    Each step solves H d = -g by preconditioned conjugate gradients, only as precisely
    as the distance to the optimum deserves (Eisenstat and Walker), and halves d until
    the value has fallen enough. Near the optimum the value no longer resolves a
    decrease; then a smaller gradient counts as one.

    Args:
        objective: of an array, twice differentiable almost everywhere.
        start: the first x.
        preconditioner: of an x, an approximate inverse of the Hessian there, which is a
            positive linear map.
        tol: stop at this Euclidean norm of the gradient.
        max_iterations: Newton steps.
        max_products: Hessian products in each.

    Returns:
        Minimum. It stops early where no step helps any more: at the precision of the
        dtype.
    """
    value_and_grad = jax.value_and_grad(objective)
    eps = jnp.finfo(start.dtype).eps

    def more(state):
        _, _, _, norm, step, stuck = state
        return (norm > tol) & (step < max_iterations) & ~stuck

    def step(state):
        x, value, gradient, norm, count, _ = state

        def product(v):
            return jax.jvp(jax.grad(objective), (x,), (v,))[1]

        # Fewer products far from the optimum, none for digits that nobody asks for.
        forcing = jnp.minimum(0.1, jnp.sqrt(norm)) * norm
        forcing = jnp.maximum(forcing, jnp.maximum(0.3 * tol, 30 * eps * norm))
        scale = preconditioner(x)
        d = _conjugate_gradients(product, -gradient, scale, forcing, max_products)
        slope = jnp.vdot(d, gradient)
        noise = 8 * eps * jnp.abs(value)

        def falls(t):
            new = x + t * d
            new_value, new_gradient = value_and_grad(new)
            new_norm = jnp.linalg.norm(new_gradient)
            enough = new_value <= value + 1e-4 * t * slope
            flat = (new_value <= value + noise) & (new_norm < norm)
            return enough | flat, (new, new_value, new_gradient, new_norm)

        def halve(search):
            t, tries, _, _ = search
            t = 0.5 * t
            done, found = falls(t)
            return t, tries + 1, done, found

        def unfinished(search):
            _, tries, done, _ = search
            return ~done & (tries < _HALVINGS)

        one = jnp.ones((), start.dtype)
        first = (one, jnp.zeros((), jnp.int32), *falls(one))
        _, _, done, found = jax.lax.while_loop(unfinished, halve, first)
        kept = jax.tree.map(
            lambda new, old: jnp.where(done, new, old),
            found,
            (x, value, gradient, norm),
        )
        return *kept, count + 1, ~done

    value, gradient = value_and_grad(start)
    zero = jnp.zeros((), jnp.int32)
    norm = jnp.linalg.norm(gradient)
    state = (start, value, gradient, norm, zero, jnp.zeros((), bool))
    x, value, _, norm, count, _ = jax.lax.while_loop(more, step, state)
    return Minimum(x, value, norm, count)


def _conjugate_gradients(product, target, precondition, tol, max_products):
    """x with |target - product(x)| <= tol; stops at a direction without curvature."""

    def more(state):
        _, residual, _, _, count, flat = state
        return (jnp.linalg.norm(residual) > tol) & (count < max_products) & ~flat

    def step(state):
        x, residual, direction, weight, count, _ = state
        image = product(direction)
        curvature = jnp.vdot(direction, image)
        flat = ~(curvature > 0)
        length = jnp.where(flat, 0.0, weight / jnp.where(flat, 1.0, curvature))
        x = x + length * direction
        residual = residual - length * image
        scaled = precondition(residual)
        new = jnp.vdot(residual, scaled)
        direction = scaled + new / weight * direction
        return x, residual, direction, new, count + 1, flat

    scaled = precondition(target)
    state = (
        jnp.zeros_like(target),
        target,
        scaled,
        jnp.vdot(target, scaled),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )
    x, _, _, _, count, flat = jax.lax.while_loop(more, step, state)
    # Without curvature from the start, the scaled gradient is all there is to follow.
    return jnp.where(flat & (count == 1), scaled, x)
