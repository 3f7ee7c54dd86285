"""One perturbation per group of rows: micro-batches on one device, or device shards.

The weights in the terms are those of the whole batch, so the groups' gradients (and
losses and gaps) add up; their model states and norms are averaged.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from ltjax._checks import shape_of
from ltjax.sharpness.parts import batch_rows
from ltjax.sharpness.passes import SharpOutput


def over_microbatches(step: Callable, size: int, loop: str) -> Callable:
    """Runs `step` on every micro-batch of `size` consecutive rows."""

    def run(params, model_state, batch, rng, terms):
        count = group_count(batch, terms, size)

        def of_group(number, batch, terms):
            key = fold_in(rng, number)
            out, gradient, _ = step(params, model_state, batch, key, terms)
            return gradient, out

        gradient, out = sum_and_stack(of_group, split(batch, terms, count), count, loop)
        return _merged(_kinds(out), out), gradient, terms

    return run


def over_shards(step: Callable, mesh, axis) -> Callable:
    """Runs `step` on the rows of each device along `axis` of `mesh`."""
    if mesh is None:
        raise ValueError('sharp_value_and_grad: scope="shard" needs mesh=')
    axes = tuple(mesh.axis_names) if axis is None else axis
    axes = (axes,) if isinstance(axes, str) else tuple(axes)
    if set(axes) - set(mesh.axis_names):
        raise ValueError(
            f"sharp_value_and_grad: axis is {axis!r}, expected some of the mesh's axes"
            f" {mesh.axis_names}"
        )
    shards = math.prod(mesh.shape[name] for name in axes)
    by_row, whole = PartitionSpec(axes), PartitionSpec()

    def specs(tree):
        return jax.tree.map(lambda leaf: by_row if shape_of(leaf) else whole, tree)

    def run(params, model_state, batch, rng, terms):
        rows = batch_rows(batch)
        if rows % shards:
            raise ValueError(
                f"sharp_value_and_grad: {shards} shards do not divide a batch of {rows}"
            )
        group_count(batch, terms, rows // shards)

        def of_first(params, model_state, batch, rng, terms):
            _, batch, terms = jax.tree.map(
                lambda leaf: leaf[0], split(batch, terms, shards)
            )
            return step(params, model_state, batch, rng, terms)[0]

        one = jax.eval_shape(of_first, params, model_state, batch, rng, terms)
        kinds = _kinds(one)

        def of_shard(params, model_state, batch, rng, terms):
            # The gradient with respect to a replicated value would be summed over the
            # shards before it is normalized.
            params = _varying(params, axes)
            key = fold_in(rng, jax.lax.axis_index(axes))
            out, gradient, _ = step(params, model_state, batch, key, terms)
            out = jax.tree.map(lambda kind, x: _reduce(kind, x, axes), kinds, out)
            return out, jax.lax.psum(gradient, axes)

        out_specs = jax.tree.map(
            lambda kind: by_row if kind == "rows" else whole, kinds
        )
        out, gradient = jax.shard_map(
            of_shard,
            mesh=mesh,
            axis_names=set(axes),
            in_specs=(whole, whole, specs(batch), whole, specs(terms)),
            out_specs=(out_specs, whole),
        )(params, model_state, batch, rng, terms)
        return out, gradient, terms

    return run


def group_count(batch, terms, size: int) -> int:
    """Number of groups of `size` rows; checks that terms can be split like the rows."""
    rows = batch_rows(batch)
    if rows % size:
        raise ValueError(
            f"sharp_value_and_grad: groups of {size} rows do not divide a batch of"
            f" {rows}"
        )
    if callable(terms):
        raise ValueError(
            "sharp_value_and_grad: terms are a function of aux, which a group of rows"
            ' does not see as a whole; pass arrays, or use scope="global"'
        )
    for vector in jax.tree.leaves([(t.ascent, t.descent) for t in terms]):
        if shape_of(vector) != (rows,):
            raise ValueError(
                f"sharp_value_and_grad: weights have shape {shape_of(vector)}, expected"
                f" ({rows},): with groups of rows there is one weight per row (no"
                " compaction, no batch-level scalars)"
            )
    return rows // size


def split(batch, terms, count: int):
    """(group numbers, batch, terms) with a leading axis of groups on every leaf."""

    def of_leaf(leaf):
        leaf = jnp.asarray(leaf)
        if leaf.ndim == 0:
            return jnp.broadcast_to(leaf, (count,))
        return leaf.reshape(count, leaf.shape[0] // count, *leaf.shape[1:])

    return jnp.arange(count), *jax.tree.map(of_leaf, (batch, terms))


def sum_and_stack(fn: Callable, groups, count: int, loop: str):
    """Sum of the first results of fn(*group) and stack of the second ones."""
    if loop == "vmap":
        summed, stacked = jax.vmap(fn)(*groups)
        return jax.tree.map(lambda x: jnp.sum(x, axis=0), summed), stacked
    if loop == "unroll":
        singles = [jax.tree.map(operator.itemgetter(g), groups) for g in range(count)]
        results = [fn(*group) for group in singles]
        summed = jax.tree.map(lambda *xs: sum(xs[1:], xs[0]), *[s for s, _ in results])
        return summed, jax.tree.map(lambda *xs: jnp.stack(xs), *[o for _, o in results])

    def body(total, group):
        summand, out = fn(*group)
        return jax.tree.map(jnp.add, total, summand), out

    shapes = jax.eval_shape(
        lambda *xs: fn(*jax.tree.map(lambda x: x[0], xs))[0], *groups
    )
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(body, zeros, groups)


def merge_rows(tree: Any) -> Any:
    """Per-example values of all groups as those of one batch."""
    return _merged(_all_of("rows", tree), tree)


def merge_aux(aux: dict) -> dict:
    """Auxiliary dicts of all groups as that of one batch, see `AUX`."""
    return _merged(_aux_kinds(aux), aux)


def mean_state(state: Any) -> Any:
    """Model states of all groups as that of one batch."""
    return _merged(jax.tree.map(lambda _: "mean", state), state)


def fold_in(rng: Any, number) -> Any:
    """One key (or tree of keys) per group."""
    return jax.tree.map(lambda key: jax.random.fold_in(key, number), rng)


# How the entries of an auxiliary dict combine over groups of rows. It goes by name:
# sizes may agree by accident.
AUX = {
    "outputs": "rows",
    "rows": "rows",
    "metrics": "sum",
    "whole": "mean",
    "model_state": "mean",
}


def _kinds(out: SharpOutput) -> Any:
    """How each leaf of a group's output combines: "rows", "sum" or "mean"."""
    kinds: dict[str, Any] = dict(
        loss="sum",
        losses=_all_of("rows", out.losses),
        aux=_aux_kinds(out.aux),
        terms=tuple(
            {name: "sum" if name == "gap" else "mean" for name in numbers}
            for numbers in out.terms
        ),
        rises=_all_of("rows", out.rises),
    )
    return SharpOutput(**kinds)


