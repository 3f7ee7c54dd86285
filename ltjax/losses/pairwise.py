r"""Pairwise surrogates of the area under the ROC curve, binary, OVO and OVR.

For a surrogate :math:`\phi` of the margin by which an example of class i is ranked
above one of class j in column i, and K classes present in the batch,

.. math:: L_{\mathrm{OVO}} = \frac{1}{K(K-1)} \sum_{i \ne j} \frac{1}{N_i N_j}
          \sum_{p: y_p = i} \sum_{q: y_q = j} \phi(S_{pi} - S_{qi})

.. math:: L_{\mathrm{OVR}} = \frac1K \sum_i \frac{1}{N_i (N - N_i)}
          \sum_{p: y_p = i} \sum_{q: y_q \ne i} \phi(S_{pi} - S_{qi})

OVO does not depend on the sizes of the classes; OVR does, and the head dominates it.
These losses couple the rows of a batch: each returns one value per *anchor* p,

.. math:: v_p = \frac{N}{K N_{y_p}} \cdot
          (\text{mean over opponents of } \phi), \qquad \frac1N \sum_p v_p = L

so `ltjax.reduce.weighted_mean(values, where=where)` is the loss of the batch. With
scores [B] and labels 0/1 the positives are the anchors, and negatives have value 0
(their scores still receive gradient). A class that is absent is left out, and a batch
with a single class costs exactly 0.

None of the sums over pairs is quadratic except the logistic one: the square needs two
moments per column, the exponential one log-sum-exp, the hinges one sort.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_range
from ltjax.losses._pairs import (
    hinge_over,
    prepare_pairs,
    sum_over_pairs,
)


def auc_square(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float | ArrayLike = 1.0,
    pairs: str = "ovo",
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Square surrogate of the AUC, from two moments per column.

    .. math:: \phi(t) = \tfrac12 (g - t)^2, \qquad
              v_p = \frac{N}{2 K N_i} \big[ (g - s_p + \mu_i)^2 + \sigma_i^2 \big]

    with the weighted mean and variance of the opponents' scores in column i. Costs
    O(B K), whatever the number of pairs.

    Args:
        scores: [B, K] float (probabilities, sigmoids or logits), or [B] for a binary
            problem.
        labels: [B] int class indices, or for scores [B] bool or 0/1.
        margin: g, in units of the scores.
        pairs: "ovo" (classes count alike) or "ovr" (examples do); see the module.
        where: optional [B] bool; False rows are neither anchors nor opponents.

    Returns:
        [B] float32, one value per anchor, not reduced; NaN for a label out of range.

    Raises:
        ValueError: if shapes disagree, a readable binary label is neither 0 nor 1, or
            `pairs` is unknown.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> values = auc_square(jnp.array([0.8, 0.3, 0.6]), jnp.array([1, 0, 0]))
        >>> print(f"{values[0]:.4f}, {values[1]:.0f}, {values[2]:.0f}")
        0.6675, 0, 0

    Limits: adding a constant to a column changes nothing; a batch of one class costs 0.

    References:
        Yang et al., "Learning with Multiclass AUC: Theory and Algorithms", TPAMI 2021.
        The 1/2 is theirs. Their code divides by all K classes and gives NaN if one is
        absent; here only classes present in the batch count.
    """
    p = prepare_pairs("auc_square", scores, labels, where, pairs)
    margin = jnp.asarray(margin).astype(p.picked.dtype)
    weights = p.weights()

    def weighted_sum(x):
        # As a product, which no compiler computes again for every row that reads it.
        return jnp.einsum("bk,bk->k", weights, x, precision=jax.lax.Precision.HIGHEST)

    mean = weighted_sum(p.scores)
    # Around the mean, not as a difference of moments: no cancellation, never negative.
    # The last square is 0, but not what it adds to second derivatives.
    center = jax.lax.stop_gradient(mean)
    variance = weighted_sum(jnp.square(p.scores - center[None, :]))
    variance = variance - jnp.square(mean - center)
    gap = margin - p.picked + p.at_anchor(mean)
    return p.value(0.5 * (jnp.square(gap) + p.at_anchor(variance)))


