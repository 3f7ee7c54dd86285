r"""COG: local decomposition of large classes, so that all classes are alike in size.

Every large class is split into sub-classes by clustering *within* the class; a
classifier is trained on sub-classes, of similar size and simple shape, and its
decisions are mapped back:

.. math:: \hat y = \mathrm{parent}\bigl(\arg\max_s f_s(x)\bigr), \qquad
          P(y = i \mid x) = \sum_{s:\, \mathrm{parent}(s) = i} P(s \mid x) .

A linear classifier becomes piecewise linear that way. COG-OS also replicates the rare
classes. The label by the first rule is the paper's, the probabilities by the second are
ours; the two can disagree.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_class_vector,
    check_counts,
    check_integers,
    check_range,
    check_whole,
    class_axis,
    is_concrete,
)
from ltjax._numerics import as_key, at_least_float32
from ltjax.class_stats import count_labels
from ltjax.resampling._neighbor_index import sort_by_class
from ltjax.resampling.kmeans import kmeans
from ltjax.resampling.neighbors import check_features, check_labels


class SubClasses(NamedTuple):
    """A decomposition of K classes into S sub-classes.

    Attributes:
        labels: [N] int32 sub-class of each example, 0 ... S - 1, all of them used.
        parent: [S] int32 class of each sub-class, non-decreasing.
        centers: [S, D] float64 mean of the features of each sub-class.
    """

    labels: np.ndarray
    parent: np.ndarray
    centers: np.ndarray


def cog(
    key: jax.Array,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_clusters: ArrayLike | None = None,
    restarts: int = 10,
    iterations: int = 50,
    previous: SubClasses | None = None,
) -> SubClasses:
    """Splits large classes into sub-classes of similar size (phase I of COG).

    Args:
        key: random key; the clustering of a class depends on it and on the class only.
        features: [N, D] real; raw or frozen features, standardized.
        labels: [N] int class indices.
        num_clusters: [K] int >= 1, K(i); 1 leaves a class alone. Default
            `cog_num_clusters` of the class counts.
        restarts: k-means runs per class, of which the best is kept.
        iterations: Lloyd steps of a run.
        previous: sub-classes of the same examples, to be refined on new features: every
            class starts from the means of its sub-classes, so ids carry over.

    Returns:
        SubClasses. A class with fewer distinct points than clusters has fewer.

    Raises:
        TypeError: for traced arrays or non-integer labels.
        ValueError: for wrong shapes, NaN, or num_clusters below 1.

    Example:
        >>> x = [[-3.0], [-3.1], [3.0], [3.1], [0.0]]
        >>> split = cog(jax.random.key(0), x, [0, 0, 0, 0, 1], num_clusters=[2, 1])
        >>> split.parent.tolist(), bool(split.labels[0] == split.labels[1])
        ([0, 0, 1], True)

    References:
        Wu, Xiong, Chen, "COG: local decomposition for rare class analysis", Data Mining
        and Knowledge Discovery 2010 (KDD 2007). Number of clusters, k-means++ and
        restarts are our choice.
    """
    key = as_key("cog", key)
    features = check_features("cog", "features", features)
    labels = check_labels("cog", labels, len(features))
    counts = np.bincount(labels)
    if num_clusters is None:
        num_clusters = cog_num_clusters(counts) if len(labels) else counts
    num_clusters = np.asarray(num_clusters)
    if num_clusters.ndim != 1 or len(num_clusters) < len(counts):
        raise ValueError(
            f"cog: num_clusters has shape {num_clusters.shape}, but there are"
            f" {len(counts)} classes"
        )
    if num_clusters.dtype.kind not in "iu" or np.any(num_clusters < 1):
        raise ValueError(
            f"cog: num_clusters is {num_clusters.tolist()}, expected integers >= 1"
        )
    order, bounds = sort_by_class(labels)
    sub_labels = np.zeros(len(labels), np.int32)
    parent: list[int] = []
    for label in np.flatnonzero(counts).tolist():
        rows = order[bounds[label] : bounds[label + 1]]
        clusters = np.zeros(len(rows), np.int64)
        if previous is not None:
            _, clusters = np.unique(previous.labels[rows], return_inverse=True)
        if num_clusters[label] > 1 and len(rows) > 1:
            points = features[rows].astype(np.float64)
            clusters = kmeans(
                jax.random.fold_in(key, label),
                points,
                num_clusters=int(num_clusters[label]),
                restarts=restarts,
                iterations=iterations,
                start=None if previous is None else _means(points, clusters),
            ).labels
        used, clusters = np.unique(clusters, return_inverse=True)
        sub_labels[rows] = len(parent) + clusters
        parent += [label] * len(used)
    centers = _means(features, sub_labels)
    return SubClasses(sub_labels, np.asarray(parent, np.int32), centers)


def cog_num_clusters(
    class_counts: ArrayLike,
    *,
    target: float | None = None,
    rare: str = "below_median",
    max_clusters: int = 8,
) -> np.ndarray:
    r"""Clusters per class.

    .. math:: K(i) = \mathrm{clip}(\mathrm{round}(n_i / t),\ 1,\ K_{\max})

    Args:
        class_counts: [K] int.
        target: t, the size that sub-classes should have; default the median size of the
            rare classes.
        rare: which classes are rare: "below_median" (of the sizes of classes that have
            an example; the smallest class if none is) or "smallest".
        max_clusters: upper limit.

    Returns:
        [K] int64; rare classes, and classes without examples, have 1.

    Raises:
        ValueError: if all counts are zero, or for a target that is not positive.

    Example:
        >>> cog_num_clusters([400, 100, 90, 40]).tolist()
        [6, 2, 1, 1]

    References:
        Ours: the paper leaves K(i) to the user.
    """
    check_choice("cog_num_clusters", "rare", rare, ("below_median", "smallest"))
    check_range("cog_num_clusters", "max_clusters", max_clusters, low=1)
    check_counts("cog_num_clusters", class_counts)
    counts = np.asarray(class_counts)
    present = counts[counts > 0]
    if present.size == 0:
        raise ValueError("cog_num_clusters: class_counts are all zero")
    if target is None:
        below = present[present < np.median(present)]
        use_smallest = rare == "smallest" or below.size == 0
        target = float(present.min() if use_smallest else np.median(below))
    check_range("cog_num_clusters", "target", target, low=0.0, open_low=True)
    return np.clip(np.rint(counts / target), 1, max_clusters).astype(np.int64)


def cog_replication(labels: ArrayLike, sub_classes: SubClasses) -> np.ndarray:
    r"""How often COG-OS uses the examples of each class.

    .. math:: r(j) = \max(1, \mathrm{round}(t / n_j)), \qquad
              t = \text{median size of all sub-classes}

    Repeat the rows r(j) times (phase II), or, without copies, give them the weight r(j)
    in the loss of the base learner, which is the same.

    Args:
        labels: [N] int class indices.
        sub_classes: of the same examples.

    Returns:
        [K] int64.

    Raises:
        ValueError: if labels and sub-classes differ in length.

    Example:
        >>> subs = np.array([0] * 6 + [1] * 6 + [2] * 2)
        >>> split = SubClasses(subs, np.array([0, 0, 1]), np.zeros((3, 1)))
        >>> cog_replication([0] * 12 + [1] * 2, split).tolist()
        [1, 3]

    References:
        Wu et al. 2010, COG-OS; the rule is ours.
    """
    labels = check_labels("cog_replication", labels, len(sub_classes.labels))
    counts = np.asarray(count_labels(labels, int(labels.max(initial=0)) + 1))
    target = np.median(np.bincount(sub_classes.labels)) if len(labels) else 0
    return np.maximum(1, np.rint(target / np.maximum(counts, 1))).astype(np.int64)


def max_rule(scores: ArrayLike, parent: ArrayLike) -> jax.Array:
    """Class of the best sub-class, the paper's rule.

    Args:
        scores: [..., S] float, margins or (log-)probabilities of sub-classes.
        parent: [S] int, class of each sub-class.

    Returns:
        [...] int32 labels.

    Raises:
        ValueError: if `parent` has the wrong length.

    Example:
        >>> int(max_rule(jnp.array([0.3, 0.3, 0.4]), [0, 0, 1]))
        1

    References:
        Wu et al. 2010, phase IV.
    """
    _check_parent("max_rule", "scores", scores, parent)
    parent = jnp.asarray(parent, jnp.int32)
    return parent[jnp.argmax(jnp.asarray(scores), axis=-1)]


def max_scores(scores: ArrayLike, parent: ArrayLike, num_classes: int) -> jax.Array:
    """Best score among the sub-classes of each class; for margins.

    Args:
        scores: [..., S] float.
        parent: [S] int, class of each sub-class.
        num_classes: K.

    Returns:
        [..., K] float32; -inf for a class without sub-classes.

    Raises:
        ValueError: if `parent` has the wrong length.

    Example:
        >>> max_scores(jnp.array([0.3, 0.5, 0.4]), [0, 0, 1], 2).tolist()
        [0.5, 0.4000000059604645]

    References:
        Ours; the arg-max is `max_rule`.
    """
    _check_parent("max_scores", "scores", scores, parent, num_classes)
    by_sub_class = jnp.moveaxis(at_least_float32(scores), -1, 0)
    parent = jnp.asarray(parent, jnp.int32)
    best = jax.ops.segment_max(by_sub_class, parent, num_segments=num_classes)
    return jnp.moveaxis(best, 0, -1)


def sum_rule(
    probabilities: ArrayLike, parent: ArrayLike, num_classes: int
) -> jax.Array:
    r"""Class probabilities, the sums over sub-classes.

    .. math:: P(i \mid x) = \sum_{s:\, \mathrm{parent}(s) = i} P(s \mid x)

    Args:
        probabilities: [..., S] float of sub-classes.
        parent: [S] int, class of each sub-class.
        num_classes: K.

    Returns:
        [..., K] float32.

    Raises:
        ValueError: if `parent` has the wrong length.

    Example:
        >>> p = sum_rule(jnp.array([0.3, 0.3, 0.4]), [0, 0, 1], 2)
        >>> [f"{v:.1f}" for v in p]
        ['0.6', '0.4']

    References:
        Ours; its arg-max can differ from `max_rule`.
    """
    _check_parent("sum_rule", "probabilities", probabilities, parent, num_classes)
    by_sub_class = jnp.moveaxis(at_least_float32(probabilities), -1, 0)
    parent = jnp.asarray(parent, jnp.int32)
    total = jax.ops.segment_sum(by_sub_class, parent, num_segments=num_classes)
    return jnp.moveaxis(total, 0, -1)


def _check_parent(caller: str, name: str, scores, parent, num_classes=None) -> None:
    check_class_vector(caller, "parent", parent, class_axis(caller, name, scores))
    check_integers(caller, "parent", parent)
    if num_classes is None:
        return
    check_whole(caller, "num_classes", num_classes)
    if is_concrete(parent):
        known = np.asarray(parent)
        outside = known[(known < 0) | (known >= num_classes)]
        if outside.size:
            raise ValueError(
                f"{caller}: parent holds {outside[0]}, expected classes in"
                f" [0, {num_classes})"
            )


def _means(points: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Mean of each cluster of `points`; all clusters have members."""
    if not len(clusters):
        return np.zeros((0, points.shape[1]))
    order, bounds = sort_by_class(clusters)
    sums = np.add.reduceat(points[order].astype(np.float64), bounds[:-1], axis=0)
    return sums / np.diff(bounds)[:, None]
