r"""Population minimizers: what a loss converges to with unlimited data and capacity.

With free scores at every input the expected loss splits into one small problem per
input,

.. math:: \min_{z \in \mathbb{R}^K} \sum_y p(y \mid x)\, \ell(z, y),

solved here in float64: smooth losses by Newton's method on the subspace where the
Hessian is not zero, polyhedral ones (hinges) exactly by cutting planes. Where adding a
vector to z costs nothing, the minimizer nearest to the start is taken, which is what
gradient descent finds.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linprog

from ltjax._checks import check_choice
from ltjax._numerics import double_precision
from ltjax.consistency.joints import FiniteJoint

# (scores [B, K], labels [B], class_counts [K]) -> [B]
Loss = Callable[..., jax.Array]

# Class counts a joint stands for: n_k = POPULATION * pi_k.
POPULATION = 10_000
_FLAT = 1e-11  # eigenvalues below this share of the largest one count as zero


def _conditional_risk(loss: Loss):
    def risk(z, conditional, counts):
        num_classes = conditional.shape[0]
        rows = jnp.broadcast_to(z, (num_classes, *z.shape))
        return jnp.dot(conditional, loss(rows, jnp.arange(num_classes), counts))

    return risk


def _minimize_smooth(risk, start, conditional, counts, tolerance, max_steps):
    """Damped Newton on all rows at once; start, conditional and counts are [R, K]."""

    def evaluate(z, conditional, counts):
        arguments = (z, conditional, counts)
        gradient = jax.grad(risk)(*arguments)
        return risk(*arguments), gradient, jax.hessian(risk)(*arguments)

    evaluate = jax.jit(jax.vmap(evaluate))

    def at(z):
        return [np.asarray(x) for x in jax.device_get(evaluate(z, conditional, counts))]

    z, damping = np.array(start), np.ones(len(start))
    value, gradient, hessian = at(z)
    for _ in range(max_steps):
        eigenvalues, vectors = np.linalg.eigh(hessian)
        size = np.abs(eigenvalues)
        curved = size > _FLAT * size.max(axis=1, keepdims=True)
        along = np.einsum("rij,ri->rj", vectors, gradient)
        newton = np.where(curved, along / np.where(curved, size, 1.0), 0.0)
        # In z the next undamped step is as long as what is left to go.
        left = np.abs(newton).max(axis=1)
        done = (left < 0.1 * tolerance) & np.all(eigenvalues > -1e-9, axis=1)
        if done.all():
            return z
        # Damped by the size of the gradient: no step is longer than 1 / damping, and
        # convergence stays quadratic as the gradient vanishes.
        slope = np.linalg.norm(gradient, axis=1, keepdims=True)
        scale = np.where(curved, size + damping[:, None] * slope, 1.0)
        step = np.einsum("rij,rj->ri", vectors, np.where(curved, along / scale, 0.0))
        trial = np.where(done[:, None], z, z - step)
        new = at(trial)
        # Rounding may raise the value by an ulp at the optimum: let it.
        better = new[0] <= value + 1e-15 * np.maximum(1.0, np.abs(value))
        damping = np.where(better, damping / 10, np.minimum(damping * 10, 1e6))
        damping = np.maximum(damping, 1e-14)
        z = np.where(better[:, None], trial, z)
        value = np.where(better, new[0], value)
        gradient = np.where(better[:, None], new[1], gradient)
        hessian = np.where(better[:, None, None], new[2], hessian)
    worst = int(np.argmax(left))
    raise RuntimeError(
        f"population_minimizer: row {worst} is still {left[worst]:.1e} from its minimum"
        f" after {max_steps} Newton steps (wanted {tolerance:.1e})"
    )


def _minimize_polyhedral(risk, conditional, counts, tolerance, max_steps):
    """Kelley's cutting planes in the subspace sum z = 0, one row after the other."""
    evaluate = jax.jit(jax.value_and_grad(risk))
    num_classes = conditional.shape[1]
    bounds = [(-10.0, 10.0)] * num_classes + [(None, None)]
    objective = np.append(np.zeros(num_classes), 1.0)
    centered = np.append(np.ones(num_classes), 0.0)[None, :]
    solutions = []
    for row, weights in zip(conditional, counts, strict=True):
        z, cuts, offsets = np.zeros(num_classes), [], []
        for _ in range(max_steps):
            value, slope = (np.asarray(x) for x in evaluate(z, row, weights))
            cuts.append(np.append(slope, -1.0))
            offsets.append(slope @ z - value)
            plan = linprog(
                objective, np.array(cuts), offsets, centered, [0.0], bounds=bounds
            )
            if value - plan.fun <= tolerance:
                break
            z = plan.x[:num_classes]
        else:
            raise RuntimeError(
                f"population_minimizer: {max_steps} cutting planes leave a gap of"
                f" {value - plan.fun:.1e} (wanted {tolerance:.1e})"
            )
        solutions.append(z)
    return np.array(solutions)


