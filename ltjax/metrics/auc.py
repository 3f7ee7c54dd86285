r"""Areas under the ROC curve: exact, one sort per column, ties counted half.

The area is the probability that a positive is ranked above a negative,

.. math:: \mathrm{AUC} = \frac{1}{N_+ N_-} \sum_{p: y_p = 1} \sum_{q: y_q = 0}
          \big( 1[s_p > s_q] + \tfrac12\, 1[s_p = s_q] \big)

and does not depend on how many examples the classes have, which is why it is used on
imbalanced data. For K classes the one-vs-one form (OVO) is the mean over ordered pairs
of classes. The one-vs-rest form (OVR) is not: its area of class i is the mean of the
pair areas weighted by class size, so that head classes dominate it.

Everything runs on the host in float64. Sums are of half-integers, hence exact.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_rank, dtype_of, shape_of
from ltjax.metrics._ranks import (
    binary_rows,
    class_rows,
    label_rows,
    threshold_counts,
    tie_bounds,
)


class HistogramAUC(NamedTuple):
    """An area from score bins and the most by which it can be wrong."""

    value: float
    error_bound: float


def _beaten(scores, anchor) -> np.ndarray:
    """Number of anchors above each entry, those tied with it counted half, [n]."""
    order = np.argsort(scores, kind="stable")
    first, last = tie_bounds(scores[order])
    upto = np.append(0, np.cumsum(anchor[order]))
    above = upto[-1] - 0.5 * (upto[first] + upto[last + 1])
    out = np.empty(len(scores))
    out[order] = above
    return out


def _area(scores, positive) -> float:
    size = np.count_nonzero(positive)
    pairs = size * (len(scores) - size)
    if pairs == 0:
        return np.nan
    return float(_beaten(scores, positive)[~positive].sum() / pairs)


def auc(
    scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> float:
    """Area under the ROC curve of a binary problem.

    Args:
        scores: [N] real, higher for positives.
        labels: [N] bool or 0/1.
        where: optional [N] bool; False rows are left out.

    Returns:
        The area in [0, 1]; NaN unless both classes occur.

    Raises:
        ValueError: if shapes disagree, a label is neither 0 nor 1, or a score is NaN.

    Example:
        >>> auc([0.9, 0.4, 0.4, 0.1], [1, 1, 0, 0])
        0.875
    """
    return _area(*binary_rows("auc", scores, labels, where))


def ovo_auc_matrix(
    scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> np.ndarray:
    r"""Area of every ordered pair of classes.

    :math:`A_{ij}` ranks the examples of class i above those of class j by column i, so
    :math:`A_{ij}` and :math:`A_{ji}` are different quantities. Costs O(K N log N).

    Args:
        scores: [N, K] real.
        labels: [N] int class indices.
        where: optional [N] bool; False rows are left out.

    Returns:
        [K, K] float64; NaN on the diagonal and for classes without an example.

    Raises:
        ValueError: if shapes disagree, a label is out of range, or a score is NaN.
        TypeError: if the labels are not integers.

    Example:
        >>> ovo_auc_matrix([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]], [0, 0, 1])
        array([[nan,  1.],
               [ 1., nan]])
    """
    scores, labels = class_rows("ovo_auc_matrix", scores, labels, where)
    num_classes = scores.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    matrix = np.full((num_classes, num_classes), np.nan)
    for i in np.flatnonzero(counts):
        beaten = _beaten(scores[:, i], labels == i)
        wins = np.bincount(labels, weights=beaten, minlength=num_classes)
        others = counts > 0
        others[i] = False
        matrix[i, others] = wins[others] / (counts[i] * counts[others])
    return matrix


def ovo_auc(
    scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> float:
    r"""One-vs-one area: the mean of the pair areas over the classes that occur.

    .. math:: \frac{1}{K(K-1)} \sum_{i \ne j} A_{ij}

    Args:
        scores: [N, K] real.
        labels: [N] int class indices.
        where: optional [N] bool; False rows are left out.

    Returns:
        The area; NaN unless two classes occur.

    Raises:
        ValueError: if shapes disagree, a label is out of range, or a score is NaN.
        TypeError: if the labels are not integers.

    Example:
        >>> scores = [[0.7, 0.3], [0.4, 0.6], [0.5, 0.5]]
        >>> ovo_auc(scores, [0, 0, 1])
        0.5

    References:
        Hand and Till, "A Simple Generalisation of the Area Under the ROC Curve for
        Multiple Class Classification Problems", Machine Learning 2001. Equals
        scikit-learn's `roc_auc_score(multi_class="ovo")` where every class occurs.
    """
    return _mean_of_numbers(ovo_auc_matrix(scores, labels, where=where))


def _mean_of_numbers(values) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else np.nan


def ovr_auc(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    average: str = "macro",
    where: ArrayLike | None = None,
) -> float | np.ndarray:
    """One-vs-rest area: each class against all the others, by its own column.

    Args:
        scores: [N, K] real.
        labels: [N] int class indices.
        average: "macro" (mean over the classes that occur), "weighted" (by class size)
            or "none".
        where: optional [N] bool; False rows are left out.

    Returns:
        A float, or for "none" [K] float64. NaN for a class that is absent or alone.

    Raises:
        ValueError: if shapes disagree, a label is out of range, a score is NaN, or
            `average` is unknown.
        TypeError: if the labels are not integers.

    Example:
        >>> scores = [[0.7, 0.3], [0.4, 0.6], [0.5, 0.5]]
        >>> ovr_auc(scores, [0, 0, 1], average="none")
        array([0.5, 0.5])
    """
    check_choice("ovr_auc", "average", average, ("macro", "weighted", "none"))
    scores, labels = class_rows("ovr_auc", scores, labels, where)
    columns = range(scores.shape[1])
    areas = np.array([_area(scores[:, i], labels == i) for i in columns])
    if average == "none":
        return areas
    if average == "macro":
        return _mean_of_numbers(areas)
    known = ~np.isnan(areas)
    counts = np.bincount(labels, minlength=len(areas))[known]
    return float(areas[known] @ counts / counts.sum()) if counts.size else np.nan


def group_auc(
    matrix: ArrayLike, groups: Mapping[str, ArrayLike]
) -> dict[tuple[str, str], float]:
    """Mean pair area by the group of the ranked class and of its opponent.

    Args:
        matrix: [K, K] of `ovo_auc_matrix`.
        groups: name -> bool [K], as of `class_stats.shot_groups`.

    Returns:
        (group of i, group of j) -> mean of A_ij inside that block; NaN if it is empty.

    Raises:
        ValueError: if the matrix is not [K, K] or a group has another length.

    Example:
        >>> matrix = ovo_auc_matrix([[0.7, 0.3], [0.2, 0.8]], [0, 1])
        >>> groups = {"head": [True, False], "tail": [False, True]}
        >>> group_auc(matrix, groups)["tail", "head"]
        1.0
    """
    dtype_of("group_auc", "matrix", matrix)
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"group_auc: matrix has shape {matrix.shape}, expected [K, K]")
    for name, group in groups.items():
        dtype_of("group_auc", f"group {name!r}", group)
    members = {name: np.asarray(group, bool) for name, group in groups.items()}
    for name, group in members.items():
        if group.shape != matrix.shape[:1]:
            raise ValueError(
                f"group_auc: group {name!r} has shape {group.shape}, expected"
                f" {matrix.shape[:1]}"
            )
    return {
        (first, second): _mean_of_numbers(matrix[np.ix_(rows, columns)])
        for first, rows in members.items()
        for second, columns in members.items()
    }


def average_precision(
    scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> float | np.ndarray:
    r"""Average precision, :math:`\sum_k (R_k - R_{k-1}) P_k` over distinct scores.

    Ties share a threshold: the precision there is that of the whole tie group.

    Args:
        scores: [N] real, or [N, K] with one column per label.
        labels: bool or 0/1 of the same shape; or [N] int class indices for [N, K]
            scores, each class then being judged against the rest.
        where: optional [N] bool; False rows are left out.

    Returns:
        A float, or [K] float64 for [N, K]; NaN without a positive.

    Raises:
        ValueError: if shapes disagree, a label is neither 0 nor 1 (or out of range), or
            a score is NaN.

    Example:
        >>> round(average_precision([0.9, 0.8, 0.7], [1, 0, 1]), 6)
        0.833333
    """
    if len(shape_of(scores)) != 2:
        return _average_precision(
            *binary_rows("average_precision", scores, labels, where)
        )
    if len(shape_of(labels)) == 1:
        scores, labels = class_rows("average_precision", scores, labels, where)
        positive = labels[:, None] == np.arange(scores.shape[1])
    else:
        scores, positive = label_rows(
            "average_precision", scores, labels, where, name="labels"
        )
    return np.array(
        [_average_precision(s, y) for s, y in zip(scores.T, positive.T, strict=True)]
    )


def _average_precision(scores, positive) -> float:
    total = np.count_nonzero(positive)
    if total == 0:
        return np.nan
    true, false = threshold_counts(scores, positive)
    recall = np.append(0, true) / total
    return float(np.diff(recall) @ (true / (true + false)))


def open_auc(
    correct: ArrayLike, known_scores: ArrayLike, unknown_scores: ArrayLike
) -> float:
    r"""OpenAUC: right class *and* ranked as known, over pairs of known and unknown.

    .. math:: \frac{1}{N_k N_u} \sum_i \sum_j 1[\hat y_i = y_i]
              \big( 1[r_j > r_i] + \tfrac12\, 1[r_j = r_i] \big)

    Args:
        correct: [N_k] bool, whether the class of a known example was found.
        known_scores: [N_k] open-set scores r of the known examples, higher for unknown.
        unknown_scores: [N_u] those of the examples of unknown classes.

    Returns:
        A float, at most the accuracy; NaN unless both kinds occur.

    Raises:
        ValueError: if shapes disagree, `correct` is not 0/1, or a score is NaN.

    Example:
        >>> open_auc([True, False], [0.1, 0.2], [0.3])
        0.5

    References:
        Wang et al., "OpenAUC: Towards AUC-Oriented Open-Set Recognition", NeurIPS 2022.
        Ties count half, as in the other areas; the paper's indicator is strict.
    """
    check_rank("open_auc", "known_scores", known_scores, 1, "[N_k]")
    check_rank("open_auc", "correct", correct, 1, "[N_k]")
    check_rank("open_auc", "unknown_scores", unknown_scores, 1, "[N_u]")
    known_scores, correct = binary_rows(
        "open_auc", known_scores, correct, None, names=("known_scores", "correct")
    )
    unknown_scores, _ = binary_rows(
        "open_auc",
        unknown_scores,
        np.zeros(np.shape(unknown_scores), bool),
        None,
        names=("unknown_scores", "labels"),
    )
    pairs = len(known_scores) * len(unknown_scores)
    if pairs == 0:
        return np.nan
    scores = np.concatenate([known_scores, unknown_scores])
    unknown = np.arange(len(scores)) >= len(known_scores)
    return float(_beaten(scores, unknown)[: len(correct)][correct].sum() / pairs)


def histogram_auc(positive: ArrayLike, negative: ArrayLike) -> HistogramAUC:
    r"""Area from counts of scores in bins, for streams too long to sort.

    Pairs inside a bin count half, as ties do, so the area is wrong by at most
    :math:`\tfrac12 \sum_b p_b n_b` with the shares of positives and negatives in bin b.

    Args:
        positive: [bins] number of positives per bin, in ascending order of score.
        negative: [bins] number of negatives.

    Returns:
        HistogramAUC; NaN unless both classes occur.

    Raises:
        ValueError: if the shapes disagree or a count is negative.

    Example:
        >>> histogram_auc([0, 1, 3], [4, 3, 1])
        HistogramAUC(value=0.875, error_bound=0.09375)
    """
    dtype_of("histogram_auc", "positive", positive)
    dtype_of("histogram_auc", "negative", negative)
    up, down = (np.asarray(x, np.float64) for x in (positive, negative))
    if up.ndim != 1 or up.shape != down.shape:
        raise ValueError(
            f"histogram_auc: positive has shape {up.shape} and negative {down.shape},"
            " expected twice [bins]"
        )
    if (up < 0).any() or (down < 0).any():
        raise ValueError("histogram_auc: a count is negative, expected >= 0")
    if up.sum() == 0 or down.sum() == 0:
        return HistogramAUC(np.nan, np.nan)
    up, down = up / up.sum(), down / down.sum()
    inside = float(up @ down)
    below = np.cumsum(down) - down
    return HistogramAUC(float(up @ below) + 0.5 * inside, 0.5 * inside)
