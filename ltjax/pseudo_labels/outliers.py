r"""Outliers among the features of a class: examples whose given label may be wrong."""

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_range, check_rank, shape_of
from ltjax.class_stats import count_labels

# Distances in memory at a time.
_BLOCK = 1 << 22
# Neighbors beyond k whose distances are computed exactly before the nearest k are cut.
_SPARE = 16


def local_outlier_factor(features: ArrayLike, *, num_neighbors: int = 20) -> np.ndarray:
    r"""Local outlier factor: the density of a point's neighbors over its own.

    With N the k nearest neighbors, the point itself left out,

    .. math::
        \mathrm{reach}(a, b) &= \max(\mathrm{kdist}(b), \|a - b\|), \\
        \mathrm{lrd}(a) &= 1 \Big/ \Big(\tfrac1k \sum_{b \in N(a)} \mathrm{reach}(a, b)
            + 10^{-10}\Big), \\
        \mathrm{LOF}(a) &= \tfrac1k \sum_{b \in N(a)} \mathrm{lrd}(b) / \mathrm{lrd}(a)

    About 1 inside of a cloud, larger outside. Label noise comes in clusters (examples
    of compact other classes), which are dense: take more neighbors than the largest
    cluster of wrong labels has members.

    Args:
        features: [n, D] real, of one class. Normalize rows for cosine geometry.
        num_neighbors: k >= 1, cut to n - 1.

    Returns:
        [n] float64; 1 for a single point. On the host.

    Raises:
        ValueError: if features is not a matrix of finite numbers, or k < 1.

    Example:
        >>> points = [[0.0], [1.0], [2.0], [3.0], [10.0]]
        >>> local_outlier_factor(points, num_neighbors=2).round(6).tolist()
        [1.0, 1.0, 1.0, 1.0, 5.0]

    References:
        Breunig et al., "LOF: Identifying Density-Based Local Outliers", SIGMOD 2000.
        Equal to minus the `negative_outlier_factor_` of scikit-learn's
        LocalOutlierFactor: exactly k neighbors where distances tie, and 1e-10 in the
        density, so that k + 1 equal points have a density of 1e10.
    """
    caller = "local_outlier_factor"
    check_rank(caller, "features", features, 2, "[n, D]")
    check_range(caller, "num_neighbors", num_neighbors, low=1)
    points = np.asarray(features, np.float64)
    if not np.all(np.isfinite(points)):
        raise ValueError(f"{caller}: features must be finite")
    size = len(points)
    k = min(int(num_neighbors), size - 1)
    if k < 1:
        return np.ones(size)
    near, distance = _nearest(points, k)
    reach = np.maximum(distance[near, -1], distance)
    density = 1.0 / (reach.mean(axis=1) + 1e-10)
    return density[near].mean(axis=1) / density


def inliers_by_class(
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    contamination: float = 0.2,
    num_neighbors: int | None = None,
) -> np.ndarray:
    r"""Drops the share `contamination` of every class with the largest outlier factors.

    A fixed bound on the factor would not do: on unit features of moderate dimension
    factors concentrate near 1.

    Args:
        features: [N, D] real.
        labels: [N] int, given labels.
        num_classes: K.
        contamination: in [0, 0.5], for instance the noise rate; an example is dropped
            if its factor exceeds that percentile (linear interpolation) of its class.
        num_neighbors: None for 0.2 n_c, at least 10 and at most 200.

    Returns:
        [N] bool, True for inliers. At least max(2, n_c / 2) of a class are kept, and
        all of a class with fewer than 3.

    Raises:
        ValueError: if shapes disagree, a label lies outside [0, K), or the share is out
            of range.

    Example:
        >>> points, labels = [[0.0], [0.1], [0.2], [9.0], [5.0]], [0, 0, 0, 0, 1]
        >>> inliers_by_class(
        ...     points, labels, 2, contamination=0.25, num_neighbors=1
        ... ).tolist()
        [True, True, True, False, True]

    References:
        Zhang et al., "When Noisy Labels Meet Long Tail Dilemmas: A Representation
        Calibration Method", ICCV 2023. The number of neighbors, the share and the
        minimum are our choice; the paper does not give them.
    """
    caller = "inliers_by_class"
    check_rank(caller, "features", features, 2, "[N, D]")
    check_range(caller, "contamination", contamination, low=0, high=0.5)
    counts = count_labels(labels, num_classes)
    points, labels = np.asarray(features, np.float64), np.asarray(labels)
    if len(points) != labels.size:
        raise ValueError(
            f"{caller}: features has shape {shape_of(features)}, expected"
            f" ({labels.size}, D), one row per label"
        )
    kept = np.ones(labels.size, bool)
    for k, count in enumerate(np.asarray(counts)):
        if count < 3:
            continue
        at = np.flatnonzero(labels == k)
        chosen = num_neighbors
        if chosen is None:
            chosen = int(np.clip(0.2 * count, 10, 200))
        score = -local_outlier_factor(points[at], num_neighbors=chosen)
        good = score >= np.percentile(score, 100 * contamination)
        least = max(2, int(np.ceil(count / 2)))
        if good.sum() < least:
            good = np.zeros(count, bool)
            good[np.argsort(-score, kind="stable")[:least]] = True
        kept[at] = good
    return kept


def _nearest(points, k) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances of the k nearest other points, nearest first, [n, k].

    A product of matrices finds a few more than k of them; their distances come from
    differences, which do not cancel for points that lie close together.
    """
    size = len(points)
    centered = points - points.mean(axis=0)
    squares = np.sum(centered**2, axis=1)
    some = min(k + _SPARE, size - 1)
    near = np.empty((size, k), np.int64)
    distance = np.empty((size, k))
    rows = max(1, min(_BLOCK // size, _BLOCK // (some * max(1, points.shape[1]))))
    for start in range(0, size, rows):
        block = np.arange(start, min(start + rows, size))
        rough = squares[block, None] + squares - 2 * centered[block] @ centered.T
        rough[np.arange(block.size), block] = np.inf
        found = np.argpartition(rough, some - 1, axis=1)[:, :some]
        found.sort(axis=1)  # of equal distances the lowest index comes first
        exact = np.linalg.norm(points[block, None] - points[found], axis=2)
        order = np.argsort(exact, axis=1, kind="stable")[:, :k]
        near[block] = np.take_along_axis(found, order, axis=1)
        distance[block] = np.take_along_axis(exact, order, axis=1)
    return near, distance
