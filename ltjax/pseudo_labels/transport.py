r"""Entropic transport: rows on the simplex moved as little as possible to given masses.

With prior rows :math:`\hat y_m`, row weights :math:`w_m` and class masses :math:`c`,

.. math:: \min_{y} \; \sum_m w_m \,\mathrm{KL}(y_m \,\|\, \hat y_m)
          \quad\text{with}\quad \sum_k y_{mk} = 1, \quad \sum_m y_{mk} = c_k .

The optimum has one number per class, its potential :math:`\nu_k`,

.. math:: y_{mk} \propto \hat y_{mk}\, e^{-\nu_k / w_m},

which minimizes the convex dual
:math:`\sum_m w_m \log \sum_k \hat y_{mk} e^{-\nu_k / w_m} + \sum_k \nu_k c_k`. DARP is
this problem with entropy weights, SoLar's Sinkhorn the one with equal weights. With a
penalty :math:`\lambda` the masses are soft: the column sums s cost
:math:`\lambda\, \mathrm{KL}(s \,\|\, c)` and are :math:`s_k = c_k e^{\nu_k / \lambda}`
at the optimum, which is robust to masses that are wrong.

Everything happens in log space: potentials reach 1e5, where their exponentials
overflow. Two solvers: coordinate ascent, as in the papers, and Newton's method on the K
potentials, which needs float64 and therefore runs on the host.
"""

from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_class_vector,
    check_range,
    check_rank,
    check_where,
    is_concrete,
    shape_of,
)

# Halvings of a Newton step before it is given up.
_HALVINGS = 40
_LONGEST_STEP = 1e15
# Numbers of a block of rows, from 1 MiB, which a cache holds, to 32 MiB.
_BLOCK = 1 << 17
_LARGEST_BLOCK = 1 << 22
# Newton steps for the potential of one class, given all rows: it converges from
# everywhere, at once for equal weights.
_INNER_STEPS = 60


class TransportPlan(NamedTuple):
    """A solution.

    Attributes:
        rows: [M, K] float64, the moved rows; each sums to 1.
        potentials: [K] float64, nu; 0 for a class that takes no part. Pass them as
            `initial` to the next, similar problem.
        violation: largest difference between a column sum and its mass, in rows.
        iterations: Newton steps or passes done.
        converged: whether the violation is within the tolerance.
    """

    rows: np.ndarray
    potentials: np.ndarray
    violation: float
    iterations: int
    converged: bool


class _Problem(NamedTuple):
    """Rows and classes that take part.

    Attributes:
        log_rows: [M, K], -inf outside of the support and for classes without mass.
        mass: [K], sums to the number of rows that take part.
        row: [M] bool, rows that take part.
        open: [K] bool, classes that do.
    """

    log_rows: Any
    mass: Any
    row: Any
    open: Any


