r"""SoLar's Sinkhorn: pseudo-labels whose class shares are those of a prior."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_class_vector,
    check_floating,
    check_range,
    check_rank,
    check_where,
    shape_of,
)
from ltjax._numerics import at_least_float32
from ltjax.pseudo_labels.transport import (
    fit_classes,
    log_sum,
    own_rows,
    restrict,
    transport,
)


def sinkhorn(
    scores: ArrayLike,
    prior: ArrayLike,
    *,
    power: float | ArrayLike = 3.0,
    solver: str = "iterations",
    iterations: int | ArrayLike = 50,
    penalty: float | ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Assigns rows to classes so that class k gets the share :math:`r_k` of them.

    With :math:`A = M^\eta` (entries of M that are 0 stay 0) and n rows, repeats

    .. math:: u_k = r_k \Big/ \sum_i A_{ik} c_i, \qquad
              c_i = \frac{1}{n} \Big/ \sum_k u_k A_{ik}

    from :math:`c = 1/n` and returns :math:`n A_{ik} u_k c_i`: rows sum to 1 exactly,
    column means approach r (50 iterations leave up to 5e-3 for eta = 3). In log space,
    on the device and at any size of the numbers; it is `transport` with equal weights.

    A class without a candidate in any row gets no share, and the other shares are
    scaled up. A row whose classes all have no share keeps its own distribution.

    Args:
        scores: [n, K] float >= 0, M: the queue and the batch stacked, a prediction
            times the candidate mask; rows need not sum to 1.
        prior: [K] >= 0, r; scaled to sum to 1.
        power: eta > 0; large values approach a hard assignment.
        solver: "iterations", as published, or "newton" for the limit: `transport` on
            the host in float64, called from the compiled program. Shares are then met
            to 1e-10 of a row, before the result is rounded to its dtype.
        iterations: >= 1, of the published form; may be traced.
        penalty: optional lambda > 0, in rows of weight 1: soft shares, see `transport`.
        where: optional [n] bool; rows that are False (an unfilled queue) take no part
            and come back as 0.

    Returns:
        [n, K] float32.

    Raises:
        ValueError: if shapes disagree or a readable power or penalty is not positive.
        TypeError: if scores are not floats.

    Example:
        >>> scores = jnp.array([[0.5, 0.3, 0.0], [0.1, 0.0, 0.7]])
        >>> rows = sinkhorn(scores, jnp.array([0.5, 0.25, 0.25]), power=1.0)
        >>> [f"{share:.3f}" for share in rows.mean(axis=0)]
        ['0.500', '0.250', '0.250']

    References:
        Wang et al., "SoLar: Sinkhorn Label Refinery for Imbalanced Partial-Label
        Learning", NeurIPS 2022. The released code meets a class
        without candidates by NaN and then by running on smoothed scores, after which
        rows no longer sum to 1; its stopping rule never stops, so that it always runs
        the 50 iterations.
    """
    caller = "sinkhorn"
    check_floating(caller, "scores", scores)
    check_rank(caller, "scores", scores, 2, "[n, K]")
    num_rows, num_classes = shape_of(scores)
    check_class_vector(caller, "prior", prior, num_classes)
    check_range(caller, "power", power, low=0, open_low=True)
    check_choice(caller, "solver", solver, ("iterations", "newton"))
    check_range(caller, "iterations", iterations, low=1)
    check_where(caller, where, (num_rows,))
    if penalty is not None:
        check_range(caller, "penalty", penalty, low=0, open_low=True)
    given = at_least_float32(scores)
    if penalty is not None:
        penalty = jnp.asarray(penalty).astype(given.dtype)
    kept = jnp.ones(num_rows, bool) if where is None else jnp.asarray(where)
    positive = (given > 0) & kept[:, None]
    log_scores = jnp.where(positive, jnp.log(jnp.where(positive, given, 1)), -jnp.inf)
    log_scores = jnp.asarray(power).astype(given.dtype) * log_scores
    mass = jnp.asarray(prior).astype(given.dtype)
    if solver == "newton":
        return jax.pure_callback(
            _solve,
            jax.ShapeDtypeStruct(given.shape, given.dtype),
            *(log_scores, mass, kept, penalty),
            vmap_method="sequential",
        )
    problem = restrict(log_scores, mass, kept, jnp)
    logs = problem.log_rows
    log_mass = jnp.log(jnp.where(problem.open, problem.mass, 1))

    def iteration(_, state):
        _, log_c = state
        nu = fit_classes(logs + log_c, log_mass, 1.0, penalty, jnp)
        return nu, -log_sum(logs - nu[None], 1, jnp)

    start = jnp.zeros_like(log_mass), jnp.zeros((num_rows, 1), given.dtype)
    nu, log_c = jax.lax.fori_loop(0, iterations, iteration, start)
    moved = jnp.exp(logs - nu[None] + log_c)
    return moved + own_rows(problem, log_scores, kept, jnp)


def _solve(log_scores, mass, where, penalty) -> np.ndarray:
    """`transport` of what a compiled program hands to the host.

    Numbers that are no problem at all give NaN: of several replicas, one that has
    diverged must not end the others.
    """
    logs, mass, where = (np.asarray(x) for x in (log_scores, mass, where))
    posed = np.all(logs < np.inf) and np.all(mass >= 0) and 0 < mass.sum() < np.inf
    if not posed:
        return np.full_like(logs, np.nan)
    soft = None if penalty is None else float(penalty)
    rows = transport(logs, mass, penalty=soft, where=where).rows
    return rows.astype(logs.dtype)
