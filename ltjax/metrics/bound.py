r"""The data-dependent bound of re-weighting and logit adjustment, summand by summand.

For a loss :math:`\alpha_y\,\mathrm{CE}(\beta \odot z + \Delta,\, y)` the balanced risk
is bounded, up to constants and an empirical term, by

.. math:: \frac{\hat C_S(F)}{K\,\pi_{\min}} \sum_y \alpha_y\, \tilde\beta_y
          \sqrt{\pi_y}\; \bigl[1 - \mathrm{softmax}(\beta \odot B + \Delta)_y\bigr],
          \qquad
          \tilde\beta_y = \sqrt{\beta_y^2 + \bigl(\textstyle\sum_{k \ne y}
          \beta_k\bigr)^2},

where :math:`B_y` is the smallest own-class logit of the training examples of class y.
Watching the summands over training tells which class the bound is spent on, when the
first phase has done its work (`choose_switch_epoch`) and how strong the weights of the
second should be (`choose_weight_power`).

References:
    Wang et al., "A Unified Generalization Analysis of Re-Weighting and Logit-Adjustment
    for Imbalanced Learning", NeurIPS 2023, Propositions 2-3 and Algorithm 1. The two
    choices are ours: the paper tunes its switch epoch and power by hand.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_vector,
    check_logits_labels,
    check_range,
    check_rank,
    check_where,
    check_whole,
    shape_of,
)
from ltjax._numerics import (
    at_least_float32,
    class_indices,
    class_lookup,
    mask_rows,
)
from ltjax.class_stats import prior


class BoundTerms(NamedTuple):
    """The bound's quantities, per class.

    Attributes:
        contraction: [K] beta-tilde.
        gap: [K] 1 - softmax(beta B + Delta)_y, how far class y is from certain.
        lipschitz: [K] mu_y = alpha_y beta-tilde_y gap_y, the local Lipschitz constant.
        summand: [K] mu_y sqrt(pi_y).
        total: scalar, sum of the summands / (K pi_min); the bound's complexity factor.
    """

    contraction: jax.Array
    gap: jax.Array
    lipschitz: jax.Array
    summand: jax.Array
    total: jax.Array


def init_min_scores(num_classes: int) -> jax.Array:
    """No example seen yet: +inf for every class.

    Args:
        num_classes: K.

    Returns:
        [K] float32, all inf.

    Example:
        >>> init_min_scores(2).tolist()
        [inf, inf]
    """
    check_whole("init_min_scores", "num_classes", num_classes)
    return jnp.full(num_classes, jnp.inf, jnp.float32)


def update_min_scores(
    min_scores: ArrayLike,
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Smallest own-class logit so far, :math:`B_y = \min_{i: y_i = y} f(x_i)_y`.

    Args:
        min_scores: [K], from `init_min_scores` or the previous batch.
        logits: [B, K] float, evaluation-mode logits of training examples.
        labels: [B] int class indices. One outside [0, K) turns everything into NaN.
        where: optional [B] bool; False rows do not count.

    Returns:
        [K]. The minimum of several shards is their elementwise minimum.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if dtypes are wrong.

    Example:
        >>> logits = jnp.array([[3.0, 0.0], [1.0, 0.0], [0.0, 0.5]])
        >>> update_min_scores(init_min_scores(2), logits, jnp.array([0, 0, 1])).tolist()
        [1.0, 0.5]
    """
    name = "update_min_scores"
    check_logits_labels(name, logits, labels)
    num_classes = shape_of(logits)[-1]
    check_class_vector(name, "min_scores", min_scores, num_classes)
    check_where(name, where, shape_of(labels))
    logits, labels = at_least_float32(logits), class_indices(labels)
    logits, labels = mask_rows(where, logits, labels)
    own = class_lookup(logits, labels)
    if where is not None:
        own = jnp.where(where, own, jnp.inf)
    # NaN marks a label out of range; a minimum by segments would drop its row.
    poison = jnp.where(jnp.any(jnp.isnan(own)), jnp.nan, 0.0).astype(own.dtype)
    batch = jax.ops.segment_min(own, jnp.maximum(labels, 0), num_classes)
    return jnp.minimum(jnp.asarray(min_scores), batch + poison)


def contraction_factor(scale: ArrayLike) -> jax.Array:
    r"""How a loss with logit scales beta contracts, :math:`\tilde\beta` [K].

    .. math:: \tilde\beta_y = \sqrt{\beta_y^2 + (\sum_{k \ne y} \beta_k)^2}

    Args:
        scale: [K] positive, multiplicative logit adjustment beta.

    Returns:
        [K].

    Raises:
        ValueError: if scale is not a vector.

    Example:
        >>> contraction_factor(jnp.array([4.0, 1.0, 2.0])).round(4).tolist()
        [5.0, 6.082799911499023, 5.385200023651123]
    """
    check_rank("contraction_factor", "scale", scale, 1, "[K]")
    scale = at_least_float32(scale)
    return jnp.sqrt(jnp.square(scale) + jnp.square(jnp.sum(scale) - scale))


