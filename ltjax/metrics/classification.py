r"""Classification metrics from one confusion matrix, exact over a whole data set.

`ClassificationState` counts on the device; every ratio is taken once, at the end, on
the host. Per-batch balanced accuracies must never be averaged: that is biased.

.. math:: r_k = M_{kk} / \textstyle\sum_j M_{kj}, \qquad
          \mathrm{BA} = \mathrm{mean}_k\, r_k, \qquad
          G = \big(\textstyle\prod_k r_k\big)^{1/K}

where :math:`M_{kj}` counts the examples of true class k predicted as j.

`counts` below is a confusion matrix [..., K, K] (rows = true class), the mapping of
arrays of an evaluation file, or `ClassTotals`; `recall` is [..., K]. Leading axes
(replicas, say) pass through, and results are float64 without the class axes. A class
without an example has recall NaN, and `absent` decides what a mean does with it: "skip"
leaves it out (K is then the number of classes present, as in scikit-learn), "zero"
counts it as 0, "nan" gives NaN.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_counts
from ltjax.class_stats import shot_groups
from ltjax.metrics.calibration import class_bins, ece, mce, pool_classes
from ltjax.metrics.streaming import ClassificationState as ClassificationState


class ClassTotals(NamedTuple):
    """What every metric but the confusion matrix itself needs, all [..., K] float64."""

    correct: np.ndarray
    support: np.ndarray
    predicted: np.ndarray


class GroupAccuracy(NamedTuple):
    """Mean recall of a group of classes [...] and the number of classes in it."""

    accuracy: np.ndarray
    size: np.ndarray


Counts = ArrayLike | Mapping[str, ArrayLike] | ClassTotals


def class_totals(counts: Counts) -> ClassTotals:
    """Correct, true and predicted examples of each class.

    Args:
        counts: a confusion matrix [..., K, K] (rows = true class), the arrays of an
            evaluation file, or ClassTotals.

    Returns:
        ClassTotals of [..., K] float64 arrays.

    Raises:
        ValueError: if the matrix is not square or the file holds neither form.

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
                f"class_totals: arrays {sorted(counts)} hold neither 'confusion' nor"
                f" {list(ClassTotals._fields)}"
            )
    if isinstance(counts, ClassTotals):
        return ClassTotals(*(np.asarray(x, np.float64) for x in counts))
    matrix = np.asarray(counts, np.float64)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(
            f"class_totals: confusion has shape {matrix.shape}, expected [..., K, K]"
        )
    diagonal = np.diagonal(matrix, axis1=-2, axis2=-1)
    return ClassTotals(diagonal, matrix.sum(axis=-1), matrix.sum(axis=-2))


def _ratio(numerator, denominator, empty: float) -> np.ndarray:
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, empty)


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
    totals = class_totals(counts)
    return _ratio(totals.correct.sum(-1), totals.support.sum(-1), np.nan)


def per_class_recall(counts: Counts) -> np.ndarray:
    """Recall of each class.

    Args:
        counts: see the module.

    Returns:
        [..., K] float64; NaN for a class without an example.

    Example:
        >>> per_class_recall([[9, 1, 0], [3, 6, 1], [0, 0, 0]])
        array([0.9, 0.6, nan])
    """
    totals = class_totals(counts)
    return _ratio(totals.correct, totals.support, np.nan)


def _present(caller: str, recall: ArrayLike, absent: str):
    """Recalls and which of them count, under a rule for absent classes."""
    check_choice(caller, "absent", absent, ("skip", "zero", "nan"))
    recall = np.asarray(recall, np.float64)
    if recall.ndim < 1:
        raise ValueError(f"{caller}: recall is a scalar, expected [..., K]")
    missing = np.isnan(recall)
    if absent == "skip":
        return np.where(missing, 0.0, recall), ~missing
    filled = np.where(missing, 0.0, recall) if absent == "zero" else recall
    return filled, np.ones_like(missing)


