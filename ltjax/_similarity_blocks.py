r"""Log-sum-exp over the rows of a similarity matrix that is never stored.

.. math:: L_i = \log \sum_j \exp(q_i \cdot k_j + b_j + \beta_i [g_i = g_j]),
          \qquad j: id_j \ne id_i

A contrastive loss needs little else of its B x B similarities. The keys are visited a
block at a time, with a running maximum and a running sum; the backward pass computes
the similarities again, block by block, from the saved L. Memory is rows x block in
both, and one block that holds all keys is the dense computation.

Two forms share the forward pass, and each has one with the similarities to the own
group beside it, the positives of a loss with labels (`cross_group_sums`,
`self_group_sums`):

- `cross_log_sum_exp` takes queries and keys apart (a queue, momentum keys);
- `self_log_sum_exp` takes points that are their own keys. A point then gets its
  gradient as a query and as a key from the same product, in one matrix product instead
  of two, and on a mesh nothing is summed over the devices inside the loop: each device
  keeps its rows, and the keys are gathered once.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from ltjax._checks import is_concrete

_HIGHEST = jax.lax.Precision.HIGHEST


class Side(NamedTuple):
    """What is known of the rows, or of the columns, of the matrix; one entry each.

    Attributes:
        bias: float, added to all similarities of a key; -inf leaves the key out.
        ids: int, a query and a key of equal id do not meet.
        groups: int, a query and a key of equal group get the query's boost, and are
            summed by the functions with groups.
        boost: float, see `groups`.
    """

    bias: Any = None
    ids: Any = None
    groups: Any = None
    boost: Any = None


class GroupSums(NamedTuple):
    """What queries find among the keys that they meet, [A] each.

    Attributes:
        total: the log-sum-exp of the similarities; -inf for a query without keys.
        near: the sum of the similarities to the keys of the own group.
    """

    total: jax.Array
    near: jax.Array


def check_block(caller: str, block) -> None:
    """Checks that `block` is None (dense) or a positive Python integer."""
    if block is None:
        return
    readable = is_concrete(block) and not isinstance(block, bool)
    if not readable or block != int(block) or int(block) < 1:
        raise ValueError(
            f"{caller}: block is {block}, expected None (dense) or an integer >= 1"
        )


def _explicit(x) -> bool:
    return AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types


def everywhere(x) -> jax.Array:
    """`x` with all its rows on every device of an Explicit mesh.

    On an Auto mesh the compiler decides by itself, and `x` is returned as it is.
    """
    x = jnp.asarray(x)
    if not _explicit(x):
        return x
    return jax.sharding.reshard(x, PartitionSpec(*[None] * x.ndim))


def by_rows(x, like) -> jax.Array:
    """`x` split by rows as `like` is, and not otherwise, on an Explicit mesh."""
    x = jnp.asarray(x)
    if not _explicit(like):
        return x
    rows = jax.typeof(like).sharding.spec[0]
    return jax.sharding.reshard(x, PartitionSpec(rows, *[None] * (x.ndim - 1)))


def cross_log_sum_exp(
    queries: jax.Array,
    keys: jax.Array,
    rows: Side,
    columns: Side,
    *,
    block: int | None = None,
) -> jax.Array:
    """The log-sum-exp of every query's similarities to the keys, [A].

    Args:
        queries: [A, D] float, the temperature folded in.
        keys: [N, D] float.
        rows: `ids`, `groups` and `boost` of the queries, [A] each.
        columns: `bias`, `ids` and `groups` of the keys, [N] each.
        block: keys at a time; None for all at once.

    Returns:
        [A] of the dtype of the queries; -inf for a query without keys.
    """
    if not keys.shape[0]:
        return jnp.full(queries.shape[:1], -jnp.inf, queries.dtype)
    sides = _placed(queries, keys, rows, columns)
    found: Any = _cross(*sides, block or len(keys), False)
    return found[0]


def cross_group_sums(
    queries: jax.Array,
    keys: jax.Array,
    rows: Side,
    columns: Side,
    *,
    block: int | None = None,
) -> GroupSums:
    """`cross_log_sum_exp`, and the sums over the keys of every query's own group.

    Args:
        queries: [A, D] float, the temperature folded in.
        keys: [N, D] float.
        rows: of the queries, with `groups`.
        columns: of the keys, with `groups`.
        block: keys at a time; None for all at once.

    Returns:
        `GroupSums`.
    """
    if not keys.shape[0]:
        nothing = jnp.zeros(queries.shape[:1], queries.dtype)
        return GroupSums(nothing - jnp.inf, nothing)
    sides = _placed(queries, keys, rows, columns)
    found: Any = _cross(*sides, block or len(keys), True)
    return GroupSums(*found)


def _placed(queries, keys, rows: Side, columns: Side):
    """Queries by rows and keys everywhere, with what is known of them."""
    queries, rows = jax.tree.map(lambda x: by_rows(x, queries), (queries, rows))
    keys, columns = jax.tree.map(everywhere, (keys, columns))
    return queries, keys, rows, columns


def self_log_sum_exp(
    points: jax.Array, side: Side, *, block: int | None = None
) -> jax.Array:
    """The log-sum-exp of every point's similarities to the others, [A].

    Args:
        points: [A, D] float, divided by the root of the temperature.
        side: of the points, as queries and as keys, [A] each. Without `ids` a point
            also meets itself.
        block: points at a time; None for all at once.

    Returns:
        [A] of the dtype of the points; -inf for a point that meets none.
    """
    if not points.shape[0]:
        return jnp.zeros((0,), points.dtype)
    points, side = jax.tree.map(lambda x: by_rows(x, points), (points, side))
    found: Any = _self(points, side, block or len(points), False)
    return found[0]


def self_group_sums(
    points: jax.Array, side: Side, *, block: int | None = None
) -> GroupSums:
    """`self_log_sum_exp`, and the sums over the other points of every point's group.

    Args:
        points: [A, D] float, divided by the root of the temperature.
        side: of the points, with `groups`.
        block: points at a time; None for all at once.

    Returns:
        `GroupSums`.
    """
    if not points.shape[0]:
        return GroupSums(*[jnp.zeros((0,), points.dtype)] * 2)
    points, side = jax.tree.map(lambda x: by_rows(x, points), (points, side))
    found: Any = _self(points, side, block or len(points), True)
    return GroupSums(*found)


def whole_blocks(arrays, block: int):
    """Arrays [N, ...] with rows of zeros up to a multiple of `block`."""
    spare = -jax.tree.leaves(arrays)[0].shape[0] % block
    if not spare:
        return arrays
    return jax.tree.map(
        lambda x: jnp.pad(x, ((0, spare), *[(0, 0)] * (x.ndim - 1))), arrays
    )


def _blocks(keys, columns: Side, block: int):
    """Keys and their side in whole blocks; what fills up the last one is left out."""
    count = keys.shape[0]
    if not count % block:
        return keys, columns
    if columns.bias is None:
        columns = columns._replace(bias=jnp.zeros((count,), keys.dtype))
    keys, columns = whole_blocks((keys, columns), block)
    real = jnp.arange(keys.shape[0]) < count
    return keys, columns._replace(bias=jnp.where(real, columns.bias, -jnp.inf))


def over_blocks(body, start, parts, block: int):
    """`lax.scan` over `block` rows at a time, without a loop where that is all.

    The rows are cut out of `parts` inside the loop: arrays that are split in advance
    would be a second copy of them all.
    """
    count = jax.tree.leaves(parts)[0].shape[0] // block
    if count == 1:
        carry, out = body(start, parts)
        return carry, jax.tree.map(lambda x: x[None], out)

    def step(carry, place):
        cut = functools.partial(
            jax.lax.dynamic_slice_in_dim, start_index=place * block, slice_size=block
        )
        return body(carry, jax.tree.map(cut, parts))

    return jax.lax.scan(step, start, jnp.arange(count))


def _similarities(product, rows: Side, columns: Side, *, transposed: bool = False):
    """[A, c] similarities of rows to columns, or of columns to rows, from products."""
    if transposed:
        bias = None if rows.bias is None else rows.bias[:, None]
        boost = None if columns.boost is None else columns.boost[None, :]
    else:
        bias = None if columns.bias is None else columns.bias[None, :]
        boost = None if rows.boost is None else rows.boost[:, None]
    values = product if bias is None else product + bias
    if boost is not None:
        values = jnp.where(_same_group(rows, columns), values + boost, values)
    if rows.ids is not None:
        same = rows.ids[:, None] == columns.ids[None, :]
        values = jnp.where(same, -jnp.inf, values)
    return values


def _products(left, right):
    return jnp.matmul(left, right.T, precision=_HIGHEST)


def _finite(x):
    """`x` with 0 for -inf, so that a difference of two infinities is never taken."""
    return jnp.where(x > -jnp.inf, x, 0.0)


def _same_group(rows: Side, columns: Side):
    return rows.groups[:, None] == columns.groups[None, :]


def _of_group(values, rows: Side, columns: Side):
    """[A, c] bool, the pairs of one group that meet, from their similarities."""
    return _same_group(rows, columns) & (values > -jnp.inf)


def _sums(queries, keys, rows: Side, columns: Side, block: int, grouped: bool):
    """The log-sum-exp of every query, and with groups `near`."""

    def add(carry, part):
        highest, total, *own = carry
        values = _similarities(_products(queries, part[0]), rows, part[1])
        new = jnp.maximum(highest, jnp.max(values, axis=1))
        base = _finite(new)
        total = total * jnp.exp(highest - base)
        total += jnp.sum(jnp.exp(values - base[:, None]), axis=1)
        if grouped:
            same = _of_group(values, rows, part[1])
            own = [own[0] + jnp.sum(jnp.where(same, values, 0.0), axis=1)]
        return (new, total, *own), None

    # Made from both arguments, so that inside shard_map they vary as the sums will.
    zero = jnp.zeros_like(queries[:, 0]) + jnp.zeros_like(keys[0, 0])
    start = (zero - jnp.inf, zero, *(zero,) * grouped)
    parts = _blocks(keys, columns, block)
    (highest, total, *own), _ = over_blocks(add, start, parts, block)
    empty = highest == -jnp.inf
    logarithm = jnp.log(jnp.where(empty, 1.0, total))
    return _finite(highest) + jnp.where(empty, -jnp.inf, logarithm), *own


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _cross(queries, keys, rows, columns, block, grouped):
    return _cross_forward(queries, keys, rows, columns, block, grouped)[0]


def _cross_forward(queries, keys, rows, columns, block, grouped):
    found = _sums(queries, keys, rows, columns, block, grouped)
    return found, (queries, keys, rows, columns, found[0])


def _cross_backward(block, grouped, kept, cotangents):
    queries, keys, rows, columns, value = kept
    cotangent, *of_group = cotangents
    base = _finite(value)

    def add(total, part):
        values = _similarities(_products(queries, part[0]), rows, part[1])
        weights = cotangent[:, None] * jnp.exp(values - base[:, None])
        if grouped:
            same = _of_group(values, rows, part[1])
            weights += jnp.where(same, of_group[0][:, None], 0.0)
        total += jnp.matmul(weights, part[0], precision=_HIGHEST)
        of_keys = jnp.matmul(weights.T, queries, precision=_HIGHEST, out_sharding=whole)
        return total, of_keys

    # On an Explicit mesh the sum over the queries must be asked for.
    whole = jax.typeof(keys).sharding if _explicit(keys) else None
    zero = jnp.zeros_like(queries) + jnp.zeros_like(keys[:1])
    parts = _blocks(keys, columns, block)
    of_queries, of_keys = over_blocks(add, zero, parts, block)
    of_keys = of_keys.reshape(-1, keys.shape[1])[: keys.shape[0]]
    return of_queries, of_keys, None, None


_cross.defvjp(_cross_forward, _cross_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _self(points, side, block, grouped):
    return _self_forward(points, side, block, grouped)[0]


def _self_forward(points, side, block, grouped):
    keys, columns = jax.tree.map(everywhere, (points, side))
    found = _sums(points, keys, side, columns, block, grouped)
    return found, (points, side, found[0])


def _self_backward(block, grouped, kept, cotangents):
    r"""The gradient of point i, :math:`\sum_j (c_i P_{ij} + c_j P_{ji})\, p_j`.

    With groups, the cotangents d of `near` are added to c P where j is of i's group.
    """
    points, side, value = kept
    ours = (_finite(value), *cotangents[: 2 if grouped else 1])
    keys, columns, theirs = jax.tree.map(everywhere, (points, side, ours))

    def add(total, part):
        keys, columns, theirs = part
        product = _products(points, keys)
        there = _similarities(product, side, columns)
        back = _similarities(product, side, columns, transposed=True)
        base, given, *near = (x[:, None] for x in ours)
        base_j, given_j, *near_j = (x[None, :] for x in theirs)
        weights = given * jnp.exp(there - base)
        weights += given_j * jnp.exp(back - base_j)
        if grouped:
            more = jnp.where(there > -jnp.inf, near[0], 0.0)
            more += jnp.where(back > -jnp.inf, near_j[0], 0.0)
            weights = jnp.where(_same_group(side, columns), weights + more, weights)
        return total + jnp.matmul(weights, keys, precision=_HIGHEST), None

    parts = (*_blocks(keys, columns, block), whole_blocks(theirs, block))
    total, _ = over_blocks(add, jnp.zeros_like(points), parts, block)
    return total, None


_self.defvjp(_self_forward, _self_backward)
