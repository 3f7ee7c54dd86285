r"""How many unlabelled examples each class has, from a biased classifier's predictions.

Two routes to the class masses that `darp_refine` needs. `shift_estimate` inverts the
confusion matrix of a held-out set, `em_prior` needs no held-out set but calibrated
probabilities. Both run on the host in float64.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_matrix,
    check_class_vector,
    check_range,
    check_rank,
    shape_of,
)
from ltjax.class_stats import count_labels

# An inverse of a worse conditioned confusion matrix is not believed.
_MAX_CONDITION = 100.0


class ShiftEstimate(NamedTuple):
    """Class masses of an unlabelled set.

    Attributes:
        class_mass: [K] float64 >= 0, sums to that of the predictions.
        inverted: whether it is the plain solution of the linear system; else it is the
            nearest one without negative masses. DARP averages the former over epochs.
        condition: of the confusion matrix, in the 2-norm.
    """

    class_mass: np.ndarray
    inverted: bool
    condition: float


def soft_confusion(
    probabilities: ArrayLike, labels: ArrayLike, num_classes: int
) -> np.ndarray:
    r"""Mean prediction on the examples of every class, as columns.

    .. math:: C_{jk} = \frac{1}{n_k} \sum_{i: y_i = k} p_j(x_i)

    Args:
        probabilities: [N, K] of held-out examples (DARP: ten per class).
        labels: [N] int, their classes.
        num_classes: K.

    Returns:
        [K, K] float64; columns sum to 1. A class without an example gets the column of
        a classifier that is always right on it.

    Raises:
        ValueError: if shapes disagree or a label lies outside [0, K).

    Example:
        >>> soft_confusion([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]], [0, 0, 1], 2).round(2)
        array([[0.7, 0.1],
               [0.3, 0.9]])

    References:
        Lipton, Wang and Smola, "Detecting and Correcting for Label Shift with Black Box
        Predictors", ICML 2018; Kim et al. (DARP), NeurIPS 2020, appendix.
    """
    caller = "soft_confusion"
    check_rank(caller, "probabilities", probabilities, 2, "[N, K]")
    rows = np.asarray(probabilities, np.float64)
    counts = np.asarray(count_labels(labels, num_classes))
    labels = np.asarray(labels, np.int64)
    if rows.shape != (labels.size, num_classes):
        raise ValueError(
            f"{caller}: probabilities has shape {rows.shape}, expected"
            f" ({labels.size}, {num_classes}), one row per label"
        )
    sums = np.zeros((num_classes, num_classes))
    np.add.at(sums, labels, rows)
    sums[counts == 0] = np.eye(num_classes)[counts == 0]
    return (sums / np.maximum(counts, 1)[:, None]).T


def shift_estimate(confusion: ArrayLike, predicted_mass: ArrayLike) -> ShiftEstimate:
    r"""Class masses c with :math:`C c = v`, or the nearest possible ones.

    If the solution has a negative entry, or the condition of C is 100 or more, it is
    replaced by :math:`\arg\min_{c \ge 0, \sum c = \sum v} \|C c - v\|^2`.

    Args:
        confusion: [K, K], C, from `soft_confusion`; columns sum to 1.
        predicted_mass: [K] >= 0, v: the sum of the predictions on all unlabelled
            examples (`class_evidence`), the last partial batch included.

    Returns:
        ShiftEstimate.

    Raises:
        ValueError: if shapes disagree, or a number is negative or not finite.

    Example:
        >>> shift_estimate([[0.8, 0.3], [0.2, 0.7]], [55, 45]).class_mass.round(6)
        array([50., 50.])

    References:
        Lipton et al., ICML 2018; DARP, NeurIPS 2020, whose code averages the estimates
        of all epochs that were accepted and divides by zero where none was.
    """
    caller = "shift_estimate"
    check_rank(caller, "predicted_mass", predicted_mass, 1, "[K]")
    mass = np.asarray(predicted_mass, np.float64)
    check_class_matrix(caller, "confusion", confusion, mass.size)
    matrix = np.asarray(confusion, np.float64)
    for name, values in (("confusion", matrix), ("predicted_mass", mass)):
        if not np.all((values >= 0) & (values < np.inf)):
            raise ValueError(f"{caller}: {name} must be >= 0 and finite")
    condition = float(np.linalg.cond(matrix))
    total = mass.sum()
    if condition < _MAX_CONDITION:
        solution = np.linalg.solve(matrix, mass)
        if np.all(solution >= 0) and solution.sum() > 0:
            return ShiftEstimate(solution * (total / solution.sum()), True, condition)
    return ShiftEstimate(_nearest(matrix, mass), False, condition)


def em_prior(
    probabilities: ArrayLike,
    training_prior: ArrayLike,
    *,
    iterations: int = 200,
    tolerance: float = 1e-10,
) -> np.ndarray:
    r"""Prior of an unlabelled set by expectation maximization.

    .. math:: \pi_k \leftarrow \frac{1}{M} \sum_x
              \frac{p_k(x)\, \pi_k / \pi^0_k}{\sum_j p_j(x)\, \pi_j / \pi^0_j}

    from :math:`\pi^0`, the prior that the classifier was trained with. It maximizes the
    likelihood of the unlabelled set, so far as the probabilities are calibrated.

    Args:
        probabilities: [M, K], rows sum to 1.
        training_prior: [K] >= 0, pi^0; counts will do. A class of prior 0 stays at 0.
        iterations: at most.
        tolerance: on the largest change of a share.

    Returns:
        [K] float64, sums to 1.

    Raises:
        ValueError: if shapes disagree or a number is out of range.

    Example:
        >>> rows = [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]]
        >>> em_prior(rows, [0.5, 0.5]).round(3).tolist()
        [0.847, 0.153]

    References:
        Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to New
        a Priori Probabilities", Neural Computation 2002.
    """
    caller = "em_prior"
    check_rank(caller, "probabilities", probabilities, 2, "[M, K]")
    num_classes = shape_of(probabilities)[1]
    check_class_vector(caller, "training_prior", training_prior, num_classes)
    check_range(caller, "iterations", iterations, low=0)
    rows = np.asarray(probabilities, np.float64)
    start = np.asarray(training_prior, np.float64)
    if not np.all(start >= 0) or not 0 < start.sum() < np.inf:
        raise ValueError(f"{caller}: training_prior is {start}, expected >= 0, not 0")
    start = start / start.sum()
    inverse = np.divide(1.0, start, out=np.zeros_like(start), where=start > 0)
    likelihood = rows * inverse
    likelihood = likelihood[likelihood.sum(axis=1) > 0]
    prior = start
    for _ in range(iterations if len(likelihood) else 0):
        joint = likelihood * prior
        total = joint.sum(axis=1, keepdims=True)
        new = np.mean(joint / np.where(total > 0, total, 1), axis=0)
        new /= new.sum()
        change = np.max(np.abs(new - prior))
        prior = new
        if change <= tolerance:
            break
    return prior


def _nearest(matrix, mass) -> np.ndarray:
    """Argmin of |C c - v|^2 over c >= 0, sum c = sum v, by an active set.

    On the free classes the equality-constrained problem is solved exactly; where its
    solution is negative, the step stops at the boundary and that class leaves.
    """
    k, total = mass.size, mass.sum()
    quadratic, linear = matrix.T @ matrix, matrix.T @ mass
    free = np.ones(k, bool)
    point = np.full(k, total / k)
    for _ in range(10 * k + 10):
        at = np.flatnonzero(free)
        system = np.ones((at.size + 1, at.size + 1))
        system[:-1, :-1] = quadratic[np.ix_(at, at)]
        system[-1, -1] = 0.0
        right = np.append(linear[at], total)
        goal = np.zeros(k)
        goal[at] = np.linalg.lstsq(system, right)[0][:-1]
        if np.all(goal[at] >= -1e-12 * total):
            point = np.maximum(goal, 0.0)
            # A class enters where the objective falls faster than on the free ones.
            slope = quadratic @ point - linear
            outside = np.where(free, np.inf, slope - np.mean(slope[at]))
            enters = int(np.argmin(outside))
            if outside[enters] >= -1e-10 * max(1.0, np.max(np.abs(linear))):
                break
            free[enters] = True
            continue
        falls = free & (goal < 0)
        steps = point[falls] / (point[falls] - goal[falls])
        step = float(np.min(steps))
        point = np.maximum(point + step * (goal - point), 0.0)
        free[np.flatnonzero(falls)[np.argmin(steps)]] = False
        point[~free] = 0.0
    return point * (total / point.sum()) if point.sum() > 0 else point