def _all_of(kind: str, tree: Any) -> Any:
    return jax.tree.map(lambda _: kind, tree)


def _aux_kinds(aux: dict) -> dict:
    unknown = sorted(aux.keys() - AUX.keys())
    if unknown:
        raise ValueError(
            f"sharp_value_and_grad: aux holds {unknown[0]!r}, and groups of rows do not"
            f" know how to combine it; expected {sorted(AUX)}: arrays [B, ...] belong"
            " under 'rows', those of the batch as such under 'whole', and pairs"
            " (sum, count) under 'metrics'"
        )
    whole = jax.tree.leaves(aux.get("whole"))
    if not all(jnp.issubdtype(x.dtype, jnp.inexact) for x in whole):
        raise ValueError(
            "sharp_value_and_grad: aux['whole'] holds integers, of which groups of rows"
            " have no mean; expected floats, or arrays [B, ...] under 'rows'"
        )
    return {name: _all_of(AUX[name], value) for name, value in aux.items()}


def _merged(kinds: Any, tree: Any) -> Any:
    def of_leaf(kind, x):
        if kind == "rows":
            return x.reshape(-1, *x.shape[2:])
        if kind == "sum":
            return jnp.sum(x, axis=0)
        mean = jnp.issubdtype(x.dtype, jnp.inexact)
        return jnp.mean(x, axis=0) if mean else jnp.max(x, axis=0)

    return jax.tree.map(of_leaf, kinds, tree)


def _varying(tree: Any, axes: tuple[str, ...]) -> Any:
    """`tree` as a value of each shard; jax 0.7 calls that `pvary`."""
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(tree, axes, to="varying")
    return jax.lax.pvary(tree, axes)  # pyright: ignore[reportAttributeAccessIssue]


def _reduce(kind: str, x, axes):
    if kind == "rows":
        return x
    if kind == "sum":
        return jax.lax.psum(x, axes)
    mean = jnp.issubdtype(x.dtype, jnp.inexact)
    return jax.lax.pmean(x, axes) if mean else jax.lax.pmax(x, axes)
