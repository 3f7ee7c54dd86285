"""The neighbor search of few points on the host, where nothing is compiled.

The points are rounded as `_neighbor_index` rounds them for the device, and distances
are in difference form too, but summed in float64. Neighbors and the order of ties are
those of the device wherever its own sums, in float32, can tell two distances apart.
"""

import numpy as np

from ltjax.resampling._neighbor_index import class_centers, precision, sort_by_class

# Distances of queries to all points of a class that are held at a time.
_DISTANCES = 1 << 19
# What it takes to select the nearest, in differences of features per pair of points.
_SELECTION = 32


def work(labels, classes, dim: int) -> int:
    """Operations of a search of queries of `classes` [Q] in points of `labels` [N]."""
    asked = np.bincount(classes)
    points = np.bincount(labels, minlength=len(asked))[: len(asked)]
    return int(asked @ points) * (dim + _SELECTION)


def search_on_host(points, labels, features, rows, classes, itself, k: int):
    """Distances and indices [Q, k] of `features[rows]` among points of its class.

    Args:
        points: [N, D] real, on the host.
        labels: [N] int, their classes.
        features: [M, D] real, that queries are rows of.
        rows: [Q] int.
        classes: [Q] int, the class that each query is compared with.
        itself: [Q] int, the point that each query is, or -1.
        k: number of neighbors.

    Returns:
        As `_neighbor_index.Index.search`.
    """
    from scipy.spatial.distance import cdist

    order, bounds = sort_by_class(labels)
    dtype, direct = precision(points.dtype)
    centers, _, scale = class_centers(points, order, bounds)

    def placed(x, label):
        x = x if direct else x - centers[label]
        return x.astype(dtype).astype(np.float64) * scale

    distances = np.full((len(rows), k), np.inf, dtype)
    indices = np.full((len(rows), k), -1, np.int32)
    for label in np.unique(classes):
        members = order[bounds[label] : bounds[label + 1]]
        kept, near = min(k, len(members)), placed(points[members], label)
        asked = np.flatnonzero(classes == label)
        size = max(1, _DISTANCES // max(1, len(members)))
        for start in range(0, len(asked) if kept else 0, size):
            at = asked[start : start + size]
            squared = cdist(placed(features[rows[at]], label), near, "sqeuclidean")
            squared[itself[at][:, None] == members[None, :]] = np.inf
            columns = _smallest(squared, kept)
            squared = np.take_along_axis(squared, columns, axis=1)
            distances[at, :kept] = np.sqrt(squared) / scale
            indices[at, :kept] = np.where(squared < np.inf, members[columns], -1)
    return distances, indices


def _smallest(values: np.ndarray, k: int) -> np.ndarray:
    """Columns [Q, k] of the k smallest of each row, ascending; of equals the first."""
    kth = np.partition(values, k - 1, axis=1)[:, k - 1 : k]
    row, column = np.nonzero(values <= kth)
    ranked = np.lexsort((column, values[row, column], row))
    first = np.searchsorted(row, np.arange(len(values)))
    return column[ranked[first[:, None] + np.arange(k)[None, :]]]
