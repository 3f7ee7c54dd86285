r"""Post-hoc logit adjustment: change the decision of a network, not the network.

A network trained with plain cross-entropy estimates :math:`P(y|x)`; the balanced
decision wants :math:`P(y|x) / \pi_y`. The strength tau of the division is one number,
and the accuracy as a function of it a step function whose steps are computed exactly.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_class_vector,
    check_counts,
    check_logits_labels,
    check_range,
    check_rank,
    class_axis,
    shape_of,
)
from ltjax._numerics import at_least_float32, host
from ltjax.class_stats import count_labels, log_prior

RULES = ("best", "one_standard_error")

# Numbers per block of the sweep over one class's logits; a block stays in cache.
_BLOCK = 1 << 17


def adjust_logits(
    logits: ArrayLike, class_counts: ArrayLike, *, tau: float | ArrayLike = 1.0
) -> jax.Array:
    r"""Logits for the balanced decision, :math:`z_k - \tau \log \pi_k`.

    For networks trained *without* a prior in the loss; `ltjax.losses.logit_adjusted`
    and its relatives already give balanced logits, and must not be adjusted twice.

    Args:
        logits: [..., K] float.
        class_counts: [K] positive, number of training examples per class.
        tau: strength; 1 divides by the prior, 0 changes nothing. See `select_tau`.

    Returns:
        [..., K] float32 adjusted logits.

    Raises:
        ValueError: if class_counts has the wrong length or a readable zero.

    Example:
        >>> adjusted = adjust_logits(jnp.array([1.0, 0.5, -0.2]), [100, 20, 5], tau=1.0)
        >>> [f"{v:.4f}" for v in adjusted]
        ['1.2231', '2.3326', '3.0189']

    References:
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, eq. 9.
    """
    num_classes = class_axis("adjust_logits", "logits", logits)
    check_counts("adjust_logits", class_counts, num_classes)
    logits = at_least_float32(logits)
    shift = jnp.asarray(log_prior(class_counts)).astype(logits.dtype)
    shift = jnp.asarray(tau).astype(logits.dtype) * shift
    return logits - jnp.expand_dims(shift, range(logits.ndim - 1))


class AccuracyPath(NamedTuple):
    """A step function of t: class-mean accuracy and its standard error, piece by piece.

    Piece i is the open interval (breakpoints[i], breakpoints[i + 1]); at a breakpoint
    itself two classes tie. The area under the curve is
    `scores @ np.diff(breakpoints)`.
    """

    breakpoints: np.ndarray  # [P + 1] float64, 0 = b_0 < ... < b_P = stop
    scores: np.ndarray  # [P] float64, mean of the recalls of the classes with support
    standard_errors: np.ndarray  # [P] float64


class TauSelection(NamedTuple):
    """The chosen tau, what it scores, and the whole path it was chosen from."""

    tau: float
    score: float
    standard_error: float
    path: AccuracyPath


def accuracy_path(
    logits: ArrayLike, labels: ArrayLike, slopes: ArrayLike, *, stop: float
) -> AccuracyPath:
    r"""Class-mean accuracy of :math:`\arg\max_k z_k + t\, s_k` for all t in [0, stop].

    A class wins an example on one interval of t: from where it has overtaken all the
    classes of smaller slope to where the first of larger slope overtakes it,

    .. math:: t_{\text{in}} = \max_{j:\, s_j < s_y} \frac{z_j - z_y}{s_y - s_j}, \qquad
              t_{\text{out}} = \min_{j:\, s_j > s_y} \frac{z_y - z_j}{s_j - s_y}

    so an example is right between two numbers, and all breakpoints of the curve come
    from one pass over the logits. Host, float64, exact; O(NK + N log N).

    Args:
        logits: [N, K] float, finite and concrete.
        labels: [N] int class indices.
        slopes: [K] float, such as -log prior.
        stop: right end of the range of t, > 0.

    Returns:
        An `AccuracyPath`. Classes without examples are left out of the mean. Among
        classes with equal logit and slope the lower index wins, as in argmax.

    Raises:
        ValueError: if shapes disagree, a label lies outside [0, K), or logits or slopes
            are not finite.

    Example:
        >>> path = accuracy_path(np.array([[2.0, 1.0], [1.0, 0.5]]), np.array([0, 1]),
        ...                      np.array([0.0, 1.0]), stop=2.0)
        >>> path.breakpoints.tolist(), path.scores.tolist()
        ([0.0, 0.5, 1.0, 2.0], [0.5, 1.0, 0.5])

    References:
        The parametric upper envelope of lines; Menon et al., ICLR 2021, use a grid.
    """
    check_logits_labels("accuracy_path", logits, labels)
    check_rank("accuracy_path", "logits", logits, 2, "[N, K]")
    check_range("accuracy_path", "stop", stop, low=0.0, open_low=True)
    num_classes = shape_of(logits)[1]
    check_class_vector("accuracy_path", "slopes", slopes, num_classes)
    z, y, s = host(logits), host(labels), host(slopes).astype(np.float64)
    if not np.all(np.isfinite(s)):
        raise ValueError(f"accuracy_path: slopes are {s}, expected finite numbers")
    support = count_labels(y, num_classes)
    if y.size == 0:
        raise ValueError("accuracy_path: there are no examples")
    enters, leaves = winning_intervals(z, y, s, support)
    return step_function(enters, leaves, y, support, float(stop))


def select_tau(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    max_tau: float = 3.0,
    rule: str = "one_standard_error",
) -> TauSelection:
    r"""Strength tau of `adjust_logits` by class-mean accuracy on held-out data.

    .. math:: S(\tau) = \frac1K \sum_k r_k(\tau), \qquad
              \mathrm{SE} = \frac1K \sqrt{\sum_k r_k (1 - r_k) / m_k}

    with the recall r_k on the m_k held-out examples of class k. The sweep is exact:
    every tau in [0, max_tau] is tried. Use examples that the network was not trained
    on (`holdout_indices`, `crossfit_folds`), never the test set.

    Args:
        logits: [N, K] float, unadjusted, of held-out examples.
        labels: [N] int class indices.
        class_counts: [K] positive, number of *training* examples per class.
        max_tau: right end of the range that is searched.
        rule: "one_standard_error", the smallest tau whose score is at least the best
            score minus its standard error, or "best", the smallest tau of the best
            score.

    Returns:
        A `TauSelection`. tau is 0 if the first piece is chosen and the middle of its
        piece otherwise, where no two classes tie.

    Raises:
        ValueError: if shapes disagree, `rule` is unknown, a count is zero, a label lies
            outside [0, K) or logits are not finite.

    Example:
        >>> chosen = select_tau(np.array([[2.0, 1.0], [1.0, 0.5]]), np.array([0, 1]),
        ...                     np.array([100, 10]), rule="best")
        >>> print(f"{chosen.tau:.3f} {chosen.score:.1f}")
        0.326 1.0

    References:
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, sec. 4.2 (a
        tuned tau); the standard-error rule is that of Breiman et al., "Classification
        and Regression Trees", 1984.
    """
    check_choice("select_tau", "rule", rule, RULES)
    num_classes = class_axis("select_tau", "logits", logits)
    check_counts("select_tau", class_counts, num_classes)
    slopes = -np.asarray(log_prior(class_counts))
    path = accuracy_path(logits, labels, slopes, stop=max_tau)
    return choose_piece(path, rule)


def choose_piece(path: AccuracyPath, rule: str) -> TauSelection:
    """The tau that `rule` takes from a path, see `select_tau`."""
    best = int(np.argmax(path.scores))
    enough = path.scores[best]
    if rule == "one_standard_error":
        enough = enough - path.standard_errors[best]
    piece = int(np.argmax(path.scores >= enough))
    middle = 0.5 * (path.breakpoints[piece] + path.breakpoints[piece + 1])
    return TauSelection(
        tau=float(middle) if piece else 0.0,
        score=float(path.scores[piece]),
        standard_error=float(path.standard_errors[piece]),
        path=path,
    )


def winning_intervals(logits, labels, slopes, support):
    """(t_in, t_out) of the true class of every example, [N] each."""
    enters = np.full(labels.size, -np.inf)
    leaves = np.full(labels.size, np.inf)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(support)[:-1])
    by_slope = np.argsort(slopes, kind="stable")
    ordered = slopes[by_slope]
    rows_per_block = max(1, _BLOCK // slopes.size)
    for label in np.flatnonzero(support):
        ahead = ordered - slopes[label]
        level = np.searchsorted(ahead, 0, side="left")
        steeper = np.searchsorted(ahead, 0, side="right")
        # Of equals the lower index wins, so those before the label must be beaten.
        beaten = by_slope[level:steeper] < label
        for start in range(0, by_class[label].size, rows_per_block):
            rows = by_class[label][start : start + rows_per_block]
            block = logits[rows].astype(np.float64)
            if not np.all(np.isfinite(block)):
                raise ValueError("accuracy_path: logits are not all finite")
            lead = block[:, [label]] - np.take(block, by_slope, axis=1)
            if level > 0:
                enters[rows] = np.max(lead[:, :level] / ahead[:level], axis=1)
            if steeper < ahead.size:
                leaves[rows] = np.min(lead[:, steeper:] / ahead[steeper:], axis=1)
            equal = lead[:, level:steeper]
            never = np.where(beaten, equal <= 0, equal < 0)
            enters[rows[np.any(never, axis=1)]] = np.inf
    return enters, leaves


def step_function(enters, leaves, labels, support, stop):
    """Sums the intervals into the curve of class-mean accuracy."""
    wins = (enters < leaves) & (leaves > 0) & (enters < stop)
    from_start = wins & (enters <= 0)
    right = np.bincount(labels[from_start], minlength=support.size)
    comes, goes = wins & (enters > 0), wins & (leaves < stop)
    times = np.concatenate([enters[comes], leaves[goes]])
    classes = np.concatenate([labels[comes], labels[goes]])
    signs = np.repeat([1, -1], [np.count_nonzero(comes), np.count_nonzero(goes)])
    order = np.argsort(times, kind="stable")
    times, classes, signs = times[order], classes[order], signs[order]

    # Number of right answers in the event's class, before and after each event.
    grouped = np.argsort(classes, kind="stable")
    total = np.cumsum(signs[grouped])
    events = np.bincount(classes, minlength=support.size)
    offset = np.concatenate([[0], total])[np.cumsum(events) - events]
    after = np.empty(times.size, np.int64)
    after[grouped] = total + np.repeat(right - offset, events)
    before = after - signs

    some = support > 0
    num_scored = np.count_nonzero(some)
    m = support[classes].astype(np.float64)

    def spread(count, size):
        return count * (size - count) / size**3

    # Long double: a million steps must not add up to a visible rounding error.
    step = np.concatenate([[0.0], signs / m]).astype(np.longdouble)
    widen = np.concatenate([[0.0], spread(after, m) - spread(before, m)])
    recalls = np.cumsum(step) + np.sum(right[some] / support[some])
    initial = np.sum(spread(right[some], support[some].astype(np.float64)))
    variances = np.cumsum(widen.astype(np.longdouble)) + initial

    starts = np.concatenate([[0.0], times])
    last = np.append(starts[1:] > starts[:-1], True)  # of the events at one time
    scores = (recalls[last] / num_scored).astype(np.float64)
    variances = np.maximum(variances[last], 0.0).astype(np.float64)
    breakpoints = np.append(starts[last], stop)
    return AccuracyPath(breakpoints, scores, np.sqrt(variances) / num_scored)
