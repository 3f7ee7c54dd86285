r"""Losses that add the class prior to the logits, so that raw logits become balanced.

Predict with the plain argmax of the logits: the adjustment is in the loss. (The other
way round, a network trained with plain cross-entropy and adjusted afterwards, is
`ltjax.classifiers.adjust_logits`; never do both.)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_class_vector, is_concrete
from ltjax._numerics import host, mask_values, namespace
from ltjax.class_stats import log_prior, prior
from ltjax.losses._affine import affine_cross_entropy, check_positive_counts, prepare


def logit_adjusted(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    tau: float | ArrayLike = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Logit-adjusted cross-entropy.

    .. math:: \ell = \mathrm{CE}(z + \tau \log \pi,\, y)
              = \log\Big[1 + \sum_{k \ne y}
                (\pi_k / \pi_y)^\tau e^{z_k - z_y}\Big]

    Args:
        logits: [B, K] float.
        labels: [B] int class indices, or [B, K] distributions.
        class_counts: [K] positive, number of training examples per class.
        tau: strength; 1 is consistent for the balanced error.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree or a readable count is not positive.

    Example:
        >>> logits, labels = jnp.array([[1.0, 0.5, -0.2]]), jnp.array([2])
        >>> print(f"{logit_adjusted(logits, labels, jnp.array([100, 20, 5]))[0]:.4f}")
        4.3236

    Limits: tau = 0 or equal counts is cross-entropy; tau = 1 is `balanced_softmax`.

    References:
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, eq. 10. The
        official code takes log(pi^tau + 1e-12), which bends small priors; we do not.
    """
    z, y = prepare("logit_adjusted", logits, labels, where, soft=True)
    check_positive_counts("logit_adjusted", class_counts, z.shape[-1])
    shift = jnp.asarray(log_prior(class_counts)).astype(z.dtype)
    shift = jnp.asarray(tau).astype(z.dtype) * shift
    return mask_values(affine_cross_entropy(z, y, shift=shift), where)


def balanced_softmax(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Balanced softmax: cross-entropy whose normalizer carries the class counts.

    .. math:: \ell = \mathrm{CE}(z + \log n,\, y)

    Do not combine it with class-balanced sampling, which corrects a second time.

    Args:
        logits: [B, K] float.
        labels: [B] int class indices, or [B, K] distributions.
        class_counts: [K] positive, number of training examples per class; only their
            proportions matter.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree or a readable count is not positive.

    Example:
        >>> logits, labels = jnp.array([[1.0, 0.5, -0.2]]), jnp.array([2])
        >>> print(f"{balanced_softmax(logits, labels, jnp.array([100, 20, 5]))[0]:.4f}")
        4.3236

    Limits: `logit_adjusted` with tau = 1; equal counts give cross-entropy.

    References:
        Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS
        2020.
    """
    z, y = prepare("balanced_softmax", logits, labels, where, soft=True)
    check_positive_counts("balanced_softmax", class_counts, z.shape[-1])
    # log pi instead of log n: the same loss, closer to zero.
    shift = log_prior(class_counts)
    return mask_values(affine_cross_entropy(z, y, shift=shift), where)


def pairwise_consistent(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    delta: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""The pairwise margin losses that are consistent for the balanced error.

    .. math:: \ell = \frac{\delta_y}{\pi_y} \log\Big[1 +
              \sum_{k \ne y} \frac{\delta_k}{\delta_y} e^{z_k - z_y}\Big]
              = \frac{\delta_y}{\pi_y}\, \mathrm{CE}(z + \log \delta,\, y)

    Every positive :math:`\delta` has the same population optimum and another way there:
    :math:`\delta = \pi` is logit adjustment, :math:`\delta = 1` re-weighting by the
    inverse prior, :math:`\delta = \pi^{1-\nu}` lies between.

    Args:
        logits: [B, K] float.
        labels: [B] int class indices, or [B, K] distributions.
        class_counts: [K] positive, number of training examples per class.
        delta: [K] positive; its overall factor scales the loss.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree, or a readable count or delta is not positive.

    Example:
        >>> logits, labels = jnp.array([[1.0, 0.5, -0.2]]), jnp.array([2])
        >>> counts = jnp.array([100, 20, 5])
        >>> delta = jnp.sqrt(counts / 125)
        >>> print(f"{pairwise_consistent(logits, labels, counts, delta)[0]:.4f}")
        14.9474

    Limits: delta = prior is `logit_adjusted` with tau = 1.

    References:
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, eq. 11 and
        theorem 1.
    """
    caller = "pairwise_consistent"
    z, y = prepare(caller, logits, labels, where, soft=True)
    check_positive_counts(caller, class_counts, z.shape[-1])
    check_class_vector(caller, "delta", delta, z.shape[-1])
    if is_concrete(delta) and not np.all(host(delta) > 0):
        raise ValueError(f"{caller}: delta is {host(delta)}, expected positive numbers")
    xp = namespace(class_counts, delta)
    d = host(delta).astype(np.float64) if xp is np else jnp.asarray(delta)
    weight = d / xp.asarray(prior(class_counts), d.dtype)
    loss = affine_cross_entropy(z, y, weight=weight, shift=xp.log(d))
    return mask_values(loss, where)
