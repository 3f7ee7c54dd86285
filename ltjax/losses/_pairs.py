r"""What all pairwise losses share: who is compared with whom, and with what weight.

An anchor p of class i is compared with the examples q of other classes, by column i of
the scores. Written out,

.. math:: v_p = f_p \sum_q w_{qi}\, \phi(s_{pi} - s_{qi}), \qquad
          \textstyle\sum_q w_{qi} = 1

so that the mean of v over the examples is the mean over pairs of classes. The weight is
a product :math:`w_{qi} = r_q\, c_i\, 1[y_q \ne i]`, and the only [B, K] array that need
exist is the scores. Weights of opponents add up to one, which keeps all sums of the
size of one pair.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax._checks import (
    check_choice,
    check_classes_last,
    check_floating,
    check_integers,
    check_where,
    dtype_of,
    is_concrete,
    shape_of,
)
from ltjax._numerics import at_least_float32, class_indices, host, mask_rows


class Pairs(NamedTuple):
    """Scores [B, K] and the weights of their pairs; K = 1 for a binary problem."""

    scores: jax.Array  # [B, K], masked rows 0
    label: jax.Array  # [B] column that ranks the example, K for nobody's
    picked: jax.Array  # [B] the score in that column
    row: jax.Array  # [B] r_q, 0 for rows that do not count
    column: jax.Array  # [K] c_i
    factor: jax.Array  # [B] f_p, 0 off anchors, NaN for a bad label

    def weights(self) -> jax.Array:
        """w [B, K]; fuses into the sum it meets."""
        classes = jnp.arange(self.scores.shape[1], dtype=self.label.dtype)
        rivals = self.label[:, None] != classes[None, :]
        weight = self.row[:, None] * self.column[None, :]
        return jnp.where(rivals, weight, jnp.zeros_like(weight))

    def at_anchor(self, table) -> jax.Array:
        """table[own column] for a [K] table, [B]."""
        return jnp.take(table, self.label, mode="clip")

    def value(self, pair_sum) -> jax.Array:
        """f_p times the weighted sum over opponents, exactly 0 where there is none."""
        return jnp.where(self.factor == 0, 0.0, self.factor * pair_sum)


def prepare_pairs(caller, scores, labels, where, pairs="ovo") -> Pairs:
    """Pairs of a binary problem (scores [B]) or of K classes (scores [B, K])."""
    check_choice(caller, "pairs", pairs, ("ovo", "ovr"))
    check_floating(caller, "scores", scores)
    rank = len(shape_of(scores))
    if rank == 1:
        return binary_pairs(caller, scores, labels, where)
    if rank == 2:
        check_classes_last(caller, "scores", scores)
        return _classes(caller, scores, labels, where, pairs)
    raise ValueError(
        f"{caller}: scores have shape {shape_of(scores)}, expected [B] (binary) or"
        " [B, K] (classes last)"
    )


def split_binary(caller, scores, labels, where):
    """Scores [B] and the positives and negatives [B] bool among the rows that count.

    Also a [B] bool of labels that are neither 0 nor 1 (traced ones; readable ones are
    refused).
    """
    check_floating(caller, "scores", scores)
    shape = shape_of(scores)
    if len(shape) != 1:
        raise ValueError(f"{caller}: scores have shape {shape}, expected [B]")
    check_binary_labels(caller, labels, shape, where)
    check_where(caller, where, shape)
    scores, labels = mask_rows(where, at_least_float32(scores), class_indices(labels))
    keep = jnp.ones(shape, bool) if where is None else jnp.asarray(where)
    up, down = keep & (labels == 1), keep & (labels == 0)
    return scores, up, down, keep & ~up & ~down


def check_binary_labels(caller, labels, shape, where=None) -> None:
    """Checks labels of the given shape: bool, or integers 0 and 1 where readable."""
    dtype = dtype_of(caller, "labels", labels)
    if dtype != jnp.bool_ and not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(
            f"{caller}: labels have dtype {dtype}, expected bool or integers 0 and 1"
        )
    if shape_of(labels) != shape:
        raise ValueError(
            f"{caller}: labels have shape {shape_of(labels)}, expected {shape}"
        )
    check_where(caller, where, shape[:1])
    if is_concrete(labels, where):
        values = host(labels)
        bad = (values != 0) & (values != 1)
        if where is not None:
            bad &= np.asarray(host(where)).reshape(shape[:1] + (1,) * (bad.ndim - 1))
        if bad.any():
            raise ValueError(
                f"{caller}: a label is {values[bad][0]}, expected 0 or 1; several"
                " classes need scores [B, K]"
            )


def reciprocal(count, dtype) -> jax.Array:
    """1 / count, 0 for a count of 0."""
    some = count > 0
    safe = jnp.where(some, count, jnp.ones_like(count)).astype(dtype)
    return jnp.where(some, 1 / safe, jnp.zeros_like(safe))


def binary_pairs(caller, scores, labels, where) -> Pairs:
    """Pairs of a binary problem, scores [B]."""
    scores, up, down, bad = split_binary(caller, scores, labels, where)
    dtype = scores.dtype
    num_up, num_down = jnp.sum(up), jnp.sum(down)
    total = jnp.sum(up | down | bad).astype(dtype)
    factor = jnp.where(num_down > 0, total * reciprocal(num_up, dtype), 0)
    factor = jnp.where(up, factor, jnp.where(bad, jnp.nan, 0)).astype(dtype)
    return Pairs(
        scores=scores[:, None],
        label=jnp.where(up, 0, 1),
        picked=scores,
        row=jnp.where(down, reciprocal(num_down, dtype), 0),
        column=jnp.ones(1, dtype),
        factor=factor,
    )


def _classes(caller, scores, labels, where, pairs) -> Pairs:
    shape = shape_of(scores)
    check_integers(caller, "labels", labels)
    if shape_of(labels) != shape[:1]:
        raise ValueError(
            f"{caller}: labels have shape {shape_of(labels)}, expected {shape[:1]}"
            f" (scores {shape} without the class axis)"
        )
    check_where(caller, where, shape[:1])
    scores, labels = mask_rows(where, at_least_float32(scores), class_indices(labels))
    num_classes, dtype = shape[1], scores.dtype
    keep = jnp.ones(shape[:1], bool) if where is None else jnp.asarray(where)
    valid = keep & (labels >= 0) & (labels < num_classes)
    label = jnp.where(valid, labels, num_classes)
    counts = jnp.sum(label[:, None] == jnp.arange(num_classes)[None, :], axis=0)
    present = jnp.sum(counts > 0)
    own_count = jnp.take(counts, label, mode="clip")
    each = reciprocal(own_count, dtype)
    if pairs == "ovo":
        row = each * reciprocal(present - 1, dtype)
        column = jnp.ones(num_classes, dtype)
    else:
        row = jnp.ones_like(each)
        column = reciprocal(jnp.sum(counts) - counts, dtype)
    total = jnp.sum(keep).astype(dtype)
    factor = jnp.where(present > 1, total * reciprocal(present, dtype) * each, 0)
    bad = jnp.where(keep, jnp.nan, 0).astype(dtype)
    picked = jnp.take_along_axis(
        scores, jnp.minimum(label, num_classes - 1)[:, None], axis=1
    )
    return Pairs(
        scores=scores,
        label=label,
        picked=picked[:, 0],
        row=jnp.where(valid, row, jnp.zeros_like(row)),
        column=column,
        factor=jnp.where(valid, factor, bad),
    )


class Suffixes(NamedTuple):
    """Columns in ascending order and, at position r, sums over positions >= r."""

    ranked: jax.Array  # [B, K]
    sums: tuple[jax.Array, ...]  # of w s^k, k = 0, 1, ...; each [B + 1, K]


def suffixes(scores, weights, degree: int) -> Suffixes:
    """Sorts each column once and accumulates its weighted moments from the top."""
    # The order carries no gradient; the gathers and the sums after it do.
    order = jnp.argsort(jax.lax.stop_gradient(scores), axis=0)
    ranked = jnp.take_along_axis(scores, order, axis=0)
    weights = jnp.take_along_axis(weights, order, axis=0)
    sums = []
    for power in range(degree + 1):
        total = jax.lax.cumsum(weights * ranked**power, axis=0, reverse=True)
        sums.append(jnp.pad(total, ((0, 1), (0, 0))))
    return Suffixes(ranked, tuple(sums))


def first_above(ranked, column, key) -> jax.Array:
    """First position of column `column` whose entry exceeds `key`; n if none.

    A binary search that gathers one number per step and key, so that no anchor needs
    more than its own column.
    """
    size = ranked.shape[0]
    ranked, key = jax.lax.stop_gradient((ranked, key))
    top = (1 << size.bit_length()) >> 1

    def climb(i, position):
        """`position` entries do not exceed the key; do as many more?"""
        further = position + (top >> i)
        last = ranked[jnp.minimum(further, size) - 1, column]
        return jnp.where((further <= size) & (last <= key), further, position)

    start = jnp.zeros(key.shape, jnp.int32)
    return jax.lax.fori_loop(0, size.bit_length(), climb, start)


def in_order(x) -> jax.Array:
    """Integers in the order of floats: -0.0 is 0.0, and NaN comes last.

    XLA sorts a single array of integers many times as fast as floats with a payload.
    """
    x = jax.lax.stop_gradient(x)
    x = jnp.where(x == 0, jnp.zeros_like(x), x)
    x = jnp.where(jnp.isnan(x), jnp.full_like(x, jnp.nan), x)
    integer = jnp.int32 if x.dtype == jnp.float32 else jnp.int64
    bits = jax.lax.bitcast_convert_type(x, integer)
    return jnp.where(bits < 0, bits ^ jnp.iinfo(integer).max, bits)


def hinge_over(scores, weights, column, key, power: int) -> jax.Array:
    """Sum of w_q (s_q - key)_+^power over column `column` of scores [B, K], [B].

    The moments of a score are added where the last of its equals is sorted to, so that
    the order itself is never needed.
    """
    ranked = jnp.sort(in_order(scores), axis=0)
    columns = jnp.arange(scores.shape[1])[None, :]
    last = first_above(ranked, columns, in_order(scores)) - 1
    sums = []
    for degree in range(power + 1):
        moment = jnp.zeros_like(scores).at[last, columns].add(weights * scores**degree)
        total = jax.lax.cumsum(moment, axis=0, reverse=True)
        sums.append(jnp.pad(total, ((0, 1), (0, 0))))
    position = first_above(ranked, column, in_order(key))
    return hinge_sums(Suffixes(ranked, tuple(sums)), position, column, key, power)


def hinge_sums(table: Suffixes, position, column, key, power: int) -> jax.Array:
    """Sum of w (s - key)^power over the entries from `position` on, [B], >= 0."""
    at = [total[position, column] for total in table.sums]
    value = at[1] - key * at[0]
    if power == 2:
        value = at[2] - key * at[1] - key * value
    # What should be 0 may come out of the difference slightly negative.
    return jnp.maximum(value, jnp.zeros_like(value))


def sum_over_pairs(
    pairs: Pairs, surrogate, block: int, *, shift=None, idle=0.0
) -> jax.Array:
    """Weighted sum of surrogate(s_p - s_q, shift_p) over all opponents, [B], in blocks.

    Costs B^2 evaluations (not B^2 K: an anchor reads only its own column; in a binary
    problem N_+ N_-) and memory for block^2 of them, forward and backward. `idle` is a
    gap at which the surrogate does not overflow, whatever the shift.
    """
    size, num_classes = pairs.scores.shape
    block = max(1, min(block, size))
    back = None
    if num_classes == 1:
        # Positives first: then most blocks hold no anchor or no opponent.
        order = jnp.argsort(pairs.label)
        back = jnp.zeros_like(order).at[order].set(jnp.arange(size))
        column = pairs.column
        pairs = Pairs(*(x if x is column else x[order] for x in pairs))
        shift = None if shift is None else shift[order]

    pad = -size % block

    def split(array, fill):
        widths = ((0, pad),) + ((0, 0),) * (array.ndim - 1)
        padded = jnp.pad(array, widths, constant_values=fill)
        return padded.reshape(-1, block, *array.shape[1:])

    scores, row = split(pairs.scores, 0), split(pairs.row, 0)
    wanted = jnp.any(split(pairs.factor != 0, False), axis=1)
    label, picked = split(pairs.label, num_classes), split(pairs.picked, 0)
    shift = split(jnp.zeros_like(pairs.picked) if shift is None else shift, 0)

    @jax.checkpoint
    def block_sum(own, anchors, shift, scores, label, row):
        rivals = jnp.take(scores.T, own, axis=0, mode="clip")  # [block, block]
        weight = jnp.where(own[:, None] == label[None, :], 0, row[None, :])
        # An opponent without weight may lie where the surrogate overflows.
        gap = jnp.where(weight == 0, idle, anchors[:, None] - rivals)
        return jnp.sum(weight * surrogate(gap, shift[:, None]), axis=1)

    @jax.checkpoint
    def anchor_block(wanted, *anchor):
        nothing = jnp.zeros_like(anchor[1])

        def add(total, rivals):
            some = wanted & jnp.any(rivals[2] != 0)
            part = jax.lax.cond(
                some, lambda: block_sum(*anchor, *rivals), lambda: nothing
            )
            return total + part, None

        return jax.lax.scan(add, nothing, (scores, label, row))[0]

    total = jax.lax.map(lambda x: anchor_block(*x), (wanted, label, picked, shift))
    total = pairs.at_anchor(pairs.column) * total.reshape(-1)[:size]
    return total if back is None else total[back]
