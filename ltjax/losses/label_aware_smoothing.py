r"""Label-aware smoothing: the more examples a class has, the less its labels claim."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_range
from ltjax._numerics import class_lookup, mask_values
from ltjax.losses._affine import (
    affine_cross_entropy,
    check_positive_counts,
    prepare,
)
from ltjax.losses.component import loss_component
from ltjax.options import option


def label_aware_smoothing(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    head: float | ArrayLike = 0.3,
    tail: float | ArrayLike = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy with labels that are smoothed by the size of their class.

    .. math:: (1 - \epsilon_y)(-\log p_y) + \frac{\epsilon_y}{K} \sum_k -\log p_k,
              \qquad \epsilon_y = t + (h - t) \sin \frac{\pi (n_y - n_{\min})}
              {2 (n_{\max} - n_{\min})}

    Args:
        logits: [B, K] float.
        labels: [B] int class indices.
        class_counts: [K] positive, number of training examples per class.
        head: h in [0, 1], smoothing of the largest class; may be traced.
        tail: t in [0, 1], of the smallest one; may be traced.
        where: optional [B] bool; False rows cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree or a readable smoothing is out of range.
        TypeError: if logits are not floating or labels not integers.

    Example:
        >>> logits, labels = jnp.zeros((1, 3)), jnp.array([0])
        >>> print(f"{label_aware_smoothing(logits, labels, [100, 40, 10])[0]:.4f}")
        1.0986

    Limits: head = tail = 0 is cross-entropy; with equal counts every class has `tail`.

    References:
        Zhong et al., "Improving Calibration for Long-Tailed Recognition", CVPR 2021,
        equation 6 with the concave form of the released code, whose smooth part is the
        mean over all K classes, the true one included. Published for CIFAR-10-LT at
        ratio 100: 0.3 and 0, for CIFAR-100-LT 0.4 and 0.1.
    """
    caller = "label_aware_smoothing"
    check_range(caller, "head", head, low=0.0, high=1.0)
    check_range(caller, "tail", tail, low=0.0, high=1.0)
    z, labels = prepare(caller, logits, labels, where)
    check_positive_counts(caller, class_counts, z.shape[-1])
    counts = jnp.asarray(class_counts, z.dtype)
    span = jnp.max(counts) - jnp.min(counts)
    share = (counts - jnp.min(counts)) / jnp.where(span > 0, span, 1)
    low, high = jnp.asarray(tail), jnp.asarray(head)
    smoothing = class_lookup(low + (high - low) * jnp.sin(jnp.pi / 2 * share), labels)
    smooth = -jnp.mean(jax.nn.log_softmax(z), axis=-1)
    loss = (1 - smoothing) * affine_cross_entropy(z, labels) + smoothing * smooth
    return mask_values(loss, where)


@dataclasses.dataclass(frozen=True)
class SmoothingOptions:
    """Of label-aware smoothing."""

    head: float = option(
        0.3, "smoothing of the largest class", low=0, high=1, sweep=True
    )
    tail: float = option(0.0, "of the smallest class", low=0, high=1, sweep=True)


LABEL_AWARE_SMOOTHING = loss_component(
    "labels smoothed by the size of their class (Zhong 2021)",
    label_aware_smoothing,
    SmoothingOptions,
    counts=True,
)
