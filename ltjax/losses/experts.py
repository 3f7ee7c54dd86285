r"""Losses of several experts on one trunk, from their logits [B, E, K].

`expert_losses` is the common part: the cross-entropy of every expert under its own
additive adjustment. `sade` gives three experts three test distributions, `ride` asks
experts to disagree, and `ltjax.losses.dirmixe` samples test distributions.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_vector,
    check_floating,
    check_integers,
    check_range,
    check_where,
    is_concrete,
    shape_of,
)
from ltjax._numerics import (
    at_least_float32,
    class_indices,
    class_lookup,
    host,
    mask_rows,
    mask_values,
)
from ltjax.losses._affine import check_positive_counts


def expert_losses(
    expert_logits: ArrayLike,
    labels: ArrayLike,
    *,
    shift: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy of every expert, under an adjustment of its own.

    .. math:: \ell_{be} = \mathrm{CE}\big( z_{be} + \Delta_e,\; y_b \big)

    Args:
        expert_logits: [B, E, K] float.
        labels: [B] int class indices.
        shift: optional [E, K], Delta.
        where: optional [B] bool; False rows cost 0.

    Returns:
        [B, E] float32 losses in nats, not reduced; NaN for a label outside [0, K). Sum
        them over the experts, or hand each to its own term.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if logits are not floating point or labels not integers.

    Example:
        >>> values = expert_losses(jnp.zeros((1, 2, 4)), jnp.array([3]))
        >>> print(values.round(4))
        [[1.3863 1.3863]]

    Limits: one expert without a shift is `softmax_cross_entropy`.

    References:
        Zhang et al., "Self-Supervised Aggregation of Diverse Experts for Test-Agnostic
        Long-Tailed Recognition", NeurIPS 2022 (SADE).
    """
    z, y = prepare_experts("expert_losses", expert_logits, labels, where)
    if shift is not None:
        if shape_of(shift) != z.shape[1:]:
            raise ValueError(
                f"expert_losses: shift has shape {shape_of(shift)}, expected"
                f" {z.shape[1:]} (experts, classes)"
            )
        z = z + jnp.asarray(shift).astype(z.dtype)[None]
    return _mask_experts(expert_cross_entropy(z, y), where)


def prepare_experts(caller, expert_logits, labels, where):
    """Checked logits [B, E, K] (at least float32) and labels, masked rows set to 0."""
    check_floating(caller, "expert_logits", expert_logits)
    shape = shape_of(expert_logits)
    if len(shape) != 3:
        raise ValueError(
            f"{caller}: expert_logits have shape {shape}, expected [B, E, K]"
        )
    check_integers(caller, "labels", labels)
    if shape_of(labels) != shape[:1]:
        raise ValueError(
            f"{caller}: labels have shape {shape_of(labels)}, expected {shape[:1]}"
        )
    check_where(caller, where, shape[:1])
    return mask_rows(where, at_least_float32(expert_logits), class_indices(labels))


def expert_cross_entropy(logits, labels) -> jax.Array:
    """CE of [B, E, K] logits, [B, E]; NaN for a label out of range."""
    own = class_lookup(logits, labels[:, None])
    return jax.nn.logsumexp(logits, axis=-1) - own


def _mask_experts(values, where):
    return mask_values(values, None if where is None else jnp.asarray(where)[:, None])


