r"""Classification metrics from one confusion matrix, exact over a whole data set.

`ClassificationState` counts on the device; every ratio is taken once, at the end, on
the host. Per-batch balanced accuracies must never be averaged: that is biased.

.. math:: r_k = M_{kk} / \textstyle\sum_j M_{kj}, \qquad
          \mathrm{BA} = \mathrm{mean}_k\, r_k, \qquad
          G = \big(\textstyle\prod_k r_k\big)^{1/K}

where :math:`M_{kj}` counts the examples of true class k predicted as j.

`counts` is a confusion matrix [..., K, K] (rows = true class), the mapping of arrays of
an evaluation file, or `ClassTotals`: every function takes any of them, and none takes
recalls. Leading axes (replicas, say) pass through, and results are float64 without the
class axes. A class without an example has recall NaN, and `absent` decides what a mean
does with it: "skip"
leaves it out (K is then the number of classes present, as in scikit-learn), "zero"
counts it as 0, "nan" gives NaN.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_counts, dtype_of
from ltjax.class_stats import shot_groups
from ltjax.metrics.averages import (
    balanced_accuracy,
    g_mean,
    harmonic_mean,
    worst_class,
)
from ltjax.metrics.calibration import class_bins, ece, mce, pool_classes
from ltjax.metrics.confusion import (
    Counts,
    class_totals,
    per_class_f1,
    per_class_precision,
    per_class_recall,
    ratio,
    specificity,
)
from ltjax.metrics.streaming import ClassificationState as ClassificationState


class GroupAccuracy(NamedTuple):
    """Mean recall of a group of classes [...] and the number of classes in it."""

    accuracy: np.ndarray
    size: np.ndarray


def accuracy(counts: Counts) -> np.ndarray:
    """Fraction of examples predicted right.

    Args:
        counts: see the module.

    Returns:
        [...] float64; NaN without examples.

    Example:
        >>> print(accuracy([[9, 1, 0], [3, 6, 1], [4, 3, 3]]))
        0.6
    """
    totals = class_totals(counts, caller="accuracy")
    return ratio(totals.correct.sum(-1), totals.support.sum(-1), np.nan)


def group_accuracy(
    counts: Counts, groups: Mapping[str, ArrayLike]
) -> dict[str, GroupAccuracy]:
    """Mean recall inside groups of classes, such as many-, medium- and few-shot.

    Args:
        counts: see the module; classes without an example are skipped.
        groups: name -> bool [K], e.g. of `class_stats.shot_groups`.

    Returns:
        name -> GroupAccuracy; an empty group has accuracy NaN and size 0, so that no
        invented zero enters an average. `size` counts the classes averaged.

    Raises:
        ValueError: if a group is not a bool vector over the classes.

    Example:
        >>> matrix = [[9, 1, 0], [3, 6, 1], [4, 3, 3]]
        >>> out = group_accuracy(matrix, {"few": np.array([0, 1, 1], bool)})
        >>> round(float(out["few"].accuracy), 9), int(out["few"].size)
        (0.45, 2)
    """
    recall = per_class_recall(class_totals(counts, caller="group_accuracy"))
    return group_means("group_accuracy", recall, groups)


def group_means(
    caller: str, values: np.ndarray, groups: Mapping[str, ArrayLike]
) -> dict[str, GroupAccuracy]:
    """Means of per-class values [..., K] inside groups of classes, NaN left out.

    Args:
        caller: name for messages.
        values: [..., K].
        groups: name -> bool [K].

    Returns:
        name -> (mean, number of classes averaged).

    Raises:
        ValueError: if a group is not a bool vector over the classes.
    """
    result = {}
    for name, members in groups.items():
        dtype_of(caller, f"group {name!r}", members)
        members = np.asarray(members)
        if members.shape != values.shape[-1:] or members.dtype != bool:
            raise ValueError(
                f"{caller}: group {name!r} is {members.dtype} {members.shape},"
                f" expected bool {values.shape[-1:]}, as the last axis of recall (or"
                " IoU)"
            )
        inside = values[..., members]
        size = np.sum(~np.isnan(inside), axis=-1)
        mean = ratio(np.nansum(inside, axis=-1), size, np.nan)
        result[name] = GroupAccuracy(mean, size)
    return result


def macro_precision(counts: Counts) -> np.ndarray:
    """Mean precision over all K classes, 0/0 counting as 0.

    Args:
        counts: see the module.

    Returns:
        [...] float64.

    Example:
        >>> print(macro_precision([[1, 1], [0, 2]]).round(4))
        0.8333
    """
    return per_class_precision(counts).mean(axis=-1)


def macro_recall(counts: Counts) -> np.ndarray:
    """Mean recall over all K classes, 0/0 counting as 0.

    `balanced_accuracy` skips absent classes instead.

    Args:
        counts: see the module.

    Returns:
        [...] float64.

    Example:
        >>> print(macro_recall([[1, 1], [0, 2]]))
        0.75
    """
    return balanced_accuracy(counts, absent="zero")


def macro_f1(counts: Counts) -> np.ndarray:
    """Mean F1 over all K classes, 0/0 counting as 0.

    Args:
        counts: see the module.

    Returns:
        [...] float64.

    Example:
        >>> round(float(macro_f1([[9, 1, 0], [3, 6, 1], [4, 3, 3]])), 9)
        0.573626374
    """
    return per_class_f1(counts).mean(axis=-1)


def macro_specificity(counts: Counts) -> np.ndarray:
    """Mean specificity over all K classes.

    Args:
        counts: see the module.

    Returns:
        [...] float64; NaN if one class has all the examples.

    Example:
        >>> print(macro_specificity([[8, 2], [5, 5]]))
        0.65
    """
    return specificity(counts).mean(axis=-1)


def summarize(
    arrays: Mapping[str, ArrayLike],
    class_counts: ArrayLike,
    *,
    groups: Mapping[str, ArrayLike] | None = None,
) -> dict[str, float | np.ndarray]:
    """The metrics logged under `eval/<split>/`.

    Args:
        arrays: as of `ClassificationState.arrays` or an evaluation file, with any
            leading axes.
        class_counts: [K] *training* examples per class; they define the groups.
        groups: optional name -> bool [K] in place of `class_stats.shot_groups`, for
            benchmarks with fixed index ranges.

    Returns:
        accuracy, balanced_accuracy, many, medium, few (the groups' names), worst,
        g_mean, harmonic_mean, macro_f1, and with calibration bins ece, mce, ece_many,
        ece_medium, ece_few. Floats, or [...] arrays with leading axes. Everything is
        NaN where `invalid` > 0: numbers that leave rows out are not this data set's.

    Raises:
        ValueError: if class_counts does not have one entry per class.

    Example:
        >>> out = summarize({"confusion": [[8, 2], [5, 5]]}, [500, 10])
        >>> out["balanced_accuracy"], out["many"], out["few"], out["medium"]
        (0.65, 0.8, 0.5, nan)
    """
    totals = class_totals(arrays, caller="summarize")
    check_counts("summarize", class_counts, totals.support.shape[-1])
    groups = shot_groups(class_counts) if groups is None else groups
    values = {
        "accuracy": accuracy(totals),
        "balanced_accuracy": balanced_accuracy(totals),
    }
    for name, group in group_accuracy(totals, groups).items():
        values[name] = group.accuracy
    values["worst"] = worst_class(totals)
    values["g_mean"] = g_mean(totals)
    values["harmonic_mean"] = harmonic_mean(totals)
    values["macro_f1"] = macro_f1(totals)
    if "bin_count" in arrays:
        bins = class_bins(arrays)
        values["ece"] = ece(pool_classes(bins))
        values["mce"] = mce(pool_classes(bins))
        for name, members in groups.items():
            values[f"ece_{name}"] = ece(pool_classes(bins, members))
    bad = np.asarray(arrays.get("invalid", 0)) > 0
    values = {name: np.where(bad, np.nan, value) for name, value in values.items()}
    return {k: float(v) if v.ndim == 0 else v for k, v in values.items()}