def minimize_rows(
    loss: Loss,
    conditional: np.ndarray,
    class_counts: np.ndarray,
    *,
    solver: str = "newton",
    starts: str = "origin",
    tolerance: float = 1e-8,
    max_steps: int = 300,
) -> np.ndarray:
    """Minimizers of many independent inputs at once.

    Args:
        loss: (scores [B, K], labels [B], class_counts [K]) -> [B].
        conditional: [R, K] positive, p(y | x) of every row.
        class_counts: [R, K], the counts that go with each row.
        solver: "newton" for smooth losses, "cutting_plane" for polyhedral convex ones.
        starts: "origin", or "vertices" to start at every unit vector and keep the best
            (for losses that are not convex, or singular at 0).
        tolerance: distance to the minimizer (Newton) or to the minimum (cutting plane).
        max_steps: iterations before giving up.

    Returns:
        [R, K] float64.

    Raises:
        ValueError: for an unknown solver or start.
        RuntimeError: if the tolerance is not reached.

    Example:
        >>> from ltjax import losses
        >>> z = minimize_rows(
        ...     lambda z, y, n: losses.softmax_cross_entropy(z, y),
        ...     np.array([[0.8, 0.2]]), np.array([[8.0, 2.0]]))
        >>> bool(np.isclose(z[0, 0] - z[0, 1], np.log(4.0)))
        True
    """
    check_choice("minimize_rows", "solver", solver, ("newton", "cutting_plane"))
    check_choice("minimize_rows", "starts", starts, ("origin", "vertices"))
    conditional = np.asarray(conditional, np.float64)
    class_counts = np.asarray(class_counts, np.float64)
    risk = _conditional_risk(loss)
    with double_precision():
        if solver == "cutting_plane":
            return _minimize_polyhedral(
                risk, conditional, class_counts, tolerance, max_steps
            )
        rows, num_classes = conditional.shape
        points = np.zeros((1, num_classes)) if starts == "origin" else None
        points = np.eye(num_classes) if points is None else points
        # All starts of all rows are one batch of independent problems.
        start = np.repeat(points, rows, axis=0)
        weights = np.tile(conditional, (len(points), 1))
        counts = np.tile(class_counts, (len(points), 1))
        z = _minimize_smooth(risk, start, weights, counts, tolerance, max_steps)
        value = np.asarray(jax.jit(jax.vmap(risk))(z, weights, counts))
    best = np.argmin(value.reshape(len(points), rows), axis=0)
    return z.reshape(len(points), rows, num_classes)[best, np.arange(rows)]


def population_minimizer(
    loss: Loss,
    joint: FiniteJoint,
    *,
    solver: str = "newton",
    starts: str = "origin",
    tolerance: float = 1e-8,
) -> np.ndarray:
    r"""Scores that minimize the expected loss on a finite joint distribution.

    Args:
        loss: (scores [B, K], labels [B], class_counts [K]) -> [B]; the counts are
            10,000 times the prior.
        joint: distribution.
        solver: "newton" or "cutting_plane", see `minimize_rows`.
        starts: "origin" or "vertices".
        tolerance: distance to the minimizer.

    Returns:
        [M, K] float64 scores; of a family of minimizers the one nearest the start.

    Raises:
        RuntimeError: if the tolerance is not reached.

    Example:
        >>> from ltjax import losses
        >>> from ltjax.consistency import finite_joint
        >>> joint = finite_joint([[0.6, 0.1], [0.2, 0.1]])
        >>> z = population_minimizer(losses.logit_adjusted, joint)
        >>> bool(np.allclose(np.exp(z[:, 0] - z[:, 1]), [6 / 4, 2 / 4]))
        True
    """
    counts = np.broadcast_to(POPULATION * joint.prior, joint.table.shape)
    return minimize_rows(
        loss,
        joint.conditional,
        counts,
        solver=solver,
        starts=starts,
        tolerance=tolerance,
    )
