r"""Which pseudo-labels to use: a confidence threshold, or the best of every class."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_classes_last,
    check_counts,
    check_integers,
    check_range,
    check_rank,
    check_where,
    dtype_of,
    shape_of,
)
from ltjax._numerics import at_least_float32, class_indices, class_lookup, host


def keep_confident(
    probabilities: ArrayLike,
    *,
    threshold: float | ArrayLike = 0.95,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""Predicted classes, and whether their probability reaches a threshold.

    Args:
        probabilities: [..., K] float, of the weak view, aligned or refined or not.
        threshold: tau, the comparison is >=; a scalar, or [K] for one per predicted
            class. 0 keeps all, more than 1 nothing.
        where: optional [...] bool; False is never kept.

    Returns:
        Predicted classes [...] int32 (ties: the lowest index) and [...] bool.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if probabilities are not floats.

    Example:
        >>> classes, kept = keep_confident(jnp.array([[0.03, 0.97], [0.6, 0.4]]))
        >>> print(classes, kept)
        [1 0] [ True False]

    References:
        Sohn et al., "FixMatch", NeurIPS 2020, eq. 4 (0.95); SimPro, ICML 2024, uses 0.2
        for 100 classes and more.
    """
    caller = "keep_confident"
    check_classes_last(caller, "probabilities", probabilities)
    rows = at_least_float32(jax.lax.stop_gradient(jnp.asarray(probabilities)))
    check_where(caller, where, rows.shape[:-1])
    best = jnp.argmax(rows, axis=-1).astype(jnp.int32)
    if shape_of(threshold) not in ((), rows.shape[-1:]):
        raise ValueError(
            f"{caller}: threshold has shape {shape_of(threshold)}, expected a scalar or"
            f" ({rows.shape[-1]},), one per class"
        )
    limit = jnp.asarray(threshold).astype(rows.dtype)
    limit = class_lookup(limit, best) if limit.ndim else limit
    kept = jnp.max(rows, axis=-1) >= limit
    return best, kept if where is None else kept & jnp.asarray(where)


