r"""Consistency with targets that the network guessed from another view."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice, dtype_of, shape_of
from ltjax._numerics import mask_rows, mask_values, nan_outside
from ltjax.losses._affine import (
    affine_cross_entropy,
    is_index,
    is_target,
    prepare,
)


def consistency(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    distance: str = "cross_entropy",
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Distance of a view's prediction from a target that was guessed from another.

    .. math:: \ell(z, q) = m \Big(-\sum_k q_k \log p_k\Big) \quad\text{or}\quad
              \ell(z, q) = \frac{m}{K} \sum_k (p_k - q_k)^2, \qquad
              p = \mathrm{softmax}(z)

    FixMatch: cross-entropy to the class of the weak view's largest probability, with m
    1 where that is at least 0.95 (`ltjax.pseudo_labels.keep_confident`). ReMixMatch,
    DARP and ABC: cross-entropy to a distribution. MixMatch: the squared error, to the
    sharpened mean over views. The mean over a batch is taken over all of its
    rows, not over those with m > 0.

    Args:
        logits: [B, K] float, of the view that learns.
        labels: [B] int guessed classes, or [B, K] distributions q. Constant: no
            gradient.
        distance: "cross_entropy" or "squared_error" (the mean over classes, in
            [0, 2/K]).
        weights: optional [B] bool or float >= 0, m: a confidence mask, ABC's masks, or
            their product. Constant. None for 1.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss, not reduced (nats for the cross-entropy); NaN for a label
        outside [0, K).

    Raises:
        ValueError: if shapes disagree or the distance is unknown.
        TypeError: if labels are neither integers nor floats.

    Example:
        >>> guess, confident = jnp.array([0]), jnp.array([True])
        >>> loss = consistency(jnp.array([[1.0, 1.0, 0.0]]), guess, weights=confident)
        >>> print(f"{loss[0]:.4f}")
        0.8620

    Limits: with the weights 1, cross-entropy; weights 0 cost 0 with zero gradient.

    References:
        Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency
        and Confidence", NeurIPS 2020, eq. 4; Berthelot et al., "MixMatch", NeurIPS
        2019, eq. 4, and "ReMixMatch", ICLR 2020; Lee, Shin and Kim, "ABC: Auxiliary
        Balanced Classifier for Class-imbalanced Semi-supervised Learning", NeurIPS
        2021.
    """
    caller = "consistency"
    check_choice(caller, "distance", distance, ("cross_entropy", "squared_error"))
    z, target = prepare(caller, logits, labels, where, soft=True)
    target = jax.lax.stop_gradient(target)
    if distance == "cross_entropy":
        loss = affine_cross_entropy(z, target)
    else:
        loss = _squared_error(z, target)
    if weights is not None:
        dtype_of(caller, "weights", weights)
        if shape_of(weights) != shape_of(loss):
            raise ValueError(
                f"{caller}: weights have shape {shape_of(weights)}, expected"
                f" {shape_of(loss)} (logits {shape_of(z)} without the class axis)"
            )
        weights = jax.lax.stop_gradient(jnp.asarray(weights)).astype(z.dtype)
        loss = loss * mask_rows(where, weights)
    return mask_values(loss, where)


def _squared_error(logits, labels) -> jax.Array:
    """Mean over classes of (p - q)^2, [B]."""
    soft = not is_index(labels)
    target = labels if soft else is_target(logits, labels).astype(logits.dtype)
    loss = jnp.mean(jnp.square(jax.nn.softmax(logits) - target), axis=-1)
    return loss if soft else nan_outside(loss, labels, logits.shape[-1])
