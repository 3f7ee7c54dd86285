"""The host side of the neighbor search: centers, layout in blocks, tiles of queries."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from ltjax.resampling._neighbor_blocks import (
    SLACK,
    Query,
    Table,
    search_tile,
    table_specs,
)

# Points that a query ranks in difference form, about.
_SHORTLIST = 256
# Rows read at a time, and rows that estimate the spread of a class.
_SAMPLE = 1024
# Queries of a tile. Larger tiles fill an accelerator, smaller ones fit a CPU's cache.
_QUERIES = {"cpu": 256}
_QUERIES_ELSEWHERE = 2048
# Tiles in flight; more would only hold memory.
_IN_FLIGHT = 4
# Class of the rows that fill the last tile: no point has it.
_NO_CLASS = -2


class Index(NamedTuple):
    """Points laid out for `search_tile`, and what queries must know to meet them."""

    table: Table
    bounds: np.ndarray  # [K + 1] first position of each class
    centers: np.ndarray  # [K, D] float64
    scale: float
    direct: bool  # the points fit the working precision without centering
    exact: bool  # step 1 makes no rounding error on these points
    step: float  # the grid on which centered integer-like data lie
    group: int
    mesh: Mesh | None

    def search(self, features, rows, classes, itself, k, recall_target):
        """Distances [Q, k] and indices [Q, k] (numpy) of `features[rows]`.

        Rows should be sorted by class, so that a tile covers few blocks.
        """
        size = _QUERIES.get(jax.default_backend(), _QUERIES_ELSEWHERE)
        block_size = self.table.norms.shape[1]
        found = []
        for start, stop in tiles(classes, size):
            low, high = classes[start], classes[stop - 1]
            query = self._query(
                features[rows[start:stop]],
                classes[start:stop],
                itself[start:stop],
                size,
            )
            tile = search_tile(
                self.table,
                query,
                np.int32(self.bounds[low] // block_size),
                np.int32(-(-self.bounds[high + 1] // block_size)),
                k=k,
                group=self.group,
                recall_target=recall_target,
                mesh=self.mesh,
            )
            found.append((tile, stop - start))
            if len(found) > _IN_FLIGHT:
                tile, length = found[-1 - _IN_FLIGHT]
                found[-1 - _IN_FLIGHT] = (jax.device_get(tile), length)
        dtype = self.table.norms.dtype
        distances = np.full((len(rows), k), np.inf, dtype)
        indices = np.full((len(rows), k), -1, np.int32)
        at = 0
        for tile, length in found:
            distances[at : at + length] = tile[0][:length]
            indices[at : at + length] = tile[1][:length]
            at += length
        return distances, indices

    def _query(self, points, classes, itself, size) -> Query:
        """A tile of queries, filled up to `size` rows."""
        dtype, padding = self.table.norms.dtype, size - len(points)
        centered = points - self.centers[classes]
        raw = points if self.direct else centered
        centered = (centered * self.scale).astype(dtype)
        exact = self.exact and _is_exact(centered, self.step * self.scale)
        fill = ((0, padding), (0, 0))
        return Query(
            np.pad(centered, fill),
            np.pad(raw.astype(dtype), fill),
            np.pad(classes.astype(np.int32), (0, padding), constant_values=_NO_CLASS),
            np.pad(itself.astype(np.int32), (0, padding), constant_values=-1),
            np.asarray(exact),
        )


def build_index(
    features, labels, k: int, block_size: int, mesh: Mesh | None = None
) -> Index:
    """Lays out `features` [N, D] (host, any real dtype), sorted by `labels` [N]."""
    count, dim = features.shape
    dtype, direct = precision(features.dtype)
    group = _group_size(k)
    block_size = -(-block_size // group) * group
    order, bounds = sort_by_class(labels)
    centers, step, scale = class_centers(features, order, bounds)

    devices = 1 if mesh is None else mesh.size
    blocks = devices * max(1, -(-count // (block_size * devices)))
    classes = np.full(blocks * block_size, -1, np.int32)
    classes[:count] = labels[order]
    rows = np.zeros(blocks * block_size, np.int32)
    rows[:count] = order
    lanes = np.zeros((blocks, group, block_size // group, dim), dtype)
    norms = np.zeros((blocks, group, block_size // group), dtype)
    raw = np.zeros((blocks * block_size, dim), dtype)
    exact = True
    for block in range(blocks):
        at = slice(block * block_size, min((block + 1) * block_size, count))
        points = features[order[at]]
        centered = points - centers[classes[at]]
        raw[at] = points if direct else centered
        padded = np.zeros((block_size, dim), dtype)
        padded[: len(points)] = centered * scale
        in_lanes = padded.reshape(-1, group, dim).swapaxes(0, 1)
        lanes[block] = -2 * in_lanes
        norms[block] = np.square(in_lanes).sum(axis=-1)
        exact = exact and _is_exact(padded, step * scale)
    table = Table(
        lanes=lanes.reshape(blocks, block_size, dim),
        norms=norms.reshape(blocks, block_size),
        classes=classes.reshape(blocks, block_size),
        rows=rows.reshape(blocks, block_size),
        raw=raw.reshape(blocks, block_size, dim),
        scale=np.asarray(scale, dtype),
    )
    if mesh is None:
        table = jax.tree.map(jnp.asarray, table)
    else:
        place = Table._make(NamedSharding(mesh, spec) for spec in table_specs(mesh))
        table = jax.device_put(table, place)
    return Index(table, bounds, centers, scale, direct, exact, step, group, mesh)


def sort_by_class(labels) -> tuple[np.ndarray, np.ndarray]:
    """Rows sorted by class, then by row, and the first position of each class."""
    order = np.argsort(labels, kind="stable").astype(np.int32)
    counts = np.bincount(labels) if len(labels) else np.zeros(1, np.int64)
    return order, np.concatenate([[0], np.cumsum(counts)])


def precision(dtype) -> tuple[np.dtype, bool]:
    """Working dtype, and whether values of `dtype` fit it without rounding.

    What float32 cannot hold is centered in float64 first: values of mean 1000 and
    spread 0.01 would lose most of their digits.
    """
    if dtype == np.float64 and jax.dtypes.canonicalize_dtype(np.float64) == np.float64:
        return np.dtype(np.float64), True
    is_wide = dtype == np.float64 or (dtype.kind in "iu" and dtype.itemsize > 2)
    return np.dtype(np.float32), not is_wide


def _group_size(k: int) -> int:
    """Points per group: large enough to spare selection, small enough to rank all."""
    size = _SHORTLIST // (k + 1 + SLACK)
    return 1 if size < 1 else min(16, 1 << (size.bit_length() - 1))


def class_centers(features, order, bounds) -> tuple[np.ndarray, float, float]:
    """Per class a center near the mean; a grid step; a power-of-two scale.

    Centers lie on a grid of powers of two, so that integer-like features remain
    integer-like and their distances, with all the ties, are exact in float32. The scale
    keeps squares of very large or very small features in range.
    """
    centers = np.zeros((len(bounds) - 1, features.shape[1]))
    finest, largest = 1.0, 0.0
    for label in np.flatnonzero(np.diff(bounds)):
        rows = order[bounds[label] : bounds[label + 1]]
        total = np.zeros(features.shape[1])
        for at in range(0, len(rows), _SAMPLE):
            total += features[rows[at : at + _SAMPLE]].sum(axis=0, dtype=np.float64)
        sample = features[rows[:_SAMPLE]].astype(np.float64)
        spread = sample.std(axis=0)
        varies = spread > 0
        step = np.exp2(np.floor(np.log2(np.where(varies, spread, 1.0))))
        near_mean = np.rint(total / len(rows) / step) * step
        centers[label] = np.where(varies, near_mean, sample[0])
        finest = min(finest, step.min(initial=1.0))
        largest = max(largest, np.square(sample - centers[label]).sum(axis=1).mean())
    scale = 2.0 ** -np.round(np.log2(largest) / 2) if largest > 0 else 1.0
    return centers, float(finest), float(scale)


def _is_exact(centered, step: float) -> bool:
    """Whether no partial sum of |p|^2 - 2 q.p over such points can round.

    That is so if all values are multiples of `step` and 3 |p|^2 stays below 2^24 (for
    float32) in units of step^2.
    """
    units = centered[:1] / step  # most data fail in the first row
    if not np.all(units == np.rint(units)):
        return False
    units = centered.astype(np.float64) / step
    limit = 2 / np.finfo(centered.dtype).eps
    squared = np.einsum("nd,nd->n", units, units).max(initial=0.0)
    return bool(3 * squared < limit and np.all(units == np.rint(units)))


def tiles(classes, size: int) -> list[tuple[int, int]]:
    """Cuts sorted queries into tiles of at most `size`.

    A tile holds a part of one class, or several whole ones: small classes share a tile,
    which is what makes a thousand of them cheap.
    """
    count = len(classes)
    borders = np.concatenate([[0], np.flatnonzero(np.diff(classes)) + 1, [count]])
    tiles, start = [], 0
    while start < count:
        border = borders[np.searchsorted(borders, start + size, side="right") - 1]
        stop = int(border) if border > start else start + size
        tiles.append((start, stop))
        start = stop
    return tiles
