"""Nearest neighbors within a class for distances that no matrix product gives.

Every point of the class is compared in blocks; ties are ordered by row. `pair` maps
arrays of Q queries and of P points, and arrays common to all, to values [Q, P].
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.resampling._neighbor_index import sort_by_class, tiles

# Queries of a tile.
_QUERIES = 128


def same_class_by(
    pair: Callable,
    query_arrays: tuple[np.ndarray, ...],
    point_arrays: tuple[np.ndarray, ...],
    common: tuple[np.ndarray, ...],
    labels: np.ndarray,
    rows: np.ndarray,
    k: int,
    block_size: int,
) -> np.ndarray:
    """Rows [Q, k] of the nearest other points of the class of `rows`, -1 for none."""
    if not len(rows):
        return np.zeros((0, k), np.int32)
    order, bounds = sort_by_class(labels)
    blocks = max(1, -(-len(order) // block_size))
    filled = np.pad(order, (0, blocks * block_size - len(order)))
    points = tuple(
        jnp.asarray(x[filled].reshape(blocks, block_size, *x.shape[1:]))
        for x in point_arrays
    )
    by_class = np.argsort(labels[rows], kind="stable")
    sorted_rows = rows[by_class]
    position = np.empty(len(order), np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    found = np.full((len(rows), k), -1, np.int32)
    for start, stop in tiles(labels[sorted_rows], _QUERIES):
        picked = sorted_rows[start:stop]
        picked = np.pad(picked, (0, _QUERIES - len(picked)), mode="edge")
        spans = np.stack([bounds[labels[picked]], bounds[labels[picked] + 1]], axis=1)
        at = _search(
            pair,
            points,
            tuple(x[picked] for x in query_arrays),
            common,
            spans.astype(np.int32),
            position[picked],
            np.int32(spans.min() // block_size),
            np.int32(-(-spans.max() // block_size)),
            k=k,
        )
        at = np.asarray(at)[: stop - start]
        found[by_class[start:stop]] = np.where(at >= 0, order[at], -1)
    return found


@functools.partial(jax.jit, static_argnames=("pair", "k"))
def _search(pair, points, query, common, spans, itself, first, last, *, k):
    """Positions [Q, k] of the nearest points whose position is in the query's span."""
    block_size = points[0].shape[1]

    def merge(block, state):
        best, positions = state
        values = pair(query, tuple(x[block] for x in points), common)
        position = block * block_size + jnp.arange(block_size, dtype=jnp.int32)
        position = jnp.broadcast_to(position, values.shape)
        valid = (position >= spans[:, :1]) & (position < spans[:, 1:])
        valid &= position != itself[:, None]
        values = jnp.concatenate([best, jnp.where(valid, values, jnp.inf)], axis=1)
        positions = jnp.concatenate([positions, position], axis=1)
        negated, at = jax.lax.top_k(-values, k)
        return -negated, jnp.take_along_axis(positions, at, axis=1)

    size = len(itself)
    none = (jnp.full((size, k), jnp.inf), jnp.full((size, k), -1, jnp.int32))
    best, positions = jax.lax.fori_loop(first, last, merge, none)
    return jnp.where(best < jnp.inf, positions, -1)


def mixed(query, points, common):
    """Squared differences of continuous features plus a weight per nominal mismatch."""
    continuous, codes, weight = query
    squared = jnp.square(continuous[:, None, :] - points[0][None, :, :]).sum(axis=-1)
    mismatches = (codes[:, None, :] != points[1][None, :, :]).sum(axis=-1)
    return squared + weight[:, None] * mismatches


def value_difference(query, points, common):
    """Sum over features of a table entry per pair of values; common: [F, V, V]."""
    (codes,), (other,), (tables,) = query, points, common

    def add(feature, total):
        rows = tables[feature][codes[:, feature]]
        return total + rows[:, other[:, feature]]

    zero = jnp.zeros((len(codes), len(other)), tables.dtype)
    return jax.lax.fori_loop(0, tables.shape[0], add, zero)