def auc_hinge(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float | ArrayLike = 1.0,
    power: int = 1,
    pairs: str = "ovo",
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Hinge and squared hinge surrogates of the AUC, from one sort per column.

    .. math:: \phi(t) = (g - t)_+^{\,\mathrm{power}}

    An anchor is penalized by the opponents above :math:`s_p - g`: a suffix of the
    sorted column, whose moments are read off cumulative sums. Costs O(K B log B).

    Args:
        scores: [B, K] float, or [B] for a binary problem.
        labels: [B] int class indices, or for scores [B] bool or 0/1.
        margin: g, in units of the scores.
        power: 1 for the hinge, 2 for its square.
        pairs: "ovo" (classes count alike) or "ovr" (examples do); see the module.
        where: optional [B] bool; False rows are neither anchors nor opponents.

    Returns:
        [B] float32, one value per anchor, not reduced; NaN for a label out of range.

    Raises:
        ValueError: if shapes disagree, a readable binary label is neither 0 nor 1, or
            `power` or `pairs` is unknown.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> values = auc_hinge(jnp.array([0.8, 0.3, 0.6]), jnp.array([1, 0, 0]))
        >>> print(f"{values[0]:.4f}, {values[1]:.0f}, {values[2]:.0f}")
        1.9500, 0, 0

    Limits: linear in the mean gap while no pair reaches the margin; a batch of one
    class costs 0.

    References:
        Yang et al., TPAMI 2021. Follows the definition: the released code never clips
        at 0 and divides the opponents' term by the class size once too often, so that
        it is not a pairwise hinge.
    """
    check_choice("auc_hinge", "power", power, (1, 2))
    p = prepare_pairs("auc_hinge", scores, labels, where, pairs)
    margin = jnp.asarray(margin).astype(p.picked.dtype)
    if not p.picked.size:
        return p.picked
    weights = p.weights()
    # Differences of moments are taken near 0, where float32 is finest.
    center = jax.lax.stop_gradient(jnp.sum(weights * p.scores, axis=0))
    near = p.scores - center[None, :]
    key = p.picked - p.at_anchor(center) - margin
    column = jnp.minimum(p.label, p.scores.shape[1] - 1)
    return p.value(hinge_over(near, weights, column, key, power))


def auc_exp(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    scale: float | ArrayLike = 1.0,
    pairs: str = "ovo",
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Exponential surrogate of the AUC: the sum over pairs is a product of two sums.

    .. math:: \phi(t) = e^{-g t}, \qquad
              v_p = \frac{N}{K N_i} \exp\Big( \log \sum_q w_q e^{g s_q} - g s_p \Big)

    Costs O(B K). The sums are taken as log-sum-exp, so only a loss that is itself
    beyond the range of the dtype (a pair wrong by more than 88 / g in float32) is inf.

    Args:
        scores: [B, K] float, or [B] for a binary problem.
        labels: [B] int class indices, or for scores [B] bool or 0/1.
        scale: g > 0; a scale, not a margin.
        pairs: "ovo" (classes count alike) or "ovr" (examples do); see the module.
        where: optional [B] bool; False rows are neither anchors nor opponents.

    Returns:
        [B] float32, one value per anchor, not reduced; NaN for a label out of range.

    Raises:
        ValueError: if shapes disagree, a readable binary label is neither 0 nor 1,
            `pairs` is unknown, or a readable scale is not positive.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> values = auc_exp(jnp.array([0.8, 0.3, 0.6]), jnp.array([1, 0, 0]))
        >>> print(f"{values[0]:.4f}, {values[1]:.0f}, {values[2]:.0f}")
        2.1379, 0, 0

    Limits: adding a constant to a column changes nothing; a batch of one class costs 0.

    References:
        Yang et al., TPAMI 2021.
    """
    check_range("auc_exp", "scale", scale, low=0.0, open_low=True)
    p = prepare_pairs("auc_exp", scores, labels, where, pairs)
    scale = jnp.asarray(scale).astype(p.picked.dtype)
    if not p.picked.size:
        return p.picked
    weights = p.weights()
    # log-sum-exp of an empty set has value -inf and gradient NaN: guard its input.
    empty = ~jnp.any(weights > 0, axis=0, keepdims=True)
    weights = jnp.where(empty, jnp.ones_like(weights), weights)
    log_sum = jax.nn.logsumexp(scale * p.scores, axis=0, b=weights)
    exponent = p.at_anchor(log_sum) - scale * p.picked
    return p.value(jnp.exp(jnp.where(p.factor == 0, 0, exponent)))


def auc_logistic(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    scale: float | ArrayLike = 1.0,
    pairs: str = "ovo",
    block: int = 256,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Logistic surrogate of the AUC, block by block.

    .. math:: \phi(t) = \log(1 + e^{-g t})

    It has no form faster than the sum over pairs: B^2 terms (not B^2 K, an anchor reads
    only its own column; :math:`N_+ N_-` for a binary problem), of which block^2 are
    held at a time, in the gradient as well.

    Args:
        scores: [B, K] float, or [B] for a binary problem.
        labels: [B] int class indices, or for scores [B] bool or 0/1.
        scale: g > 0; a scale, not a margin.
        pairs: "ovo" (classes count alike) or "ovr" (examples do); see the module.
        block: rows of a block of anchors and of opponents; changes cost, not values.
        where: optional [B] bool; False rows are neither anchors nor opponents.

    Returns:
        [B] float32, one value per anchor, not reduced; NaN for a label out of range.

    Raises:
        ValueError: if shapes disagree, a readable binary label is neither 0 nor 1,
            `pairs` is unknown, block < 1, or a readable scale is not positive.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> values = auc_logistic(jnp.array([0.8, 0.3, 0.6]), jnp.array([1, 0, 0]))
        >>> print(f"{values[0]:.4f}, {values[1]:.0f}, {values[2]:.0f}")
        1.6083, 0, 0

    Limits: log 2 for equal scores of a binary problem; loss / g tends to the hinge
    without margin; a batch of one class costs 0.

    References:
        Gao and Zhou, "On the Consistency of AUC Pairwise Optimization", IJCAI 2015;
        the multi-class form is that of Yang et al., TPAMI 2021.
    """
    check_range("auc_logistic", "scale", scale, low=0.0, open_low=True)
    check_range("auc_logistic", "block", block, low=1)
    p = prepare_pairs("auc_logistic", scores, labels, where, pairs)
    scale = jnp.asarray(scale).astype(p.picked.dtype)
    if not p.picked.size:
        return p.picked
    return p.value(sum_over_pairs(p, lambda t, _: jax.nn.softplus(-scale * t), block))
