r"""Partial areas under the ROC curve: only the part of it that an application can use.

`partial_auc` keeps false positive rates up to `max_fpr`. `two_way_partial_auc` also
demands a true positive rate of at least `1 - alpha`: it compares the hardest share
`alpha` of the positives with the hardest share `beta` of the negatives.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_range
from ltjax.metrics._ranks import binary_rows, threshold_counts
from ltjax.metrics.auc import auc


class PartialAUC(NamedTuple):
    """Raw area; raw / max_fpr; and McClish's rescaling, 0.5 for a random score."""

    raw: float
    normalized: float
    standardized: float


def partial_auc(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    max_fpr: float,
    where: ArrayLike | None = None,
) -> PartialAUC:
    r"""One-way partial area, for false positive rates in [0, max_fpr].

    .. math:: \mathrm{raw} = \int_0^\beta \mathrm{TPR}\, d\mathrm{FPR}, \qquad
              \mathrm{standardized} = \tfrac12 \Big(
              1 + \frac{\mathrm{raw} - \beta^2/2}{\beta - \beta^2/2} \Big)

    The curve is linear between its points, at the cut as well.

    Args:
        scores: [N] real, higher for positives.
        labels: [N] bool or 0/1.
        max_fpr: beta in (0, 1].
        where: optional [N] bool; False rows are left out.

    Returns:
        PartialAUC of three floats; NaN unless both classes occur.

    Raises:
        ValueError: if shapes disagree, a label is neither 0 nor 1, a score is NaN, or
            max_fpr is outside (0, 1].

    Example:
        >>> partial_auc([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0], max_fpr=0.5)
        PartialAUC(raw=0.25, normalized=0.5, standardized=0.6666666666666666)

    References:
        McClish, "Analyzing a Portion of the ROC Curve", Medical Decision Making 1989;
        `standardized` is scikit-learn's `roc_auc_score(max_fpr=...)`.
    """
    check_range("partial_auc", "max_fpr", max_fpr, low=0.0, high=1.0, open_low=True)
    scores, positive = binary_rows("partial_auc", scores, labels, where)
    total = np.count_nonzero(positive)
    if total == 0 or total == len(scores):
        return PartialAUC(np.nan, np.nan, np.nan)
    true, false = threshold_counts(scores, positive)
    tpr = np.append(0, true) / total
    fpr = np.append(0, false) / (len(scores) - total)
    inside = np.searchsorted(fpr, max_fpr, side="right")
    if inside < len(fpr):
        cut = np.interp(max_fpr, fpr[inside - 1 : inside + 1], tpr[inside - 1 :][:2])
        fpr, tpr = np.append(fpr[:inside], max_fpr), np.append(tpr[:inside], cut)
    raw = float(np.trapezoid(tpr, fpr))
    chance = max_fpr**2 / 2
    rescaled = 0.5 * (1 + (raw - chance) / (max_fpr - chance))
    return PartialAUC(raw, raw / max_fpr, rescaled)


def two_way_partial_auc(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: float,
    beta: float,
    where: ArrayLike | None = None,
) -> float:
    r"""Two-way partial area: hardest positives against hardest negatives.

    The mean of :math:`1[s_p > s_q] + \tfrac12 1[s_p = s_q]` over the
    :math:`\lfloor \alpha N_+ \rfloor` lowest positives and the
    :math:`\lfloor \beta N_- \rfloor` highest negatives, at least one of each.

    Args:
        scores: [N] real, higher for positives.
        labels: [N] bool or 0/1.
        alpha: share of the positives, in (0, 1]; the curve counts above 1 - alpha.
        beta: share of the negatives, in (0, 1]; the curve counts left of beta.
        where: optional [N] bool; False rows are left out.

    Returns:
        The area in [0, 1]; NaN unless both classes occur. `auc` for alpha = beta = 1.

    Raises:
        ValueError: if shapes disagree, a label is neither 0 nor 1, a score is NaN, or a
            share is outside (0, 1].

    Example:
        >>> two_way_partial_auc([0.9, 0.5, 0.6, 0.1], [1, 1, 0, 0], alpha=0.5, beta=1.0)
        0.5

    References:
        Yang et al., "When All We Need is a Piece of the Pie", ICML 2021. Counts are
        floored as there; LibAUC rounds them.
    """
    for name, share in (("alpha", alpha), ("beta", beta)):
        check_range(
            "two_way_partial_auc", name, share, low=0.0, high=1.0, open_low=True
        )
    scores, positive = binary_rows("two_way_partial_auc", scores, labels, where)
    hard_up = np.sort(scores[positive])
    hard_down = np.sort(scores[~positive])[::-1]
    hard_up = hard_up[: share_count(alpha, len(hard_up))]
    hard_down = hard_down[: share_count(beta, len(hard_down))]
    chosen = np.concatenate([hard_up, hard_down])
    return auc(chosen, np.arange(len(chosen)) < len(hard_up))


def share_count(share: float, total: int) -> int:
    """floor(share * total), at least 1 (0 of nothing).

    Args:
        share: in (0, 1].
        total: number of examples.

    Returns:
        int. The product is lifted by 1e-9 first: 0.57 * 100 is 56.99999... in float64.

    Example:
        >>> share_count(0.57, 100), share_count(0.01, 5)
        (57, 1)
    """
    return min(max(int(np.floor(share * total + 1e-9)), 1), total)
