r"""How features lie on the sphere: alignment, uniformity, and uniformity of classes.

The first two ask whether views of one image are close and all images spread out; the
third asks the same of classes, of which a long tail leaves some crowded together.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_floating,
    check_logits_labels,
    check_range,
    check_rank,
    check_where,
    check_whole,
    shape_of,
)
from ltjax._numerics import at_least_float32, class_indices, l2_normalize, mask_rows
from ltjax._similarity_blocks import Side, check_block, cross_log_sum_exp
from ltjax.reduce import weighted_mean


def alignment(
    first: ArrayLike,
    second: ArrayLike,
    *,
    alpha: float | ArrayLike = 2.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean distance of the two views of an image, :math:`\overline{\|x - y\|^\alpha}`.

    Args:
        first: [B, D] float, unit rows (not normalized here).
        second: [B, D] float.
        alpha: exponent > 0.
        where: optional [B] bool; False images do not count.

    Returns:
        float32 scalar, 0 for views that agree. Differentiable, also where they do.

    Raises:
        ValueError: if shapes disagree or alpha is not positive.
        TypeError: if the features are not floating point.

    Example:
        >>> x, y = jnp.array([[1.0, 0.0]]), jnp.array([[0.6, 0.8]])
        >>> print(f"{alignment(x, y):.4f}")
        0.8000

    References:
        Wang and Isola, "Understanding Contrastive Representation Learning through
        Alignment and Uniformity on the Hypersphere", ICML 2020, section 4.1.1.
    """
    for argument, x in (("first", first), ("second", second)):
        check_rank("alignment", argument, x, 2, "[B, D]")
        check_floating("alignment", argument, x)
    if shape_of(first) != shape_of(second):
        raise ValueError(
            f"alignment: second has shape {shape_of(second)}, expected"
            f" {shape_of(first)}"
        )
    check_range("alignment", "alpha", alpha, low=0.0, open_low=True)
    check_where("alignment", where, shape_of(first)[:1])
    x, y = mask_rows(where, at_least_float32(first), at_least_float32(second))
    squared = jnp.sum(jnp.square(x - y), axis=1)
    # The root has no slope at 0, where its gradient counts as 0.
    apart = squared > 0
    power = jnp.where(apart, squared, 1.0) ** (0.5 * jnp.asarray(alpha))
    return weighted_mean(jnp.where(apart, power, 0.0), where=where)


def uniformity(
    features: ArrayLike,
    *,
    t: float | ArrayLike = 2.0,
    where: ArrayLike | None = None,
    block: int | None = None,
) -> jax.Array:
    r"""Log of the mean Gaussian potential of all pairs; lower is more uniform.

    .. math:: \log \frac{2}{B (B - 1)} \sum_{i < j} e^{-t \|x_i - x_j\|^2}

    Args:
        features: [B, D] float, unit rows (not normalized here).
        t: > 0, sharpness of the potential.
        where: optional [B] bool; False rows do not count.
        block: rows whose distances are in memory at a time; None for all.

    Returns:
        float32 scalar, at most 0; -inf for fewer than two rows.

    Raises:
        ValueError: if `features` is not a matrix or t is not positive.
        TypeError: if the features are not floating point.

    Example:
        >>> square = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> print(f"{uniformity(square):.4f}")
        -4.3963

    References:
        Wang and Isola, ICML 2020, section 4.1.2.
    """
    check_rank("uniformity", "features", features, 2, "[B, D]")
    check_floating("uniformity", "features", features)
    check_range("uniformity", "t", t, low=0.0, open_low=True)
    check_where("uniformity", where, shape_of(features)[:1])
    check_block("uniformity", block)
    x = mask_rows(where, at_least_float32(features))
    size = x.shape[0]
    if not size:
        return jnp.asarray(-jnp.inf, x.dtype)
    t = jnp.asarray(t).astype(x.dtype)
    # -t |x - y|^2 as a product of two longer vectors, norms and all: a feature off the
    # sphere is pulled along its radius too.
    norms = -t * jnp.sum(jnp.square(x), axis=1, keepdims=True)
    ones = jnp.ones_like(norms)
    queries = jnp.concatenate([2 * t * x, ones, norms], axis=1)
    keys = jnp.concatenate([x, norms, ones], axis=1)
    rows = jnp.arange(size, dtype=jnp.int32)
    keep = jnp.ones((size,), bool) if where is None else jnp.asarray(where)
    bias = jnp.where(keep, 0.0, -jnp.inf).astype(x.dtype)
    each = cross_log_sum_exp(
        queries, keys, Side(ids=rows), Side(bias=bias, ids=rows), block=block
    )
    count = jnp.sum(keep).astype(x.dtype)
    pairs = jnp.where(count > 1, count * (count - 1), 1.0)
    return jax.nn.logsumexp(jnp.where(keep, each, -jnp.inf)) - jnp.log(pairs)


class CategoryUniformity(NamedTuple):
    """How the centers of the classes are spread, and how tight the classes are.

    Attributes:
        inter: mean distance of two centers; higher is better. A simplex, the best there
            is, has sqrt(2 K / (K - 1)).
        neighborhood: mean distance to the m nearest other centers; low where some
            classes crowd together, though `inter` may not show it.
        intra: mean distance of two examples of a class, averaged over the classes;
            lower is better. Pairs of an example with itself are among them.
        centers: [K, D] unit rows, zero for a class without examples.
    """

    inter: jax.Array
    neighborhood: jax.Array
    intra: jax.Array
    centers: jax.Array


