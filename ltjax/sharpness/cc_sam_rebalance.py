r"""CC-SAM, stage 2: the classifier is trained again, on adversarially shifted features.

The backbone is frozen and the batches are class-balanced. Like stage 1 (see
`ltjax.sharpness.cc_sam`) it needs no loop over classes: row i of the
feature gradient of its class's mean loss is :math:`R_i W^\top / m_i`.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_range
from ltjax._numerics import class_lookup, mask_values
from ltjax.sharpness._head_batch import (
    SMALL,
    head_batch,
    head_logits,
    matmul,
    residuals_of,
)


def cc_sam_rebalance(
    features: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    alpha: ArrayLike,
    amplitude: ArrayLike = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""CC-SAM, stage 2: classifier re-training on adversarially shifted features.

    .. math:: \alpha\, v_{y_i} \mathrm{CE}(h_i + A v_{y_i} u_i, y_i)
              + (1 - \alpha)\, \mathrm{CE}(h_i, y_i), \qquad
              v_c = \tfrac12 \log(n_{\max} / n_c + 0.01)

    u is the gradient of the class-mean cross-entropy with respect to the features,
    scaled to unit Frobenius norm per class, a constant. Batches are class-balanced and
    the backbone is frozen; that is the caller's business.

    Args:
        features: [B, D] float, inputs of the classifier.
        kernel: [D, K].
        bias: [K], or None.
        labels: [B] int.
        class_counts: [K] positive, number of *training* examples per class.
        alpha: share of the shifted loss, see `rebalance_share`; may be traced.
        amplitude: A >= 0, length of the shift in units of v; may be traced.
        where: optional [B] bool; False rows cost 0 and belong to no class.

    Returns:
        [B] float32 (float64 for float64 features) loss in nats, not reduced.

    Raises:
        ValueError: if shapes disagree or alpha is outside [0, 1].
        TypeError: if labels are not integers.

    Example:
        >>> head = jnp.array([[1.0, 0.0]]), jnp.eye(2), None, jnp.array([0]), [17, 5]
        >>> print(f"{cc_sam_rebalance(*head, alpha=0.0)[0]:.5f}")
        0.31326

    Limits: alpha=0 is cross-entropy.

    References:
        Zhou et al., CVPR 2023, and the authors' code. Theirs leaves the frozen
        backbone's BatchNorm in training mode; use evaluation mode.
    """
    check_range("cc_sam_rebalance", "alpha", alpha, low=0.0, high=1.0)
    check_range("cc_sam_rebalance", "amplitude", amplitude, low=0.0)
    batch = head_batch(
        "cc_sam_rebalance", features, kernel, bias, labels, class_counts, where
    )
    ratio = jnp.max(batch.counts) / batch.counts
    v = class_lookup(0.5 * jnp.log(ratio + 0.01), batch.labels)

    # Row i of the gradient of its class's mean loss; the class's norm from M.
    rows = matmul(residuals_of(batch, None), batch.kernel.T) / batch.sizes[:, None]
    squares = matmul(batch.same, jnp.sum(jnp.square(rows), axis=1)[:, None])[:, 0]
    norm = jnp.sqrt(jnp.maximum(squares, 0))
    unit = jnp.where(norm < SMALL, 0, 1 / jnp.maximum(norm, SMALL))[:, None] * rows
    shift = jax.lax.stop_gradient(amplitude * v[:, None] * unit)

    shifted = head_logits(batch.features + shift, batch.kernel, batch.bias)
    hard = -class_lookup(jax.nn.log_softmax(shifted), batch.labels)
    plain = -class_lookup(jax.nn.log_softmax(batch.logits), batch.labels)
    return mask_values(alpha * v * hard + (1 - alpha) * plain, where)


def rebalance_share(
    epoch: ArrayLike, *, start: int = 200, total: int = 230, maximum: ArrayLike = 1.0
) -> jax.Array:
    r"""Stage 2's share of the shifted loss, :math:`\min((e - S + 1)/(E - S), \alpha)`.

    Args:
        epoch: e, 0-based, counted from the beginning of stage 1; may be traced.
        start: S, first epoch of stage 2.
        total: E, number of epochs of both stages, more than S.
        maximum: largest share; published: 1 (CIFAR-10), 0.3 (CIFAR-100).

    Returns:
        float32 scalar in [0, maximum].

    Raises:
        ValueError: if total does not exceed start.

    Example:
        >>> [round(float(rebalance_share(e, maximum=0.3)), 4) for e in (200, 208, 229)]
        [0.0333, 0.3, 0.3]

    References:
        Zhou et al., CVPR 2023, released code.
    """
    check_range("rebalance_share", "total", total, low=start, open_low=True)
    share = (jnp.asarray(epoch, jnp.float32) - start + 1) / (total - start)
    return jnp.clip(share, 0.0, maximum)
