"""Example weights and class constants from which terms are built."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_counts,
    check_integers,
    check_range,
    check_where,
    dtype_of,
    shape_of,
)
from ltjax._numerics import class_lookup, mask_values
from ltjax.class_stats import prior

# One vector [B], or one per named part of the loss.
Weights = jax.Array | Mapping[str, jax.Array]


def reduction_weights(
    batch_size: int,
    weights: ArrayLike | None = None,
    *,
    where: ArrayLike | None = None,
    normalize: str = "examples",
) -> jax.Array:
    r"""Per-example weights b of a mean: sum_i b_i v_i = weighted_mean(v, ...).

    .. math:: \text{examples: } b_i = w_i / B \qquad
              \text{weights: } b_i = w_i / \textstyle\sum_j w_j

    Args:
        batch_size: B.
        weights: optional [B] float, one per example (class weights looked up by label).
        where: optional [B] bool; False rows get 0 and are not counted in B.
        normalize: "examples" or "weights", as in `ltjax.reduce.weighted_mean`.

    Returns:
        [B] float32 (float64 under x64); all zero if nothing is left to average.

    Raises:
        ValueError: if shapes disagree or `normalize` is unknown.

    Example:
        >>> print(reduction_weights(4, jnp.array([3.0, 1, 2, 2]), normalize="weights"))
        [0.375 0.125 0.25  0.25 ]

    References:
        Cui et al., CVPR 2019 (examples); Cao et al., NeurIPS 2019, released code
        (weights).
    """
    caller = "reduction_weights"
    check_choice(caller, "normalize", normalize, ("examples", "weights"))
    check_where(caller, where, (batch_size,))
    ones = mask_values(jnp.ones((batch_size,), jnp.result_type(float)), where)
    if weights is None:
        weights = ones
    elif shape_of(weights) != (batch_size,):
        raise ValueError(
            f"{caller}: weights have shape {shape_of(weights)}, expected"
            f" ({batch_size},), one per example"
        )
    else:
        weights = mask_values(jnp.asarray(weights, ones.dtype), where)
    total = jnp.sum(weights if normalize == "weights" else ones)
    return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1), 0)


def tail_classes(class_counts: ArrayLike, *, eta: float) -> np.ndarray:
    """Which classes are tail: those with strictly fewer than `eta` examples.

    Args:
        class_counts: [K] concrete, number of training examples per class.
        eta: threshold (units: examples).

    Returns:
        [K] bool.

    Raises:
        ValueError: if a count is negative or not finite, or eta is not a number.

    Example:
        >>> tail_classes([500, 20, 19], eta=20)
        array([False, False,  True])

    References:
        Zhou et al., ICCV 2023, released code.
    """
    check_counts("tail_classes", class_counts)
    check_range("tail_classes", "eta", eta)
    return np.asarray(jax.device_get(class_counts)) < eta


def focal_coefficients(
    class_counts: ArrayLike, *, gamma: ArrayLike, lam: ArrayLike
) -> jax.Array:
    r"""Focal-SAM's class coefficients :math:`c_y = \lambda (1 - \pi_y)^\gamma`.

    They may exceed 1 (lambda > 1), where the unperturbed term has negative weights.

    Args:
        class_counts: [K], number of training examples per class.
        gamma: >= 0, may be traced; 0 gives every class the coefficient lambda.
        lam: lambda >= 0, may be traced.

    Returns:
        [K] float.

    Example:
        >>> print(focal_coefficients([90, 10], gamma=2.0, lam=0.8).round(4))
        [0.008 0.648]

    References:
        Li et al., "Focal-SAM", ICML 2025.
    """
    check_range("focal_coefficients", "gamma", gamma, low=0.0)
    check_range("focal_coefficients", "lam", lam, low=0.0)
    rest = jnp.asarray(1 - prior(class_counts), jnp.result_type(float))
    safe = jnp.where(rest > 0, rest, 1)
    powered = jnp.exp(gamma * jnp.log(safe))
    # A single class owns everything: 0^gamma, which is 1 for gamma = 0.
    powered = jnp.where(rest > 0, powered, jnp.where(jnp.equal(gamma, 0), 1, 0))
    return jnp.asarray(lam) * powered


def sse_switch_epoch(total_epochs: int, *, gamma: float | None) -> int:
    """First epoch (0-based) of SSE-SAM's second stage.

    Args:
        total_epochs: E.
        gamma: fraction of the training spent in stage 1. 0 starts in stage 2; None or
            >= 1 never leaves stage 1.

    Returns:
        ceil(gamma E), in [0, total_epochs]; total_epochs means "never".

    Example:
        >>> sse_switch_epoch(200, gamma=0.7), sse_switch_epoch(200, gamma=0.55)
        (140, 110)

    References:
        Lyu et al., "SSE-SAM", AAAI 2025. The released code crashes for gamma = 0.
    """
    if gamma is None:
        return total_epochs
    check_range("sse_switch_epoch", "gamma", gamma, low=0.0)
    # 0.55 * 200 is 110.00000000000001 in binary.
    return min(total_epochs, math.ceil(gamma * total_epochs - 1e-9))


def leading_rows(x: jax.Array, rows: int, blocks: int = 1) -> jax.Array:
    """The leading rows of every block: those that a compacted term covers.

    One block per device keeps the rows where they are when the batch is sharded.

    Args:
        x: [B, ...], B a multiple of `blocks`.
        rows: number of rows in total, a multiple of `blocks`.
        blocks: number of equal blocks of consecutive rows.

    Returns:
        [rows, ...]: the first rows / blocks rows of each block.

    Example:
        >>> leading_rows(jnp.arange(8), 4, blocks=2).tolist()
        [0, 1, 4, 5]
    """
    if blocks == 1:
        return x[:rows]
    block = x.reshape(blocks, x.shape[0] // blocks, *x.shape[1:])
    return block[:, : rows // blocks].reshape(rows, *x.shape[1:])


# ---------------------------------------------------------------- building blocks


def label_rows(caller: str, labels) -> int:
    """B, from one label vector or from one per part."""
    parts = labels.values() if isinstance(labels, Mapping) else [labels]
    for part in parts:
        check_integers(caller, "labels", part)
    shapes = {shape_of(part) for part in parts}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ValueError(
            f"{caller}: labels have shapes {sorted(shapes)}, expected one [B]"
        )
    return next(iter(shapes))[0]


def base_weights(caller: str, batch_size: int, base: Weights | None, where) -> Weights:
    """The descent weights of the plain reduction, with padding rows at 0."""
    if base is None:
        return reduction_weights(batch_size, where=where)
    check_where(caller, where, (batch_size,))

    def prepare(part):
        if shape_of(part) != (batch_size,):
            raise ValueError(
                f"{caller}: base has shape {shape_of(part)}, expected ({batch_size},)"
            )
        return mask_values(jnp.asarray(part, jnp.result_type(float)), where)

    if isinstance(base, Mapping):
        return {name: prepare(part) for name, part in base.items()}
    return prepare(base)


def class_table(caller: str, name: str, values) -> jax.Array:
    """One number per class, [K]."""
    dtype_of(caller, name, values)
    if len(shape_of(values)) != 1:
        raise ValueError(f"{caller}: {name} has shape {shape_of(values)}, expected [K]")
    return jnp.asarray(values, jnp.result_type(float))


def times_class_value(table, labels, base: Weights, where) -> Weights:
    """table[labels] * base for every part; a label out of range gives NaN."""
    if isinstance(labels, Mapping) and not isinstance(base, Mapping):
        base = {name: base for name in labels}

    def weigh(part_labels, part):
        return mask_values(class_lookup(table, part_labels) * part, where)

    if not isinstance(base, Mapping):
        return weigh(labels, base)
    if isinstance(labels, Mapping) and set(labels) != set(base):
        raise ValueError(
            f"terms: labels have parts {sorted(labels)}, but base has {sorted(base)}"
        )
    return {
        name: weigh(labels[name] if isinstance(labels, Mapping) else labels, part)
        for name, part in base.items()
    }


def split_groups(caller: str, labels, is_tail, base, where) -> tuple[Weights, Weights]:
    """Base weights of the head rows and of the tail rows."""
    base = base_weights(caller, label_rows(caller, labels), base, where)
    table = class_table(caller, "is_tail", is_tail)
    head = times_class_value(1 - table, labels, base, where)
    return head, times_class_value(table, labels, base, where)


def sum_to_one(weights: Weights) -> Weights:
    """Scales weights to sum to one over all parts; zeros stay zeros."""
    total = sum(jnp.sum(part) for part in jax.tree.leaves(weights))
    safe = jnp.where(total == 0, 1, total)
    return jax.tree.map(lambda part: part / safe, weights)


def compact_groups(head: Weights, tail: Weights, tail_rows: int | None, blocks: int):
    """Cuts the tail weights to the leading rows; a tail row elsewhere poisons the head.

    The host promised that there is none. A NaN is missed less easily than a lost row.
    """
    if tail_rows is None:
        return head, tail
    if isinstance(tail, Mapping):
        raise ValueError(
            "tail_rows: only plain weight vectors can be compacted, but the weights are"
            f" a dict with parts {sorted(tail)}"
        )
    rows = shape_of(tail)[0]
    if not 0 <= tail_rows <= rows or tail_rows % blocks or rows % blocks:
        raise ValueError(
            f"tail_rows is {tail_rows} of {rows} rows in {blocks} block(s), expected a"
            " number of rows that the blocks share equally"
        )
    kept = leading_rows(tail, tail_rows, blocks)
    lost = jnp.sum(tail != 0) != jnp.sum(kept != 0)
    head = jax.tree.map(lambda part: jnp.where(lost, jnp.nan, part), head)
    return head, (kept if tail_rows else None)
