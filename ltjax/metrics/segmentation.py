r"""Segmentation metrics from one confusion matrix over all pixels of a data set.

.. math:: \mathrm{IoU}_k = \frac{M_{kk}}
          {\sum_j M_{kj} + \sum_j M_{jk} - M_{kk}}, \qquad
          \mathrm{mIoU} = \mathrm{mean}_k\, \mathrm{IoU}_k

Intersections and unions are summed over the whole data set, never averaged over images
or batches. `pixel_confusion` leaves the ignored pixels out of both; add the matrices
of batches up. Pixel accuracy and mean class accuracy are `accuracy` and
`balanced_accuracy` of that matrix.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_counts,
    check_integers,
    check_where,
    check_whole,
    dtype_of,
    shape_of,
)
from ltjax._numerics import class_indices
from ltjax.metrics.averages import balanced_accuracy
from ltjax.metrics.classification import GroupAccuracy, accuracy, group_means
from ltjax.metrics.confusion import Counts, class_totals

IGNORED = 255  # what masks say of pixels without a class


def pixel_confusion(
    labels: ArrayLike,
    predictions: ArrayLike,
    num_classes: int,
    *,
    ignore_label: int | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Counts of (true class, predicted class), traceable, in one pass.

    Args:
        labels: [...] int class indices.
        predictions: [...] int class indices of the same shape.
        num_classes: K.
        ignore_label: label whose entries do not count, 255 in segmentation.
        where: optional [...] bool; False entries do not count.

    Returns:
        [K, K] int32, rows = true class. Entries with a label or a prediction outside
        [0, K) that are not ignored do not count either: `matrix.sum()` against the
        number of pixels tells.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if labels or predictions are not integers.

    Example:
        >>> pixel_confusion(jnp.array([0, 1, 255]), jnp.array([0, 0, 1]), 2,
        ...                  ignore_label=255).tolist()
        [[1, 0], [1, 0]]
    """
    caller = "pixel_confusion"
    check_integers(caller, "labels", labels)
    check_integers(caller, "predictions", predictions)
    check_whole(caller, "num_classes", num_classes)
    shape = shape_of(labels)
    if shape_of(predictions) != shape:
        raise ValueError(
            f"{caller}: predictions have shape {shape_of(predictions)}, expected"
            f" {shape}"
        )
    check_where(caller, where, shape)
    true = jnp.ravel(class_indices(labels))
    predicted = jnp.ravel(class_indices(predictions))
    keep = (true >= 0) & (true < num_classes)
    keep &= (predicted >= 0) & (predicted < num_classes)
    if ignore_label is not None:
        keep &= true != ignore_label
    if where is not None:
        keep &= jnp.ravel(jnp.asarray(where))
    index = jnp.where(keep, true * num_classes + predicted, num_classes**2)
    counts = jnp.zeros(num_classes**2, jnp.int32).at[index].add(1, mode="drop")
    return counts.reshape(num_classes, num_classes)


def per_class_iou(counts: Counts) -> np.ndarray:
    """Intersection over union of each class.

    Args:
        counts: a confusion matrix [..., K, K] (rows = true class), the arrays of an
            evaluation file, or ClassTotals.

    Returns:
        [..., K] float64; NaN for a class that neither occurs nor is predicted.

    Example:
        >>> per_class_iou([[3, 1], [0, 2]]).round(4)
        array([0.75  , 0.6667])
    """
    totals = class_totals(counts)
    union = totals.support + totals.predicted - totals.correct
    safe = np.where(union > 0, union, 1.0)
    return np.where(union > 0, totals.correct / safe, np.nan)