def bound_terms(
    min_scores: ArrayLike,
    class_counts: ArrayLike,
    *,
    weight: ArrayLike = 1.0,
    scale: ArrayLike = 1.0,
    shift: ArrayLike = 0.0,
) -> BoundTerms:
    r"""Every quantity of the bound for one loss at one point of training.

    Args:
        min_scores: [K] B_y in logit units. A class still at +inf (no example seen)
            makes the result NaN: finish the pass over the training set first.
        class_counts: [K] positive, number of training examples per class.
        weight: scalar or [K], class weights alpha.
        scale: scalar or [K], multiplicative logit adjustment beta.
        shift: scalar or [K], additive logit adjustment Delta, such as tau log pi.

    Returns:
        `BoundTerms`.

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> terms = bound_terms(jnp.array([2.0, 1.0, 0.2]), [100, 20, 5])
        >>> [round(v, 4) for v in terms.gap.tolist()]
        [0.3478, 0.7601, 0.8922]
    """
    name = "bound_terms"
    check_rank(name, "min_scores", min_scores, 1, "[K]")
    num_classes = shape_of(min_scores)[0]
    check_class_vector(name, "class_counts", class_counts, num_classes)
    lowest = at_least_float32(min_scores)
    vectors = []
    for label, value in (("weight", weight), ("scale", scale), ("shift", shift)):
        if shape_of(value) != ():
            check_class_vector(name, label, value, num_classes)
        value = jnp.asarray(value, lowest.dtype)
        vectors.append(jnp.broadcast_to(value, (num_classes,)))
    alpha, beta, delta = vectors
    priors = jnp.asarray(prior(class_counts), lowest.dtype)
    gap = _complement_of_softmax(beta * lowest + delta)
    contraction = contraction_factor(beta)
    lipschitz = alpha * contraction * gap
    summand = lipschitz * jnp.sqrt(priors)
    total = jnp.sum(summand) / (num_classes * jnp.min(priors))
    return BoundTerms(contraction, gap, lipschitz, summand, total)


def _complement_of_softmax(logits: jax.Array) -> jax.Array:
    """1 - softmax [K]; only the largest entry can cancel, so its rivals are summed."""
    probabilities = jax.nn.softmax(logits)
    is_top = jnp.arange(logits.shape[0]) == jnp.argmax(logits)
    rivals = jnp.sum(jnp.where(is_top, 0.0, probabilities))
    return jnp.where(is_top, rivals, 1 - probabilities)


def choose_weight_power(
    summand: ArrayLike, class_counts: ArrayLike, *, low: float = 0.0, high: float = 1.0
) -> float:
    r"""Weight power nu that makes the bound's summands as equal as they can be.

    With :math:`\alpha_y \propto \pi_y^{-\nu}` the summand of class y becomes
    :math:`\pi_y^{-\nu} s_y`; the least-squares fit of :math:`\log s_y` on
    :math:`\log \pi_y` is the nu that minimizes the variance of its logarithm:

    .. math:: \nu = \frac{\mathrm{cov}(\log s, \log \pi)}{\mathrm{var}(\log \pi)}.

    Args:
        summand: [K] of the *unweighted* loss of the second phase (`bound_terms` with
            weight 1 and that phase's scale and shift).
        class_counts: [K] positive.
        low: smallest result.
        high: largest result.

    Returns:
        nu; `low` if all classes have the same count, as nu then changes nothing. A
        class whose summand is 0 is left out, there being nothing to equalize.

    Raises:
        ValueError: if shapes disagree or low > high.

    Example:
        >>> counts = np.array([100, 10, 1])
        >>> round(choose_weight_power(counts**0.25, counts), 6)
        0.25

    References:
        Ours, motivated by Wang et al., NeurIPS 2023, Proposition 3.
    """
    name = "choose_weight_power"
    check_rank(name, "summand", summand, 1, "[K]")
    check_class_vector(name, "class_counts", class_counts, shape_of(summand)[0])
    if low > high:
        raise ValueError(f"{name}: low is {low} and high {high}, expected low <= high")
    summand = np.asarray(jax.device_get(summand), np.float64)
    log_prior = np.log(np.asarray(prior(class_counts)))
    used = summand > 0
    centered = log_prior[used] - log_prior[used].mean() if used.any() else np.zeros(1)
    spread = np.sum(centered**2)
    if spread < 1e-20:
        return float(low)
    slope = np.sum(centered * np.log(summand[used])) / spread
    return float(np.clip(slope, low, high))


def choose_switch_epoch(
    summands: ArrayLike,
    class_counts: ArrayLike,
    *,
    window: int = 5,
    tolerance: float = 0.01,
) -> int | None:
    r"""First epoch at which the head classes' part of the bound has stopped shrinking.

    With h_t the sum of the summands of the head classes (those with at least the mean
    count) and :math:`m_t = \min_{s \le t} h_s`,

    .. math:: T_0 = \min\{t \ge \text{window}:\;
              m_t > (1 - \text{tolerance})\, m_{t - \text{window}}\}.

    The condition looks back only, so it may be asked after every epoch.

    Args:
        summands: [T, K], the summands of epochs 0..T-1.
        class_counts: [K] positive.
        window: epochs without progress that count as a stop.
        tolerance: smallest relative progress over a window, in [0, 1).

    Returns:
        The 0-based epoch, or None if the head part is still shrinking.

    Raises:
        ValueError: if shapes disagree or a parameter is out of range.

    Example:
        >>> head = np.array([8.0, 4.0, 2.0, 2.0, 2.0])
        >>> choose_switch_epoch(np.stack([head, head], axis=1), [9, 1], window=2)
        4

    References:
        Ours, motivated by Wang et al., NeurIPS 2023, Propositions 2-3.
    """
    name = "choose_switch_epoch"
    check_rank(name, "summands", summands, 2, "[T, K]")
    check_class_vector(name, "class_counts", class_counts, shape_of(summands)[1])
    check_range(name, "tolerance", tolerance, low=0.0, high=1.0, open_high=True)
    if window < 1:
        raise ValueError(f"{name}: window is {window}, expected at least 1")
    counts = np.asarray(jax.device_get(class_counts), np.float64)
    head = counts >= counts.mean()
    history = np.asarray(jax.device_get(summands), np.float64)
    best = np.minimum.accumulate(history[:, head].sum(axis=1))
    stopped = best[window:] > (1 - tolerance) * best[:-window]
    return int(np.argmax(stopped)) + window if stopped.any() else None
