r"""Class priors that are estimated on the way.

Methods differ in the evidence they count, in how they average it and in what they do
with the result; each of those is one function. `class_evidence` counts, `update_prior`
averages (SoLar, SimPro, ACR, the labelled side of distribution alignment),
`dynamic_prior` reads a prior off the classifier (RECORDS), `debias` takes it out of
logits and `prior_posterior` puts it in (SimPro). How strongly, is in `tempering`;
estimates from a confusion matrix are in `shift`.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_vector,
    check_classes_last,
    check_floating,
    check_range,
    check_rank,
    check_where,
    dtype_of,
    shape_of,
)
from ltjax._numerics import at_least_float32


def dynamic_prior(
    feature_mean: ArrayLike, kernel: ArrayLike, bias: ArrayLike | None = None
) -> jax.Array:
    r"""RECORDS' parametric prior: what the classifier says of the mean feature.

    .. math:: \pi = \mathrm{softmax}(W^\top F + b)

    F is a moving average of the features (`moving_mean` with decay 0.9, from 0), W and
    b are those of the head before the optimizer's step. The prior grows with the
    quality of the features, so that debiasing starts gently.

    Args:
        feature_mean: [D] float, F.
        kernel: [D, K], W, the head's own.
        bias: optional [K], b.

    Returns:
        [K] float32, sums to 1; no gradient.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if the feature mean is not floating.

    Example:
        >>> kernel = jnp.array([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
        >>> [f"{v:.4f}" for v in dynamic_prior(jnp.array([0.2, 0.1]), kernel)]
        ['0.3883', '0.3514', '0.2603']

    References:
        Hong et al., "Long-Tailed Partial Label Learning via Dynamic Rebalancing", ICLR
        2023. The average is not corrected for its start at 0, as in the code.
    """
    caller = "dynamic_prior"
    check_floating(caller, "feature_mean", feature_mean)
    check_rank(caller, "feature_mean", feature_mean, 1, "[D]")
    check_rank(caller, "kernel", kernel, 2, "[D, K]")
    if shape_of(kernel)[0] != shape_of(feature_mean)[0]:
        raise ValueError(
            f"{caller}: kernel has shape {shape_of(kernel)}, expected"
            f" ({shape_of(feature_mean)[0]}, K) for a feature_mean of shape"
            f" {shape_of(feature_mean)}"
        )
    mean = at_least_float32(feature_mean)
    logits = mean @ jnp.asarray(kernel).astype(mean.dtype)
    if bias is not None:
        check_class_vector(caller, "bias", bias, logits.shape[-1])
        logits = logits + jnp.asarray(bias).astype(mean.dtype)
    return jax.nn.softmax(jax.lax.stop_gradient(logits))


def moving_mean(
    mean: ArrayLike,
    values: ArrayLike,
    *,
    decay: float | ArrayLike = 0.9,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""One step of a moving average of batch means, :math:`m F + (1 - m) \bar h`.

    Args:
        mean: [...], F.
        values: [B, ...], h; several views are stacked or averaged before.
        decay: m in [0, 1].
        where: optional [B] bool; rows that are False do not count, and may hold NaN.

    Returns:
        [...] float32; F itself if no row counts. No gradient.

    Raises:
        ValueError: if shapes disagree or a readable decay is out of range.

    Example:
        >>> [f"{v:.4f}" for v in moving_mean(jnp.zeros(2), jnp.array([[2.0, 1.0]]))]
        ['0.2000', '0.1000']
    """
    caller = "moving_mean"
    check_floating(caller, "mean", mean)
    dtype_of(caller, "values", values)
    check_range(caller, "decay", decay, low=0, high=1)
    if shape_of(values)[1:] != shape_of(mean):
        raise ValueError(
            f"{caller}: values have shape {shape_of(values)}, expected"
            f" (B, {', '.join(map(str, shape_of(mean)))})"
        )
    check_where(caller, where, shape_of(values)[:1])
    old = at_least_float32(mean)
    rows = jax.lax.stop_gradient(jnp.asarray(values)).astype(old.dtype)
    kept = jnp.ones(rows.shape[0], bool) if where is None else jnp.asarray(where)
    counted = kept.reshape(kept.shape + (1,) * old.ndim)
    total = jnp.sum(jnp.where(counted, rows, 0), axis=0)
    size = jnp.sum(kept)
    decay = jnp.asarray(decay).astype(old.dtype)
    new = decay * old + (1 - decay) * total / jnp.maximum(size, 1)
    return jnp.where(size > 0, new, old)


def class_evidence(
    probabilities: ArrayLike,
    *,
    threshold: float | ArrayLike = 0.0,
    hard: bool = False,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""How much the confident predictions speak for each class.

    .. math:: v_k = \sum_i [\max_j p_{ij} \ge t]\, p_{ik} \quad\text{or}\quad
              v_k = \sum_i [\max_j p_{ij} \ge t]\, [k = \arg\max_j p_{ij}]

    Args:
        probabilities: [B, K] float.
        threshold: t; 0 counts every row.
        hard: counts of the predicted classes (ACR, SoLar) instead of probabilities
            (SimPro, DARP).
        where: optional [B] bool; rows that are False do not count.

    Returns:
        [K] float32, in rows.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if probabilities are not floats.

    Example:
        >>> rows = jnp.array([[0.96, 0.04], [0.6, 0.4]])
        >>> print(class_evidence(rows, threshold=0.95), class_evidence(rows, hard=True))
        [0.96 0.04] [2. 0.]

    References:
        Wei and Gan, "Towards Realistic Long-Tailed Semi-Supervised Learning", CVPR 2023
        (ACR), whose code adds in place without accumulating duplicates and so records
        whether a class occurs, not how often; Du, Han and Huang, "SimPro", ICML 2024.
    """
    caller = "class_evidence"
    check_classes_last(caller, "probabilities", probabilities)
    check_rank(caller, "probabilities", probabilities, 2, "[B, K]")
    check_where(caller, where, shape_of(probabilities)[:1])
    rows = at_least_float32(jax.lax.stop_gradient(jnp.asarray(probabilities)))
    counted = jnp.max(rows, axis=-1) >= jnp.asarray(threshold).astype(rows.dtype)
    if where is not None:
        counted = counted & jnp.asarray(where)
    if hard:
        best = jnp.argmax(rows, axis=-1)
        rows = jax.nn.one_hot(best, rows.shape[-1], dtype=rows.dtype)
    return jnp.sum(jnp.where(counted[:, None], rows, 0), axis=0)


def update_prior(
    prior: ArrayLike,
    evidence: ArrayLike,
    *,
    decay: float | ArrayLike = 0.9,
    pseudo_count: float | ArrayLike = 0.0,
) -> jax.Array:
    r"""One step of a moving prior, :math:`m \pi + (1-m)\, v / (\sum_k v_k + s)`.

    =============================== ======================= ======= ============
    method                          evidence                decay   pseudo_count
    =============================== ======================= ======= ============
    SoLar, every epoch              hard counts             1 - g   0
    SimPro, unlabelled prior        confident probabilities 0.9     1
    SimPro, prior of all            the same plus labels    0.9     0
    ACR, every step                 confident hard counts   0.99    0
    labelled side of ReMixMatch     one-hot labels          0.999   0
    =============================== ======================= ======= ============

    Args:
        prior: [K], pi.
        evidence: [K] >= 0, v.
        decay: m in [0, 1].
        pseudo_count: s >= 0; with s > 0 the result sums to less than 1, as published.

    Returns:
        [K] float32; pi itself if there is no evidence and no pseudo-count.

    Raises:
        ValueError: if shapes disagree or a readable value is out of range.

    Example:
        >>> new = update_prior(jnp.array([0.5, 0.5]), jnp.array([3.0, 1.0]))
        >>> [f"{share:.4f}" for share in new]
        ['0.5250', '0.4750']

    References:
        See the table: NeurIPS 2022, ICML 2024, CVPR 2023, ICLR 2020.
    """
    caller = "update_prior"
    check_range(caller, "decay", decay, low=0, high=1)
    check_range(caller, "pseudo_count", pseudo_count, low=0)
    check_rank(caller, "prior", prior, 1, "[K]")
    old = at_least_float32(prior)
    check_class_vector(caller, "evidence", evidence, old.shape[0])
    counts = jnp.asarray(evidence).astype(old.dtype)
    total = jnp.sum(counts) + jnp.asarray(pseudo_count).astype(old.dtype)
    decay = jnp.asarray(decay).astype(old.dtype)
    new = decay * old + (1 - decay) * counts / jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, new, old)


def debias(
    logits: ArrayLike,
    prior: ArrayLike,
    *,
    tau: float | ArrayLike = 1.0,
    floor: float | ArrayLike = 1e-9,
) -> jax.Array:
    r"""Logits without a class prior, :math:`z - \tau \log(\pi + \text{floor})`.

    What methods do with any prior that they estimate on the way: RECORDS' test rule,
    ACR's targets (tau from `acr_strength`). The training-time counterpart is
    `ltjax.losses.logit_adjusted`, which adds the prior.

    Args:
        logits: [..., K] float.
        prior: [K] >= 0, pi.
        tau: strength.
        floor: keeps the logarithm finite for classes with prior 0.

    Returns:
        [..., K] float32.

    Raises:
        ValueError: if shapes disagree or a readable floor is negative.
        TypeError: if logits are not floats.

    Example:
        >>> logits, prior = jnp.array([1.0, 1.2, 0.5]), jnp.array([0.7, 0.2, 0.1])
        >>> target = jax.nn.softmax(debias(logits, prior, tau=2.0))
        >>> [f"{p:.4f}" for p in target]
        ['0.0219', '0.3275', '0.6506']
    """
    caller = "debias"
    check_classes_last(caller, "logits", logits)
    check_range(caller, "floor", floor, low=0)
    z = at_least_float32(logits)
    check_class_vector(caller, "prior", prior, z.shape[-1])
    shares = jnp.asarray(prior).astype(z.dtype) + jnp.asarray(floor, z.dtype)
    # Without a floor an empty class would have an infinite logit.
    shift = jnp.log(jnp.maximum(shares, jnp.finfo(z.dtype).tiny))
    shift = jnp.asarray(tau, z.dtype) * shift
    return z - jnp.expand_dims(shift, range(z.ndim - 1))


def prior_posterior(
    logits: ArrayLike, prior: ArrayLike, *, tau: float | ArrayLike = 1.0
) -> jax.Array:
    r"""SimPro's E-step: :math:`\mathrm{softmax}(z + \tau \log \pi)`, without gradient.

    For a network whose raw logits are already balanced, its predictions under the prior
    of the unlabelled set. A class of prior 0 gets probability 0.

    Args:
        logits: [..., K] float.
        prior: [K] >= 0, pi, not all 0.
        tau: strength >= 0; 2 on CIFAR-10-LT, 1 on CIFAR-100-LT.

    Returns:
        [..., K] float32.

    Raises:
        ValueError: if shapes disagree or a readable tau is negative.
        TypeError: if logits are not floats.

    Example:
        >>> logits, prior = jnp.array([1.0, 1.2, 0.5]), jnp.array([0.7, 0.2, 0.1])
        >>> [f"{v:.4f}" for v in prior_posterior(logits, prior)]
        ['0.6966', '0.2431', '0.0604']

    References:
        Du, Han and Huang, "SimPro: A Simple Probabilistic Framework Towards Realistic
        Long-Tailed Semi-Supervised Learning", ICML 2024.
    """
    caller = "prior_posterior"
    check_classes_last(caller, "logits", logits)
    check_range(caller, "tau", tau, low=0)
    z = at_least_float32(jax.lax.stop_gradient(jnp.asarray(logits)))
    check_class_vector(caller, "prior", prior, z.shape[-1])
    weights = jnp.asarray(prior).astype(z.dtype)
    log_prior = jnp.log(jnp.where(weights > 0, weights, 1))
    shift = jnp.asarray(tau).astype(z.dtype) * log_prior
    shift = jnp.where(weights > 0, shift, -jnp.inf)
    return jax.nn.softmax(z + jnp.expand_dims(shift, range(z.ndim - 1)))
