"""The search program behind `ltjax.resampling.neighbors`: one tile of queries.

A tile is a block of queries against a range of blocks of points. It works in two steps:

1. a matrix product gives |p|^2 - 2 q.p for a block of points, of which only the minimum
   of every *group* of consecutive points is kept. The k + 1 groups with the smallest
   minima hold the k + 1 nearest points, ties by index included: were a point outside
   them, k + 1 groups would each hold a point that comes before it;
2. the members of these groups are ranked by their distance in difference form.

Step 1 rounds, so a bound decides for each query whether step 1 can have lost a
neighbor. Where it can, the query is searched again, exhaustively in difference form.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

# numpy while it is laid out, jax once it is placed.
Array = np.ndarray | jax.Array

# Groups kept beyond k + 1; they give the bound room for its rounding terms.
SLACK = 4
# Blocks whose group minima wait for one common selection.
_BLOCKS_PER_SELECTION = 16
# Queries that are searched again at a time.
_REPAIRED = 8


class Table(NamedTuple):
    """Points in blocks of P, each with M groups of G = P / M consecutive points."""

    lanes: Array  # [B, P, D] -2 x centered points; column r * M + s: point r of s
    norms: Array  # [B, P] squared norms of the centered points, same order
    classes: Array  # [B, P] int32 in order of position, -1 = padding
    rows: Array  # [B, P] int32, row of the data at each position
    raw: Array  # [B, P, D] the points in order of position, not centered
    scale: Array  # scalar, a power of two that brings distances near 1


class Query(NamedTuple):
    """A block of queries; rows of padding have a class that no point has."""

    centered: Array  # [Q, D] with the table's center and scale
    raw: Array  # [Q, D]
    classes: Array  # [Q] int32
    itself: Array  # [Q] int32, row of the data that is the query itself, or -1
    exact: Array  # bool, step 1 makes no rounding error (integer-like data)


@functools.partial(jax.jit, static_argnames=("k", "group", "recall_target", "mesh"))
def search_tile(
    table: Table,
    query: Query,
    first: jax.Array,
    last: jax.Array,
    *,
    k: int,
    group: int,
    recall_target: float | None = None,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The k nearest points of the query's class among blocks [first, last).

    With a mesh, the blocks of the table are spread over its devices. Each device finds
    its own k nearest, and all keep the k nearest of those.

    Returns:
        Distances [Q, k], ascending, inf where missing, and rows [Q, k] int32, -1 where
        missing.
    """
    search = functools.partial(_search, k=k, group=group, recall_target=recall_target)
    if mesh is None:
        return search(table, query, first, last)

    def local(table, query, first, last):
        blocks = table.norms.shape[0]
        offset = jax.lax.axis_index(mesh.axis_names) * blocks
        span = (jnp.clip(at - offset, 0, blocks) for at in (first, last))
        found = search(table, query, *span)
        # Side by side in device order, which is the order of positions: of equals,
        # top_k takes the first.
        distances, rows = (
            jax.lax.all_gather(x, mesh.axis_names, axis=1, tiled=True) for x in found
        )
        distances, at = _smallest(distances, k)
        return distances, jnp.take_along_axis(rows, at, axis=1)

    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(table_specs(mesh), PartitionSpec(), PartitionSpec(), PartitionSpec()),
        out_specs=PartitionSpec(),
        check_vma=False,
    )(table, query, first, last)


def table_specs(mesh: Mesh) -> Any:
    """How a `Table` lies on a mesh: its blocks spread over all devices."""
    blocks = PartitionSpec(mesh.axis_names)
    return Table._make([*[blocks] * (len(Table._fields) - 1), PartitionSpec()])


def _search(table: Table, query: Query, first, last, *, k, group, recall_target):
    if recall_target is not None:
        positions = _approximate_shortlist(
            table, query, first, last, k=k, group=group, recall_target=recall_target
        )
        squared, rows = _rank(table, query, positions, k)
    else:
        positions, bound = _shortlist(table, query, first, last, k=k, group=group)
        squared, rows = _rank(table, query, positions, k)
        doubtful = ~_certified(query, squared[:, -1], bound) & (query.classes >= 0)
        squared, rows = _repair(table, query, first, last, doubtful, squared, rows)
    return jnp.sqrt(squared) / table.scale, jnp.where(squared < jnp.inf, rows, -1)


def _expanded(table: Table, query: Query, block, group: int) -> jax.Array:
    """|p|^2 - 2 q.p for one block, in lanes [Q, G, M]; inf for other classes."""
    product = jnp.matmul(
        query.centered, table.lanes[block].T, precision=jax.lax.Precision.HIGHEST
    )
    classes = table.classes[block].reshape(-1, group).T.reshape(-1)
    same = query.classes[:, None] == classes[None, :]
    values = jnp.where(same, table.norms[block][None, :] + product, jnp.inf)
    return values.reshape(len(values), group, -1)


