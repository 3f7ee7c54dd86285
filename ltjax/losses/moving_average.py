r"""Losses of rank measures, whose inner means are kept from step to step.

Average precision, NDCG and the KL form of the partial AUC are functions f of a mean
over examples, one mean per positive. A batch sees a few of those examples, and f of the
mean of a few is biased. So the mean is a moving average u, and the gradient is f'(u)
times that of the batch's mean:

.. math:: u_p \leftarrow (1 - r)\, u_p + r\, g_p, \qquad
          v_p = f'(u_p)\, g_p \quad \text{with } u_p \text{ constant}

The averages are arrays in and arrays out: hand over the rows of this batch, store what
comes back. `rate=0` leaves them as they are, which is how a validation batch is scored.
The values v_p are made for their gradient; their size means little (it is about 0 at
first), and `monitor` holds f(u) instead.

The pairwise loss is the squared hinge, :math:`\phi(t) = (m - t)_+^2`, summed over
opponents by one sort.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_floating,
    check_range,
    check_where,
    dtype_of,
    shape_of,
)
from ltjax._numerics import at_least_float32, mask_rows, mask_values
from ltjax.losses._pairs import (
    binary_pairs,
    hinge_over,
    reciprocal,
    split_binary,
)
from ltjax.losses.partial_auc import log_mean_exp


class AveragePrecisionMeans(NamedTuple):
    """Mean pair losses of each positive, [B]: over all examples, over positives."""

    every: jax.Array
    positive: jax.Array


class MovingAverageLoss(NamedTuple):
    """Values [B], the measure they stand for [B], and the averages to store."""

    values: jax.Array
    monitor: jax.Array
    averages: jax.Array | AveragePrecisionMeans


def soap(
    scores: ArrayLike,
    labels: ArrayLike,
    averages: AveragePrecisionMeans,
    *,
    rate: float | ArrayLike = 0.9,
    margin: float | ArrayLike = 1.0,
    where: ArrayLike | None = None,
) -> MovingAverageLoss:
    r"""Average precision by moving averages.

    With :math:`g_p = \frac1N \sum_q \phi(s_p - s_q)` over all q, and
    :math:`g^+_p` the part of that sum over the positives (over N as well),

    .. math:: v_p = \frac{N}{N_+} \cdot
              \frac{u^+_p\, g_p - u_p\, g^+_p}{u_p^2}, \qquad
              \mathrm{monitor}_p = \frac{N}{N_+} (1 - u^+_p / u_p)

    for positives, 0 for negatives; O(B log B).

    Args:
        scores: [B] float.
        labels: [B] bool or 0/1.
        averages: u and u^+ of the rows of this batch; zeros at first.
        rate: r, weight of the new mean.
        margin: m > 0, in units of the scores.
        where: optional [B] bool; False rows do not count and keep their averages.

    Returns:
        MovingAverageLoss of [B] float32, not reduced; the mean of the monitor is
        1 minus a surrogate of average precision, in [0, 1]. NaN values for a label out
        of range; zeros without a positive.

    Raises:
        ValueError: if shapes disagree, a readable label is neither 0 nor 1, or an
            option is out of range.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> zeros = AveragePrecisionMeans(jnp.zeros(3), jnp.zeros(3))
        >>> scores, labels = jnp.array([0.5, 0.5, 0.0]), jnp.array([1, 0, 0])
        >>> loss = jax.jit(soap)(scores, labels, zeros)
        >>> print(f"{loss.values[0]:.4f} {loss.monitor.mean():.4f}")
        0.0000 0.5556

    References:
        Qi et al., "Stochastic Optimization of Areas Under Precision-Recall Curves with
        Provable Convergence", NeurIPS 2021 (SOAP). The pair of a positive with itself
        counts, as an example counts in its own rank.
    """
    check_range("soap", "rate", rate, low=0.0, high=1.0)
    check_range("soap", "margin", margin, low=0.0, open_low=True)
    s, up, down, bad = split_binary("soap", scores, labels, where)
    for name, mean in averages._asdict().items():
        if shape_of(mean) != s.shape:
            raise ValueError(
                f"soap: averages.{name} has shape {shape_of(mean)}, expected {s.shape}"
            )
    if not s.size:
        return MovingAverageLoss(s, s, averages)
    margin, rate = (jnp.asarray(x).astype(s.dtype) for x in (margin, rate))
    rows = up | down | bad
    total = jnp.maximum(jnp.sum(rows), 1).astype(s.dtype)
    weights = jnp.stack([rows, up], axis=1).astype(s.dtype) / total
    means = [_squared_hinge_mean(s, weights[:, i], margin) for i in range(2)]
    new = [
        jnp.where(up, _moved(jnp.asarray(old).astype(s.dtype), g, rate), old)
        for old, g in zip(averages, means, strict=True)
    ]
    every = jax.lax.stop_gradient(jnp.where(up, jnp.where(new[0] > 0, new[0], 1), 1))
    positive = jax.lax.stop_gradient(jnp.where(up, new[1], 0))
    factor = jnp.where(up, total * reciprocal(jnp.sum(up), s.dtype), 0)
    values = factor * (positive * means[0] - every * means[1]) / every**2
    values = jnp.where(up, values, jnp.where(bad, jnp.nan, 0))
    stored = AveragePrecisionMeans(*(jax.lax.stop_gradient(x) for x in new))
    return MovingAverageLoss(values, factor * (1 - positive / every), stored)


def _squared_hinge_mean(scores, weights, margin):
    """Sum over q of weight_q (m - s_p + s_q)_+^2, [B]."""
    center = jax.lax.stop_gradient(jnp.sum(weights * scores))
    near = scores - center
    column = jnp.zeros(near.shape, jnp.int32)
    return hinge_over(near[:, None], weights[:, None], column, near - margin, 2)


def _moved(old, new, rate):
    return (1 - rate) * old + rate * jax.lax.stop_gradient(new)


def song(
    scores: ArrayLike,
    relevance: ArrayLike,
    averages: ArrayLike,
    *,
    num_items: int | ArrayLike | None = None,
    num_relevant: ArrayLike | None = None,
    ideal_dcg: ArrayLike | None = None,
    thresholds: ArrayLike | None = None,
    sharpness: float | ArrayLike = 2.0,
    rate: float | ArrayLike = 0.9,
    margin: float | ArrayLike = 1.0,
    where: ArrayLike | None = None,
) -> MovingAverageLoss:
    r"""NDCG of ranked lists by moving averages.

    Of query q and item i with relevance :math:`y_i`, the rank is
    :math:`1 + n u_{qi}` up to a constant, where u averages
    :math:`g_{qi} = \mathrm{mean}_j\, \phi(s_i - s_j)` over the sampled items, and

    .. math:: v_q = \frac{N_q}{Z_q} \,\mathrm{mean}_i\,
              \frac{(2^{y_i} - 1)\, n}{\ln 2\, (1 + n u_{qi})
              \log_2^2 (1 + n u_{qi})}\; g_{qi}

    the mean over the sampled relevant items, :math:`N_q` their number in the whole list
    and :math:`Z_q` the DCG of the ideal order. Costs O(L log L) per query.

    Args:
        scores: [B, L] float, one row per query.
        relevance: [B, L] int or float >= 0; 0 is irrelevant.
        averages: [B, L] u of these items; zeros at first.
        num_items: n, length of the whole list; default L.
        num_relevant: optional [B], N_q; default their number in the row.
        ideal_dcg: optional [B] positive, Z_q; default that of the row.
        thresholds: optional [B], the score that the top K of a query reaches, such as
            its (K+1)-th highest: then each item is weighed by
            :math:`\sigma(a (s_i - \lambda_q))`, without gradient (K-SONG).
        sharpness: a, slope of that weight.
        rate: r, weight of the new mean.
        margin: m > 0, in units of the scores.
        where: optional [B] bool; False queries cost 0 and keep their averages.

    Returns:
        MovingAverageLoss: values [B] and monitor [B] (1 minus a surrogate of NDCG),
        float32, not reduced, and averages [B, L]. A query without a relevant item
        costs 0.

    Raises:
        ValueError: if shapes disagree or an option is out of range.
        TypeError: if scores are not floating point.

    Example:
        >>> scores, relevance = jnp.array([[1.0, 0.0]]), jnp.array([[1, 0]])
        >>> loss = jax.jit(song)(scores, relevance, jnp.zeros((1, 2)), rate=1.0)
        >>> print(f"{loss.values[0]:.4f} {loss.monitor[0]:.4f}")
        0.7213 0.0000

    References:
        Qiu et al., "Large-scale Stochastic Optimization of NDCG Surrogates for Deep
        Learning with Provable Convergence", ICML 2022 (SONG, K-SONG).
    """
    caller = "song"
    check_floating(caller, "scores", scores)
    dtype_of(caller, "relevance", relevance)
    dtype_of(caller, "averages", averages)
    shape = shape_of(scores)
    if len(shape) != 2:
        raise ValueError(f"{caller}: scores have shape {shape}, expected [B, L]")
    for name, x, expected in (
        ("relevance", relevance, shape),
        ("averages", averages, shape),
        ("num_relevant", num_relevant, shape[:1]),
        ("ideal_dcg", ideal_dcg, shape[:1]),
        ("thresholds", thresholds, shape[:1]),
    ):
        if x is not None and shape_of(x) != expected:
            raise ValueError(
                f"{caller}: {name} has shape {shape_of(x)}, expected {expected}"
            )
    check_where(caller, where, shape[:1])
    check_range(caller, "rate", rate, low=0.0, high=1.0)
    check_range(caller, "margin", margin, low=0.0, open_low=True)
    old = jnp.asarray(averages)
    s, y = mask_rows(where, at_least_float32(scores), jnp.asarray(relevance))
    if not s.size:
        return MovingAverageLoss(s.sum(1), s.sum(1), old)
    dtype = s.dtype
    margin, rate = (jnp.asarray(x).astype(dtype) for x in (margin, rate))
    slope = jnp.asarray(sharpness).astype(dtype)
    y = y.astype(dtype)
    g = _list_means(s, margin)
    relevant = y > 0
    keep = relevant if where is None else relevant & jnp.asarray(where)[:, None]
    u = jnp.where(keep, _moved(old.astype(dtype), g, rate), old.astype(dtype))
    n = jnp.asarray(shape[1] if num_items is None else num_items).astype(dtype)
    rank = jnp.where(keep & (u > 0), 1 + n * u, 2.0)
    gain = jnp.where(keep, jnp.exp2(y) - 1, 0.0)
    ideal = _ideal_dcg(y) if ideal_dcg is None else jnp.asarray(ideal_dcg).astype(dtype)
    ideal = jnp.where(jnp.any(keep, axis=1), ideal, 1.0)
    weight = gain * n / (jnp.log(2.0) * rank * jnp.log2(rank) ** 2)
    part = gain / jnp.log2(rank)
    if thresholds is not None:
        level = jnp.asarray(thresholds).astype(dtype)[:, None]
        inside = jax.nn.sigmoid(slope * (s - level))
        weight, part = weight * inside, part * inside
    weight, part, u = (jax.lax.stop_gradient(x) for x in (weight, part, u))
    count = jnp.sum(keep, axis=1)
    share = reciprocal(count, dtype)
    number = count if num_relevant is None else jnp.asarray(num_relevant)
    scale = number.astype(dtype) * share / ideal
    values = scale * jnp.sum(weight * g, axis=1)
    monitor = jnp.where(count > 0, 1 - scale * jnp.sum(part, axis=1), 0.0)
    return MovingAverageLoss(mask_values(values, where), mask_values(monitor, where), u)


def _list_means(scores, margin):
    """mean_j (m - s_i + s_j)_+^2 of each entry of each row, [B, L]."""
    rows, size = scores.shape
    center = jax.lax.stop_gradient(jnp.mean(scores, axis=1, keepdims=True))
    columns = (scores - center).T
    weights = jnp.full_like(columns, 1 / size)
    key = (scores - center - margin).reshape(-1)
    column = jnp.repeat(jnp.arange(rows, dtype=jnp.int32), size)
    return hinge_over(columns, weights, column, key, 2).reshape(rows, size)


def _ideal_dcg(relevance):
    best = jnp.sort(relevance, axis=1, descending=True)
    discount = jnp.log2(jnp.arange(best.shape[1], dtype=best.dtype) + 2)
    return jnp.sum((jnp.exp2(best) - 1) / discount[None, :], axis=1)


def sopa_s(
    scores: ArrayLike,
    labels: ArrayLike,
    log_averages: ArrayLike,
    *,
    temperature: float | ArrayLike,
    rate: float | ArrayLike = 0.9,
    margin: float | ArrayLike = 1.0,
    power: int = 2,
    block: int = 256,
    where: ArrayLike | None = None,
) -> MovingAverageLoss:
    r"""One-way partial AUC in KL form by moving averages; see `partial_auc_kl`.

    With :math:`g_p = \mathrm{mean}_q\, e^{\phi_{pq} / \lambda}` over the negatives of
    this batch and its moving average u, the gradient is that of
    :math:`\lambda\, g_p / u_p` for constant u, and the value is the estimate itself:

    .. math:: v_p = \frac{N}{N_+} \lambda \log u_p

    The averages are kept as logarithms, as g overflows for small temperatures.

    Args:
        scores: [B] float.
        labels: [B] bool or 0/1.
        log_averages: [B] log u of the rows of this batch; -inf for one not seen yet,
            which then starts at its first mean.
        temperature: lambda > 0, in units of the loss.
        rate: r, weight of the new mean.
        margin: m, in units of the scores.
        power: 1 for the hinge, 2 for its square.
        block: rows of a block of anchors and of opponents; changes cost, not values.
        where: optional [B] bool; False rows do not count and keep their averages.

    Returns:
        MovingAverageLoss of [B] float32, not reduced; values and monitor are equal.

    Raises:
        ValueError: if shapes disagree, a readable label is neither 0 nor 1, or an
            option is out of range.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> scores, labels = jnp.array([0.5, 0.5, 0.1]), jnp.array([1, 0, 0])
        >>> loss = sopa_s(scores, labels, jnp.full(3, -jnp.inf), temperature=1e3)
        >>> print(f"{loss.values.mean():.4f}")
        0.6801

    Limits: `rate=1` is `partial_auc_kl` without a temperature of the positives.

    References:
        Zhu et al., "When AUC meets DRO", ICML 2022, Algorithm 2.
    """
    caller = "sopa_s"
    check_choice(caller, "power", power, (1, 2))
    check_range(caller, "temperature", temperature, low=0.0, open_low=True)
    check_range(caller, "rate", rate, low=0.0, high=1.0)
    check_range(caller, "block", block, low=1)
    p = binary_pairs(caller, scores, labels, where)
    check_floating(caller, "log_averages", log_averages)
    if shape_of(log_averages) != p.picked.shape:
        raise ValueError(
            f"{caller}: log_averages have shape {shape_of(log_averages)}, expected"
            f" {p.picked.shape}"
        )
    old = jnp.asarray(log_averages)
    if not p.picked.size:
        return MovingAverageLoss(p.picked, p.picked, old)
    dtype = p.picked.dtype
    temperature, margin, rate = (
        jnp.asarray(x).astype(dtype) for x in (temperature, margin, rate)
    )
    log_g = log_mean_exp(p, temperature, margin, power, block)
    log_u, stored = moved_logs(old.astype(dtype), log_g, rate, p.factor != 0)
    values = p.value(temperature * log_u)
    return MovingAverageLoss(values, jax.lax.stop_gradient(values), stored)


def moved_logs(old, log_g, rate, rows):
    """Log u with the gradient of g / u, and log u to store, [B].

    An average of -inf has not been seen and starts at g. Off `rows` log u is 0, and the
    old average is what is stored.
    """
    fixed = jax.lax.stop_gradient(log_g)
    seen = jnp.where(old == -jnp.inf, fixed, old)
    new = jnp.logaddexp(jnp.log1p(-rate) + seen, jnp.log(rate) + fixed)
    new = jnp.where(rows, new, 0.0)
    ratio = jnp.where(rows, jnp.exp(log_g - new), 0.0)
    value = new + ratio - jax.lax.stop_gradient(ratio)
    return value, jnp.where(rows, new, old)
