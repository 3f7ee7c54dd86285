"""Losses and weights by named part, and how a weight vector fits them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ltjax._checks import shape_of

BARE = "loss"  # the name of the only part of a loss that is a bare vector


def as_parts(losses) -> dict[str, jax.Array]:
    """Losses as a dict of named vectors."""
    parts = dict(losses) if isinstance(losses, Mapping) else {BARE: losses}
    for name, value in parts.items():
        if len(shape_of(value)) != 1:
            raise ValueError(
                f"sharp_value_and_grad: loss {name!r} has shape {shape_of(value)},"
                " expected one value per example [B] (a batch-level scalar is a vector"
                " of length 1)"
            )
    return parts


def by_part(weights, parts):
    """(weights by part name, number of leading rows they cover or None for all)."""
    caller = "sharp_value_and_grad"
    if isinstance(weights, Mapping):
        unknown = set(weights) - set(parts)
        if unknown:
            raise ValueError(
                f"{caller}: weights for parts {sorted(unknown)}, but the losses have"
                f" {sorted(parts)}"
            )
        for name, vector in weights.items():
            if shape_of(vector) != shape_of(parts[name]):
                raise ValueError(
                    f"{caller}: weights of part {name!r} have shape {shape_of(vector)},"
                    f" but the losses {shape_of(parts[name])}"
                )
        return dict(weights), None
    lengths = {shape_of(value)[0] for value in parts.values()}
    if len(lengths) > 1:
        raise ValueError(
            f"{caller}: one weight vector for losses of lengths {sorted(lengths)}; pass"
            " weights as a dict with one vector per part"
        )
    (length,) = lengths
    if len(shape_of(weights)) != 1 or shape_of(weights)[0] > length:
        raise ValueError(
            f"{caller}: weights have shape {shape_of(weights)}, but there are {length}"
            " losses"
        )
    rows = shape_of(weights)[0]
    return {name: weights for name in parts}, (None if rows == length else rows)


def weighted_sum(weights, values) -> jax.Array:
    """Sum over parts of <weights, values>; values with weight 0 may be anything."""
    total = jnp.zeros((), jnp.float32)
    for name, vector in weights.items():
        value = values[name]
        vector = vector.astype(value.dtype)
        total = total + jnp.sum(jnp.where(vector == 0, 0, vector * value))
    return total


def batch_rows(batch) -> int:
    """B, the leading axis of the batch."""
    sizes = {shape_of(leaf)[0] for leaf in jax.tree.leaves(batch) if shape_of(leaf)}
    if len(sizes) != 1:
        raise ValueError(
            f"sharp_value_and_grad: leading axes of the batch are {sorted(sizes)},"
            " expected the same number of rows everywhere"
        )
    return sizes.pop()
