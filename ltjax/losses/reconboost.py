r"""ReconBoost: what one modality's learner is to fix of what the others get wrong.

With p the softmax of the active learner's logits and q that of the frozen sum of the
others, times the boost rate. All logits but the active learner's carry no gradient.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_floating,
    check_logits_labels,
    check_range,
    check_where,
    shape_of,
)
from ltjax._numerics import (
    at_least_float32,
    class_indices,
    class_lookup,
    mask_rows,
    mask_values,
    nan_outside,
)


def reconboost(
    logits: ArrayLike,
    labels: ArrayLike,
    ensemble_logits: ArrayLike,
    *,
    label_weight: float | ArrayLike = 5.0,
    ensemble_weight: float | ArrayLike = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy that counts more where the other modalities fail.

    .. math:: \ell = -\frac{w_1 - w_2 q_y}{K} \log p_y, \qquad
              \frac{\partial \ell}{\partial z} = \frac{w_1 - w_2 q_y}{K} (p - e_y)

    Args:
        logits: [B, K] float, of the active learner.
        labels: [B] int class indices.
        ensemble_logits: [B, K] float, of the others; zeros if there are none yet.
        label_weight: w_1.
        ensemble_weight: w_2.
        where: optional [B] bool; False rows cost 0.

    Returns:
        [B] float32 losses in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree or a readable weight is negative.
        TypeError: if logits are not floating point or labels not integers.

    Example:
        >>> value = reconboost(jnp.array([[1.0, 0.0, -1.0]]), jnp.array([1]),
        ...                    jnp.array([[0.5, 0.5, 0.0]]))
        >>> print(f"{value[0]:.6f}")
        2.166000

    Limits: w_2 = 0 is w_1 / K times the cross-entropy. Where q is certain of the label
    and w_1 = w_2, loss and gradient are 0.

    References:
        Hua et al., "ReconBoost: Boosting Can Achieve Modality Reconcilement", ICML
        2024, in the form of the released code: of q it keeps the label's coordinate,
        and it divides by K. `reconboost_kl` has the paper's form.
    """
    check_range("reconboost", "label_weight", label_weight, low=0)
    check_range("reconboost", "ensemble_weight", ensemble_weight, low=0)

    def residual(log_p, q, own):
        return -(label_weight - ensemble_weight * own(q)) * own(log_p) / q.shape[-1]

    return _losses("reconboost", residual, logits, labels, ensemble_logits, where)


def reconboost_kl(
    logits: ArrayLike,
    labels: ArrayLike,
    ensemble_logits: ArrayLike,
    *,
    weight: float | ArrayLike = 0.25,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy less the divergence from what the other modalities say.

    .. math:: \ell = -\sum_c (e_{yc} - \lambda q_c) \log p_c, \qquad
              \frac{\partial \ell}{\partial z} = (1 - \lambda)\, p - (e_y - \lambda q)

    This is CE(p, y) - lambda KL(q || p) without the entropy of q, which does not depend
    on the active learner. It may be negative.

    Args:
        logits: [B, K] float, of the active learner.
        labels: [B] int class indices.
        ensemble_logits: [B, K] float, of the others; zeros if there are none yet.
        weight: lambda.
        where: optional [B] bool; False rows cost 0.

    Returns:
        [B] float32 losses in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree or a readable weight is negative.
        TypeError: if logits are not floating point or labels not integers.

    Example:
        >>> value = reconboost_kl(jnp.array([[1.0, 0.0, -1.0]]), jnp.array([1]),
        ...                       jnp.array([[0.5, 0.5, 0.0]]))
        >>> print(f"{value[0]:.6f}")
        1.093443

    Limits: lambda = 0 is the cross-entropy. At lambda = 1 the gradient is q - e_y, the
    residual of boosting, whatever p is.

    References:
        Hua et al., ICML 2024.
    """
    check_range("reconboost_kl", "weight", weight, low=0)

    def residual(log_p, q, own):
        return weight * jnp.sum(q * log_p, axis=-1) - own(log_p)

    return _losses("reconboost_kl", residual, logits, labels, ensemble_logits, where)


def memory_consolidation(
    logits: ArrayLike,
    previous_logits: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared distance from the learner that was updated before.

    .. math:: \frac1K \sum_c \big( p_c - p^{prev}_c \big)^2

    Args:
        logits: [B, K] float, of the active learner.
        previous_logits: [B, K] float, of the previous one.
        where: optional [B] bool; False rows cost 0.

    Returns:
        [B] float32, not reduced.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if logits are not floating point.

    Example:
        >>> print(memory_consolidation(jnp.zeros((1, 2)), jnp.array([[50.0, 0.0]])))
        [0.25]

    References:
        Hua et al., ICML 2024. In the released code both sides are detached, so that the
        term has no gradient and changes the logged loss only; here it reaches the
        active learner, as the paper means it.
    """
    name = "memory_consolidation"
    check_floating(name, "logits", logits)
    check_floating(name, "previous_logits", previous_logits)
    _check_same(name, "previous_logits", logits, previous_logits)
    check_where(name, where, shape_of(logits)[:-1])
    z, previous = mask_rows(
        where, at_least_float32(logits), at_least_float32(previous_logits)
    )
    gap = jax.nn.softmax(z) - jax.lax.stop_gradient(jax.nn.softmax(previous))
    return mask_values(jnp.mean(jnp.square(gap), axis=-1), where)


def _losses(caller: str, residual, logits, labels, ensemble_logits, where):
    """residual(log p [B, K], q [B, K], entry of the label) of every row, [B]."""
    check_logits_labels(caller, logits, labels)
    check_floating(caller, "ensemble_logits", ensemble_logits)
    _check_same(caller, "ensemble_logits", logits, ensemble_logits)
    check_where(caller, where, shape_of(labels))
    z, labels, others = mask_rows(
        where,
        at_least_float32(logits),
        class_indices(labels),
        at_least_float32(ensemble_logits),
    )
    q = jax.nn.softmax(jax.lax.stop_gradient(others))
    values = residual(jax.nn.log_softmax(z), q, lambda x: class_lookup(x, labels))
    return mask_values(nan_outside(values, labels, z.shape[-1]), where)


def _check_same(caller: str, name: str, logits, others) -> None:
    if shape_of(others) != shape_of(logits):
        raise ValueError(
            f"{caller}: {name} have shape {shape_of(others)}, expected that of logits,"
            f" {shape_of(logits)}"
        )
