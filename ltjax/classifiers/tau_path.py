r"""Accuracy of the tau-normalized head for all tau at once.

The score of class k is :math:`a_k \|w_k\|^{-\tau}`. Two scores of one sign cross where
their logarithms do, and those are lines in tau, as in post-hoc logit adjustment; scores
of different signs never cross. So the sweep of `ltjax.classifiers.posthoc` solves this
problem too, once the examples are sorted by the sign of their own score:

================= ========================================= ========================
own score         line of class k                           slope
================= ========================================= ========================
positive          log a_k; a_k <= 0 is always below          -log ||w_k||
negative          -log |a_k|; a_k >= 0 is always above       +log ||w_k||
zero              above or below by the sign of a_k          0
================= ========================================= ========================
"""

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_class_vector,
    check_logits_labels,
    check_range,
    check_rank,
    shape_of,
)
from ltjax._numerics import host
from ltjax.class_stats import count_labels
from ltjax.classifiers.posthoc import (
    RULES,
    AccuracyPath,
    TauSelection,
    choose_piece,
    step_function,
    winning_intervals,
)
from ltjax.classifiers.rebalance import ZERO_NORM

# A line that no other line meets within any valid range of tau.
_OUT_OF_REACH = 1e30
# Numbers per block of logits that are turned into lines.
_BLOCK = 1 << 22


def tau_norm_path(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stop: float = 2.0,
) -> AccuracyPath:
    r"""Class-mean accuracy of the tau-normalized head for all tau in [0, stop].

    Host, float64, exact: all breakpoints are found, in O(NK + N log N). The bias is
    dropped, as published; kept, it would leave no closed form for the crossings.

    Args:
        logits: [N, K] float, of the head as trained, finite and concrete.
        labels: [N] int class indices.
        weights: [D, K] float kernel of the head, one column per class.
        bias: [K], the head's bias, subtracted from the logits; None if it has none.
        stop: right end of the range of tau, > 0.

    Returns:
        `AccuracyPath` in tau. Classes without examples are left out of the mean.

    Raises:
        ValueError: if shapes disagree, a label lies outside [0, K), or logits are not
            finite.

    Example:
        >>> weights = np.array([[4.0, 0.0], [0.0, 1.0]])
        >>> logits = np.array([[1.0, 0.5], [0.5, 0.5]]) @ weights
        >>> path = tau_norm_path(logits, np.array([0, 1]), weights)
        >>> path.breakpoints.tolist(), path.scores.tolist()
        ([0.0, 1.0, 1.5, 2.0], [0.5, 1.0, 0.5])

    References:
        Kang et al., ICLR 2020, sweep a grid of step .1.
    """
    name = "tau_norm_path"
    check_logits_labels(name, logits, labels)
    check_rank(name, "logits", logits, 2, "[N, K]")
    check_range(name, "stop", stop, low=0.0, open_low=True)
    num_classes = shape_of(logits)[1]
    head_scores, truth = host(logits), host(labels)
    check_rank(name, "weights", weights, 2, "[D, K]")
    norms = np.linalg.norm(host(weights).astype(np.float64), axis=0)
    check_class_vector(name, "the column norms of weights", norms, num_classes)
    slopes = -np.log(np.where(norms > ZERO_NORM, norms, 1.0))
    offset = np.zeros(num_classes)
    if bias is not None:
        check_class_vector(name, "bias", bias, num_classes)
        offset = host(bias).astype(np.float64)
    support = count_labels(truth, num_classes)
    if truth.size == 0:
        raise ValueError(f"{name}: there are no examples")
    enters, leaves = np.empty(truth.size), np.empty(truth.size)
    by_class = np.argsort(truth, kind="stable")
    size = max(1, _BLOCK // num_classes)
    for start in range(0, truth.size, size):
        block = by_class[start : start + size]
        scores = head_scores[block].astype(np.float64) - offset
        if not np.all(np.isfinite(scores)):
            raise ValueError(f"{name}: logits are not all finite")
        signs = np.sign(scores[np.arange(block.size), truth[block]])
        for sign in (1, 0, -1):
            mine = np.flatnonzero(signs == sign)
            rows = block[mine]
            enters[rows], leaves[rows] = winning_intervals(
                _lines(scores[mine], sign),
                truth[rows],
                sign * slopes,
                np.bincount(truth[rows], minlength=num_classes),
            )
    return step_function(enters, leaves, truth, support, float(stop))


def select_tau_norm(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    max_tau: float = 2.0,
    rule: str = "one_standard_error",
) -> TauSelection:
    r"""Strength tau of `tau_normalize` by class-mean accuracy on held-out data.

    Args:
        logits: [N, K] float, of the head as trained, of held-out examples.
        labels: [N] int class indices.
        weights: [D, K] float kernel of the head.
        bias: [K], the head's bias, which is dropped; None if it has none.
        max_tau: right end of the range that is searched.
        rule: "one_standard_error" or "best", as in `select_tau`.

    Returns:
        `TauSelection`.

    Raises:
        ValueError: if shapes disagree, `rule` is unknown, a label lies outside [0, K)
            or logits are not finite.

    Example:
        >>> weights = np.array([[4.0, 0.0], [0.0, 1.0]])
        >>> logits = np.array([[1.0, 0.5], [0.5, 0.5]]) @ weights
        >>> select_tau_norm(logits, np.array([0, 1]), weights, rule="best").tau
        1.25

    References:
        Kang et al., ICLR 2020, choose tau on validation data for ImageNet-LT and
        Places-LT, and on the test set for iNaturalist; do not follow the latter.
    """
    check_choice("select_tau_norm", "rule", rule, RULES)
    path = tau_norm_path(logits, labels, weights, bias, stop=max_tau)
    return choose_piece(path, rule)


def _lines(scores: np.ndarray, sign: int) -> np.ndarray:
    """Heights at tau = 0 of the lines whose order is that of the scores."""
    if sign == 0:
        return _OUT_OF_REACH * np.sign(scores)
    same = sign * scores > 0
    heights = sign * np.log(np.where(same, np.abs(scores), 1.0))
    return np.where(same, heights, -sign * _OUT_OF_REACH)