def reversed_prior(class_counts: ArrayLike) -> np.ndarray | jax.Array:
    r"""The prior of the inverse long tail: by frequency rank, not by class index.

    The class of rank r gets the prior of rank K - 1 - r. Classes with equal counts
    share the mean of what their ranks would get, so that the result does not depend on
    the order in which a sort leaves them.

    Args:
        class_counts: [K] positive, number of training examples per class.

    Returns:
        [K] float that sums to 1: numpy float64 if readable, else jax float32.

    Raises:
        ValueError: for a readable count that is not positive.

    Example:
        >>> reversed_prior([5, 80, 15])
        array([0.8 , 0.05, 0.15])

    References:
        Zhang et al., NeurIPS 2022. The released code leaves ties to the sort.
    """
    size = shape_of(class_counts)[0] if shape_of(class_counts) else 0
    check_positive_counts("reversed_prior", class_counts, size)
    if is_concrete(class_counts):
        counts = host(class_counts).astype(np.float64)
        low = np.sort(counts / counts.sum())
        order = np.argsort(counts, kind="stable")
        _, group, number = np.unique(counts, return_inverse=True, return_counts=True)
        mine = np.empty_like(low)
        mine[order] = low[::-1]
        return (np.bincount(group, weights=mine) / number)[group]
    counts = jnp.asarray(class_counts).astype(jnp.float32)
    high = jnp.sort(counts / jnp.sum(counts), descending=True)
    order = jnp.argsort(counts)
    mine = jnp.zeros_like(high).at[order].set(high)
    same = (counts[:, None] == counts[None, :]).astype(high.dtype)
    return same @ mine / jnp.sum(same, axis=1)