def category_uniformity(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    neighbors: int = 1,
    where: ArrayLike | None = None,
    block: int | None = None,
) -> CategoryUniformity:
    r"""Uniformity of the class centers, and tightness of the classes.

    With unit features x, the set :math:`F_k` of class k and the normalized centers
    :math:`c_k`, over the K classes present,

    .. math:: U = \frac{1}{K (K-1)} \sum_{k \ne l} \|c_k - c_l\|, \quad
              U_m = \frac{1}{K m} \sum_k \sum_{l \in N_m(k)} \|c_k - c_l\|, \quad
              A = \frac1K \sum_k \frac{1}{|F_k|^2} \sum_{i, j \in F_k} \|x_i - x_j\|

    with the m nearest other centers :math:`N_m(k)`.

    Args:
        features: [B, D] float, any norm.
        labels: [B] int class indices; those outside [0, K) do not count.
        num_classes: K; classes without examples are left out of the means.
        neighbors: m, between 1 and K - 1.
        where: optional [B] bool; False rows do not count.
        block: rows whose distances are in memory at a time; None for all.

    Returns:
        CategoryUniformity; NaN where it needs more classes than are present.

    Raises:
        ValueError: if shapes disagree or `neighbors` is not in [1, K - 1].
        TypeError: if the features are not floating point or the labels not integer.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> result = category_uniformity(x, jnp.arange(4), num_classes=4)
        >>> print(f"{result.inter:.4f} {result.neighborhood:.4f}")
        1.6095 1.4142

    References:
        Li et al., "Targeted Supervised Contrastive Learning for Long-Tailed
        Recognition", CVPR 2022, section 3 (U, U_m and A); used by Zhou et al.,
        "Combating Representation Learning Disparity with Geometric Harmonization",
        NeurIPS 2023. There is no official code of these metrics.
    """
    name = "category_uniformity"
    check_rank(name, "features", features, 2, "[B, D]")
    check_floating(name, "features", features)
    if not shape_of(features)[1]:
        raise ValueError(
            f"{name}: features has shape {shape_of(features)}, expected [B, D], D >= 1"
        )
    check_logits_labels(name, features, labels)
    check_where(name, where, shape_of(labels))
    check_block(name, block)
    check_whole(name, "num_classes", num_classes, low=2)
    check_whole(name, "neighbors", neighbors, low=1)
    if neighbors > num_classes - 1:
        raise ValueError(
            f"{name}: neighbors is {neighbors}, expected 1 to {num_classes - 1}"
        )
    labels = class_indices(labels)
    keep = (labels >= 0) & (labels < num_classes)
    keep = keep if where is None else keep & jnp.asarray(where)
    units = l2_normalize(mask_rows(keep, at_least_float32(features)))
    row = jnp.where(keep, labels, num_classes)
    counts = jnp.zeros((num_classes,), units.dtype).at[row].add(1.0, mode="drop")
    sums = jnp.zeros((num_classes, units.shape[1]), units.dtype)
    centers = l2_normalize(sums.at[row].add(units, mode="drop"))
    present = counts > 0

    between = _distances(centers, centers)
    between = jnp.where(present[:, None] & present[None, :], between, jnp.inf)
    between = jnp.where(jnp.eye(num_classes, dtype=bool), jnp.inf, between)
    others = jnp.sum(jnp.isfinite(between), axis=1)
    nearest = -jax.lax.top_k(-between, neighbors)[0]
    per_class = jnp.sum(jnp.where(jnp.isfinite(between), between, 0.0), axis=1)
    inter = weighted_mean(per_class / jnp.maximum(others, 1), where=present)
    near = jnp.mean(nearest, axis=1)
    enough = jnp.sum(present) > neighbors
    intra = _within(units, row, counts, num_classes, block)
    return CategoryUniformity(
        inter=jnp.where(jnp.sum(present) > 1, inter, jnp.nan),
        neighborhood=jnp.where(
            enough, weighted_mean(jnp.where(enough, near, 0.0), where=present), jnp.nan
        ),
        intra=jnp.where(jnp.any(present), intra, jnp.nan),
        centers=centers,
    )


def _distances(left, right):
    """Distances [A, N] of unit rows, 0 for equal ones."""
    products = jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.sqrt(jnp.maximum(2 - 2 * products, 0.0))


def _within(units, row, counts, num_classes, block):
    """Mean over the classes present of the mean distance of their pairs."""
    size = units.shape[0]
    width = min(block or size, size)
    if not size:
        return jnp.array(jnp.nan, units.dtype)

    def of_block(start):
        # The last block overlaps the one before; what it repeats does not count.
        at = jnp.minimum(start, size - width)
        mine = jax.lax.dynamic_slice_in_dim(units, at, width)
        own = jax.lax.dynamic_slice_in_dim(row, at, width)
        fresh = (at + jnp.arange(width)) >= start
        same = (own[:, None] == row[None, :]) & fresh[:, None]
        # An example is at distance 0 from itself, which rounding would not give.
        itself = (at + jnp.arange(width))[:, None] == jnp.arange(size)[None, :]
        pairs = jnp.where(same & ~itself, _distances(mine, units), 0.0)
        sums = jnp.zeros((num_classes,), units.dtype)
        return sums.at[own].add(jnp.sum(pairs, axis=1), mode="drop")

    sums = jax.lax.map(of_block, jnp.arange(0, size, width))
    means = jnp.sum(sums, axis=0) / jnp.maximum(jnp.square(counts), 1)
    return weighted_mean(means, where=counts > 0)
