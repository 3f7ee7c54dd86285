"""What the losses of features have in common: checks and unit rows."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_floating, check_integers, check_rank, shape_of
from ltjax._numerics import class_rows, l2_normalize, mask_rows, mask_values
from ltjax._similarity_blocks import by_rows, everywhere


def check_same_rows(caller: str, **features: ArrayLike) -> None:
    """Checks that all `features` are [B, D] float, and of one shape."""
    first, *others = features
    shape = shape_of(features[first])
    for name, x in features.items():
        check_rank(caller, name, x, 2, "[B, D]")
        check_floating(caller, name, x)
    for name in others:
        if shape_of(features[name]) != shape:
            raise ValueError(
                f"{caller}: {name} has shape {shape_of(features[name])}, expected"
                f" {shape} as {first}"
            )


def check_labels(caller: str, name: str, labels: ArrayLike, size: int) -> None:
    """Checks that `labels` are [size] integers."""
    check_integers(caller, name, labels)
    if shape_of(labels) != (size,):
        raise ValueError(
            f"{caller}: {name} have shape {shape_of(labels)}, expected ({size},)"
        )


def check_queue(caller: str, queue: ArrayLike, dim: int, name: str = "queue") -> None:
    """Checks that `queue` is [Q, dim] float."""
    check_floating(caller, name, queue)
    if len(shape_of(queue)) != 2 or shape_of(queue)[1] != dim:
        raise ValueError(
            f"{caller}: {name} has shape {shape_of(queue)}, expected [Q, {dim}]"
        )


def float_rows(where: ArrayLike | None, *features: ArrayLike) -> tuple[jax.Array, ...]:
    """The features in one dtype of at least float32, zero where `where` is False."""
    dtype = jnp.result_type(jnp.float32, *map(jnp.asarray, features))
    return tuple(mask_rows(where, jnp.asarray(x).astype(dtype)) for x in features)


def unit_rows(where: ArrayLike | None, *features: ArrayLike) -> tuple[jax.Array, ...]:
    """`float_rows` scaled to unit norm."""
    return tuple(l2_normalize(x) for x in float_rows(where, *features))


def per_view(x: ArrayLike | None, views: int) -> Any:
    """[B] values of examples as [B * V] values of their views, side by side."""
    return None if x is None else jnp.stack([jnp.asarray(x)] * views, axis=1).ravel()


def label_counts(labels: jax.Array, where: ArrayLike | None) -> jax.Array:
    """For each row, the number of the rows of its label, itself included, float.

    Any integers will do as labels: K is not known here, and no [B, B] matrix is made.
    """
    size, everyone = len(labels), everywhere(labels)
    _, groups = jnp.unique(everyone, return_inverse=True, size=size)
    ones = everywhere(mask_values(jnp.ones((size,), jnp.float32), where))
    counts = jax.ops.segment_sum(ones, groups, num_segments=size)
    return by_rows(class_rows(counts, groups, like=ones), labels)


def key_bias(where: ArrayLike | None, like: jax.Array) -> jax.Array | None:
    """0 for the keys that count and -inf for the others."""
    if where is None:
        return None
    return jnp.where(where, 0.0, -jnp.inf).astype(like.dtype)
