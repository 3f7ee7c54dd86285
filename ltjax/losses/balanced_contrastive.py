"""Balanced contrastive learning: every class counts once in the denominator."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_classes_last,
    check_floating,
    check_range,
    check_where,
    shape_of,
)
from ltjax._numerics import class_lookup, class_rows, l2_normalize, mask_values
from ltjax._similarity_blocks import Side, check_block, everywhere, self_log_sum_exp
from ltjax.losses._features import check_labels, per_view, unit_rows

_HIGHEST = jax.lax.Precision.HIGHEST


def balanced_contrastive(
    features: ArrayLike,
    labels: ArrayLike,
    centers: ArrayLike,
    *,
    temperature: float | ArrayLike = 0.1,
    where: ArrayLike | None = None,
    block: int | None = None,
) -> jax.Array:
    r"""Supervised contrastive loss with class averages and class complements (BCL).

    The keys of an anchor i are all other views and the K class centers, and P(i) those
    of its class. With :math:`c_j` the number of keys of j's class,

    .. math:: \ell_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)} \Big[ s_{ip} - \log \sum_{j
              \ne i} \frac{e^{s_{ij}}}{c_j} \Big], \qquad s = \cos / T

    Averaging within classes keeps the head from filling the denominator; the centers
    give every class a key and a positive in every batch. Used beside a logit-adjusted
    cross-entropy, with a weight of 0.35 to 1.

    Args:
        features: [B, D] or, for V views of each example, [B, V, D] float, any norm.
        labels: [B] int class indices.
        centers: [D, K] float, any norm; one column per class. They are trained, often
            as the output of a small network on the classifier's weights.
        temperature: T > 0, may be traced; 0.1, or 0.07 on ImageNet-LT.
        where: optional [B] bool; False examples cost 0 and are nobody's keys.
        block: views whose similarities are in memory at a time; None for all. Those to
            the centers, [B V, K], always are.

    Returns:
        [B] float32 in nats, mean over the views of an example, not reduced; NaN for a
        label outside [0, K), which is nobody's key.

    Raises:
        ValueError: if shapes disagree or the temperature is not positive.
        TypeError: if the features are not floating point or the labels not integer.

    Example:
        >>> features, centers = jnp.eye(2), jnp.eye(2)
        >>> loss = jax.jit(balanced_contrastive)(features, jnp.array([0, 1]), centers,
        ...                                      temperature=1.0)
        >>> print(f"{loss[0]:.4f}")
        0.3133

    Limits: without the centers and the averages it is `sup_con`.

    References:
        Zhu, Wang, Chen, Chen, Jiang, "Balanced Contrastive Learning for Long-Tailed
        Visual Recognition", CVPR 2022, eq. 5 and 6, and its code.
    """
    name = "balanced_contrastive"
    if len(shape_of(features)) not in (2, 3):
        raise ValueError(
            f"{name}: features has shape {shape_of(features)}, expected [B, D] or"
            " [B, V, D]"
        )
    check_floating(name, "features", features)
    check_classes_last(name, "centers", centers)
    size, dim = shape_of(features)[0], shape_of(features)[-1]
    if len(shape_of(centers)) != 2 or shape_of(centers)[0] != dim:
        raise ValueError(
            f"{name}: centers has shape {shape_of(centers)}, expected [{dim}, K]"
        )
    check_labels(name, "labels", labels, size)
    check_range(name, "temperature", temperature, low=0.0, open_low=True)
    check_where(name, where, (size,))
    check_block(name, block)
    (units,) = unit_rows(where, features)
    views = 1 if units.ndim == 2 else units.shape[1]
    units = units.reshape(size * views, dim)
    vectors = l2_normalize(jnp.asarray(centers).astype(units.dtype), axis=0)
    num_classes = vectors.shape[1]

    # No labels have no dtype to index with.
    y = per_view(labels if size else jnp.zeros(0, jnp.int32), views)
    valid = (y >= 0) & (y < num_classes)
    keep = valid if where is None else valid & per_view(where, views)
    y = y if where is None else jnp.where(per_view(where, views), y, 0)
    row = jnp.where(keep, y, num_classes)
    columns = jnp.concatenate([units, jnp.ones_like(units[:, :1])], axis=1)
    sums = jnp.zeros((num_classes, dim + 1), units.dtype)
    sums = sums.at[everywhere(row)].add(everywhere(columns), mode="drop")
    counts = sums[:, -1]

    scale = 1 / jnp.asarray(temperature).astype(units.dtype)
    log_sizes = jnp.log(counts + 1)
    # The anchor is not its own key: one less in its class.
    own_size = jnp.maximum(class_lookup(counts, y), 1)
    boost = class_lookup(log_sizes, y) - jnp.log(own_size)
    bias = jnp.where(keep, -class_lookup(log_sizes, y), -jnp.inf)
    side = Side(
        bias=jax.lax.stop_gradient(bias),
        ids=jnp.arange(size * views, dtype=jnp.int32),
        groups=row,
        boost=jax.lax.stop_gradient(boost),
    )
    of_views = self_log_sum_exp(units * jnp.sqrt(scale), side, block=block)
    to_centers = jnp.matmul(units, vectors, precision=_HIGHEST) * scale
    is_own = y[:, None] == jnp.arange(num_classes)[None, :]
    to_centers -= log_sizes[None, :]
    to_centers += jnp.where(is_own, boost[:, None], 0.0)
    total = jnp.logaddexp(of_views, jax.nn.logsumexp(to_centers, axis=1))
    own = class_rows(sums[:, :-1] + vectors.T, y, like=units) - units
    near = jnp.sum(units * own, axis=1) * scale
    losses = (total - near / own_size).reshape(size, views)
    return mask_values(jnp.mean(losses, axis=1), where)
