r"""Measures of a ranking of labels: top K, precision at every depth, pairs of labels.

`top_k_ranking` gives all the top-K measures of a row from one sort. Tied labels have no
order, so their measures are the means over all orders of the ties, in closed form: no
measure depends on how the columns are arranged, and a constant score is worth a random
one. Everything runs on the host in float64.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_whole, dtype_of, shape_of
from ltjax.metrics._ranks import class_rows, label_rows, tie_bounds
from ltjax.metrics.auc import average_precision


class TopKRanking(NamedTuple):
    """Measures of each row, [N] float64; NaN for a row without a relevant label."""

    precision: np.ndarray
    recall: np.ndarray
    average_precision: np.ndarray
    ndcg: np.ndarray
    tkpr: np.ndarray


def top_k_ranking(
    scores: ArrayLike,
    relevant: ArrayLike,
    *,
    k: int,
    capped: bool = False,
    normalizer: str = "ideal",
) -> TopKRanking:
    r"""P@K, R@K, AP@K, NDCG@K and top-K pairwise ranking of every row.

    With :math:`Y_{[k]}` the relevance at rank k and N relevant labels,

    .. math:: \mathrm{P} = \frac1K \sum_{k \le K} Y_{[k]}, \quad
              \mathrm{R} = \frac1N \sum_{k \le K} Y_{[k]}, \quad
              \mathrm{AP} = \frac{1}{\min(N, K)} \sum_{k \le K} Y_{[k]}\,
              \mathrm{P@}k

    .. math:: \mathrm{NDCG} = \frac{\sum_{k \le K} Y_{[k]} / \log_2(k+1)}
              {\sum_{k \le \min(N, K)} 1 / \log_2(k+1)}, \quad
              \mathrm{TKPR} = \frac{1}{a K} \sum_{k \le K} (K + 1 - k)\, Y_{[k]}

    the last being the mean over k of the hits at depth k, and the share of the K + 1
    highest scores that relevant labels beat.

    Args:
        scores: [N, L] real.
        relevant: [N, L] bool or 0/1.
        k: K in [1, L].
        capped: P@K divides by min(N, K) instead of K.
        normalizer: a of TKPR: "none" 1, "k" K, "labels" N, "capped" min(N, K), "ideal"
            the value of a perfect ranking.

    Returns:
        TopKRanking. Rows without a relevant label are NaN: `np.nanmean` skips them.

    Raises:
        ValueError: if shapes disagree, a relevance is neither 0 nor 1, a score is NaN,
            K exceeds the number of labels, or the normalizer is unknown.

    Example:
        >>> rows = top_k_ranking([[0.9, 0.2, 0.7, 0.5]], [[1, 0, 0, 1]], k=3)
        >>> [float(measure[0].round(4)) for measure in rows]
        [0.6667, 1.0, 0.8333, 0.9197, 0.8]

    References:
        Wang et al., "Top-K Pairwise Ranking: Bridging the Gap Among Ranking-Based
        Measures for Multi-Label Classification", IJCV 2024. Its pair-wise and list-wise
        forms differ under ties; half a point for a tied pair is the mean over orders
        while the ties lie inside the first K + 1 ranks.
    """
    caller = "top_k_ranking"
    check_choice(
        caller, "normalizer", normalizer, ("none", "k", "labels", "capped", "ideal")
    )
    scores, relevant = label_rows(caller, scores, relevant)
    size = scores.shape[1]
    check_whole(caller, "k", k, low=1)
    if k > size:
        raise ValueError(
            f"{caller}: k is {k}, expected 1 to {size}, the number of labels"
        )
    order = np.argsort(-scores, axis=1, kind="stable")
    first, last = tie_bounds(np.take_along_axis(scores, order, axis=1))
    hits = np.take_along_axis(relevant, order, axis=1).astype(np.float64)
    total = np.cumsum(hits, axis=1)
    width = (last - first + 1).astype(np.float64)
    before = np.take_along_axis(total - hits, first, axis=1)
    inside = np.take_along_axis(total, last, axis=1) - before
    # Expected relevance at each rank, over all orders of its tie group.
    share = inside / width
    # Expected hits at or above a rank that is itself relevant: those of the groups
    # before, those of its own group drawn without replacement, and itself.
    position = np.arange(size) - first
    others = np.where(width > 1, (inside - 1) / np.maximum(width - 1, 1), 0.0)
    above = before + position * np.maximum(others, 0.0) + 1
    rank = np.arange(1, size + 1)
    number = hits.sum(axis=1)
    some = number > 0
    safe = np.where(some, number, 1.0)
    least = np.minimum(safe, k)
    depth, share, above = rank[:k], share[:, :k], above[:, :k]
    found = share.sum(axis=1)
    discount = 1 / np.log2(depth + 1)
    ideal = np.cumsum(discount)[least.astype(int) - 1]
    linear = share @ (k + 1.0 - depth) / k
    a = {
        "none": np.ones_like(safe),
        "k": np.full_like(safe, k),
        "labels": safe,
        "capped": least,
        "ideal": least * (2 * k + 1 - least) / (2 * k),
    }[normalizer]
    measures = (
        found / (least if capped else k),
        found / safe,
        (share * above / depth).sum(axis=1) / least,
        share @ discount / ideal,
        linear / a,
    )
    return TopKRanking(*(np.where(some, x, np.nan) for x in measures))


def autkc(scores: ArrayLike, labels: ArrayLike, *, k: int) -> float:
    r"""Area under the top-k accuracy curve, up to K.

    .. math:: \frac1K \sum_{k=1}^K \mathrm{TopAcc@}k
              = \mathrm{mean}_i\, \frac{(K + 1 - r_i)_+}{K}

    Args:
        scores: [N, C] real.
        labels: [N] int class indices.
        k: K in [1, C].

    Returns:
        A float in [0, 1], ties at their mean over orders; NaN without rows. K = 1 is
        top-1 accuracy.

    Raises:
        ValueError: if shapes disagree, a label is out of range, a score is NaN, or K
            exceeds the number of classes.
        TypeError: if the labels are not integers.

    Example:
        >>> autkc([[0.5, 0.3, 0.2]], [1], k=2)
        0.5

    References:
        Wang et al., "Optimizing Partial Area Under the Top-k Curve: Theory and
        Practice", TPAMI 2023.
    """
    scores, labels = class_rows("autkc", scores, labels, None)
    size = scores.shape[1]
    check_whole("autkc", "k", k, low=1)
    if k > size:
        raise ValueError(
            f"autkc: k is {k}, expected 1 to {size}, the number of classes"
        )
    hot = labels[:, None] == np.arange(size)
    rows = top_k_ranking(scores, hot, k=k, normalizer="none").tkpr
    return float(rows.mean()) if rows.size else np.nan


def mean_average_precision(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    groups: Mapping[str, ArrayLike] | None = None,
    where: ArrayLike | None = None,
) -> dict[str, float]:
    """Mean over the classes of their average precision, in all and by frequency group.

    Args:
        scores: [N, K] real.
        labels: [N, K] bool or 0/1, or [N] int class indices.
        groups: optional name -> bool [K], as of `class_stats.shot_groups`.
        where: optional [N] bool; False rows are left out.

    Returns:
        {"all": ..., name: ...}; classes without a positive are skipped, and a group
        without any other is NaN.

    Raises:
        ValueError: if shapes disagree, a label is neither 0 nor 1 (or out of range), a
            score is NaN, or a group has another length.

    Example:
        >>> scores, labels = [[0.9, 0.2], [0.8, 0.7]], [[1, 0], [0, 1]]
        >>> mean_average_precision(scores, labels, groups={"few": [False, True]})
        {'all': 1.0, 'few': 1.0}
    """
    dtype_of("mean_average_precision", "scores", scores)
    if len(shape_of(scores)) != 2:
        raise ValueError(
            f"mean_average_precision: scores have shape {shape_of(scores)}, expected"
            " [N, K]"
        )
    each = np.asarray(average_precision(scores, labels, where=where))
    result = {"all": _mean_of_numbers(each)}
    for name, members in (groups or {}).items():
        dtype_of("mean_average_precision", f"group {name!r}", members)
        members = np.asarray(members, bool)
        if members.shape != each.shape:
            raise ValueError(
                f"mean_average_precision: group {name!r} has shape {members.shape},"
                f" expected {each.shape}"
            )
        result[name] = _mean_of_numbers(each[members])
    return result


def _mean_of_numbers(values) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else np.nan


def _pair_counts(scores, relevant):
    """For each label: how many of all, and of the relevant ones, score at least it."""
    order = np.argsort(-scores, axis=1, kind="stable")
    _, last = tie_bounds(np.take_along_axis(scores, order, axis=1))
    hits = np.cumsum(np.take_along_axis(relevant, order, axis=1), axis=1)
    upto = np.empty(scores.shape, np.int64)
    good = np.empty(scores.shape, np.int64)
    np.put_along_axis(upto, order, last + 1, axis=1)
    np.put_along_axis(good, order, np.take_along_axis(hits, last, axis=1), axis=1)
    return upto, good


def ranking_loss(scores: ArrayLike, relevant: ArrayLike) -> np.ndarray:
    """Share of pairs of a relevant and an irrelevant label in the wrong order.

    A tied pair is wrong in full. Costs O(L log L) per row.

    Args:
        scores: [N, L] real.
        relevant: [N, L] bool or 0/1.

    Returns:
        [N] float64; 0 for a row without a relevant or without an irrelevant label.

    Raises:
        ValueError: if shapes disagree, a relevance is neither 0 nor 1, or a score is
            NaN.

    Example:
        >>> ranking_loss([[0.9, 0.2, 0.7]], [[1, 1, 0]])
        array([0.5])

    References:
        Tsoumakas et al., "Mining Multi-label Data", 2010; scikit-learn's
        `label_ranking_loss` is its mean over rows.
    """
    scores, relevant = label_rows("ranking_loss", scores, relevant)
    upto, good = _pair_counts(scores, relevant)
    wrong = np.where(relevant, upto - good, 0).sum(axis=1)
    number = relevant.sum(axis=1)
    pairs = number * (relevant.shape[1] - number)
    return np.where(pairs > 0, wrong / np.maximum(pairs, 1), 0.0)


def label_ranking_average_precision(
    scores: ArrayLike, relevant: ArrayLike
) -> np.ndarray:
    """Mean over relevant labels of the precision among the labels scored at least so.

    Args:
        scores: [N, L] real.
        relevant: [N, L] bool or 0/1.

    Returns:
        [N] float64 in (0, 1]; 1 for a row whose labels are all alike.

    Raises:
        ValueError: if shapes disagree, a relevance is neither 0 nor 1, or a score is
            NaN.

    Example:
        >>> label_ranking_average_precision([[0.9, 0.2, 0.7]], [[1, 1, 0]]).round(4)
        array([0.8333])

    References:
        scikit-learn's `label_ranking_average_precision_score` is its mean over rows.
    """
    caller = "label_ranking_average_precision"
    scores, relevant = label_rows(caller, scores, relevant)
    upto, good = _pair_counts(scores, relevant)
    number = relevant.sum(axis=1)
    total = np.where(relevant, good / np.maximum(upto, 1), 0.0).sum(axis=1)
    alike = (number == 0) | (number == relevant.shape[1])
    return np.where(alike, 1.0, total / np.maximum(number, 1))


def coverage(scores: ArrayLike, relevant: ArrayLike) -> np.ndarray:
    """How far down the ranking all relevant labels are found, ties at their last rank.

    Args:
        scores: [N, L] real.
        relevant: [N, L] bool or 0/1.

    Returns:
        [N] float64; 0 for a row without a relevant label.

    Raises:
        ValueError: if shapes disagree, a relevance is neither 0 nor 1, or a score is
            NaN.

    Example:
        >>> coverage([[0.9, 0.2, 0.7]], [[1, 0, 1]])
        array([2.])

    References:
        scikit-learn's `coverage_error` is its mean over rows.
    """
    scores, relevant = label_rows("coverage", scores, relevant)
    upto, _ = _pair_counts(scores, relevant)
    return np.where(relevant, upto, 0).max(axis=1, initial=0).astype(np.float64)