def keep_best_of_class(
    scores: ArrayLike,
    classes: ArrayLike,
    sizes: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Keeps the examples with the largest scores of every class.

    The selection of CReST (confidences, sizes from `crest_sizes`) and of SoLar (minus
    the losses, sizes from `solar_sizes`). Equal scores are ranked by index.

    Args:
        scores: [B] float, larger is better; NaN is worst.
        classes: [B] int, the class of each example.
        sizes: [K] int >= 0, how many of each class; more than there are keeps all.
        where: optional [B] bool; False is never kept and takes no place.

    Returns:
        [B] bool.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if classes are not integers.

    Example:
        >>> scores, classes = jnp.array([0.5, 0.9, 0.7, 0.2]), jnp.array([0, 0, 0, 1])
        >>> print(keep_best_of_class(scores, classes, jnp.array([2, 0])))
        [False  True  True False]
    """
    caller = "keep_best_of_class"
    check_rank(caller, "scores", scores, 1, "[B]")
    check_rank(caller, "sizes", sizes, 1, "[K]")
    check_integers(caller, "classes", classes)
    if shape_of(classes) != shape_of(scores):
        raise ValueError(
            f"{caller}: classes has shape {shape_of(classes)}, expected"
            f" {shape_of(scores)} as scores"
        )
    check_where(caller, where, shape_of(scores))
    values = at_least_float32(jax.lax.stop_gradient(jnp.asarray(scores)))
    group, num_classes = class_indices(classes), shape_of(sizes)[0]
    kept = (group >= 0) & (group < num_classes)
    if where is not None:
        kept = kept & jnp.asarray(where)
    group = jnp.where(kept, group, num_classes)
    order = jnp.lexsort((-values, group))
    ranked = group[order]
    place = jnp.arange(ranked.size)
    first = jnp.searchsorted(ranked, ranked, side="left")
    # One more group, of those that are never kept.
    room = jnp.append(jnp.asarray(sizes).astype(first.dtype), 0)[ranked]
    chosen = place - first < room
    return jnp.zeros(ranked.size, bool).at[order].set(chosen)


def crest_rates(class_counts: ArrayLike, *, power: float = 1 / 3) -> np.ndarray:
    r"""CReST's sampling rates: the rarer the class, the more of its predictions stay.

    .. math:: \mu_l = \Big(\frac{n_{(K+1-l)}}{n_{(1)}}\Big)^{a}

    for the class of rank l by size, so that the smallest keeps all and the largest the
    share :math:`\gamma^{-a}`.

    Args:
        class_counts: [K] > 0, labelled examples per class, in any order.
        power: a >= 0; 0 keeps everything.

    Returns:
        [K] float64 in (0, 1].

    Raises:
        ValueError: if a count is not positive or the power is negative.

    Example:
        >>> crest_rates([100, 46, 21, 10]).round(3).tolist()
        [0.464, 0.594, 0.772, 1.0]

    References:
        Wei et al., "CReST: A Class-Rebalancing Self-Training Framework for Imbalanced
        Semi-Supervised Learning", CVPR 2021, eq. 1 and the released code, whose flag 3
        is the exponent 1/3. The code takes the counts from the profile, we from the
        data.
    """
    caller = "crest_rates"
    check_counts(caller, class_counts)
    if not shape_of(class_counts)[0]:
        raise ValueError(f"{caller}: class_counts are empty, expected [K]")
    check_range(caller, "power", power, low=0)
    counts = np.asarray(host(class_counts), np.float64)
    if not np.all(counts > 0):
        empty = int(np.argmin(counts))
        raise ValueError(f"{caller}: class {empty} has count 0, expected > 0")
    order = np.argsort(-counts, kind="stable")
    rates = np.empty_like(counts)
    rates[order] = (counts[order[::-1]] / counts.max()) ** power
    return rates


def crest_sizes(predicted_counts: ArrayLike, rates: ArrayLike) -> np.ndarray:
    r"""How many predictions of every class CReST adds.

    .. math:: \lfloor |U_k|\, \mu_k \rfloor

    Args:
        predicted_counts: [K] int >= 0, unlabelled examples predicted as each class.
        rates: [K] in [0, 1], from `crest_rates`.

    Returns:
        [K] int64, for `keep_best_of_class`.

    Raises:
        ValueError: if shapes disagree or a count is negative.

    Example:
        >>> crest_sizes([50, 30, 20, 8], crest_rates([100, 46, 21, 10])).tolist()
        [23, 17, 15, 8]
    """
    check_counts("crest_sizes", predicted_counts, name="predicted_counts")
    dtype_of("crest_sizes", "rates", rates)
    counts = np.asarray(host(predicted_counts), np.float64)
    if shape_of(rates) != counts.shape:
        raise ValueError(
            f"crest_sizes: rates has shape {shape_of(rates)}, expected {counts.shape}"
        )
    return np.floor(counts * np.asarray(rates) + 1e-9).astype(np.int64)


def solar_sizes(
    predicted_counts: ArrayLike, prior: ArrayLike, *, rate: float | ArrayLike
) -> jax.Array:
    r"""How many examples of every class SoLar selects from a batch.

    .. math:: \max\big(1, \min(\lceil B\, r_k\, \rho \rceil, n_k)\big)
              \text{ if } n_k > 0, \text{ else } 0

    with B the sum of the counts.

    Args:
        predicted_counts: [K] >= 0, n, examples of the batch assigned to each class.
        prior: [K] >= 0, r, sums to 1.
        rate: rho, from 0.2 to 0.6 (CIFAR-10) or 0.5 (CIFAR-100) over 50 epochs.

    Returns:
        [K] int32, for `keep_best_of_class` with minus the losses as scores.

    Raises:
        ValueError: if shapes disagree or a readable rate is negative.

    Example:
        >>> counts, prior = jnp.array([5, 3, 0]), jnp.array([0.7, 0.1, 0.2])
        >>> print(solar_sizes(counts, prior, rate=0.5))
        [3 1 0]

    References:
        Wang et al., "SoLar", NeurIPS 2022. 1e-6 is taken off before rounding up, so
        that float32 does not select one example too many.
    """
    caller = "solar_sizes"
    check_counts(caller, predicted_counts, name="predicted_counts")
    check_range(caller, "rate", rate, low=0)
    dtype_of(caller, "prior", prior)
    if shape_of(prior) != shape_of(predicted_counts):
        raise ValueError(
            f"{caller}: prior has shape {shape_of(prior)}, expected"
            f" {shape_of(predicted_counts)}"
        )
    counts = jnp.asarray(predicted_counts)
    shares = at_least_float32(prior)
    rate = jnp.asarray(rate).astype(shares.dtype)
    wanted = jnp.ceil(jnp.sum(counts) * shares * rate - 1e-6).astype(jnp.int32)
    counts = counts.astype(jnp.int32)
    return jnp.where(counts > 0, jnp.maximum(1, jnp.minimum(wanted, counts)), 0)
