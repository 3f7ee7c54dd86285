r"""Pixel-level AUC: the one-vs-one square loss over all pixels of a batch.

Every pixel is an example, and pairs run over the whole batch, across images. There are
far too many for a table of pairs, and even scores [pixels, K] are large, so the moments
of `ltjax.losses.auc_square` are accumulated over chunks of pixels and the scores are
computed again in the backward pass.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_logits_labels,
    check_range,
    check_where,
    shape_of,
)
from ltjax._numerics import at_least_float32, class_indices, class_lookup
from ltjax.losses._pairs import reciprocal


def pixel_auc(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float | ArrayLike = 1.0,
    activation: str = "sigmoid",
    chunk: int = 65536,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""OVO square AUC loss over pixels, in memory for one chunk of scores.

    .. math:: L = \frac{1}{K(K-1)} \sum_{i \ne j} \frac{1}{N_i N_j}
              \sum_{p: y_p = i} \sum_{q: y_q = j}
              \tfrac12 \big( g - \sigma(z_{pi}) + \sigma(z_{qi}) \big)^2

    over the K classes present. Added to the pixels' cross-entropy with a weight of 1 to
    4. Costs O(pixels K) time; besides the logits and their gradient it holds
    `chunk` x K numbers and one per pixel.

    Args:
        logits: [..., K] float, classes last, at the resolution of the labels.
        labels: [...] int class indices; hand ignored pixels (255) over by
            `where=labels != 255`.
        margin: g.
        activation: "sigmoid" (as published) or "none" for given scores.
        chunk: pixels per step; changes cost, not values.
        where: optional [...] bool; False pixels are neither anchors nor opponents.

    Returns:
        [...] float32, one value per anchor pixel, not reduced:
        `weighted_mean(values, where=where)` is L. Exactly 0 for a batch of one class;
        NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree or an option is unknown or out of range.
        TypeError: if logits are not floating point or labels not integers.

    Example:
        >>> logits, labels = jnp.zeros((1, 2, 2, 3)), jnp.array([[[0, 1], [2, 255]]])
        >>> values = jax.jit(pixel_auc)(logits, labels, where=labels != 255)
        >>> print(values[0])
        [[0.5 0.5]
         [0.5 0. ]]

    Limits: equals `auc_square` of the sigmoids of the pixels that are not ignored, and
    does not depend on which image a pixel is in.

    References:
        Han et al., "AUCSeg: AUC-oriented Pixel-level Long-tail Semantic Segmentation",
        NeurIPS 2024. The released code gives NaN for a batch with one class.
    """
    caller = "pixel_auc"
    check_logits_labels(caller, logits, labels)
    check_choice(caller, "activation", activation, ("sigmoid", "none"))
    check_range(caller, "chunk", chunk, low=1)
    shape = shape_of(logits)
    check_where(caller, where, shape[:-1])
    num_classes = shape[-1]
    z = jnp.reshape(jnp.asarray(logits), (-1, num_classes))
    y = jnp.ravel(class_indices(labels))
    keep = jnp.ones(y.shape, bool) if where is None else jnp.ravel(jnp.asarray(where))
    dtype = jnp.promote_types(z.dtype, jnp.float32)
    if not y.size:
        return jnp.zeros(shape[:-1], dtype)
    margin = jnp.asarray(margin).astype(dtype)

    def activate(logits, keep):
        # Masked logits may be NaN: they are replaced before, not after.
        clean = jnp.where(keep, logits, jnp.zeros((), logits.dtype))
        clean = at_least_float32(clean)
        return jax.nn.sigmoid(clean) if activation == "sigmoid" else clean

    valid = keep & (y >= 0) & (y < num_classes)
    label = jnp.where(valid, y, num_classes)
    counts = jnp.zeros(num_classes, jnp.int32).at[label].add(1, mode="drop")
    present = jnp.sum(counts > 0)
    own_share = jnp.take(reciprocal(counts, dtype), label, mode="clip")
    row = jnp.where(valid, own_share * reciprocal(present - 1, dtype), 0)

    size = min(chunk, y.size)
    pad = -y.size % size
    parts = (
        jnp.pad(z, ((0, pad), (0, 0))).reshape(-1, size, num_classes),
        jnp.pad(label, (0, pad), constant_values=num_classes).reshape(-1, size),
        jnp.pad(row, (0, pad)).reshape(-1, size),
    )
    classes = jnp.arange(num_classes)[None, :]

    @jax.checkpoint
    def sums(part, mean):
        """Of one chunk: the sum of w (s - mean), and of w (s - mean)^2, each [K]."""
        logits, label, row = part
        scores = activate(logits, (label < num_classes)[:, None]) - mean[None, :]
        weight = jnp.where(label[:, None] == classes, 0.0, row[:, None])
        return jnp.sum(weight * scores, 0), jnp.sum(weight * scores**2, 0)

    def total(mean):
        def add(carry, part):
            return jax.tree.map(jnp.add, carry, sums(part, mean)), None

        zero = jnp.zeros(num_classes, dtype)
        return jax.lax.scan(add, (zero, zero), parts)[0]

    mean = total(jnp.zeros(num_classes, dtype))[0]
    # Around the mean, so that the variance is not a difference of large numbers. The
    # square is 0, but not what it adds to second derivatives.
    center = jax.lax.stop_gradient(mean)
    variance = total(center)[1] - jnp.square(mean - center)
    at = jnp.minimum(label, num_classes - 1)
    own = activate(class_lookup(z, at), valid)
    gap = margin - own + mean[at]
    value = 0.5 * (jnp.square(gap) + variance[at])
    number = jnp.sum(keep).astype(dtype)
    factor = number * reciprocal(present, dtype) * own_share
    active = valid & (present > 1)
    values = jnp.where(active, factor * value, 0.0)
    values = jnp.where(keep & ~valid, jnp.nan, values)
    return values.reshape(shape[:-1])
