r"""Margins between pairs of classes, and what they say in the terminal phase.

With class vectors w and a feature h of class y the margin against class c is

.. math:: q_{c} = (w_y - w_c)^\top h, \qquad
          \hat q_c = \frac{q_c}{\max_k \lVert w_k \rVert \, \max_i \lVert h_i \rVert}

Once every training example is right, cross-entropy acts as a hard-margin machine:
minus the logarithm of its sum tracks the smallest margin (`margin_loss_bounds`).
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_vector,
    check_integers,
    check_logits_labels,
    check_range,
    check_rank,
    dtype_of,
    shape_of,
)


class MarginSummary(NamedTuple):
    """Of the normalized margins of all examples and pairs, but for the last.

    Attributes:
        smallest: their minimum.
        low: their 5 % quantile.
        mean: their mean.
        smallest_raw: the minimum before normalization.
    """

    smallest: float
    low: float
    mean: float
    smallest_raw: float


def pair_margins(
    features: ArrayLike,
    vectors: ArrayLike,
    labels: ArrayLike,
    *,
    normalize: bool = True,
) -> np.ndarray:
    r"""The margin of every example against every other class.

    Args:
        features: [N, D], as the classifier sees them.
        vectors: [D, K], one column per class.
        labels: [N] int in [0, K).
        normalize: whether to divide by the largest norm of a class vector times that of
            a feature. Scaling either then changes nothing.

    Returns:
        [N, K - 1] float64, the other classes in their order. An example is right if all
        of its margins are positive.

    Raises:
        ValueError: if shapes disagree or a label is no class.
        TypeError: if labels are not integers.

    Example:
        >>> axes = [[1.0, 0.0], [0.0, 1.0]]
        >>> print(pair_margins(axes, axes, [0, 1]))
        [[1.]
         [1.]]

    Limits: with features on the vertices of a simplex ETF of K classes that are the
    class vectors too, every normalized margin is K / (K - 1).

    References:
        Gao et al., "Towards Demystifying the Generalization Behaviors When Neural
        Collapse Emerges", 2023.
    """
    name = "pair_margins"
    check_rank(name, "features", features, 2, "[N, D]")
    check_rank(name, "vectors", vectors, 2, "[D, K]")
    check_integers(name, "labels", labels)
    h, w = np.asarray(features, np.float64), np.asarray(vectors, np.float64)
    if h.shape[1] != w.shape[0]:
        raise ValueError(
            f"{name}: vectors have shape {w.shape}, expected [{h.shape[1]}, K] for"
            f" features of shape {h.shape}"
        )
    margins = _margins(name, h @ w, labels)
    if not normalize:
        return margins
    sizes = np.linalg.norm(w, axis=0), np.linalg.norm(h, axis=1)
    size = sizes[0].max(initial=0) * sizes[1].max(initial=0)
    return margins / max(size, np.finfo(np.float64).tiny)


def margin_summary(
    features: ArrayLike, vectors: ArrayLike, labels: ArrayLike
) -> MarginSummary:
    """The distribution of the margins in a few numbers; see `pair_margins`.

    Args:
        features: [N, D], as the classifier sees them.
        vectors: [D, K], one column per class.
        labels: [N] int in [0, K).

    Returns:
        A `MarginSummary`.

    Raises:
        ValueError: if there is no example or only one class, and as `pair_margins`.
        TypeError: as `pair_margins`.

    Example:
        >>> axes = [[2.0, 0.0], [0.0, 2.0]]
        >>> margin_summary(axes, axes, [0, 1])
        MarginSummary(smallest=1.0, low=1.0, mean=1.0, smallest_raw=4.0)
    """
    raw = pair_margins(features, vectors, labels, normalize=False)
    scaled = pair_margins(features, vectors, labels)
    _check_any("margin_summary", "features", raw)
    return MarginSummary(
        float(scaled.min()),
        float(np.quantile(scaled, 0.05)),
        float(scaled.mean()),
        float(raw.min()),
    )


def margin_loss_bounds(
    logits: ArrayLike, labels: ArrayLike
) -> tuple[float, float, float]:
    r"""Cross-entropy as a hard-margin machine, from both sides.

    .. math:: q_{\min} - \log\big( N (K - 1) \big) \;\le\; -\log \sum_i \mathrm{CE}_i
              \;\le\; -\log \log \big( 1 + e^{-q_{\min}} \big)

    Args:
        logits: [N, K] float.
        labels: [N] int.

    Returns:
        (lower bound, value, upper bound). The upper bound tends to :math:`q_{\min}`.

    Raises:
        ValueError: if shapes disagree, a label is no class, or there is no example or
            only one class.

    Example:
        >>> print([round(x, 4) for x in margin_loss_bounds([[0.0, 0.0]], [0])])
        [0.0, 0.3665, 0.3665]
    """
    name = "margin_loss_bounds"
    check_logits_labels(name, logits, labels)
    check_rank(name, "logits", logits, 2, "[N, K]")
    margins = _margins(name, np.asarray(logits, np.float64), labels)
    _check_any(name, "logits", margins)
    smallest, size = margins.min(), margins.size
    # log of CE_i = log(1 + sum_c exp(-q_c)), summed over the examples.
    inner = np.logaddexp.reduce(-margins, axis=1)
    total = np.logaddexp.reduce(_log_log1pexp(inner))
    return (
        float(smallest - np.log(size)),
        float(-total),
        float(-_log_log1pexp(-smallest)),
    )


def margin_bound(
    margins: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float,
    complexity: ArrayLike,
    confidence: float = 0.95,
) -> float:
    r"""A bound on the error by margins, class by class.

    .. math:: \sum_y p_y \sum_{c \ne y} \Big( \Pr_{i \in y}[ q_{ic} < \gamma ]
              + \frac{2 R_y}{\gamma} + \sqrt{\frac{\log(K / \delta)}{2 n_y}} \Big)

    with p the class frequencies, n the counts and :math:`\delta = 1 -` `confidence`.

    Args:
        margins: [N, K - 1], as of `pair_margins`.
        labels: [N] int in [0, K); every class needs an example.
        gamma: > 0, the margin that is asked for.
        complexity: [K] or a number, R_y >= 0, such as :math:`\max \lVert h \rVert \max
            \lVert w \rVert / \sqrt{n_y}`.
        confidence: with which it holds, below 1.

    Returns:
        The bound, which may exceed 1. Its empirical part alone bounds the training
        error; in the terminal phase that part is 0, and the rest falls as gamma grows.

    Raises:
        ValueError: if shapes disagree, a class is empty or an option is out of range.

    Example:
        >>> value = margin_bound([[0.5], [0.7]], [0, 1], gamma=0.2, complexity=0.0,
        ...                      confidence=0.5)
        >>> print(round(value, 4))
        0.8326

    References:
        The shape of Gao et al., 2023, whose constants are not published; these are the
        constants of the usual Rademacher margin bound. Compare values, do not certify.
    """
    name = "margin_bound"
    check_range(name, "gamma", gamma, low=0, open_low=True)
    check_range(name, "confidence", confidence, low=0, high=1, open_high=True)
    check_integers(name, "labels", labels)
    check_rank(name, "margins", margins, 2, "[N, K - 1]")
    q = np.asarray(margins, np.float64)
    classes = q.shape[1] + 1
    y = _labels(name, labels, len(q), classes)
    counts = np.bincount(y, minlength=classes)
    if not counts.all():
        raise ValueError(
            f"{name}: there are {counts.tolist()} examples of each class, expected one"
            f" or more of {classes}"
        )
    if shape_of(complexity) != ():
        check_class_vector(name, "complexity", complexity, classes)
    dtype_of(name, "complexity", complexity)
    weight = np.broadcast_to(np.asarray(complexity, np.float64), (classes,))
    if not (weight >= 0).all():
        raise ValueError(f"{name}: complexity is {complexity}, expected >= 0")
    short = np.zeros((classes, classes - 1))
    np.add.at(short, y, q < gamma)
    slack = np.sqrt(np.log(classes / (1 - confidence)) / (2 * counts))
    each = short / counts[:, None] + (2 * weight / gamma + slack)[:, None]
    return float(np.sum(counts / counts.sum() * each.sum(axis=1)))


def _margins(caller: str, logits: np.ndarray, labels: ArrayLike) -> np.ndarray:
    """[N, K - 1], the label's logit less each other one."""
    rows, classes = logits.shape
    y = _labels(caller, labels, rows, classes)
    own = np.take_along_axis(logits, y[:, None], axis=1)
    others = np.arange(classes)[None] != y[:, None]
    return (own - logits)[others].reshape(rows, classes - 1)


def _labels(caller: str, labels: ArrayLike, rows: int, classes: int) -> np.ndarray:
    """[N] int64 in [0, K)."""
    if shape_of(labels) != (rows,):
        raise ValueError(
            f"{caller}: labels have shape {shape_of(labels)}, expected ({rows},), one"
            " for each example"
        )
    y = np.asarray(labels)
    wrong = y[(y < 0) | (y >= classes)]
    if wrong.size:
        raise ValueError(f"{caller}: labels reach {wrong[0]}, expected [0, {classes})")
    return y.astype(np.int64)


def _check_any(caller: str, name: str, margins: np.ndarray) -> None:
    if not margins.size:
        raise ValueError(
            f"{caller}: {name} have margins of shape {margins.shape}, expected an"
            " example and two classes at least"
        )


def _log_log1pexp(x: np.ndarray) -> np.ndarray:
    """log(log(1 + e^x)) without loss where e^x is small."""
    softplus = np.logaddexp(0, x)
    # log(1 + t) = t (1 - t / 2 + ...), so that its logarithm is x from there on.
    small = np.exp(np.minimum(x, -30.0))
    return np.where(x < -30, x - small / 2, np.log(np.maximum(softplus, 1e-300)))