def balanced_accuracy(recall: ArrayLike, *, absent: str = "skip") -> np.ndarray:
    r"""Balanced accuracy (AM measure), the mean recall over classes.

    Args:
        recall: [..., K], NaN for absent classes.
        absent: "skip", "zero" or "nan" (see the module).

    Returns:
        [...] float64; NaN if no class counts.

    Example:
        >>> print(balanced_accuracy([0.75, 0.25, np.nan]))
        0.5

    References:
        Menon et al., "On the Statistical Consistency of Algorithms for Binary
        Classification under Class Imbalance", ICML 2013 (AM measure).
    """
    recall, present = _present("balanced_accuracy", recall, absent)
    return _ratio(np.sum(recall, axis=-1), present.sum(-1), np.nan)


def adjusted_balanced_accuracy(
    recall: ArrayLike, *, absent: str = "skip"
) -> np.ndarray:
    r"""Balanced accuracy rescaled to 0 for chance, (BA - 1/K) / (1 - 1/K).

    Args:
        recall: [..., K], NaN for absent classes.
        absent: "skip" (K = number of classes present), "zero" or "nan" (all K).

    Returns:
        [...] float64 at most 1; NaN if only one class counts.

    Example:
        >>> print(adjusted_balanced_accuracy([1.0, 0.5]))
        0.5
    """
    _, present = _present("adjusted_balanced_accuracy", recall, absent)
    classes = present.sum(-1)
    chance = _ratio(1.0, classes, np.nan)
    gain = balanced_accuracy(recall, absent=absent) - chance
    return _ratio(gain, 1 - np.nan_to_num(chance, nan=1.0), np.nan)


def balanced_error_rate(recall: ArrayLike, *, absent: str = "skip") -> np.ndarray:
    """Balanced error rate (BER), 1 - balanced accuracy.

    Args:
        recall: [..., K], NaN for absent classes.
        absent: "skip", "zero" or "nan" (see the module).

    Returns:
        [...] float64.

    Example:
        >>> print(balanced_error_rate([1.0, 0.5]))
        0.25
    """
    return 1 - balanced_accuracy(recall, absent=absent)


def worst_class(recall: ArrayLike, *, absent: str = "skip") -> np.ndarray:
    """Smallest recall of any class.

    Args:
        recall: [..., K], NaN for absent classes.
        absent: "skip", "zero" or "nan" (see the module).

    Returns:
        [...] float64; NaN if no class counts.

    Example:
        >>> print(worst_class([0.9, 0.3, np.nan]))
        0.3
    """
    recall, present = _present("worst_class", recall, absent)
    lowest = np.min(np.where(present, recall, np.inf), axis=-1)
    return np.where(present.any(-1), lowest, np.nan)


def g_mean(recall: ArrayLike, *, absent: str = "skip") -> np.ndarray:
    r"""Geometric mean of the recalls, :math:`(\prod_k r_k)^{1/K}`.

    Args:
        recall: [..., K], NaN for absent classes.
        absent: "skip", "zero" or "nan" (see the module).

    Returns:
        [...] float64; exactly 0 if a counted recall is 0.

    Example:
        >>> round(float(g_mean([0.9, 0.6, 0.3])), 9)
        0.545136178

    References:
        Kubat and Matwin, "Addressing the Curse of Imbalanced Training Sets", ICML 1997
        (two classes). imbalanced-learn also counts classes that are only predicted.
    """
    recall, present = _present("g_mean", recall, absent)
    zero = np.any(present & (recall == 0), axis=-1)
    logs = np.log(np.where(present & (recall != 0), recall, 1.0))
    mean = _ratio(logs.sum(-1), present.sum(-1), np.nan)
    return np.where(zero & ~np.isnan(mean), 0.0, np.exp(mean))


