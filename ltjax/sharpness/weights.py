"""Example weights and class constants from which terms are built."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_counts, check_range, check_where, shape_of
from ltjax._numerics import mask_values
from ltjax.class_stats import prior

# One vector [B], or one per named part of the loss.
Weights = jax.Array | Mapping[str, jax.Array]


def reduction_weights(
    batch_size: int,
    weights: ArrayLike | None = None,
    *,
    where: ArrayLike | None = None,
    normalize: str = "examples",
) -> jax.Array:
    r"""Per-example weights b of a mean: sum_i b_i v_i = weighted_mean(v, ...).

    .. math:: \text{examples: } b_i = w_i / B \qquad
              \text{weights: } b_i = w_i / \textstyle\sum_j w_j

    Args:
        batch_size: B.
        weights: optional [B] float, one per example (class weights looked up by label).
        where: optional [B] bool; False rows get 0 and are not counted in B.
        normalize: "examples" or "weights", as in `ltjax.reduce.weighted_mean`.

    Returns:
        [B] float32 (float64 under x64); all zero if nothing is left to average.

    Raises:
        ValueError: if shapes disagree or `normalize` is unknown.

    Example:
        >>> print(reduction_weights(4, jnp.array([3.0, 1, 2, 2]), normalize="weights"))
        [0.375 0.125 0.25  0.25 ]

    References:
        Cui et al., CVPR 2019 (examples); Cao et al., NeurIPS 2019, released code
        (weights).
    """
    caller = "reduction_weights"
    check_choice(caller, "normalize", normalize, ("examples", "weights"))
    check_where(caller, where, (batch_size,))
    ones = mask_values(jnp.ones((batch_size,), jnp.result_type(float)), where)
    if weights is None:
        weights = ones
    elif shape_of(weights) != (batch_size,):
        raise ValueError(
            f"{caller}: weights have shape {shape_of(weights)}, expected"
            f" ({batch_size},), one per example"
        )
    else:
        weights = mask_values(jnp.asarray(weights, ones.dtype), where)
    total = jnp.sum(weights if normalize == "weights" else ones)
    return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1), 0)


def tail_classes(class_counts: ArrayLike, *, eta: float) -> np.ndarray:
    """Which classes are tail: those with strictly fewer than `eta` examples.

    Args:
        class_counts: [K] concrete, number of training examples per class.
        eta: threshold (units: examples).

    Returns:
        [K] bool.

    Example:
        >>> tail_classes([500, 20, 19], eta=20)
        array([False, False,  True])

    References:
        Zhou et al., ICCV 2023, released code.
    """
    check_counts("tail_classes", class_counts)
    return np.asarray(jax.device_get(class_counts)) < eta


def focal_coefficients(
    class_counts: ArrayLike, *, gamma: ArrayLike, lam: ArrayLike
) -> jax.Array:
    r"""Focal-SAM's class coefficients :math:`c_y = \lambda (1 - \pi_y)^\gamma`.

    They may exceed 1 (lambda > 1), where the unperturbed term has negative weights.

    Args:
        class_counts: [K], number of training examples per class.
        gamma: >= 0, may be traced; 0 gives every class the coefficient lambda.
        lam: lambda >= 0, may be traced.

    Returns:
        [K] float.

    Example:
        >>> print(focal_coefficients([90, 10], gamma=2.0, lam=0.8).round(4))
        [0.008 0.648]

    References:
        Li et al., "Focal-SAM", ICML 2025.
    """
    check_range("focal_coefficients", "gamma", gamma, low=0.0)
    check_range("focal_coefficients", "lam", lam, low=0.0)
    rest = jnp.asarray(1 - prior(class_counts), jnp.result_type(float))
    safe = jnp.where(rest > 0, rest, 1)
    powered = jnp.exp(gamma * jnp.log(safe))
    # A single class owns everything: 0^gamma, which is 1 for gamma = 0.
    return lam * jnp.where(rest > 0, powered, jnp.where(jnp.equal(gamma, 0), 1, 0))


def sse_switch_epoch(total_epochs: int, *, gamma: float | None) -> int:
    """First epoch (0-based) of SSE-SAM's second stage.

    Args:
        total_epochs: E.
        gamma: fraction of the training spent in stage 1. 0 starts in stage 2; None or
            >= 1 never leaves stage 1.

    Returns:
        ceil(gamma E), in [0, total_epochs]; total_epochs means "never".

    Example:
        >>> sse_switch_epoch(200, gamma=0.7), sse_switch_epoch(200, gamma=0.55)
        (140, 110)

    References:
        Lyu et al., "SSE-SAM", AAAI 2025. The released code crashes for gamma = 0.
    """
    if gamma is None:
        return total_epochs
    check_range("sse_switch_epoch", "gamma", gamma, low=0.0)
    # 0.55 * 200 is 110.00000000000001 in binary.
    return min(total_epochs, math.ceil(gamma * total_epochs - 1e-9))


def leading_rows(x: jax.Array, rows: int, blocks: int = 1) -> jax.Array:
    """The first `rows` / `blocks` rows of each of `blocks` equal blocks of rows.

    One block per device keeps the rows where they are when the batch is sharded.
    """
    if blocks == 1:
        return x[:rows]
    block = x.reshape(blocks, x.shape[0] // blocks, *x.shape[1:])
    return block[:, : rows // blocks].reshape(rows, *x.shape[1:])
