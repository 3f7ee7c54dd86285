r"""k-means on the device: vmapped restarts, a fixed number of steps, no empty cluster.

.. math:: \min_{c_1 \dots c_K} \sum_i \min_j \lVert x_i - c_j \rVert^2
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_whole
from ltjax._numerics import as_key
from ltjax.resampling._random import seed_points
from ltjax.resampling.neighbors import check_features

_HIGHEST = jax.lax.Precision.HIGHEST
# Smaller problems are filled up to this size, and share a program.
_SMALLEST = 256


class KMeans(NamedTuple):
    """A clustering of N points.

    Attributes:
        labels: [N] int32 cluster of each point.
        centers: [K, D] float64.
        inertia: sum of squared distances to the centers.
    """

    labels: np.ndarray
    centers: np.ndarray
    inertia: float


def kmeans(
    key: jax.Array,
    points: ArrayLike,
    *,
    num_clusters: int,
    restarts: int = 10,
    iterations: int = 50,
    start: ArrayLike | None = None,
) -> KMeans:
    """Lloyd's algorithm from k-means++ seeds; the best of several runs.

    Programs are compiled for powers of two of N and K, so that clustering many classes
    compiles a handful of times.

    Args:
        key: random key; the same key gives the same clustering.
        points: [N, D] real.
        num_clusters: K >= 1.
        restarts: number of runs.
        iterations: Lloyd steps of a run.
        start: optional [k, D], k <= K first centers of a single run; missing ones are
            seeded with the points that are farthest away.

    Returns:
        KMeans. A cluster that loses its points is moved to the point that is farthest
        from its center; with fewer than K distinct points some clusters stay empty.

    Raises:
        TypeError: if `points` are traced or not real.
        ValueError: for wrong shapes, NaN, or an argument below 1.

    Example:
        >>> found = kmeans(jax.random.key(0), [[0.0], [0.1], [9.0]], num_clusters=2)
        >>> sorted(round(float(c), 2) for c in found.centers[:, 0])
        [0.05, 9.0]

    References:
        Arthur, Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA
        2007. Empty clusters: ours.
    """
    key = as_key("kmeans", key)
    points = check_features("kmeans", "points", points)
    limits = {"num_clusters": num_clusters, "restarts": restarts}
    for name, value in (limits | {"iterations": iterations}).items():
        check_whole("kmeans", name, value, low=1)
    if len(points) == 0:
        raise ValueError("kmeans: there are no points")
    mean = points.mean(axis=0, dtype=np.float64)
    centered = points - mean
    scale = np.sqrt(np.square(centered).sum(axis=1).mean()) or 1.0
    width = 1 << (num_clusters - 1).bit_length()
    size = max(width, _SMALLEST, 1 << (len(points) - 1).bit_length())
    padded = np.zeros((size, points.shape[1]), np.float32)
    padded[: len(points)] = centered / scale
    if start is None:
        first = None
        keys = jax.random.split(key, restarts)
    else:
        centers = np.asarray(start, np.float64)
        if centers.ndim != 2 or not 1 <= len(centers) <= num_clusters:
            raise ValueError(
                f"kmeans: start has shape {centers.shape}, expected [k, D] with k in"
                f" [1, {num_clusters}]"
            )
        # Out of reach of all points, so that the first step moves them to far ones.
        first = np.full((1, width, points.shape[1]), 1e18, np.float32)
        first[0, : len(centers)] = (centers - mean) / scale
        keys = None
    labels, centers, inertia = _best_run(
        keys,
        first,
        padded,
        np.int32(len(points)),
        np.int32(num_clusters),
        width=width,
        iterations=iterations,
    )
    labels = np.asarray(labels)[: len(points)]
    centers = np.asarray(centers, np.float64)[:num_clusters] * scale + mean
    return KMeans(labels, centers, float(inertia) * scale**2)


@functools.partial(jax.jit, static_argnames=("width", "iterations"))
def _best_run(keys, start, points, count, num_clusters, *, width, iterations):
    """The run of least inertia among those of `keys`, or the one from `start`."""
    valid = jnp.arange(len(points)) < count
    active = jnp.arange(width) < num_clusters
    if start is None:
        start = jax.vmap(lambda key: seed_points(key, points, valid, width))(keys)

    def step(_, centers):
        return jax.vmap(lambda c: _lloyd(points, valid, active, c))(centers)

    centers = jax.lax.fori_loop(0, iterations, step, start)
    labels, squared = jax.vmap(lambda c: _assign(points, active, c))(centers)
    inertia = jnp.sum(jnp.where(valid, squared, 0.0), axis=1)
    best = jnp.argmin(inertia)
    return labels[best], centers[best], inertia[best]


def _lloyd(points, valid, active, centers):
    """One step: assign, average, and move centers without points to far points."""
    labels, squared = _assign(points, active, centers)
    members = (labels[:, None] == jnp.arange(len(centers))[None, :]) & valid[:, None]
    counts = jnp.sum(members, axis=0)
    sums = jnp.matmul(members.T.astype(points.dtype), points, precision=_HIGHEST)
    means = sums / jnp.maximum(counts, 1)[:, None]
    distance, farthest = jax.lax.top_k(jnp.where(valid, squared, 0.0), len(centers))
    empty = (counts == 0) & active
    rank = jnp.maximum(jnp.cumsum(empty) - 1, 0)
    moved = jnp.where((distance[rank] > 0)[:, None], points[farthest[rank]], centers)
    return jnp.where(empty[:, None], moved, jnp.where(active[:, None], means, centers))


def _assign(points, active, centers):
    """Nearest center of each point (the lowest of equals), and its squared distance."""
    product = jnp.matmul(points, centers.T, precision=_HIGHEST)
    norms = jnp.sum(jnp.square(centers), axis=1)
    squared = (
        jnp.sum(jnp.square(points), axis=1)[:, None] - 2 * product + norms[None, :]
    )
    squared = jnp.where(active[None, :], squared, jnp.inf)
    return jnp.argmin(squared, axis=1), jnp.maximum(jnp.min(squared, axis=1), 0.0)
