r"""Surrogates of partial areas under the ROC curve, binary, one value per positive.

Only the hardest negatives matter at a low false positive rate, and only the hardest
positives at a high true positive rate. Three ways to say so:

- `partial_auc` weighs every example by how hard it is (no selection);
- `partial_auc_cvar` averages over the hardest shares, exactly or with thresholds kept
  from step to step;
- `partial_auc_kl` weighs pairs by the exponential of their loss.

The pairwise loss of the last two is the hinge or its square,
:math:`\phi(t) = (m - t)_+^{\,\mathrm{power}}`. It falls with t, so the hardest
negatives are the same for all positives: those with the highest scores.

All values couple the batch: the positives are the anchors, the values of negatives are
0, and the mean over the examples (`weighted_mean(values, where=where)`) is the loss.
Without a positive or without a negative it is exactly 0. For K classes map over the
columns: `jax.vmap(lambda s, k: partial_auc(s, labels == k), (1, 0))`.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_floating, check_range, shape_of
from ltjax.losses._pairs import (
    Pairs,
    binary_pairs,
    first_above,
    hinge_sums,
    suffixes,
    sum_over_pairs,
)


def partial_auc(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float | ArrayLike = 1.0,
    gamma: float | ArrayLike = 1.0,
    weighting: str = "poly",
    kind: str = "two_way",
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Relaxed partial AUC: harder examples weigh more, in closed form.

    .. math:: L = \frac{1}{N_+ N_-} \sum_p \sum_q
              \psi(1 - s_p)\, \psi(s_q)\, (m - s_p + s_q)^2

    with :math:`\psi(t) = (t + 10^{-6})^\gamma` (poly) or :math:`1 - e^{-\gamma t}`
    (exp). One-way drops the weight of the positives. The weights factorize, so the sum
    needs three weighted moments, O(B). Gradient flows through the weights.

    Args:
        scores: [B] float in [0, 1]; outside, the weight stays that of the nearer end.
        labels: [B] bool or 0/1.
        margin: m.
        gamma: how fast the weight grows; 0.01 to 1 for poly, above 1 for exp.
        weighting: "poly" or "exp".
        kind: "two_way" (hard positives and hard negatives) or "one_way" (negatives).
        where: optional [B] bool; False rows are neither anchors nor opponents.

    Returns:
        [B] float32, one value per anchor, not reduced; NaN for a label out of range.

    Raises:
        ValueError: if shapes disagree, a readable label is neither 0 nor 1, or an
            option is unknown or out of range.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> values = partial_auc(jnp.array([0.5, 0.5]), jnp.array([1, 0]), gamma=2.0)
        >>> print(f"{values[0]:.4f}, {values[1]:.0f}")
        0.1250, 0

    Limits: gamma = 0 with poly is the plain square loss, twice `auc_square`.

    References:
        Yang et al., "When All We Need is a Piece of the Pie: A Generic Framework for
        Optimizing Two-way Partial AUC", ICML 2021. Margin and gamma are two numbers, as
        in that paper's code; a later library uses one for both.
    """
    check_choice("partial_auc", "weighting", weighting, ("poly", "exp"))
    check_choice("partial_auc", "kind", kind, ("two_way", "one_way"))
    check_range("partial_auc", "gamma", gamma, low=0.0)
    p = binary_pairs("partial_auc", scores, labels, where)
    margin, gamma = (jnp.asarray(x).astype(p.picked.dtype) for x in (margin, gamma))

    def hardness(t):
        t = jnp.maximum(t, 0.0)
        return (t + 1e-6) ** gamma if weighting == "poly" else -jnp.expm1(-gamma * t)

    own = hardness(1 - p.picked) if kind == "two_way" else jnp.ones_like(p.picked)
    weight = p.row * hardness(p.picked)
    total = jnp.sum(weight)
    some = total > 0
    safe = jnp.where(some, total, 1.0)
    mean = jnp.sum(weight * p.picked) / safe
    variance = jnp.sum(weight * jnp.square(p.picked - mean)) / safe
    gap = margin - p.picked + mean
    return p.value(own * total * (jnp.square(gap) + variance))


