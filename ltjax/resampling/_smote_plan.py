"""Plans of SMOTE and its variants: bases, neighbors and steps, drawn on the host."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from ltjax.resampling._random import host_generator


class SmotePlan(NamedTuple):
    """Which points to make, class by class.

    Attributes:
        base: [M] int32, row that a new point starts from.
        neighbor: [M] int32, row that it moves towards.
        step: [M] (or [M, D], a step per feature) float32 in [0, 1).
        labels: [M] int32, class of the new point, non-decreasing."""

    base: np.ndarray
    neighbor: np.ndarray
    step: np.ndarray
    labels: np.ndarray


def new_points(caller: str, labels: np.ndarray, num_new: ArrayLike | None):
    """Amounts [K] int64: `num_new`, checked, or what balances the classes."""
    counts = np.bincount(labels)
    if num_new is None:
        return np.where(counts > 0, counts.max(initial=0) - counts, 0)
    amounts = np.asarray(num_new)
    if not np.issubdtype(amounts.dtype, np.integer):
        raise TypeError(
            f"{caller}: num_new has dtype {amounts.dtype}, expected integers"
        )
    if amounts.ndim != 1 or len(amounts) < len(counts) or np.any(amounts < 0):
        raise ValueError(
            f"{caller}: num_new is {amounts.tolist()}, expected a number >= 0 for each"
            f" of the {len(counts)} classes"
        )
    counts = np.pad(counts, (0, len(amounts) - len(counts)))
    empty = np.flatnonzero((counts == 0) & (amounts > 0))
    if empty.size:
        raise ValueError(
            f"{caller}: num_new asks for {amounts[empty[0]]} points of class"
            f" {empty[0]}, which has no example"
        )
    return amounts.astype(np.int64)


def classes_to_enlarge(labels: np.ndarray, amounts: np.ndarray):
    """Yields (class, its rows, its number of new points) where that is positive."""
    order = np.argsort(labels, kind="stable").astype(np.int32)
    ends = np.cumsum(np.bincount(labels, minlength=len(amounts)))
    for label in np.flatnonzero(amounts).tolist():
        start = ends[label - 1] if label else 0
        yield label, order[start : ends[label]], int(amounts[label])


def choose_bases(
    generator: np.random.Generator, rows: np.ndarray, amount: int, bases: str
) -> np.ndarray:
    """`amount` of `rows`.

    "stratified" takes every row equally often and a random subset once more; "uniform"
    draws with replacement.
    """
    if bases == "uniform":
        return rows[generator.integers(0, len(rows), amount)]
    times, rest = divmod(amount, len(rows))
    subset = generator.choice(rows, rest, replace=False)
    return np.concatenate([np.tile(rows, times), np.sort(subset)])


def pair_with_neighbors(
    caller: str,
    key: jax.Array,
    base: np.ndarray,
    labels: np.ndarray,
    neighbors: Callable[[np.ndarray], np.ndarray],
    *,
    num_features: int | None = None,
) -> SmotePlan:
    """Draws a neighbor and a step for every base [M] of classes `labels` [M].

    `neighbors` maps unique rows [U] to their neighbors [U, k], -1 (last) for none.
    Class c draws from stream (c, 1) of the key. A base without neighbors is replicated.
    """
    rows, at = np.unique(base, return_inverse=True)
    table = neighbors(rows) if len(rows) else np.zeros((0, 1), np.int32)
    available = np.count_nonzero(table >= 0, axis=1)[at]
    shape = base.shape if num_features is None else (len(base), num_features)
    column, step = np.zeros(len(base), np.int64), np.zeros(shape, np.float32)
    borders = np.flatnonzero(np.diff(labels)) + 1
    for part in np.split(np.arange(len(base)), borders) if len(base) else ():
        generator = host_generator(caller, key, int(labels[part[0]]), 1)
        column[part] = generator.integers(0, np.maximum(available[part], 1))
        step[part] = generator.random(step[part].shape, np.float32)
    alone = available == 0
    if alone.any():
        warnings.warn(
            f"{caller}: class {labels[alone][0]} has a single point, which is"
            " replicated instead of interpolated",
            stacklevel=3,
        )
    step[alone] = 0
    neighbor = np.where(alone, base, table[at, column])
    return SmotePlan(
        base.astype(np.int32), neighbor.astype(np.int32), step, labels.astype(np.int32)
    )
