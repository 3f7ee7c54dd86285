r"""DARP: pseudo-labels of the unlabelled set, refined to estimated class masses.

The predictions of a network that was trained on a long tail lean to the head. DARP
replaces the whole table of them, [M, K], by the closest one whose columns sum to the
number of unlabelled examples that each class is believed to have. Confident rows move
less: their weight is the inverse of their entropy.
"""

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_class_vector, check_range, check_rank, shape_of
from ltjax.pseudo_labels.transport import TransportPlan, transport

# Added to every entry by the filter, and inside the logarithm of the entropy.
_SMOOTHING = 1e-6


def darp_refine(
    probabilities: ArrayLike,
    class_mass: ArrayLike,
    *,
    keep_ratio: float | None = 2.0,
    row_weights: ArrayLike | None = None,
    solver: str = "coordinate",
    passes: int = 10,
    penalty: float | None = None,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> TransportPlan:
    r"""Refines predictions to class masses: filter, entropy weights, transport.

    .. math:: \min_{y} \; \sum_m \frac{1}{H(\hat y_m)} \mathrm{KL}(y_m \,\|\, \hat y_m)
              \quad\text{with}\quad \sum_k y_{mk} = 1, \quad \sum_m y_{mk} = c_k

    on the host in float64. FixMatch takes its confidences and classes from the refined
    rows; between refreshes they replace the predictions of the moment.

    Args:
        probabilities: [M, K] >= 0, the latest prediction of every unlabelled example,
            up to a factor per row.
        class_mass: [K] >= 0, c, scaled to sum to M: labelled counts if the
            distributions agree, or `shift_estimate`'s.
        keep_ratio: the filter keeps the :math:`\lfloor \text{keep\_ratio}\, c_k
            \rfloor` largest entries of every class, see `keep_largest`; None for no
            filter.
        row_weights: optional [M] > 0; None for the inverse entropies of the filtered
            rows.
        solver: "coordinate" for the published iteration, which `passes` stops before
            the optimum: on filtered rows entries differ from it by up to 0.5, and the
            published results are those. "newton" for the optimum, usually within 15
            steps; the method of `semi_lt.py` takes it.
        passes: of coordinate ascent; published are 10 (CIFAR-10, refreshed every 10
            steps) and 20 (CIFAR-100 and STL-10, every 100 steps).
        penalty: optional, see `transport`; softens masses that are only estimated.
        initial: optional [K], the potentials of the previous refinement.
        where: optional [M] bool; padding rows are False and come back as 0.

    Returns:
        TransportPlan; `rows` are the refined pseudo-labels.

    Raises:
        ValueError: if shapes disagree, or a probability or a mass is negative or NaN.
        TypeError: under tracing.

    Example:
        >>> rows = [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]
        >>> plan = darp_refine(rows, [1.5, 1.5], keep_ratio=None, solver="newton")
        >>> plan.rows[:, 0].round(3).tolist()
        [0.79, 0.511, 0.198]

    References:
        Kim et al., "Distribution Aligning Refinery of Pseudo-label for Imbalanced
        Semi-supervised Learning", NeurIPS 2020, Algorithm 1; `keep_ratio`
        is the paper's delta and `alpha` of the released code. The code finds the roots
        of a pass one after the other, by secants to 0.1 in nu, and fails where they do
        not converge; here they are exact.
    """
    caller = "darp_refine"
    table, mass = _checked(caller, probabilities, class_mass)
    kept = np.ones(len(table), bool) if where is None else np.asarray(where)
    if shape_of(kept) != table.shape[:1] or kept.dtype != bool:
        raise ValueError(
            f"{caller}: where has shape {kept.shape} and dtype {kept.dtype}, expected"
            f" ({len(table)},) and bool"
        )
    rows = table[kept]
    if keep_ratio is not None and len(rows):
        scaled = mass * (len(rows) / mass.sum())
        rows = keep_largest(rows, scaled, keep_ratio=keep_ratio)
    weights = entropy_weights(rows) if row_weights is None else row_weights
    if row_weights is not None:
        if shape_of(weights) != table.shape[:1]:
            raise ValueError(
                f"{caller}: row_weights has shape {shape_of(weights)}, expected"
                f" ({len(table)},)"
            )
        weights = np.asarray(weights)[kept]
    with np.errstate(divide="ignore"):
        logs = np.log(rows)
    plan = transport(
        logs,
        mass,
        row_weights=weights,
        solver=solver,
        passes=passes,
        penalty=penalty,
        initial=initial,
    )
    refined = np.zeros_like(table)
    refined[kept] = plan.rows
    return plan._replace(rows=refined)


def entropy_weights(probabilities: ArrayLike) -> np.ndarray:
    r"""DARP's row weights :math:`1 / H`, :math:`H = -\sum_k y_k \log(y_k + 10^{-6})`.

    Args:
        probabilities: [M, K], rows sum to 1.

    Returns:
        [M] float64 in (0, 1e12]; 1 / log K for a uniform row.

    Raises:
        ValueError: if probabilities is not a matrix.

    Example:
        >>> entropy_weights([[0.5, 0.5], [0.9, 0.1]]).round(3).tolist()
        [1.443, 3.076]
    """
    check_rank("entropy_weights", "probabilities", probabilities, 2, "[M, K]")
    rows = np.asarray(probabilities, np.float64)
    entropy = -np.sum(rows * np.log(rows + _SMOOTHING), axis=1)
    # One-hot rows have a slightly negative one.
    return 1.0 / np.maximum(entropy, 1e-12)


def keep_largest(
    probabilities: ArrayLike, class_mass: ArrayLike, *, keep_ratio: float = 2.0
) -> np.ndarray:
    r"""DARP's removal of noise: every class keeps only its most likely examples.

    Of column k the :math:`\lfloor \text{keep\_ratio}\, c_k \rfloor` largest entries
    stay (ties: the lowest index), scaled to sum to :math:`c_k`; 1e-6 is added
    everywhere and rows are normalized. A row that lost all its entries becomes uniform.

    Args:
        probabilities: [M, K] >= 0.
        class_mass: [K] >= 0, in rows.
        keep_ratio: >= 0.

    Returns:
        [M, K] float64; rows sum to 1 and all entries are positive.

    Raises:
        ValueError: if shapes disagree or a value is negative or NaN.

    Example:
        >>> rows = [[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]]
        >>> keep_largest(rows, [2.8, 1.2], keep_ratio=1.0)[2].tolist()
        [0.5, 0.5]

    References:
        Kim et al., NeurIPS 2020, and the released code.
    """
    caller = "keep_largest"
    table, mass = _checked(caller, probabilities, class_mass)
    check_range(caller, "keep_ratio", keep_ratio, low=0)
    num_rows = len(table)
    # 2 * 1.1 * 10 falls short of 22 in float64.
    sizes = np.floor(keep_ratio * mass + 1e-9).astype(np.int64)
    kept = np.zeros_like(table)
    for k, size in enumerate(np.minimum(sizes, num_rows)):
        if size > 0:
            column = table[:, k]
            chosen = _largest(column, size)
            entries = column[chosen]
            scale = (mass[k] + _SMOOTHING) / (entries.sum() + _SMOOTHING)
            kept[chosen, k] = entries * scale
    kept += _SMOOTHING
    return kept / kept.sum(axis=1, keepdims=True)


def _largest(values, size) -> np.ndarray:
    """Indices of the `size` largest values; among equal ones the lowest indices."""
    limit = np.partition(values, len(values) - size)[len(values) - size]
    above = np.flatnonzero(values > limit)
    equal = np.flatnonzero(values == limit)
    return np.concatenate([above, equal[: size - above.size]])


def _checked(caller, probabilities, class_mass) -> tuple[np.ndarray, np.ndarray]:
    check_rank(caller, "probabilities", probabilities, 2, "[M, K]")
    check_class_vector(caller, "class_mass", class_mass, shape_of(probabilities)[1])
    table = np.asarray(probabilities, np.float64)
    mass = np.asarray(class_mass, np.float64)
    if not np.all((table >= 0) & (table < np.inf)):
        raise ValueError(f"{caller}: probabilities must be >= 0 and finite")
    if not np.all(mass >= 0) or not 0 < mass.sum() < np.inf:
        raise ValueError(f"{caller}: class_mass is {mass}, expected >= 0, not all 0")
    return table, mass