def partial_auc_cvar(
    scores: ArrayLike,
    labels: ArrayLike,
    thresholds: ArrayLike | None = None,
    *,
    beta: float | ArrayLike,
    alpha: float | ArrayLike = 1.0,
    level: float | ArrayLike | None = None,
    margin: float | ArrayLike = 1.0,
    power: int = 2,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Partial AUC as a conditional value at risk: the mean over the hardest pairs.

    With thresholds u (one per positive) and the level s' over the positives,

    .. math:: g_p = u_p + \frac{1}{\beta N_-} \sum_q (\phi_{pq} - u_p)_+, \qquad
              L = s' + \frac{1}{\alpha N_+} \sum_p (g_p - s')_+

    and L is the mean of g for alpha = 1 (one-way). Without thresholds u and s' are
    optimal for this batch: g is then the mean over the
    :math:`\lfloor \beta N_- \rfloor` highest negatives, L that over the
    :math:`\lfloor \alpha N_+ \rfloor` lowest positives, at least one of each, as in
    `ltjax.metrics.two_way_partial_auc`. One sort, O(B log B), either way.

    Args:
        scores: [B] float.
        labels: [B] bool or 0/1.
        thresholds: optional [B], u for the positives (negatives' entries are not
            read), see `update_cvar_thresholds`. Gradient flows into them.
        beta: share of the negatives, in (0, 1].
        alpha: share of the positives, in (0, 1].
        level: s', a scalar; needed with thresholds for alpha < 1 and not used
            otherwise.
        margin: m, in units of the scores.
        power: 1 for the hinge, 2 for its square.
        where: optional [B] bool; False rows are neither anchors nor opponents.

    Returns:
        [B] float32, one value per anchor, not reduced; NaN for a label out of range.

    Raises:
        ValueError: if shapes disagree, a readable label is neither 0 nor 1, an option
            is out of range, or one of thresholds and level is given without the other.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> scores, labels = jnp.array([0.5, 0.5, 0.1, 0.0]), jnp.array([1, 0, 0, 0])
        >>> values = partial_auc_cvar(scores, labels, beta=0.4)
        >>> print(f"{values[0]:.4f}, {values[1]:.0f}")
        4.0000, 0

    Limits: alpha = beta = 1 without thresholds is `auc_hinge` with that power.

    References:
        Zhu et al., "When AUC meets DRO", ICML 2022 (one-way); Zhou et al., "Stochastic
        Primal-Dual Double Block-Coordinate for Two-way Partial AUC Maximization", TMLR
        2025 (two-way).
    """
    caller = "partial_auc_cvar"
    check_choice(caller, "power", power, (1, 2))
    for name, share in (("alpha", alpha), ("beta", beta)):
        check_range(caller, name, share, low=0.0, high=1.0, open_low=True)
    _check_thresholds(caller, thresholds, level, alpha, shape_of(scores))
    p = binary_pairs(caller, scores, labels, where)
    if not p.picked.size:
        return p.picked
    dtype = p.picked.dtype
    margin, alpha, beta = (jnp.asarray(x).astype(dtype) for x in (margin, alpha, beta))
    center = jax.lax.stop_gradient(jnp.sum(p.row * p.picked))
    # Whatever is not a negative is sorted to the front, with weight 0.
    is_down = p.row > 0
    front = jax.lax.stop_gradient(jnp.min(p.picked)) - 1
    ranked = jnp.where(is_down, p.picked, front) - center
    table = suffixes(ranked[:, None], p.row[:, None], power)
    key = p.picked - center - margin
    zero = jnp.zeros(key.shape, jnp.int32)
    if thresholds is None:
        down = jnp.sum(is_down)
        chosen = _share_count(beta, down, dtype)
        first = jnp.maximum(first_above(table.ranked, zero, key), key.shape[0] - chosen)
        hard = hinge_sums(table, first, zero, key, power)
        risk = hard * down.astype(dtype) / jnp.maximum(chosen, 1).astype(dtype)
        return p.value(risk * _hardest_positives(p, alpha))
    u = jnp.where(p.factor == 0, 0, jnp.asarray(thresholds).astype(dtype))
    # phi > u where s_q > s_p - m + u^(1/power); below u = 0 every pair exceeds it.
    lift = jnp.where(u >= 0, u, 0.0)
    reach = lift if power == 1 else jnp.sqrt(jax.lax.stop_gradient(lift))
    first = first_above(table.ranked, zero, key + reach)
    above = table.sums[0][first, 0]
    excess = hinge_sums(table, first, zero, key, power) - lift * above
    excess = jnp.maximum(excess, 0.0) - jnp.where(u < 0, u, 0.0)
    risk = u + excess / beta
    if level is None:
        return p.value(risk)
    level = jnp.asarray(level).astype(dtype)
    return p.value(level + jnp.maximum(risk - level, 0.0) / alpha)


def _check_thresholds(caller, thresholds, level, alpha, shape) -> None:
    if thresholds is not None and shape_of(thresholds) != shape:
        raise ValueError(
            f"{caller}: thresholds have shape {shape_of(thresholds)}, expected {shape}"
        )
    if level is not None and thresholds is None:
        raise ValueError(f"{caller}: level needs thresholds, but they are None")
    one_way = isinstance(alpha, (int, float)) and alpha == 1
    if thresholds is not None and level is None and not one_way:
        raise ValueError(
            f"{caller}: alpha is {alpha}, so thresholds need a level as well"
        )


def _share_count(share, total, dtype):
    """floor(share * total), at least 1; lifted by the rounding of the product."""
    count = jnp.floor(share * total.astype(dtype) * (1 + 1e-6)).astype(jnp.int32)
    return jnp.clip(count, 1, jnp.maximum(total, 1))


def _hardest_positives(p: Pairs, alpha) -> jax.Array:
    """N_+ / count at the lowest positives, 0 elsewhere: the mean is over those."""
    is_up = p.label == 0
    up = jnp.sum(is_up)
    count = _share_count(alpha, up, p.picked.dtype)
    # By rank, not by value, so that ties do not add to the count.
    order = jnp.argsort(jnp.where(is_up, jax.lax.stop_gradient(p.picked), jnp.inf))
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
    scale = up.astype(p.picked.dtype) / count.astype(p.picked.dtype)
    return jnp.where(rank < count, scale, 0.0)


def update_cvar_thresholds(
    thresholds: ArrayLike,
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    beta: float | ArrayLike,
    learning_rate: float | ArrayLike,
    margin: float | ArrayLike = 1.0,
    power: int = 2,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""One descent step of the thresholds of `partial_auc_cvar`.

    .. math:: u_p \leftarrow u_p - \eta \Big( 1 - \frac{1}{\beta N_-}
              \#\{q: \phi_{pq} > u_p\} \Big)

    Args:
        thresholds: [B] u of the rows of this batch.
        scores: [B] float.
        labels: [B] bool or 0/1.
        beta: share of the negatives, in (0, 1].
        learning_rate: eta, in units of the loss.
        margin: m, in units of the scores.
        power: 1 for the hinge, 2 for its square.
        where: optional [B] bool; False rows keep their threshold.

    Returns:
        [B] new thresholds; those of negatives, and all of them in a batch without a
        negative, are unchanged.

    Raises:
        ValueError: if shapes disagree or an option is out of range.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> scores, labels = jnp.array([0.5, 0.5, 0.1, 0.0]), jnp.array([1, 0, 0, 0])
        >>> u = update_cvar_thresholds(jnp.zeros(4), scores, labels, beta=0.5,
        ...                            learning_rate=0.1)
        >>> print(f"{u[0]:.4f}, {u[1]:.4f}")
        0.1000, 0.0000

    References:
        Zhu et al., "When AUC meets DRO", ICML 2022, Algorithm 1 (SOPA).
    """
    check_floating("update_cvar_thresholds", "thresholds", thresholds)
    given = jnp.asarray(thresholds)

    def total(u):
        # The gradient of u_p's own term is that bracket, times the anchor's factor.
        values = partial_auc_cvar(
            scores, labels, u, beta=beta, margin=margin, power=power, where=where
        )
        return jnp.sum(values)

    slope = jax.grad(total)(given)
    p = binary_pairs("update_cvar_thresholds", scores, labels, where)
    anchor = p.factor > 0
    step = learning_rate * slope / jnp.where(anchor, p.factor, 1.0)
    return jnp.where(anchor, given - step, given).astype(given.dtype)


