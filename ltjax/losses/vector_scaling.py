r"""Losses that multiply each logit by its own factor.

Shrinking the logits of rare classes in training makes the network enlarge them, which
moves the boundary even when every training example is already right (additive shifts do
not). They are not invariant to a constant added to all logits: keep the head's bias.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_range
from ltjax._numerics import mask_values
from ltjax.class_stats import log_prior
from ltjax.losses._affine import affine_cross_entropy, check_positive_counts, prepare


def class_dependent_temperature(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    gamma: float | ArrayLike,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Class-dependent temperatures (CDT).

    .. math:: \ell = \mathrm{CE}(z / a,\, y), \qquad a_k = (n_{\max} / n_k)^\gamma \ge 1

    Predict with the plain argmax of the undivided logits.

    Args:
        logits: [B, K] float.
        labels: [B] int class indices, or [B, K] distributions.
        class_counts: [K] positive, number of training examples per class.
        gamma: exponent >= 0; the paper tunes [0, 0.4] on CIFAR-10, [0, 0.2] on
            CIFAR-100 and [0, 0.1] on iNaturalist.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree, a readable count is not positive or a readable
            gamma is negative.

    Example:
        >>> logits, labels = jnp.array([[1.0, 0.5, -0.2]]), jnp.array([2])
        >>> counts = jnp.array([100, 20, 5])
        >>> loss = class_dependent_temperature(logits, labels, counts, gamma=0.2)
        >>> print(f"{loss[0]:.4f}")
        1.7294

    Limits: gamma = 0 or equal counts is cross-entropy.

    References:
        Ye et al., "Identifying and Compensating for Feature Deviation in Imbalanced
        Deep Learning", 2020.
    """
    caller = "class_dependent_temperature"
    z, y = prepare(caller, logits, labels, where, soft=True)
    scale = _relative_power(caller, class_counts, gamma, z)
    return mask_values(affine_cross_entropy(z, y, scale=scale), where)


def vector_scaling(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    gamma: float | ArrayLike,
    tau: float | ArrayLike,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Vector-scaling loss (VS): factors and shifts together.

    .. math:: \ell = \mathrm{CE}\big((n / n_{\max})^\gamma \odot z + \tau \log \pi,\;
              y\big)

    The shift speeds up the start of training, the factor shapes its end. Predict with
    the plain argmax of the logits.

    Args:
        logits: [B, K] float.
        labels: [B] int class indices, or [B, K] distributions.
        class_counts: [K] positive, number of training examples per class.
        gamma: exponent of the factors, >= 0 (0.05 to 0.3 in published settings).
        tau: strength of the shift (0.5 to 1.25 in published settings).
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree, a readable count is not positive or a readable
            gamma is negative.

    Example:
        >>> logits, labels = jnp.array([[1.0, 0.5, -0.2]]), jnp.array([2])
        >>> counts = jnp.array([100, 20, 5])
        >>> loss = vector_scaling(logits, labels, counts, gamma=0.2, tau=1.2)
        >>> print(f"{loss[0]:.4f}")
        4.7869

    Limits: gamma = 0 is `logit_adjusted`, tau = 0 `class_dependent_temperature`.

    References:
        Kini et al., "Label-Imbalanced and Group-Sensitive Classification under
        Overparameterization", NeurIPS 2021. The paper's Delta is our factor.
    """
    caller = "vector_scaling"
    z, y = prepare(caller, logits, labels, where, soft=True)
    scale = _relative_power(caller, class_counts, gamma, z)
    tau = jnp.asarray(tau).astype(z.dtype)
    shift = tau * jnp.asarray(log_prior(class_counts)).astype(z.dtype)
    loss = affine_cross_entropy(z, y, scale=scale, shift=shift)
    return mask_values(loss, where)


def _relative_power(caller, class_counts, gamma, logits):
    """(n_k / n_max)^gamma, [K]."""
    check_positive_counts(caller, class_counts, logits.shape[-1])
    check_range(caller, "gamma", gamma, low=0.0)
    log_counts = log_prior(class_counts)
    relative = jnp.asarray(log_counts - log_counts.max()).astype(logits.dtype)
    return jnp.exp(jnp.asarray(gamma).astype(logits.dtype) * relative)
