r"""Averages over classes: one number from a confusion matrix.

.. math:: \mathrm{BA} = \mathrm{mean}_k\, r_k, \qquad
          G = \big(\textstyle\prod_k r_k\big)^{1/K}, \qquad
          H = K / \textstyle\sum_k r_k^{-1}

with the recalls r. See `ltjax.metrics.classification` for `counts` and `absent`.
"""

import numpy as np

from ltjax._checks import check_choice, check_range
from ltjax.metrics.confusion import (
    Counts,
    class_totals,
    per_class_recall,
    ratio,
    specificity,
)


def present_recalls(caller: str, counts: Counts, absent: str):
    """Recalls [..., K] and which of them count, under a rule for absent classes."""
    check_choice(caller, "absent", absent, ("skip", "zero", "nan"))
    recall = per_class_recall(class_totals(counts, caller=caller))
    missing = np.isnan(recall)
    if absent == "skip":
        return np.where(missing, 0.0, recall), ~missing
    filled = np.where(missing, 0.0, recall) if absent == "zero" else recall
    return filled, np.ones_like(missing)


def balanced_accuracy(counts: Counts, *, absent: str = "skip") -> np.ndarray:
    r"""Balanced accuracy (AM measure), the mean recall over classes.

    Args:
        counts: a confusion matrix [..., K, K] or another form of it.
        absent: "skip", "zero" or "nan".

    Returns:
        [...] float64; NaN if no class counts.

    Raises:
        ValueError: if `counts` is not a confusion matrix, or for an unknown rule.

    Example:
        >>> print(balanced_accuracy([[8, 2], [5, 5]]))
        0.65

    References:
        Menon et al., "On the Statistical Consistency of Algorithms for Binary
        Classification under Class Imbalance", ICML 2013 (AM measure).
    """
    recall, present = present_recalls("balanced_accuracy", counts, absent)
    return ratio(np.sum(recall, axis=-1), present.sum(-1), np.nan)


def adjusted_balanced_accuracy(counts: Counts, *, absent: str = "skip") -> np.ndarray:
    r"""Balanced accuracy rescaled to 0 for chance, (BA - 1/K) / (1 - 1/K).

    Args:
        counts: see `balanced_accuracy`.
        absent: "skip" (K = number of classes present), "zero" or "nan" (all K).

    Returns:
        [...] float64 at most 1; NaN if only one class counts.

    Example:
        >>> print(adjusted_balanced_accuracy([[4, 0], [2, 2]]))
        0.5
    """
    caller = "adjusted_balanced_accuracy"
    recall, present = present_recalls(caller, counts, absent)
    classes = present.sum(-1)
    chance = ratio(1.0, classes, np.nan)
    gain = ratio(np.sum(recall, axis=-1), classes, np.nan) - chance
    return ratio(gain, 1 - np.nan_to_num(chance, nan=1.0), np.nan)


def balanced_error_rate(counts: Counts, *, absent: str = "skip") -> np.ndarray:
    """Balanced error rate (BER), 1 - balanced accuracy.

    Args:
        counts: see `balanced_accuracy`.
        absent: "skip", "zero" or "nan".

    Returns:
        [...] float64.

    Example:
        >>> print(balanced_error_rate([[4, 0], [2, 2]]))
        0.25
    """
    recall, present = present_recalls("balanced_error_rate", counts, absent)
    return 1 - ratio(np.sum(recall, axis=-1), present.sum(-1), np.nan)


def worst_class(counts: Counts, *, absent: str = "skip") -> np.ndarray:
    """Smallest recall of any class.

    Args:
        counts: see `balanced_accuracy`.
        absent: "skip", "zero" or "nan".

    Returns:
        [...] float64; NaN if no class counts.

    Example:
        >>> print(worst_class([[9, 1], [7, 3]]))
        0.3
    """
    recall, present = present_recalls("worst_class", counts, absent)
    lowest = np.min(np.where(present, recall, np.inf), axis=-1)
    return np.where(present.any(-1), lowest, np.nan)


def g_mean(
    counts: Counts,
    *,
    absent: str = "skip",
    average: str = "multiclass",
    correction: float = 0.0,
) -> np.ndarray:
    r"""Geometric mean of the recalls, or of sensitivity and specificity.

    .. math:: \text{multiclass: } \Big(\prod_k r_k\Big)^{1/K} \qquad
              \text{macro, weighted: }
              \sqrt{\textstyle\sum_k w_k r_k\, \sum_k w_k s_k}

    with :math:`w_k = 1/K`, or the share of class k among the examples.

    Args:
        counts: see `balanced_accuracy`.
        absent: "skip", "zero" or "nan".
        average: "multiclass", "macro" or "weighted".
        correction: what a recall of 0 counts as, in [0, 1), so that one class that is
            never right does not hide the others; for "multiclass" only.

    Returns:
        [...] float64; without a correction exactly 0 if a counted recall is 0.

    Raises:
        ValueError: for an unknown rule, or a correction with another average.

    Example:
        >>> matrix = [[9, 1, 0], [3, 6, 1], [4, 3, 3]]
        >>> print(g_mean(matrix).round(4), g_mean(matrix, average="macro").round(4))
        0.5451 0.6928

    References:
        Kubat and Matwin, "Addressing the Curse of Imbalanced Training Sets", ICML 1997
        (two classes); averages and correction as in imbalanced-learn, which in
        "multiclass" also counts classes that are only predicted.
    """
    check_choice("g_mean", "average", average, ("multiclass", "macro", "weighted"))
    check_range("g_mean", "correction", correction, low=0.0, high=1.0, open_high=True)
    recall, present = present_recalls("g_mean", counts, absent)
    if average != "multiclass":
        if correction:
            raise ValueError(
                f"g_mean: correction is {correction}, which goes with"
                f" average='multiclass', but average is {average!r}"
            )
        return _pooled_g_mean(counts, recall, present, average)
    recall = np.where(recall == 0, correction, recall)
    zero = np.any(present & (recall == 0), axis=-1)
    logs = np.log(np.where(present & (recall != 0), recall, 1.0))
    mean = ratio(logs.sum(-1), present.sum(-1), np.nan)
    return np.where(zero & ~np.isnan(mean), 0.0, np.exp(mean))


def _pooled_g_mean(counts, recall, present, average):
    totals = class_totals(counts, caller="g_mean")
    weight = present if average == "macro" else present * totals.support
    total = weight.sum(-1)
    # A class that every example belongs to has no specificity, and no negatives.
    others = np.nan_to_num(specificity(totals), nan=0.0)
    sensitivity = ratio((weight * recall).sum(-1), total, np.nan)
    return np.sqrt(sensitivity * ratio((weight * others).sum(-1), total, np.nan))


def harmonic_mean(counts: Counts, *, absent: str = "skip") -> np.ndarray:
    r"""Harmonic mean of the recalls, :math:`K / \sum_k r_k^{-1}`.

    Args:
        counts: see `balanced_accuracy`.
        absent: "skip", "zero" or "nan".

    Returns:
        [...] float64; exactly 0 if a counted recall is 0.

    Example:
        >>> round(float(harmonic_mean([[9, 1, 0], [3, 6, 1], [4, 3, 3]])), 9)
        0.490909091
    """
    recall, present = present_recalls("harmonic_mean", counts, absent)
    zero = np.any(present & (recall == 0), axis=-1)
    inverse = np.where(present, 1 / np.where(present & (recall != 0), recall, 1.0), 0.0)
    total = inverse.sum(-1)
    mean = present.sum(-1) / np.where(total == 0, np.nan, total)
    return np.where(zero & ~np.isnan(mean), 0.0, mean)
