r"""Margins between the true class and its rivals.

A margin m is demanded *in front of* the softmax: the true class must lead by m before
its probability counts. Rare classes get a larger one.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_matrix,
    check_class_vector,
    check_counts,
    check_range,
    class_axis,
    is_concrete,
)
from ltjax._numerics import (
    class_lookup,
    class_rows,
    host,
    mask_values,
    nan_outside,
)
from ltjax.losses._affine import (
    check_positive_counts,
    is_target,
    prepare,
    rival_log_odds,
)


def ldam_margins(
    class_counts: ArrayLike, *, max_margin: float | ArrayLike = 0.5
) -> np.ndarray | jax.Array:
    r"""Margins of LDAM, :math:`m_k = M\, n_k^{-1/4} / \max_j n_j^{-1/4}`.

    Args:
        class_counts: [K] positive, number of training examples per class.
        max_margin: M, the margin of the rarest class.

    Returns:
        [K] float: numpy float64 if everything is readable, else jax.

    Raises:
        ValueError: for a readable count that is not positive.

    Example:
        >>> [round(float(m), 4) for m in ldam_margins([100, 20, 5])]
        [0.2364, 0.3536, 0.5]

    References:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin
        Loss", NeurIPS 2019, eq. 13 and released code (the normalization to M).
    """
    check_counts("ldam_margins", class_counts)
    check_range("ldam_margins", "max_margin", max_margin, low=0.0)
    check_positive_counts("ldam_margins", class_counts, np.shape(class_counts)[0])
    if is_concrete(class_counts):
        counts = host(class_counts).astype(np.float64)
        relative = (counts.min() / counts) ** 0.25
        return relative * max_margin
    counts = jnp.asarray(class_counts).astype(jnp.float32)
    return max_margin * (jnp.min(counts) / counts) ** 0.25


def ldam(
    cosines: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    max_margin: float | ArrayLike = 0.5,
    scale: float | ArrayLike = 30.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Label-distribution-aware margin loss.

    .. math:: \ell = \mathrm{CE}\big(s\,(z - m_y e_y),\, y\big), \qquad
              m_k = M\, n_k^{-1/4} / \max_j n_j^{-1/4}

    Computed as :math:`\mathrm{softplus}(r + s\,m_y)` with the log-odds r of the rivals.
    Feed the cosines of a normalized classifier: on unbounded logits a margin means
    nothing. Published results combine it with deferred re-weighting.

    Args:
        cosines: [B, K] float in [-1, 1], not yet scaled.
        labels: [B] int class indices (a margin needs one true class).
        class_counts: [K] positive, number of training examples per class.
        max_margin: M, margin of the rarest class, in cosine units; 0.5 for CIFAR, 0.3
            for iNaturalist.
        scale: s, inverse temperature; applied after the margin, and only here.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree or a readable count is not positive.

    Example:
        >>> cosines, labels = jnp.array([[0.3, 0.1, -0.2]]), jnp.array([0])
        >>> print(f"{ldam(cosines, labels, jnp.array([100, 20, 5]))[0]:.4f}")
        1.3822

    Limits: max_margin = 0 is cross-entropy of s z; loss / s tends to `ldam_hinge`.

    References:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin
        Loss", NeurIPS 2019, eq. 11-13. The scale s is in the released code only.
    """
    num_classes = class_axis("ldam", "cosines", cosines)
    check_positive_counts("ldam", class_counts, num_classes)
    check_range("ldam", "scale", scale, low=0.0, open_low=True)
    margins = ldam_margins(class_counts, max_margin=max_margin)
    z, y = prepare("ldam", cosines, labels, where, name="cosines")
    scale = jnp.asarray(scale).astype(z.dtype)
    margin = class_lookup(jnp.asarray(margins).astype(z.dtype), y)
    odds = rival_log_odds(z, y, scale=scale)
    return mask_values(jax.nn.softplus(odds + scale * margin), where)


def ldam_hinge(
    cosines: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    max_margin: float | ArrayLike = 0.5,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Hinge form of LDAM (LDAM-HG).

    .. math:: \ell = \max\big(\max_{k \ne y} z_k - z_y + m_y,\; 0\big)

    Args:
        cosines: [B, K] float in [-1, 1].
        labels: [B] int class indices.
        class_counts: [K] positive, number of training examples per class.
        max_margin: M, margin of the rarest class, in cosine units.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss, not reduced; NaN for a label outside [0, K). At ties of the
        best rival the gradient is shared equally.

    Raises:
        ValueError: if shapes disagree or a readable count is not positive.

    Example:
        >>> cosines, labels = jnp.array([[0.3, 0.1, -0.2]]), jnp.array([2])
        >>> print(f"{ldam_hinge(cosines, labels, jnp.array([100, 20, 5]))[0]:.4f}")
        1.0000

    Limits: `ldam` / s for s to infinity.

    References:
        Cao et al., NeurIPS 2019, eq. 10; not in the released code, so the features
        (normalized) and the margins are our choice: those of `ldam`.
    """
    num_classes = class_axis("ldam_hinge", "cosines", cosines)
    check_positive_counts("ldam_hinge", class_counts, num_classes)
    margins = ldam_margins(class_counts, max_margin=max_margin)
    z, y = prepare("ldam_hinge", cosines, labels, where, name="cosines")
    margin = class_lookup(jnp.asarray(margins).astype(z.dtype), y)
    rivals = jnp.where(is_target(z, y), -jnp.inf, z)
    gap = jnp.max(rivals, axis=-1) - class_lookup(z, y) + margin
    # Not relu, which has no gradient at NaN: a bad label must not pass for a row that
    # is right already. Without a rival (K = 1) the gap is -inf.
    loss = jnp.where(gap <= 0, jnp.zeros_like(gap), gap)
    return mask_values(nan_outside(loss, y, z.shape[-1]), where)


def pairwise_margin(
    logits: ArrayLike,
    labels: ArrayLike,
    alpha: ArrayLike,
    delta: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""General pairwise margin loss: a margin for every pair of classes.

    .. math:: \ell = \alpha_y \log\Big[1 +
              \sum_{k \ne y} e^{\Delta_{yk}}\, e^{z_k - z_y}\Big]

    Consistent for the balanced error if :math:`\alpha_y = \delta_y / \pi_y` and
    :math:`\Delta_{yk} = \log(\delta_k / \delta_y)` for some positive vector: that is
    `pairwise_consistent`, which needs no [K, K] table. Costs a gather of B rows.

    Args:
        logits: [B, K] float.
        labels: [B] int class indices.
        alpha: [K] >= 0, cost of each true class.
        delta: [K, K], row y holds the margins against each rival; the diagonal is not
            read.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> loss = pairwise_margin(jnp.zeros((1, 2)), jnp.array([0]), jnp.ones(2),
        ...                        jnp.log(3.0) * jnp.ones((2, 2)))
        >>> print(f"{loss[0]:.4f}")
        1.3863

    Limits: alpha = 1 and delta = 0 is cross-entropy; delta[y, k] = m_y is LDAM.

    References:
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, eq. 11.
    """
    z, y = prepare("pairwise_margin", logits, labels, where)
    num_classes = z.shape[-1]
    check_class_vector("pairwise_margin", "alpha", alpha, num_classes)
    check_class_matrix("pairwise_margin", "delta", delta, num_classes)
    rows = class_rows(jnp.asarray(delta).astype(z.dtype), y, like=z)
    odds = rival_log_odds(z, y, rival_shift=rows)
    weight = class_lookup(jnp.asarray(alpha).astype(z.dtype), y)
    return mask_values(weight * jax.nn.softplus(odds), where)