def harmonic_mean(recall: ArrayLike, *, absent: str = "skip") -> np.ndarray:
    r"""Harmonic mean of the recalls, :math:`K / \sum_k r_k^{-1}`.

    Args:
        recall: [..., K], NaN for absent classes.
        absent: "skip", "zero" or "nan" (see the module).

    Returns:
        [...] float64; exactly 0 if a counted recall is 0.

    Example:
        >>> round(float(harmonic_mean([0.9, 0.6, 0.3])), 9)
        0.490909091
    """
    recall, present = _present("harmonic_mean", recall, absent)
    zero = np.any(present & (recall == 0), axis=-1)
    inverse = np.where(present, 1 / np.where(present & (recall != 0), recall, 1.0), 0.0)
    total = inverse.sum(-1)
    mean = present.sum(-1) / np.where(total == 0, np.nan, total)
    return np.where(zero & ~np.isnan(mean), 0.0, mean)


def group_accuracy(
    recall: ArrayLike, groups: Mapping[str, ArrayLike]
) -> dict[str, GroupAccuracy]:
    """Mean recall inside groups of classes, such as many-, medium- and few-shot.

    Args:
        recall: [..., K], NaN for absent classes, which are skipped.
        groups: name -> bool [K], e.g. of `class_stats.shot_groups`.

    Returns:
        name -> GroupAccuracy; an empty group has accuracy NaN and size 0, so that no
        invented zero enters an average. `size` counts the classes averaged.

    Raises:
        ValueError: if a group is not a bool vector over the classes.

    Example:
        >>> out = group_accuracy([0.9, 0.6, 0.3], {"few": np.array([0, 1, 1], bool)})
        >>> round(float(out["few"].accuracy), 9), int(out["few"].size)
        (0.45, 2)
    """
    recall = np.asarray(recall, np.float64)
    result = {}
    for name, members in groups.items():
        members = np.asarray(members)
        if members.shape != recall.shape[-1:] or members.dtype != bool:
            raise ValueError(
                f"group_accuracy: group {name!r} is {members.dtype} {members.shape},"
                f" expected bool {recall.shape[-1:]}"
            )
        inside = recall[..., members]
        size = np.sum(~np.isnan(inside), axis=-1)
        result[name] = GroupAccuracy(balanced_accuracy(inside), size)
    return result


def per_class_precision(counts: Counts) -> np.ndarray:
    """Precision of each class.

    Args:
        counts: see the module.

    Returns:
        [..., K] float64; 0 for a class that is never predicted.

    Example:
        >>> per_class_precision([[9, 1, 0], [3, 6, 1], [4, 3, 3]])
        array([0.5625, 0.6   , 0.75  ])
    """
    totals = class_totals(counts)
    return _ratio(totals.correct, totals.predicted, 0.0)


def per_class_f1(counts: Counts) -> np.ndarray:
    r"""F1 of each class, :math:`2 M_{kk} / (support_k + predicted_k)`.

    Args:
        counts: see the module.

    Returns:
        [..., K] float64; 0 for a class that neither occurs nor is predicted.

    Example:
        >>> per_class_f1([[9, 1, 0], [3, 6, 1], [4, 3, 3]]).round(4)
        array([0.6923, 0.6   , 0.4286])
    """
    totals = class_totals(counts)
    return _ratio(2 * totals.correct, totals.support + totals.predicted, 0.0)


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
    return balanced_accuracy(per_class_recall(counts), absent="zero")


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
    totals = class_totals(arrays)
    check_counts("summarize", class_counts, totals.support.shape[-1])
    groups = shot_groups(class_counts) if groups is None else groups
    recall = per_class_recall(totals)
    values = {
        "accuracy": accuracy(totals),
        "balanced_accuracy": balanced_accuracy(recall),
    }
    for name, group in group_accuracy(recall, groups).items():
        values[name] = group.accuracy
    values["worst"] = worst_class(recall)
    values["g_mean"] = g_mean(recall)
    values["harmonic_mean"] = harmonic_mean(recall)
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