def partial_auc_kl(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: float | ArrayLike,
    positive_temperature: float | ArrayLike | None = None,
    margin: float | ArrayLike = 1.0,
    power: int = 2,
    block: int = 256,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Partial AUC with KL-regularized worst-case weights of the negatives.

    .. math:: x_p = \lambda \log \frac{1}{N_-} \sum_q e^{\phi_{pq} / \lambda}, \qquad
              L = \frac{1}{N_+} \sum_p x_p \quad \text{or} \quad
              L = \lambda' \log \frac{1}{N_+} \sum_p e^{x_p / \lambda'}

    the second (two-way) with a temperature for the positives. Computed within the
    batch, in blocks; `sopa_s` keeps the inner mean from step to step.

    Args:
        scores: [B] float.
        labels: [B] bool or 0/1.
        temperature: lambda > 0, in units of the loss; small means hard negatives only.
        positive_temperature: lambda' > 0, or None for one-way.
        margin: m, in units of the scores.
        power: 1 for the hinge, 2 for its square.
        block: rows of a block of anchors and of opponents; changes cost, not values.
        where: optional [B] bool; False rows are neither anchors nor opponents.

    Returns:
        [B] float32, one value per anchor, not reduced; NaN for a label out of range.
        Two-way, the value of a positive is its share (its worst-case weight) of L.

    Raises:
        ValueError: if shapes disagree, a readable label is neither 0 nor 1, or an
            option is out of range.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> scores, labels = jnp.array([0.5, 0.5, 0.1]), jnp.array([1, 0, 0])
        >>> values = partial_auc_kl(scores, labels, temperature=1e3)
        >>> print(f"{values[0]:.4f}, {values[1]:.0f}")
        2.0402, 0

    Limits: a large temperature gives the mean over pairs (`auc_hinge`), a small one the
    worst negative.

    References:
        Zhu et al., "When AUC meets DRO", ICML 2022.
    """
    caller = "partial_auc_kl"
    check_choice(caller, "power", power, (1, 2))
    check_range(caller, "temperature", temperature, low=0.0, open_low=True)
    if positive_temperature is not None:
        check_range(
            caller, "positive_temperature", positive_temperature, low=0, open_low=True
        )
    check_range(caller, "block", block, low=1)
    p = binary_pairs(caller, scores, labels, where)
    if not p.picked.size:
        return p.picked
    temperature = jnp.asarray(temperature).astype(p.picked.dtype)
    margin = jnp.asarray(margin).astype(p.picked.dtype)
    log_mean = log_mean_exp(p, temperature, margin, power, block)
    risk = temperature * log_mean
    if positive_temperature is None:
        return p.value(risk)
    outer = jnp.asarray(positive_temperature).astype(p.picked.dtype)
    anchor = p.factor != 0
    size = jnp.maximum(jnp.sum(anchor), 1).astype(p.picked.dtype)
    logits = jnp.where(anchor, risk / outer, -jnp.inf)
    # A maximum over an empty set is -inf: then nothing is subtracted.
    top = jax.lax.stop_gradient(jnp.max(logits))
    top = jnp.where(top == -jnp.inf, 0.0, top)
    parts = jnp.exp(jnp.where(anchor, logits, top) - top) * anchor
    total = jnp.sum(parts)
    objective = outer * (top + jnp.log(jnp.where(total > 0, total, 1.0) / size))
    share = jax.lax.stop_gradient(parts / jnp.where(total > 0, total, 1.0))
    return p.value(size * share * objective)


def log_mean_exp(p: Pairs, temperature, margin, power, block):
    """Log of the mean over opponents of exp(phi / temperature), [B]; 0 off anchors."""

    def pair_loss(gap):
        return jnp.maximum(margin - gap, 0.0) ** power

    # The largest term is that of the highest opponent: known before the sum.
    highest = jnp.max(jnp.where(p.row > 0, p.picked, -jnp.inf))
    highest = jnp.where(highest == -jnp.inf, 0.0, highest)
    gap = jnp.where(p.factor == 0, 0.0, p.picked - highest)
    top = jax.lax.stop_gradient(pair_loss(gap) / temperature)
    total = sum_over_pairs(
        p,
        lambda t, shift: jnp.exp(pair_loss(t) / temperature - shift),
        block,
        shift=top,
        idle=margin,
    )
    anchor = p.factor != 0
    return jnp.where(anchor, top + jnp.log(jnp.where(anchor, total, 1.0)), 0.0)
