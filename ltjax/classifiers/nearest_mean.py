r"""Nearest class mean: a classifier without training, streamed over the training set.

Class sums are accumulated batch by batch, so the features of the whole training set
never have to lie in memory. Features are those of *evaluation* mode.

.. math:: c_k = \frac{1}{n_k}\sum_{i: y_i = k} t(h_i), \qquad
          s_k(x) = -\|t(x) - c_k\|^2 \ \text{ or } \ t(x)^\top c_k
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_floating,
    check_integers,
    check_rank,
    check_where,
    check_whole,
    shape_of,
)
from ltjax._numerics import (
    at_least_float32,
    class_indices,
    l2_normalize,
    mask_rows,
)

_TRANSFORMS = ("none", "l2n", "cl2n")
_AVERAGES = ("examples", "classes")


class ClassSums(NamedTuple):
    """Running sums of features by class.

    Attributes:
        total: [K, D] float32, sum of the features of each class.
        count: [K] int32, number of examples of each class.
    """

    total: jax.Array
    count: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassMeans:
    """A fitted nearest-class-mean classifier.

    Attributes:
        means: [K, D] means of the transformed training features, 0 for empty classes.
        present: [K] bool, whether the class had an example.
        center: [D] what "cl2n" subtracts; 0 for the other transforms.
        transform: "none", "l2n" or "cl2n" (static).
    """

    means: jax.Array
    present: jax.Array
    center: jax.Array
    transform: str = dataclasses.field(metadata={"static": True})


def init_class_sums(num_classes: int, dim: int) -> ClassSums:
    """Empty sums for K classes and D features.

    Args:
        num_classes: K.
        dim: D.

    Returns:
        `ClassSums` of zeros.

    Example:
        >>> init_class_sums(3, 2).total.shape
        (3, 2)
    """
    check_whole("init_class_sums", "num_classes", num_classes)
    check_whole("init_class_sums", "dim", dim)
    return ClassSums(
        jnp.zeros((num_classes, dim), jnp.float32), jnp.zeros(num_classes, jnp.int32)
    )


def update_class_sums(
    sums: ClassSums,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> ClassSums:
    """Adds a batch to the sums.

    Args:
        sums: so far.
        features: [B, D] float, transformed already if a transform is wanted.
        labels: [B] int class indices. A label outside [0, K) turns the sums into NaN.
        where: optional [B] bool; False rows are not counted.

    Returns:
        `ClassSums`. Sums of shards may be added leaf by leaf.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if features are not floating point or labels not integers.

    Example:
        >>> sums = update_class_sums(
        ...     init_class_sums(2, 1), jnp.array([[1.0], [2.0], [4.0]]),
        ...     jnp.array([0, 0, 1]))
        >>> sums.total.ravel().tolist(), sums.count.tolist()
        ([3.0, 4.0], [2, 1])
    """
    name = "update_class_sums"
    num_classes, dim = sums.total.shape
    check_floating(name, "features", features)
    check_integers(name, "labels", labels)
    if len(shape_of(features)) != 2 or shape_of(features)[1] != dim:
        raise ValueError(
            f"{name}: features have shape {shape_of(features)}, expected [B, {dim}]"
        )
    if shape_of(labels) != shape_of(features)[:1]:
        raise ValueError(
            f"{name}: labels have shape {shape_of(labels)}, expected"
            f" {shape_of(features)[:1]}"
        )
    check_where(name, where, shape_of(labels))
    features = mask_rows(where, at_least_float32(features))
    labels = class_indices(labels)
    counted = jnp.ones(labels.shape, bool) if where is None else jnp.asarray(where)
    valid = (labels >= 0) & (labels < num_classes)
    # Rows that must not count go to an extra segment, which is cut off.
    segment = jnp.where(counted & valid, labels, num_classes)
    total = jax.ops.segment_sum(features, segment, num_classes + 1)[:-1]
    count = jax.ops.segment_sum(
        jnp.ones(labels.shape, jnp.int32), segment, num_classes + 1
    )[:-1]
    poison = jnp.where(jnp.any(counted & ~valid), jnp.nan, 0.0).astype(total.dtype)
    return ClassSums(sums.total + total + poison, sums.count + count)


def global_mean(sums: ClassSums, *, average: str = "examples") -> jax.Array:
    r"""Mean feature of the training set.

    Args:
        sums: of the untransformed features.
        average: "examples" weights every example equally, so under a long tail the mean
            is that of the head classes; "classes" is the mean of the class means.

    Returns:
        [D].

    Raises:
        ValueError: for an unknown `average`.

    Example:
        >>> sums = ClassSums(jnp.array([[3.0], [5.0]]), jnp.array([3, 1]))
        >>> [global_mean(sums, average=a).item() for a in ("examples", "classes")]
        [2.0, 3.0]
    """
    check_choice("global_mean", "average", average, _AVERAGES)
    if average == "examples":
        return jnp.sum(sums.total, axis=0) / jnp.maximum(jnp.sum(sums.count), 1)
    present = jnp.maximum(jnp.sum(sums.count > 0), 1)
    return jnp.sum(_means(sums), axis=0) / present


def _means(sums: ClassSums) -> jax.Array:
    return sums.total / jnp.maximum(sums.count, 1)[:, None]


def transform_features(
    features: ArrayLike, center: ArrayLike | None = None, *, transform: str
) -> jax.Array:
    """The feature transform of a nearest-class-mean classifier.

    Args:
        features: [..., D] float.
        center: [D], needed by "cl2n".
        transform: "none"; "l2n" scales every feature vector to unit norm; "cl2n"
            subtracts `center` first.

    Returns:
        [..., D] float32.

    Raises:
        ValueError: for an unknown transform, or "cl2n" without a center.

    Example:
        >>> transform_features(jnp.array([3.0, 4.0]), transform="l2n").round(3).tolist()
        [0.6000000238418579, 0.800000011920929]
    """
    check_choice("transform_features", "transform", transform, _TRANSFORMS)
    check_floating("transform_features", "features", features)
    if not shape_of(features):
        raise ValueError("transform_features: features is a scalar, expected [..., D]")
    features = at_least_float32(features)
    if transform == "none":
        return features
    if transform == "cl2n":
        if center is None:
            raise ValueError("transform_features: 'cl2n' needs center [D], got None")
        center = jnp.asarray(center)
        features = features - center.reshape((1,) * (features.ndim - 1) + center.shape)
    return l2_normalize(features)


def class_means(
    sums: ClassSums, center: ArrayLike | None = None, *, transform: str = "none"
) -> ClassMeans:
    """The classifier that belongs to sums of *transformed* features.

    The two-pass form of `nearest_class_mean` for features that do not fit in memory:
    sum the raw features, take `global_mean`, sum the transformed ones, call this.

    Args:
        sums: of transformed features.
        center: [D], what "cl2n" subtracted.
        transform: that was applied, and will be applied to queries.

    Returns:
        `ClassMeans`; means of unit vectors are not scaled back to unit norm.

    Raises:
        ValueError: for an unknown transform, or "cl2n" without a center.

    Example:
        >>> sums = ClassSums(jnp.array([[3.0], [0.0]]), jnp.array([2, 0]))
        >>> class_means(sums).means.ravel().tolist()
        [1.5, 0.0]
    """
    check_choice("class_means", "transform", transform, _TRANSFORMS)
    if transform == "cl2n" and center is None:
        raise ValueError("class_means: 'cl2n' needs center [D], got None")
    means = _means(sums)
    if center is None or transform != "cl2n":
        center = jnp.zeros(means.shape[1:], means.dtype)
    return ClassMeans(means, sums.count > 0, jnp.asarray(center), transform)


def nearest_class_mean(
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    transform: str = "cl2n",
    average: str = "examples",
    where: ArrayLike | None = None,
) -> ClassMeans:
    r"""Fits a nearest-class-mean classifier to features in memory.

    Args:
        features: [N, D] float, evaluation-mode features of the training set.
        labels: [N] int class indices.
        num_classes: K.
        transform: "none", "l2n" (unit features) or "cl2n" (centered, then unit).
        average: what "cl2n" centers by, see `global_mean`: "examples" is the published
            choice and dominated by head classes, "classes" is balanced.
        where: optional [N] bool; False rows do not count.

    Returns:
        `ClassMeans`, to be used by `class_mean_scores`.

    Raises:
        ValueError: if shapes disagree or a name is unknown.
        TypeError: if features are not floating point.

    Example:
        >>> features = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
        >>> fitted = nearest_class_mean(
        ...     features, jnp.array([0, 0, 1, 1]), 2, transform="none")
        >>> class_mean_scores(jnp.array([[1.0, 0.5]]), fitted).tolist()
        [[-0.5, -3.25]]

    References:
        Kang et al., "Decoupling Representation and Classifier for Long-Tailed
        Recognition", ICLR 2020, section 4; transforms of the published code, which has
        no balanced mean.
    """
    check_choice("nearest_class_mean", "transform", transform, _TRANSFORMS)
    check_choice("nearest_class_mean", "average", average, _AVERAGES)
    check_rank("nearest_class_mean", "features", features, 2, "[N, D]")
    empty = init_class_sums(num_classes, shape_of(features)[1])
    center = None
    if transform == "cl2n":
        raw = update_class_sums(empty, features, labels, where=where)
        center = global_mean(raw, average=average)
    features = transform_features(
        mask_rows(where, features), center, transform=transform
    )
    sums = update_class_sums(empty, features, labels, where=where)
    return class_means(sums, center, transform=transform)


def class_mean_scores(
    features: ArrayLike, classifier: ClassMeans, *, score: str = "euclidean"
) -> jax.Array:
    r"""Scores of queries under a nearest-class-mean classifier.

    Args:
        features: [B, D] float, *untransformed*: the classifier applies its transform.
        classifier: fitted.
        score: "euclidean" for :math:`-\|t(x) - c_k\|^2`, "dot" for the inner product.

    Returns:
        [B, K] float32, -inf for classes that had no training example.

    Raises:
        ValueError: if the feature width differs or `score` is unknown.

    Example:
        >>> sums = ClassSums(jnp.array([[2.0], [0.0]]), jnp.array([1, 0]))
        >>> class_mean_scores(jnp.array([[1.0]]), class_means(sums)).tolist()
        [[-1.0, -inf]]

    References:
        Kang et al., ICLR 2020, published code. Its "cos" option is an inner product
        divided by D; the constant changes no decision and is left out.
    """
    check_choice("class_mean_scores", "score", score, ("euclidean", "dot"))
    check_floating("class_mean_scores", "features", features)
    dim = classifier.means.shape[1]
    if len(shape_of(features)) != 2 or shape_of(features)[1] != dim:
        raise ValueError(
            f"class_mean_scores: features have shape {shape_of(features)}, expected"
            f" [B, {dim}] as the class means"
        )
    queries = transform_features(
        features, classifier.center, transform=classifier.transform
    )
    means, present = classifier.means, classifier.present[None, :]
    if score == "dot":
        scores = jnp.matmul(queries, means.T, precision="highest")
        return jnp.where(present, scores, -jnp.inf)
    # Distances do not see a common shift, but |x|^2 - 2 x.c + |c|^2 does: its terms
    # cancel in float32 unless the data are centered.
    kept = jnp.maximum(jnp.sum(classifier.present), 1)
    shift = jnp.sum(jnp.where(present.T, means, 0.0), axis=0) / kept
    queries, means = queries - shift[None, :], means - shift[None, :]
    cross = jnp.matmul(queries, means.T, precision="highest")
    squared = (
        jnp.sum(jnp.square(queries), axis=1)[:, None]
        - 2 * cross
        + jnp.sum(jnp.square(means), axis=1)[None, :]
    )
    return jnp.where(present, -jnp.maximum(squared, 0.0), -jnp.inf)
