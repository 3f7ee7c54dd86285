r"""What a model's losses over time say about its examples (boosted memorization).

An example that is learned late keeps a high loss for long; in a long-tailed set these
are mostly tail examples. A moving average over the epochs and its position among all
examples give a score in [0, 1] that drives, for instance, the strength of augmentation.

References:
    Zhou, Yao, Wang, Han, Zhang, "Contrastive Learning with Boosted Memorization", ICML
    2022, eq. 3 and 4, and its code.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_range, check_rank, check_where, shape_of
from ltjax._numerics import at_least_float32, mask_rows


def momentum_loss(
    memory: ArrayLike,
    seen: ArrayLike,
    losses: ArrayLike,
    *,
    beta: float | ArrayLike = 0.97,
) -> jax.Array:
    r"""Moving average of each example's loss, one step per visit.

    .. math:: L^m_{i,1} = L_{i,1}, \qquad
              L^m_{i,t} = \beta L^m_{i,t-1} + (1 - \beta) L_{i,t}

    Args:
        memory: [B] averages so far; not read where not seen.
        seen: [B] bool, whether the example was visited before.
        losses: [B] losses of this visit. No gradient flows through them.
        beta: in [0, 1]; 0 keeps the last loss only.

    Returns:
        [B] float32 new averages.

    Raises:
        ValueError: if shapes disagree or beta is out of range.

    Example:
        >>> old, seen = jnp.array([1.0, jnp.nan]), jnp.array([True, False])
        >>> momentum_loss(old, seen, jnp.array([3.0, 2.0]), beta=0.5).tolist()
        [2.0, 2.0]
    """
    name = "momentum_loss"
    check_rank(name, "losses", losses, 1, "[B]")
    check_where(f"{name} (seen)", seen, shape_of(losses))
    check_range(name, "beta", beta, low=0.0, high=1.0)
    if shape_of(memory) != shape_of(losses):
        raise ValueError(
            f"{name}: memory has shape {shape_of(memory)}, expected {shape_of(losses)}"
        )
    new = jax.lax.stop_gradient(at_least_float32(losses))
    old = mask_rows(seen, jnp.asarray(memory).astype(new.dtype))
    beta = jnp.asarray(beta).astype(new.dtype)
    return jnp.where(jnp.asarray(seen), beta * old + (1 - beta) * new, new)


def memorization_scores(
    memory: ArrayLike, seen: ArrayLike, *, unseen: float | ArrayLike = 0.0
) -> jax.Array:
    r"""Scores in [0, 1] of the momentum losses; high for what is hard to memorize.

    .. math:: M_i = \frac12 \Big( \frac{L^m_i - \bar L^m}{\max_n |L^m_n - \bar L^m|}
              + 1 \Big)

    Mean and maximum are over the examples seen.

    Args:
        memory: [N] momentum losses.
        seen: [N] bool, the examples that have one.
        unseen: score of the others; 0, no extra augmentation, is what all examples have
            in the first epoch.

    Returns:
        [N] float32. At least one score is 0 or 1; they do not change under a positive
        scale and a shift of all losses. All 0.5 if all losses are equal.

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> import numpy as np
        >>> losses = jnp.array([1.0, 2.0, 4.0, 5.5])
        >>> print(np.asarray(memorization_scores(losses, jnp.ones(4, bool))).round(4))
        [0.0526 0.2632 0.6842 1.    ]

    References:
        ICML 2022, eq. 4. The code divides by the standard deviation first, which
        cancels, and gives NaN for equal losses.
    """
    name = "memorization_scores"
    check_rank(name, "memory", memory, 1, "[N]")
    check_where(f"{name} (seen)", seen, shape_of(memory))
    check_range(name, "unseen", unseen, low=0.0, high=1.0)
    values = mask_rows(seen, at_least_float32(memory))
    seen = jnp.asarray(seen)
    count = jnp.maximum(jnp.sum(seen), 1).astype(values.dtype)
    away = jnp.where(seen, values - jnp.sum(values) / count, 0.0)
    most = jnp.max(jnp.abs(away))
    # Deviations of a constant are rounding; as scores they would be noise.
    rounding = 4 * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values))
    scores = 0.5 * jnp.where(most > rounding, away / jnp.maximum(most, 1e-30), 0.0)
    return jnp.where(seen, scores + 0.5, jnp.asarray(unseen).astype(values.dtype))


def standardize_losses(losses: ArrayLike, *, where: ArrayLike | None = None):
    r"""Losses of an epoch, minus their mean and over their standard deviation.

    Needed before `momentum_loss` when the temperature changes from epoch to epoch, as a
    contrastive loss scales with it.

    Args:
        losses: [N] float, of one epoch.
        where: optional [N] bool; False entries do not count and give 0.

    Returns:
        [N] float32; all 0 if they are equal.

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> standardize_losses(jnp.array([1.0, 3.0])).tolist()
        [-1.0, 1.0]
    """
    name = "standardize_losses"
    check_rank(name, "losses", losses, 1, "[N]")
    check_where(name, where, shape_of(losses))
    values = mask_rows(where, at_least_float32(losses))
    keep = jnp.ones(values.shape, bool) if where is None else jnp.asarray(where)
    count = jnp.maximum(jnp.sum(keep), 1).astype(values.dtype)
    away = jnp.where(keep, values - jnp.sum(values) / count, 0.0)
    deviation = jnp.sqrt(jnp.sum(jnp.square(away)) / count)
    return jnp.where(deviation > 0, away / jnp.maximum(deviation, 1e-30), 0.0)