def mean_iou(counts: Counts, *, absent: str = "skip") -> np.ndarray:
    """Mean intersection over union.

    Args:
        counts: see `per_class_iou`.
        absent: what a class that neither occurs nor is predicted does to the mean:
            "skip" leaves it out, "zero" counts it as 0, "nan" gives NaN.

    Returns:
        [...] float64.

    Raises:
        ValueError: if `absent` is unknown or the matrix is not square.

    Example:
        >>> print(mean_iou([[3, 1], [0, 2]]).round(4))
        0.7083
    """
    check_choice("mean_iou", "absent", absent, ("skip", "zero", "nan"))
    iou = per_class_iou(counts)
    if absent == "nan":
        return iou.mean(axis=-1)
    present = np.isfinite(iou)
    number = iou.shape[-1] if absent == "zero" else present.sum(axis=-1)
    total = np.where(present, iou, 0.0).sum(axis=-1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def group_iou(
    counts: Counts, groups: Mapping[str, ArrayLike]
) -> dict[str, GroupAccuracy]:
    """Mean IoU inside each group of classes.

    Args:
        counts: see `per_class_iou`.
        groups: name -> bool [K], as of `pixel_groups`.

    Returns:
        name -> (mean IoU, number of classes in it), NaN for an empty group.

    Raises:
        ValueError: if a group has another length.

    Example:
        >>> groups = {"head": [True, False], "tail": [False, True]}
        >>> print(group_iou([[3, 1], [0, 2]], groups)["head"].accuracy)
        0.75
    """
    return group_means("group_iou", per_class_iou(counts), groups)


def pixel_groups(pixel_counts: ArrayLike, *, tail: ArrayLike) -> dict[str, np.ndarray]:
    """Head, middle and tail classes, given the tail.

    The other classes are sorted by training pixels; the first half of them (the larger
    one, if their number is odd) is the head.

    Args:
        pixel_counts: [K] training pixels per class.
        tail: [K] bool, or the indices of the tail classes.

    Returns:
        {"head", "middle", "tail"}, each bool [K].

    Raises:
        ValueError: if a bool tail has another length or an index is out of range.

    Example:
        >>> groups = pixel_groups([900, 50, 400, 3], tail=[3])
        >>> groups["head"].tolist(), groups["middle"].tolist()
        ([True, False, True, False], [False, True, False, False])

    References:
        Han et al., "AUCSeg: AUC-oriented Pixel-level Long-tail Semantic Segmentation",
        NeurIPS 2024, for the lists of tail classes. The border between head and middle
        is not published; this one is our choice.
    """
    check_counts("pixel_groups", pixel_counts, name="pixel_counts")
    dtype_of("pixel_groups", "tail", tail)
    counts = np.asarray(pixel_counts)
    given = np.asarray(tail)
    if given.dtype == bool:
        if given.shape != counts.shape:
            raise ValueError(
                f"pixel_groups: tail has shape {given.shape}, expected {counts.shape}"
            )
        members = given
    else:
        outside = given[(given < 0) | (given >= len(counts))]
        if outside.size:
            raise ValueError(
                f"pixel_groups: tail holds {outside[0]}, expected an index in"
                f" [0, {len(counts)})"
            )
        members = np.isin(np.arange(len(counts)), given)
    others = np.flatnonzero(~members)
    others = others[np.argsort(-counts[others], kind="stable")]
    head = np.zeros(len(counts), bool)
    head[others[: (len(others) + 1) // 2]] = True
    return {"head": head, "middle": ~members & ~head, "tail": members}


def summarize_segmentation(
    counts: Counts, *, groups: Mapping[str, ArrayLike] | None = None
) -> dict[str, float | np.ndarray]:
    """The usual numbers of a segmentation run.

    Args:
        counts: see `per_class_iou`.
        groups: optional name -> bool [K].

    Returns:
        pixel_accuracy, class_accuracy (mean recall), mean_iou, and iou_<name> for each
        group; floats, or [...] arrays with leading axes.

    Raises:
        ValueError: if the matrix is not square or a group has another length.

    Example:
        >>> out = summarize_segmentation([[3, 1], [0, 2]])
        >>> {name: round(value, 4) for name, value in out.items()}
        {'pixel_accuracy': 0.8333, 'class_accuracy': 0.875, 'mean_iou': 0.7083}
    """
    values = {
        "pixel_accuracy": accuracy(counts),
        "class_accuracy": balanced_accuracy(counts),
        "mean_iou": mean_iou(counts),
    }
    for name, group in group_iou(counts, groups or {}).items():
        values[f"iou_{name}"] = group.accuracy
    return {k: float(v) if np.ndim(v) == 0 else v for k, v in values.items()}