def _shortlist(table: Table, query: Query, first, last, *, k: int, group: int):
    """Positions [Q, C] in ascending order, -1 = none, and the worst kept minimum."""
    size, kept = len(query.raw), k + 1 + SLACK
    num_groups = table.norms.shape[1] // group
    width = _BLOCKS_PER_SELECTION * num_groups

    def select(state):
        start, best, best_groups = state
        stop = jnp.minimum(start + _BLOCKS_PER_SELECTION, last)

        def minima(block, values):
            found = jnp.min(_expanded(table, query, block, group), axis=1)
            at = (block - start) * num_groups
            return jax.lax.dynamic_update_slice_in_dim(values, found, at, axis=1)

        empty = jnp.full((size, width), jnp.inf, best.dtype)
        found = jax.lax.fori_loop(start, stop, minima, empty)
        groups = start * num_groups + jnp.arange(width, dtype=jnp.int32)
        # What was kept before goes first: of equals, top_k takes the first.
        values = jnp.concatenate([best, found], axis=1)
        groups = jnp.concatenate(
            [best_groups, jnp.broadcast_to(groups, (size, width))], axis=1
        )
        best, at = _smallest(values, kept)
        return stop, best, jnp.take_along_axis(groups, at, axis=1)

    none = jnp.full((size, kept), jnp.inf, table.norms.dtype)
    state = (first, none, jnp.zeros((size, kept), jnp.int32))
    _, best, groups = jax.lax.while_loop(lambda s: s[0] < last, select, state)
    groups = jnp.sort(jnp.where(best < jnp.inf, groups, -1), axis=1)
    offsets = jnp.arange(group, dtype=jnp.int32)[None, None, :]
    members = groups[:, :, None] * group + offsets
    positions = jnp.where(groups[:, :, None] >= 0, members, -1).reshape(size, -1)
    return positions, best[:, -1]


def _approximate_shortlist(
    table: Table, query: Query, first, last, *, k: int, group: int, recall_target
):
    """As `_shortlist`, of k + 1 + slack points that are nearest with some recall."""
    size, kept = len(query.raw), k + 1 + SLACK
    block_size = table.norms.shape[1]
    num_groups = block_size // group

    def select(block, state):
        best, positions = state
        values = _expanded(table, query, block, group).reshape(size, -1)
        found, column = jax.lax.approx_min_k(
            values,
            min(kept, block_size),
            recall_target=recall_target,
            reduction_input_size_override=table.norms.size,
        )
        position = block * block_size + column % num_groups * group
        position = position + column // num_groups
        values = jnp.concatenate([best, found], axis=1)
        positions = jnp.concatenate([positions, position], axis=1)
        best, at = _smallest(values, kept)
        return best, jnp.take_along_axis(positions, at, axis=1)

    none = jnp.full((size, kept), jnp.inf, table.norms.dtype)
    state = (none, jnp.full((size, kept), -1, jnp.int32))
    best, positions = jax.lax.fori_loop(first, last, select, state)
    return jnp.sort(jnp.where(best < jnp.inf, positions, -1), axis=1)


def _rank(table: Table, query: Query, positions, k: int):
    """The k nearest of the candidates at `positions`, in difference form."""
    rows = table.rows.reshape(-1)[positions]
    valid = (positions >= 0) & (rows != query.itself[:, None])
    valid &= table.classes.reshape(-1)[positions] == query.classes[:, None]
    points = table.raw.reshape(-1, table.raw.shape[-1])[positions]
    squared = _squared(query.raw[:, None, :], points, table.scale)
    squared, at = _smallest(jnp.where(valid, squared, jnp.inf), k)
    return squared, jnp.take_along_axis(rows, at, axis=1)


def _certified(query: Query, kth, bound):
    r"""Whether no point outside the shortlist can be nearer than the k-th found.

    With unit roundoff u, the expansion of a point p errs by less than
    :math:`2 (D + 8) u (|p| + |q|)^2`; for a point within distance d of the query,
    :math:`|p| \le |q| + d`. The difference form errs by a factor 1 + 2 (D + 2) u.
    """
    dim = query.centered.shape[1]
    roundoff = jnp.finfo(query.centered.dtype).eps / 2
    squared_norm = jnp.sum(jnp.square(query.centered), axis=1)
    reach = 2 * jnp.sqrt(squared_norm) + jnp.sqrt(kth)
    error = 2 * (dim + 8) * roundoff * jnp.square(reach)
    far = kth * (1 + 4 * (dim + 2) * roundoff) < bound + squared_norm - error
    return far | query.exact | (bound == jnp.inf)


def _repair(table: Table, query: Query, first, last, doubtful, squared, rows):
    """Searches doubtful queries again, exhaustively, a few at a time."""
    k, chunk = squared.shape[1], min(_REPAIRED, len(query.raw))

    def redo(state):
        doubtful, squared, rows = state
        _, at = jax.lax.top_k(doubtful.astype(jnp.int32), chunk)
        picked = Query._make([*(x[at] for x in query[:4]), query.exact])
        found, found_rows = _exhaustive(table, picked, first, last, k)
        return (
            doubtful.at[at].set(False),
            squared.at[at].set(found),
            rows.at[at].set(found_rows),
        )

    state = (doubtful, squared, rows)
    return jax.lax.while_loop(lambda s: jnp.any(s[0]), redo, state)[1:]


def _exhaustive(table: Table, query: Query, first, last, k: int):
    def merge(block, state):
        best, best_rows = state
        rows = table.rows[block]
        valid = query.classes[:, None] == table.classes[block][None, :]
        valid &= query.itself[:, None] != rows[None, :]
        points = table.raw[block][None, :, :]
        squared = _squared(query.raw[:, None, :], points, table.scale)
        squared = jnp.where(valid, squared, jnp.inf)
        values = jnp.concatenate([best, squared], axis=1)
        rows = jnp.broadcast_to(rows, squared.shape)
        rows = jnp.concatenate([best_rows, rows], axis=1)
        best, at = _smallest(values, k)
        return best, jnp.take_along_axis(rows, at, axis=1)

    size = len(query.raw)
    none = jnp.full((size, k), jnp.inf, table.norms.dtype)
    state = (none, jnp.full((size, k), -1, jnp.int32))
    return jax.lax.fori_loop(first, last, merge, state)


def _squared(left, right, scale):
    return jnp.sum(jnp.square((left - right) * scale), axis=-1)


def _smallest(values, k: int):
    """The k smallest values of each row, ascending, and their columns."""
    negated, at = jax.lax.top_k(-values, k)
    return -negated, at
