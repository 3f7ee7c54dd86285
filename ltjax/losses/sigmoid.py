r"""One-vs-rest losses: K independent yes/no questions, summed over the classes.

Start the head's bias at -log(K - 1) (and keep weight decay off it): with every
probability at 1/2 the K - 1 negatives swamp the first epochs.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_range
from ltjax._numerics import mask_values, nan_outside
from ltjax.losses._affine import is_index, is_target, prepare


def sigmoid_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    r"""Binary cross-entropy of every class against the rest, summed over classes.

    .. math:: \ell = \log(1 + e^{-z_y}) + \sum_{k \ne y} \log(1 + e^{z_k})

    Args:
        logits: [B, K] float.
        labels: [B] int class indices, or [B, K] float targets in [0, 1] (multi-label,
            mixup): :math:`\sum_k t_k \log(1+e^{-z_k}) + (1-t_k) \log(1+e^{z_k})`.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree.
        TypeError: if labels are neither integers nor floats.

    Example:
        >>> logits, labels = jnp.array([[1.0, 0.5, -0.2]]), jnp.array([2])
        >>> print(f"{sigmoid_cross_entropy(logits, labels)[0]:.4f}")
        3.0855

    Limits: K log 2 for zero logits.

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR
        2019, sec. 4.
    """
    z, y = prepare("sigmoid_cross_entropy", logits, labels, where, soft=True)
    return mask_values(_one_vs_rest(z, y, jax.nn.softplus), where)


def sigmoid_focal(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float | ArrayLike = 2.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Focal loss, sigmoid form (the original one), summed over classes.

    .. math:: \ell = \sum_k -(1 - p^t_k)^\gamma \log p^t_k, \qquad
              p^t_y = \sigma(z_y), \quad p^t_k = \sigma(-z_k) \; (k \ne y)

    Args:
        logits: [B, K] float.
        labels: [B] int class indices, or [B, K] float targets t in [0, 1]: t times the
            term of a positive plus 1 - t times that of a negative.
        gamma: focusing parameter >= 0.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree or a readable gamma is negative.
        TypeError: if labels are neither integers nor floats.

    Example:
        >>> logits, labels = jnp.array([[1.0, 0.5, -0.2]]), jnp.array([2])
        >>> print(f"{sigmoid_focal(logits, labels)[0]:.4f}")
        1.3206

    Limits: gamma = 0 is `sigmoid_cross_entropy`.

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4; summed
        over classes as in Cui et al., CVPR 2019, sec. 4. The modulator of the released
        TensorFlow code overflows for z < -88; this one does not.
    """
    check_range("sigmoid_focal", "gamma", gamma, low=0.0)
    z, y = prepare("sigmoid_focal", logits, labels, where, soft=True)
    gamma = jnp.asarray(gamma).astype(z.dtype)

    def cost(wrong):
        # -log p^t = softplus(wrong), log(1 - p^t) = wrong - softplus(wrong)
        nats = jax.nn.softplus(wrong)
        return jnp.exp(gamma * (wrong - nats)) * nats

    return mask_values(_one_vs_rest(z, y, cost), where)


def _one_vs_rest(logits, labels, cost):
    """Sum over classes of cost(the logit of the wrong answer), [B]."""
    if not is_index(labels):
        return jnp.sum(labels * cost(-logits) + (1 - labels) * cost(logits), axis=-1)
    target = is_target(logits, labels)
    loss = jnp.sum(cost(jnp.where(target, -logits, logits)), axis=-1)
    return nan_outside(loss, labels, logits.shape[-1])
