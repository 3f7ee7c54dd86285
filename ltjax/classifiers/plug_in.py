r"""Two consistent recipes for balanced accuracy: plug-in threshold and balanced risk.

The AM measure (balanced accuracy) is the mean of the recalls. Its Bayes decision is

.. math:: h^*(x) = \arg\max_k \eta_k(x) / \pi_k, \qquad \eta_k(x) = P(y = k \mid x),

for K = 2 :math:`\eta_1(x) > \pi_1`, with regret
:math:`E|\eta_1 - \pi_1| 1(h \ne h^*) / (2 \pi_1 \pi_0)`. Either eta is estimated with a
proper loss and the threshold plugged in, or the balance is put into the risk.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_vector,
    check_counts,
    check_floating,
    class_axis,
    shape_of,
)
from ltjax._numerics import at_least_float32, host, namespace


def plug_in_threshold(class_counts: ArrayLike) -> np.ndarray | jax.Array:
    r"""Empirical thresholds of the plug-in classifier: clipped class frequencies.

    .. math:: \hat p_k = \mathrm{clip}(n_k / n,\ 1/(2n),\ 1 - 1/(2n))

    For K = 2 the second entry is the threshold on P(positive): predict the positive
    class where :math:`\hat\eta(x) \ge \hat p`.

    Args:
        class_counts: [K] non-negative, number of training examples per class.

    Returns:
        [K] float64 (numpy), or float32 if traced; strictly between 0 and 1.

    Raises:
        ValueError: if a count is negative or all are zero.

    Example:
        >>> plug_in_threshold([90, 10]).tolist()
        [0.9, 0.1]

    References:
        Menon, Narasimhan, Agarwal, Chawla, "On the Statistical Consistency of
        Algorithms for Binary Classification under Class Imbalance", ICML 2013, eq. 2
        and Algorithm 1. The clipping is ours: the theorem wants an estimate inside
        (0, 1).
    """
    check_counts("plug_in_threshold", class_counts)
    xp = namespace(class_counts)
    counts = xp.asarray(host(class_counts))
    counts = counts.astype(np.float64 if xp is np else jnp.float32)
    total = counts.sum()
    if xp is np and total <= 0:
        raise ValueError("plug_in_threshold: class_counts are all zero")
    return xp.clip(counts / total, 0.5 / total, 1 - 0.5 / total)


def plug_in_predict(logits: ArrayLike, class_counts: ArrayLike) -> jax.Array:
    r"""The plug-in classifier: :math:`\arg\max_k \hat\eta_k(x) / \hat p_k`.

    Consistent for the AM measure (balanced accuracy) when :math:`\hat\eta` is a
    consistent estimate of P(y|x), from a proper loss without class weights. For K = 2
    it is the rule :math:`\hat\eta_1 \ge \hat p_1`, positive on equality.

    Args:
        logits: [..., K] float, log-probabilities up to a constant.
        class_counts: [K] non-negative, number of training examples per class.

    Returns:
        [...] int32 labels.

    Raises:
        ValueError: if class_counts has the wrong length, is negative or zero.

    Example:
        >>> plug_in_predict(jnp.log(jnp.array([[0.8, 0.2], [0.95, 0.05]])), [90, 10])
        Array([1, 0], dtype=int32)

    Limits: the threshold needs calibrated estimates; a good ranking is not enough.
    Logits of a loss that contains the prior must not be corrected again.

    References:
        Menon et al., ICML 2013, Algorithm 1 (K = 2). scikit-learn's tie rule.
    """
    check_floating("plug_in_predict", "logits", logits)
    logits = at_least_float32(logits)
    num_classes = class_axis("plug_in_predict", "logits", logits)
    check_counts("plug_in_predict", class_counts, num_classes)
    thresholds = plug_in_threshold(class_counts)
    xp = namespace(thresholds)
    shift = xp.log(thresholds)
    if len(thresholds) == 2:
        # In one step: a threshold near 1 loses its digits in float32.
        log_odds = xp.asarray(shift[1] - shift[0]).astype(logits.dtype)
        return (logits[..., 1] - logits[..., 0] >= log_odds).astype(jnp.int32)
    shift = jnp.asarray(shift).astype(logits.dtype)
    adjusted = logits - jnp.expand_dims(shift, range(logits.ndim - 1))
    return jnp.argmax(adjusted, axis=-1).astype(jnp.int32)


def balanced_risk_weights(
    class_counts: ArrayLike, *, class_costs: ArrayLike | None = None
) -> np.ndarray | jax.Array:
    r"""Class weights of balanced (or cost-sensitive) risk minimization.

    .. math:: w_k = \frac{n\, C_k}{\sum_j n_j C_j}, \qquad
              \text{balanced: } C_k = 1/n_k, \quad w_k = \frac{n}{K n_k}

    so that :math:`\sum_k n_k w_k = n`: the mean of :math:`w_y \ell` over the *examples*
    has the scale of the unweighted one (`weighted_mean(..., normalize="examples")`).

    Args:
        class_counts: [K] non-negative.
        class_costs: optional [K], cost C_k >= 0 of missing class k.

    Returns:
        [K] float; 0 for a class without examples if balanced.

    Raises:
        ValueError: if a count or cost is negative, or all products are zero.

    Example:
        >>> [round(float(w), 4) for w in balanced_risk_weights([90, 9, 1])]
        [0.3704, 3.7037, 33.3333]

    Limits: deep networks that fit all training data undo weights; shift the logits of
    such networks instead. Clip or defer large weights.

    References:
        Menon et al., ICML 2013, sec. 5; scikit-learn's class_weight="balanced".
    """
    check_counts("balanced_risk_weights", class_counts)
    if class_costs is not None:
        check_class_vector(
            "balanced_risk_weights",
            "class_costs",
            class_costs,
            shape_of(class_counts)[0],
        )
    xp = namespace(class_counts, class_costs)
    counts = xp.asarray(host(class_counts)).astype(
        np.float64 if xp is np else jnp.float32
    )
    if class_costs is None:
        costs = xp.where(counts > 0, 1 / xp.where(counts > 0, counts, 1), 0)
    else:
        costs = xp.asarray(host(class_costs)).astype(counts.dtype)
    total = xp.sum(counts * costs)
    if xp is np and (np.any(costs < 0) or total <= 0):
        raise ValueError(
            f"balanced_risk_weights: class_counts {counts.tolist()} and costs"
            f" {costs.tolist()}, expected costs >= 0 with a positive total"
        )
    return xp.sum(counts) * costs / total
