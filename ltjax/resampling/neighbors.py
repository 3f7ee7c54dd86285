r"""Exact nearest neighbors on the device, within a class or in the whole data.

.. math::
    N_k(i) = \text{the } k \text{ smallest of } \lVert x_i - x_j \rVert_2
    \text{ over } j \ne i,\ y_j = y_i

The search is exact and safe in float32: points are centered, per class where the
search is restricted to a class, candidates are ranked by :math:`\sum_d (a_d - b_d)^2`
rather than by its expansion, and a rounding bound sends doubtful queries through an
exhaustive pass. Equal distances are ordered by index; a point is never its own
neighbor, but its duplicates are. Memory beyond the data is bounded by the block size:
there is no array with a row and a column per point.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_integers, dtype_of, is_concrete
from ltjax.class_stats import infer_num_classes
from ltjax.resampling._neighbor_host import search_on_host, work
from ltjax.resampling._neighbor_index import build_index

# Operations of `work` up to which a search stays on the host, where it is over in
# 0.2 s. Compiling that of the device takes 1.6 s (two cores), a search then 0.1 s.
ON_HOST = 1 << 28
# float32 ends at 3.4e38, and a difference of two features must still fit.
_LARGEST = 1e38


class Neighbors(NamedTuple):
    """Nearest neighbors of Q queries.

    Attributes:
        distances: [Q, k] float, Euclidean, ascending; inf where there is no neighbor.
        indices: [Q, k] int32, rows of the points; -1 where there is no neighbor.
    """

    distances: jax.Array
    indices: jax.Array


def nearest_neighbors(
    queries: ArrayLike,
    points: ArrayLike,
    *,
    k: int,
    itself: ArrayLike | None = None,
    block_size: int = 2048,
    recall_target: float | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Neighbors:
    """The k nearest points of every query.

    A query that is one of the points finds itself first, at distance 0: the search does
    not know that they are the same. Say so by `itself`, as a leave-one-out classifier
    or the density of a data set within itself must.

    Args:
        queries: [Q, D] real.
        points: [N, D] real, in the same units.
        k: number of neighbors, at least 1.
        itself: optional [Q] int, the row of `points` that a query itself is, which is
            then not its neighbor; -1 for none. Excluding by row keeps duplicates.
        block_size: points compared at a time; with the fixed number of queries of a
            tile it bounds the memory. The result does not depend on it.
        recall_target: None for the exact search. A number in (0, 1) lets the device's
            approximate selection miss that share of neighbors, for millions of points
            on an accelerator.
        mesh: optional devices to spread the points over; by default one device holds
            them all. The result does not depend on it.

    Returns:
        Neighbors; with fewer than k points the last ones are missing.

    Raises:
        TypeError: if arrays are traced (the search is planned on the host).
        ValueError: if shapes disagree, k < 1, or a feature is NaN or infinite.

    Example:
        >>> found = nearest_neighbors([[0.9]], [[0.0], [1.0], [3.0]], k=2)
        >>> found.indices.tolist()
        [[1, 0]]
        >>> points = [[0.0], [1.0], [3.0]]
        >>> nearest_neighbors(points, points, k=1).indices.ravel().tolist()
        [0, 1, 2]
        >>> apart = nearest_neighbors(points, points, k=1, itself=[0, 1, 2])
        >>> apart.indices.ravel().tolist()
        [1, 0, 1]
    """
    caller = "nearest_neighbors"
    queries = check_features(caller, "queries", queries)
    points = check_features(caller, "points", points)
    _check_options(caller, k, block_size, recall_target)
    if queries.shape[1] != points.shape[1]:
        raise ValueError(
            f"{caller}: queries have {queries.shape[1]} features,"
            f" but points have {points.shape[1]}"
        )
    itself = np.full(len(queries), -1) if itself is None else np.asarray(itself)
    if itself.shape != (len(queries),):
        raise ValueError(
            f"{caller}: itself has shape {itself.shape}, expected ({len(queries)},)"
        )
    one_class = np.zeros(len(points), np.int32)
    rows, asked = np.arange(len(queries)), np.zeros(len(queries), np.int32)
    found = _search(
        points,
        one_class,
        (queries, rows, asked, itself, k),
        block_size,
        recall_target,
        mesh,
    )
    return Neighbors(*map(jnp.asarray, found))


def same_class_neighbors(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    k: int,
    rows: ArrayLike | None = None,
    block_size: int = 2048,
    recall_target: float | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Neighbors:
    """The k nearest *other* points of the same class.

    Points are sorted by class, so the cost is that of one search per class. One program
    serves all classes, and small classes share its tiles.

    Args:
        features: [N, D] real.
        labels: [N] int class indices, 0 or more.
        k: number of neighbors, at least 1.
        rows: optional [Q] int, the rows whose neighbors are wanted; default all.
        block_size: see `nearest_neighbors`.
        recall_target: see `nearest_neighbors`.
        mesh: see `nearest_neighbors`.

    Returns:
        Neighbors of the rows, in the order of `rows`. In a class of n every row has
        n - 1 neighbors, the others are missing.

    Raises:
        TypeError: if arrays are traced or labels are not integers.
        ValueError: if shapes disagree, k < 1, or a feature is NaN or infinite.

    Example:
        >>> found = same_class_neighbors([[0.0], [1.0], [0.1]], [0, 0, 1], k=1)
        >>> found.indices.tolist()
        [[1], [0], [-1]]
    """
    caller = "same_class_neighbors"
    features = check_features(caller, "features", features)
    labels = check_labels(caller, labels, len(features))
    _check_options(caller, k, block_size, recall_target)
    rows = np.arange(len(features)) if rows is None else np.asarray(rows, np.int64)
    if rows.ndim != 1 or np.any((rows < 0) | (rows >= len(features))):
        raise ValueError(
            f"{caller}: rows must be a vector of indices in [0, {len(features)})"
        )
    by_class = np.argsort(labels[rows], kind="stable")
    asked = rows[by_class]
    found = _search(
        features,
        labels,
        (features, asked, labels[asked], asked, k),
        block_size,
        recall_target,
        mesh,
    )
    back = np.empty_like(by_class)
    back[by_class] = np.arange(len(rows))
    return Neighbors(*(jnp.asarray(x[back]) for x in found))


def _search(points, labels, query, block_size, recall_target, mesh):
    """Distances and indices [Q, k], found where that takes the least time at first.

    `query` is (features, rows, classes, itself, k) of `search_on_host`.
    """
    features, rows, classes, itself, k = query
    few = work(labels, classes, points.shape[1]) <= ON_HOST
    if few and mesh is None and recall_target is None:
        return search_on_host(points, labels, *query)
    index = build_index(points, labels, k, block_size, mesh)
    return index.search(features, rows, classes, itself, k, recall_target)


def check_features(caller: str, name: str, features: ArrayLike) -> np.ndarray:
    """`features` as a host array [N, D] of finite real numbers, in their own dtype.

    Args:
        caller: function named in messages.
        name: argument named in messages.
        features: [N, D] real, concrete.

    Returns:
        The array; nothing is copied if it was one.

    Raises:
        TypeError: if the array is traced or not real.
        ValueError: if it is not [N, D], holds NaN or infinity, or numbers beyond 1e38.

    Example:
        >>> check_features("smote", "features", [[1, 2]]).shape
        (1, 2)
    """
    if not is_concrete(features):
        raise TypeError(
            f"{caller}: {name} are traced, expected concrete arrays (the search is"
            " planned on the host; call it outside jit)"
        )
    dtype_of(caller, name, features)
    array = np.asarray(features)
    real = jnp.issubdtype(array.dtype, jnp.floating)
    if not real and array.dtype.kind not in "iub":
        raise TypeError(f"{caller}: {name} have dtype {array.dtype}, expected real")
    if array.ndim != 2:
        raise ValueError(
            f"{caller}: {name} have shape {array.shape}, expected [N, D]"
            " (flatten images and sequences first)"
        )
    if not array.shape[1]:
        raise ValueError(
            f"{caller}: {name} have shape {array.shape}, expected rows of at"
            " least one feature each"
        )
    bounded = not real or float(jnp.finfo(array.dtype).max) <= _LARGEST
    for start in range(0, len(array) if real else 0, 4096):
        finite = np.isfinite(array[start : start + 4096]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise ValueError(
                f"{caller}: {name} must be finite, but row {row} holds NaN or infinity"
            )
        if bounded:
            continue
        large = np.abs(array[start : start + 4096]).max(axis=1, initial=0) > _LARGEST
        if large.any():
            row = start + int(np.argmax(large))
            raise ValueError(
                f"{caller}: {name} must lie within ±{_LARGEST:g}, where distances can"
                f" be told apart, but row {row} does not; standardize them"
            )
    return array


def check_labels(caller: str, labels: ArrayLike, count: int) -> np.ndarray:
    """`labels` as a host array [N] of class indices, one per row of the features.

    Args:
        caller: function named in messages.
        labels: [N] int, concrete, 0 or more.
        count: N expected.

    Returns:
        [N] int64 array.

    Raises:
        TypeError: if labels are traced or not integers.
        ValueError: for a wrong shape, a negative label, or one far beyond N.

    Example:
        >>> check_labels("smote", [0, 2], 2).tolist()
        [0, 2]
    """
    if not is_concrete(labels):
        raise TypeError(f"{caller}: labels are traced, expected concrete class indices")
    check_integers(caller, "labels", labels)
    array = np.asarray(labels)
    if array.shape != (count,):
        raise ValueError(
            f"{caller}: labels have shape {array.shape}, expected ({count},),"
            " one per row of the features"
        )
    if array.size == 0:
        return array.astype(np.int32)
    if array.min() < 0:
        row = int(np.argmin(array))
        raise ValueError(
            f"{caller}: labels must be >= 0, but labels[{row}] is {array[row]}"
        )
    infer_num_classes(caller, array)  # refuses what cannot be class indices
    return array.astype(np.int64)


def _check_options(caller: str, k, block_size, recall_target) -> None:
    for name, value in (("k", k), ("block_size", block_size)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{caller}: {name} is {value!r}, expected an integer >= 1")
    if recall_target is not None and not 0 < recall_target < 1:
        raise ValueError(
            f"{caller}: recall_target is {recall_target}, expected None (exact) or a"
            " number in (0, 1)"
        )