def transport(
    log_rows: ArrayLike,
    class_mass: ArrayLike,
    *,
    row_weights: ArrayLike | None = None,
    solver: str = "newton",
    passes: int = 10,
    tolerance: float = 1e-10,
    max_steps: int = 100,
    penalty: float | None = None,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> TransportPlan:
    r"""Moves rows to class masses, on the host in float64.

    A class without support in any row cannot have mass: it gets none, and the other
    masses are scaled up. A row all of whose classes have no mass keeps its own
    distribution and counts for no class. Nothing of that gives NaN.

    Args:
        log_rows: [M, K] logarithms of the prior rows, up to a constant per row; -inf
            where a class is impossible.
        class_mass: [K] >= 0, scaled to sum to the number of rows.
        row_weights: optional [M] > 0, w: rows of large weight move less. None for 1.
        solver: "newton" for the optimum, or "coordinate" for the iteration of the
            papers, which with few passes stops far from it where weights differ.
        passes: of coordinate ascent; each fits the classes, then the rows.
        tolerance: of the Newton solver, on the violation, in rows.
        max_steps: of the Newton solver.
        penalty: optional lambda > 0 for soft masses; None for exact ones.
        initial: optional [K] potentials to start from.
        where: optional [M] bool; rows that are False take no part and come back as 0.

    Returns:
        TransportPlan. Where no rows with these masses exist, because impossible classes
        leave no way, it is not converged, finite and as close as the solver came.

    Raises:
        ValueError: if shapes disagree, masses are negative or all zero, weights are not
            positive, or a value is NaN.
        TypeError: under tracing; see `sinkhorn` for a form on the device.

    Example:
        >>> rows = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
        >>> plan = transport(np.log(rows), [1.5, 1.5])
        >>> plan.rows[:, 0].round(4).tolist(), plan.converged
        ([0.7035, 0.5132, 0.2833], True)

    References:
        Kim et al., "Distribution Aligning Refinery of Pseudo-label for Imbalanced
        Semi-supervised Learning", NeurIPS 2020, Algorithm 1 and its dual; Cuturi,
        "Sinkhorn Distances", NeurIPS 2013. Newton's method is ours.
    """
    caller = "transport"
    check_rank(caller, "log_rows", log_rows, 2, "[M, K]")
    num_rows, num_classes = shape_of(log_rows)
    check_class_vector(caller, "class_mass", class_mass, num_classes)
    check_where(caller, where, (num_rows,))
    check_choice(caller, "solver", solver, ("newton", "coordinate"))
    check_range(caller, "passes", passes, low=0)
    check_range(caller, "tolerance", tolerance, low=0)
    check_range(caller, "max_steps", max_steps, low=0)
    if penalty is not None:
        check_range(caller, "penalty", penalty, low=0, open_low=True, open_high=True)
    if not is_concrete(log_rows, class_mass, row_weights, initial, where):
        raise TypeError(f"{caller}: an argument is traced, expected concrete arrays")
    logs = np.asarray(log_rows, np.float64)
    mass = np.asarray(class_mass, np.float64)
    if np.any(np.isnan(logs)) or np.any(np.isposinf(logs)):
        raise ValueError(f"{caller}: log_rows must be finite or -inf")
    if not np.all(mass >= 0) or not 0 < mass.sum() < np.inf:
        raise ValueError(f"{caller}: class_mass is {mass}, expected >= 0, not all 0")
    inverse = _inverse_weights(caller, row_weights, num_rows)
    kept = np.ones(num_rows, bool) if where is None else np.asarray(where)
    problem = restrict(logs, mass, kept, np)
    nu = np.zeros(num_classes)
    if initial is not None:
        check_class_vector(caller, "initial", initial, num_classes)
        nu = np.where(problem.open, np.asarray(initial, np.float64), 0.0)
    at = np.flatnonzero(problem.row)
    classes = np.flatnonzero(problem.open)
    inner = problem.log_rows[np.ix_(at, classes)] if at.size else np.zeros((0, 0))
    goal = problem.mass[classes]
    rows = own_rows(problem, logs, kept, np)
    steps, violation = 0, 0.0
    if at.size:
        solve = _newton if solver == "newton" else _ascend
        limit = max_steps if solver == "newton" else passes
        moved, potentials, violation, steps = solve(
            inner, inverse[at], goal, nu[classes], penalty, tolerance, limit
        )
        rows[np.ix_(at, classes)] = moved
        nu[classes] = potentials
    converged = violation <= tolerance
    return TransportPlan(rows, nu, violation, steps, bool(converged))


def restrict(log_rows, mass, where, xp) -> _Problem:
    """Takes out what cannot take part: see `transport`. Works traced, in `xp`."""
    possible = (log_rows > -xp.inf) & where[:, None]
    opened = xp.any(possible, axis=0) & (mass > 0)
    row = xp.any(possible & opened[None], axis=1)
    mass = xp.where(opened, mass, 0)
    total = xp.sum(mass)
    mass = mass * (xp.sum(row) / xp.where(total > 0, total, 1))
    fits = opened[None] & row[:, None]
    return _Problem(xp.where(fits, log_rows, -xp.inf), mass, row, opened)


def own_rows(problem, log_rows, where, xp):
    """[M, K] rows that take no part: their own distribution, or 0. 0 for the others."""
    alone = (where & ~problem.row)[:, None] & (log_rows > -xp.inf)
    logs = xp.where(alone, log_rows, -xp.inf)
    return xp.exp(logs - log_sum(logs, 1, xp))


def log_sum(values, axis, xp):
    """Logsumexp with kept axis; 0 where every value is -inf."""
    top = xp.max(values, axis=axis, keepdims=True, initial=-xp.inf)
    top = xp.where(top > -xp.inf, top, 0)
    total = xp.sum(xp.exp(values - top), axis=axis, keepdims=True)
    return xp.log(xp.where(total > 0, total, 1)) + top


def _inverse_weights(caller, row_weights, num_rows) -> np.ndarray:
    if row_weights is None:
        return np.ones(num_rows)
    if shape_of(row_weights) != (num_rows,):
        raise ValueError(
            f"{caller}: row_weights has shape {shape_of(row_weights)},"
            f" expected ({num_rows},)"
        )
    weights = np.asarray(row_weights, np.float64)
    if not np.all((weights > 0) & (weights < np.inf)):
        raise ValueError(f"{caller}: row_weights must be positive and finite")
    return 1.0 / weights


def _violation(moved, mass, nu, penalty) -> float:
    return float(np.max(np.abs(moved.sum(axis=0) - _softened(mass, nu, penalty))))


def _softened(mass, nu, penalty):
    """What the column sums shall be: the mass, or c exp(nu / lambda)."""
    return mass if penalty is None else mass * np.exp(np.minimum(nu / penalty, 700.0))


def _newton(logs, inverse, mass, nu, penalty, tolerance, max_steps):
    """Minimizes the dual by damped Newton steps; (rows, nu, violation, steps).

    The steps are those of Newton's method on log s = log c, s being the column sums: on
    s = c itself they are far too long where s is small and too short where it is large.
    Where even these overshoot, weights differ by decades; then a few passes of
    coordinate ascent, which a single weight cannot mislead, lead to a better start.
    """
    state = _dual(logs, inverse, mass, nu, penalty)
    steps, ascended = 0, False
    weight = np.sum(1 / inverse)
    while steps < max_steps and state.violation > tolerance:
        direction = _newton_direction(state, mass, penalty)
        slope = state.gradient @ direction
        # Rounding of the value, not its decrease, decides near the optimum.
        slack = 1e-13 * (abs(state.value) + weight)
        steps, size = steps + 1, 1.0
        for _ in range(_HALVINGS if ascended else 1):
            trial = _dual(logs, inverse, mass, nu + size * direction, penalty)
            if trial.value <= state.value + 1e-4 * size * slope + slack:
                break
            size = _shorter(size, state, trial, direction)
        else:
            if ascended:
                break
            ascended = True
            nu = _ascend_roughly(logs, inverse, mass, nu, penalty)
            state = _dual(logs, inverse, mass, nu, penalty)
            continue
        if -size * slope <= slack and trial.violation >= state.violation:
            break  # as exact as float64 gets
        nu, state = nu + size * direction, trial
    moved = np.empty_like(logs)
    for rows in _blocks(logs):
        lift, total, _ = _lift(logs[rows], inverse[rows], nu)
        np.divide(lift, total[:, None], out=moved[rows])
    return moved, nu, state.violation, steps


def _shorter(size, start, end, direction):
    """A shorter step, by the cubic through the values and slopes at its ends."""
    slope, end_slope = start.gradient @ direction, end.gradient @ direction
    bend = slope + end_slope + 3 * (start.value - end.value) / size
    root = bend**2 - slope * end_slope
    if not (np.isfinite(root) and root >= 0):
        return size / 2
    root = np.sqrt(root)
    span = end_slope - slope + 2 * root
    if not span > 0:
        return size / 2
    share = 1 - (end_slope + root - bend) / span
    return size * float(np.clip(share, 0.01, 0.6))


class _Dual(NamedTuple):
    value: float
    goal: np.ndarray  # what the column sums shall be
    gradient: np.ndarray  # goal - column sums
    hessian: np.ndarray
    violation: float


def _dual(logs, inverse, mass, nu, penalty) -> _Dual:
    """The dual at nu with its derivatives, by blocks of rows."""
    goal = _softened(mass, nu, penalty)
    value = nu @ mass if penalty is None else penalty * np.sum(goal - mass)
    gradient, diagonal = goal.copy(), np.zeros_like(nu)
    product = np.zeros((nu.size, nu.size))
    for rows in _blocks(logs):
        lift, total, top = _lift(logs[rows], inverse[rows], nu)
        value += np.sum((np.log(total) + top) / inverse[rows])
        gradient -= (1 / total) @ lift
        diagonal += (inverse[rows] / total) @ lift
        lift *= (np.sqrt(inverse[rows]) / total)[:, None]
        product += lift.T @ lift
    hessian = np.diag(diagonal if penalty is None else diagonal + goal / penalty)
    violation = float(np.max(np.abs(gradient)))
    return _Dual(float(value), goal, gradient, hessian - product, violation)


def _lift(logs, inverse, nu):
    """Moved rows up to a factor; they are lift / total, log(total) + top normalizes."""
    scores = logs - np.multiply.outer(inverse, nu)
    top = scores.max(axis=1)
    scores -= top[:, None]
    np.exp(scores, out=scores)
    return scores, scores.sum(axis=1), top


def _blocks(logs) -> list[slice]:
    # With fewer rows, adding up the K x K products would take longer than the rows do.
    classes = logs.shape[1]
    size = max(4 * classes, _BLOCK // classes)
    size = max(1, min(size, _LARGEST_BLOCK // classes))
    return [slice(at, at + size) for at in range(0, len(logs), size)]


def _newton_direction(state, mass, penalty):
    """Solves H d = s (log s - log c), or H d = s - c where that would not descend."""
    goal = state.goal
    sums = goal - state.gradient
    tiny = np.finfo(np.float64).tiny
    residual = sums * (np.log(np.maximum(sums, tiny)) - np.log(np.maximum(goal, tiny)))
    if penalty is None:
        residual -= sums * (residual.sum() / sums.sum())
    diagonal = np.maximum(np.diagonal(state.hessian), 1e-100)
    scale = 1.0 / np.sqrt(diagonal)
    matrix = state.hessian * scale[:, None] * scale[None]
    if penalty is None:
        # A constant added to all potentials changes nothing; its multiple is pinned.
        null = np.sqrt(diagonal / diagonal.sum())
        matrix = matrix + np.outer(null, null)
    matrix[np.diag_indices(mass.size)] += 1e-14
    right = np.stack([residual, -state.gradient], axis=1) * scale[:, None]
    both = scale[:, None] * np.linalg.solve(matrix, right)
    step = both[:, 0] if state.gradient @ both[:, 0] < 0 else both[:, 1]
    # Without a feasible point the dual has no minimum, and steps no length.
    return step * min(1.0, _LONGEST_STEP / max(np.max(np.abs(step)), tiny))


def _ascend(logs, inverse, mass, nu, penalty, tolerance, passes):
    """Rows, then `passes` times classes and rows; as `_newton`."""
    del tolerance
    log_mass = np.log(mass)
    log_alpha = _normalizers(logs, inverse, nu)
    for _ in range(passes):
        if np.ptp(inverse) == 0:
            scaled = logs + log_alpha[:, None]
            nu = fit_classes(scaled, log_mass, inverse[0], penalty, np)
        else:
            for _ in range(_INNER_STEPS):
                step = _class_steps(logs, log_alpha, inverse, nu, log_mass, penalty)
                nu = nu + step
                if np.max(np.abs(step) - 1e-13 * np.abs(nu)) <= 1e-12:
                    break
        log_alpha = _normalizers(logs, inverse, nu)
    moved = np.exp(logs - np.multiply.outer(inverse, nu) + log_alpha[:, None])
    return moved, nu, _violation(moved, mass, nu, penalty), passes


def _ascend_roughly(logs, inverse, mass, nu, penalty):
    """Potentials after three passes whose inner roots are not exact."""
    log_mass = np.log(mass)
    for _ in range(3):
        log_alpha = _normalizers(logs, inverse, nu)
        for _ in range(3):
            nu = nu + _class_steps(logs, log_alpha, inverse, nu, log_mass, penalty)
    return nu


def _normalizers(logs, inverse, nu):
    """The paper's log alpha [M], minus the logarithms of the row sums."""
    result = np.empty(len(logs))
    for rows in _blocks(logs):
        _, total, top = _lift(logs[rows], inverse[rows], nu)
        result[rows] = -np.log(total) - top
    return result


def fit_classes(scaled, log_mass, inverse, penalty, xp):
    """Potentials [K] that fit the masses for rows of equal weight, in closed form."""
    excess = log_sum(scaled, 0, xp)[0] - log_mass
    return excess / (inverse if penalty is None else inverse + 1.0 / penalty)


def _class_steps(logs, log_alpha, inverse, nu, log_mass, penalty):
    r"""Newton steps [K] for the roots, class by class, of

    .. math:: F(\nu) = \log \sum_m a_m e^{-\nu/w_m} - \nu/\lambda - \log c .

    F is convex and falls, so that Newton's method converges from everywhere: after its
    first step it stays where F >= 0 and moves to the right.
    """
    top = np.full(nu.size, -np.inf)
    total, slope = np.zeros(nu.size), np.zeros(nu.size)
    for rows in _blocks(logs):
        scores = logs[rows] - np.multiply.outer(inverse[rows], nu)
        scores += log_alpha[rows, None]
        higher = np.maximum(top, scores.max(axis=0))
        # The sums so far, in units of the new maximum; there is none before the first.
        scale = np.exp(np.where(higher > -np.inf, top - higher, 0.0))
        top = higher
        scores -= np.where(top > -np.inf, top, 0.0)
        np.exp(scores, out=scores)
        total = total * scale + scores.sum(axis=0)
        slope = slope * scale + inverse[rows] @ scores
    soft = 0.0 if penalty is None else 1.0 / penalty
    excess = np.log(total) + top - soft * nu - log_mass
    return excess / (slope / total + soft)