def sade(
    expert_logits: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    tau: float | ArrayLike = 2.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Three experts for a long-tailed, a uniform and an inverse long-tailed test set.

    .. math:: \ell = \mathrm{CE}(z_1) + \mathrm{CE}(z_2 + \log \pi)
              + \mathrm{CE}(z_3 + \log \pi - \tau \log \bar\pi)

    with the reversed prior of `reversed_prior`. Predict with the mean of the experts
    for a uniform test set, or with weights learned on it.

    Args:
        expert_logits: [B, 3, K] float.
        labels: [B] int class indices.
        class_counts: [K] positive, number of training examples per class.
        tau: strength of the inverse prior.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, the sum over the experts, not reduced; NaN for a label
        outside [0, K).

    Raises:
        ValueError: if shapes disagree, there are not three experts, or a readable count
            is not positive.
        TypeError: if logits are not floating point or labels not integers.

    Example:
        >>> values = sade(jnp.zeros((1, 3, 2)), jnp.array([1]), jnp.array([30, 10]))
        >>> print(f"{values[0]:.4f}")
        5.4116

    Limits: tau = 0 gives two balanced experts beside a plain one.

    References:
        Zhang et al., NeurIPS 2022, eq. 2-5, and the released code: 1e-9 is added inside
        the logarithms.
    """
    z, y = prepare_experts("sade", expert_logits, labels, where)
    if z.shape[1] != 3:
        raise ValueError(f"sade: there are {z.shape[1]} experts, expected 3")
    check_positive_counts("sade", class_counts, z.shape[-1])
    counts = jnp.asarray(class_counts).astype(z.dtype)
    prior = jnp.log(counts / jnp.sum(counts) + 1e-9)
    inverse = jnp.log(jnp.asarray(reversed_prior(class_counts)).astype(z.dtype) + 1e-9)
    tau = jnp.asarray(tau).astype(z.dtype)
    shift = jnp.stack([jnp.zeros_like(prior), prior, prior - tau * inverse])
    values = jnp.sum(expert_cross_entropy(z + shift[None], y), axis=1)
    return mask_values(values, where)


def ride_temperatures(
    class_counts: ArrayLike, *, strength: float | ArrayLike = 0.05
) -> jax.Array:
    r"""Temperatures of `ride`, highest for the head.

    .. math:: T_k \propto c\, K \pi_k + 1 - c, \qquad \max_k T_k = 1

    Args:
        class_counts: [K] positive, number of training examples per class.
        strength: c in [0, 1]; 0 gives 1 everywhere, the first phase of training.

    Returns:
        [K] float32.

    Raises:
        ValueError: if a readable count is not positive or c is outside [0, 1].

    Example:
        >>> print(ride_temperatures(jnp.array([30, 10]), strength=0.5))
        [1.  0.6]

    References:
        Wang et al., "Long-Tailed Recognition by Routing Diverse Distribution-Aware
        Experts", ICLR 2021, and the released code.
    """
    size = shape_of(class_counts)[0] if shape_of(class_counts) else 0
    check_positive_counts("ride_temperatures", class_counts, size)
    check_range("ride_temperatures", "strength", strength, low=0.0, high=1.0)
    counts = jnp.asarray(class_counts)
    counts = counts.astype(jnp.promote_types(counts.dtype, jnp.float32))
    c = jnp.asarray(strength).astype(counts.dtype)
    raw = c * size * counts / jnp.sum(counts) + (1 - c)
    return raw / jnp.max(raw)


def ride_diversity(
    expert_logits: ArrayLike,
    *,
    temperatures: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""How far every expert is from their mean.

    .. math:: d_{be} = \bar T^2\, \mathrm{KL}\big(
              \mathrm{softmax}(\bar z_b / T) \,\big\|\,
              \mathrm{softmax}(z_{be} / T) \big)

    The mean of the experts' logits carries no gradient.

    Args:
        expert_logits: [B, E, K] float.
        temperatures: optional [K], T, which divides the logit of each class; its mean
            is :math:`\bar T`. See `ride_temperatures`.
        where: optional [B] bool; False rows give 0.

    Returns:
        [B, E] float32 >= 0; 0 if the experts agree.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if logits are not floating point.

    Example:
        >>> print(ride_diversity(jnp.ones((1, 3, 2))))
        [[0. 0. 0.]]

    References:
        Wang et al., ICLR 2021, eq. 3, and the released code.
    """
    caller = "ride_diversity"
    batch = jnp.zeros(shape_of(expert_logits)[:1], jnp.int32)
    z, _ = prepare_experts(caller, expert_logits, batch, where)
    mean_temperature = jnp.ones((), z.dtype)
    center = jax.lax.stop_gradient(jnp.mean(z, axis=1, keepdims=True))
    if temperatures is not None:
        check_class_vector(caller, "temperatures", temperatures, z.shape[-1])
        t = jnp.asarray(temperatures).astype(z.dtype)
        mean_temperature = jnp.mean(t)
        z, center = z / t[None, None], center / t[None, None]
    target = jax.nn.log_softmax(center)
    kl = jnp.sum(jnp.exp(target) * (target - jax.nn.log_softmax(z)), axis=-1)
    return _mask_experts(jnp.square(mean_temperature) * kl, where)


def ride(
    expert_logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    temperatures: ArrayLike | None = None,
    diversity: float | ArrayLike = -0.45,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Experts that classify on their own and are paid for disagreeing.

    .. math:: \ell = \sum_e w_y\, \mathrm{CE}(z_e, y) + \lambda\, d_e

    with the divergence d of `ride_diversity`. For another base loss (the paper also
    uses LDAM) add that divergence to the loss of each expert.

    Args:
        expert_logits: [B, E, K] float.
        labels: [B] int class indices.
        class_weights: optional [K], weights of the cross-entropy; the paper uses the
            effective-number weights in the second phase.
        temperatures: optional [K], see `ride_temperatures`; None in the first phase.
        diversity: lambda; negative, so that the divergence grows.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32, the sum over the experts, not reduced; may be negative. NaN for a
        label outside [0, K).

    Raises:
        ValueError: if shapes disagree.
        TypeError: if logits are not floating point or labels not integers.

    Example:
        >>> values = ride(jnp.zeros((1, 3, 2)), jnp.array([1]))
        >>> print(f"{values[0]:.4f}")
        2.0794

    Limits: equal experts or lambda = 0 give E times the cross-entropy.

    References:
        Wang et al., ICLR 2021, eq. 2-4. At lambda = 0 the released code trains the mean
        logits instead of the experts, and with distillation it adds this whole loss
        once per expert; here neither happens.
    """
    z, y = prepare_experts("ride", expert_logits, labels, where)
    each = expert_cross_entropy(z, y)
    if class_weights is not None:
        check_class_vector("ride", "class_weights", class_weights, z.shape[-1])
        weights = jnp.asarray(class_weights).astype(z.dtype)
        each = each * class_lookup(weights, y)[:, None]
    apart = ride_diversity(z, temperatures=temperatures)
    diversity = jnp.asarray(diversity).astype(z.dtype)
    return mask_values(jnp.sum(each + diversity * apart, axis=1), where)
