r"""The confusion matrix, and what it says of each class.

.. math:: r_k = M_{kk} / \textstyle\sum_j M_{kj}, \qquad
          s_k = \Big(\sum_{i \ne k,\, j \ne k} M_{ij}\Big) \Big/
                \sum_{i \ne k,\, j} M_{ij}

where :math:`M_{kj}` counts the examples of true class k predicted as j, r is the recall
(sensitivity) and s the specificity. See `ltjax.metrics.classification` for what the
functions take.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_integers,
    check_rank,
    check_where,
    check_whole,
    dtype_of,
    shape_of,
)
from ltjax._numerics import host


class ClassTotals(NamedTuple):
    """What every metric but the confusion matrix itself needs, all [..., K] float64."""

    correct: np.ndarray
    support: np.ndarray
    predicted: np.ndarray


Counts = ArrayLike | Mapping[str, ArrayLike] | ClassTotals


def confusion_matrix(
    labels: ArrayLike,
    predictions: ArrayLike,
    num_classes: int,
    *,
    where: ArrayLike | None = None,
) -> np.ndarray:
    """Counts the examples of each true class by what they were taken for.

    For predictions in memory; `ClassificationState` streams, on the device.

    Args:
        labels: [N] int, the true classes.
        predictions: [N] int, the predicted ones (the arg-max of logits [N, K]).
        num_classes: K.
        where: optional [N] bool; False rows count nowhere.

    Returns:
        [K, K] int64; rows are true classes, as in scikit-learn.

    Raises:
        TypeError: if labels or predictions are not integers.
        ValueError: if shapes disagree, or a class lies outside [0, K).

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
        [[1, 1], [0, 1]]
    """
    caller = "confusion_matrix"
    check_whole(caller, "num_classes", num_classes, low=1)
    for name, values in (("labels", labels), ("predictions", predictions)):
        check_integers(caller, name, values)
        check_rank(caller, name, values, 1, "[N]")
    if shape_of(labels) != shape_of(predictions):
        raise ValueError(
            f"{caller}: labels have shape {shape_of(labels)} and predictions"
            f" {shape_of(predictions)}, expected the same"
        )
    check_where(caller, where, shape_of(labels))
    keep = np.ones(shape_of(labels), bool) if where is None else host(where)
    columns = []
    for name, values in (("labels", labels), ("predictions", predictions)):
        known = np.asarray(host(values))
        bad = np.flatnonzero(keep & ((known < 0) | (known >= num_classes)))
        if bad.size:
            raise ValueError(
                f"{caller}: {name} must lie in [0, {num_classes}), but"
                f" {name}[{bad[0]}] is {known[bad[0]]} ({bad.size} such)"
            )
        columns.append(known[keep].astype(np.int64))
    cells = np.bincount(columns[0] * num_classes + columns[1], minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def class_totals(counts: Counts, *, caller: str = "class_totals") -> ClassTotals:
    """Correct, true and predicted examples of each class.

    Args:
        counts: a confusion matrix [..., K, K] (rows = true class), the arrays of an
            evaluation file, or ClassTotals.
        caller: function named in messages.

    Returns:
        ClassTotals of [..., K] float64 arrays.

    Raises:
        ValueError: if the matrix is not square, the file holds neither form, or a count
            is negative or not finite.

    Example:
        >>> class_totals([[3, 1], [0, 2]]).predicted
        array([3., 3.])
    """
    if isinstance(counts, Mapping):
        if "confusion" in counts:
            counts = counts["confusion"]
        elif all(name in counts for name in ClassTotals._fields):
            counts = ClassTotals(
                *(np.asarray(counts[name]) for name in ClassTotals._fields)
            )
        else:
            raise ValueError(
                f"{caller}: arrays {sorted(counts)} hold neither 'confusion' nor"
                f" {list(ClassTotals._fields)}"
            )
    if isinstance(counts, ClassTotals):
        return ClassTotals(*(np.asarray(x, np.float64) for x in counts))
    dtype_of(caller, "the confusion matrix", counts)
    matrix = np.asarray(counts, np.float64)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(
            f"{caller}: the confusion matrix has shape {matrix.shape}, expected"
            " [..., K, K] (rows = true class; recalls alone will not do)"
        )
    if not (np.isfinite(matrix).all() and np.all(matrix >= 0)):
        raise ValueError(
            f"{caller}: the confusion matrix has entries from {matrix.min()} to"
            f" {matrix.max()}, expected counts, finite and >= 0"
        )
    diagonal = np.diagonal(matrix, axis1=-2, axis2=-1)
    return ClassTotals(diagonal, matrix.sum(axis=-1), matrix.sum(axis=-2))


def ratio(numerator, denominator, empty: float) -> np.ndarray:
    """Numerator / denominator, and `empty` where there is nothing to divide by."""
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, empty)


def per_class_recall(counts: Counts) -> np.ndarray:
    """Recall of each class.

    Args:
        counts: see `ltjax.metrics.classification`.

    Returns:
        [..., K] float64; NaN for a class without an example.

    Example:
        >>> per_class_recall([[9, 1, 0], [3, 6, 1], [0, 0, 0]])
        array([0.9, 0.6, nan])
    """
    totals = class_totals(counts, caller="per_class_recall")
    return ratio(totals.correct, totals.support, np.nan)


def specificity(counts: Counts) -> np.ndarray:
    r"""Specificity of each class: how many examples of the others it leaves alone.

    Args:
        counts: see `ltjax.metrics.classification`.

    Returns:
        [..., K] float64; NaN for a class that every example belongs to.

    Example:
        >>> specificity([[8, 2], [5, 5]])
        array([0.5, 0.8])

    References:
        imbalanced-learn's `specificity_score(average=None)`.
    """
    totals = class_totals(counts, caller="specificity")
    others = totals.support.sum(-1, keepdims=True) - totals.support
    taken = totals.predicted - totals.correct
    return ratio(others - taken, others, np.nan)


def per_class_precision(counts: Counts) -> np.ndarray:
    """Precision of each class.

    Args:
        counts: see `ltjax.metrics.classification`.

    Returns:
        [..., K] float64; 0 for a class that is never predicted.

    Example:
        >>> per_class_precision([[9, 1, 0], [3, 6, 1], [4, 3, 3]])
        array([0.5625, 0.6   , 0.75  ])
    """
    totals = class_totals(counts, caller="per_class_precision")
    return ratio(totals.correct, totals.predicted, 0.0)


def per_class_f1(counts: Counts) -> np.ndarray:
    r"""F1 of each class, :math:`2 M_{kk} / (support_k + predicted_k)`.

    Args:
        counts: see `ltjax.metrics.classification`.

    Returns:
        [..., K] float64; 0 for a class that neither occurs nor is predicted.

    Example:
        >>> per_class_f1([[9, 1, 0], [3, 6, 1], [4, 3, 3]]).round(4)
        array([0.6923, 0.6   , 0.4286])
    """
    totals = class_totals(counts, caller="per_class_f1")
    return ratio(2 * totals.correct, totals.support + totals.predicted, 0.0)
