"""Row compaction: the tail term runs on the rows that need it.

Shapes are static, so the host, which knows the labels before it dispatches a step, puts
the tail rows first and picks a number of rows K from a few buckets. Each bucket is one
compiled program; K = 0 leaves the tail term out, and K = B is the uncompacted one. The
gradient is exact for every batch if the model does not couple rows.

Everything here is numpy, and a pure function of the global batch's labels: processes
that share the plan pick the same K.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ltjax._checks import check_integers


class Plan(NamedTuple):
    """Order of the rows of a batch, and the rows of the tail term.

    Attributes:
        permutation: [B] int; row i of the new batch is row permutation[i] of the old.
        rows: K, from the buckets; all tail rows lie among the first K / devices rows of
            every device's block.
    """

    permutation: np.ndarray
    rows: int


def default_buckets(batch_size: int, devices: int = 1) -> tuple[int, ...]:
    """{0, B/16, B/8, B/4, B/2, B}, as far as they are whole and the devices share them.

    Args:
        batch_size: B, a multiple of `devices`.
        devices: number of devices along the batch.

    Returns:
        Increasing row counts, the last one B.

    Raises:
        ValueError: if the devices do not share the batch equally.

    Example:
        >>> default_buckets(64), default_buckets(64, devices=8)
        ((0, 4, 8, 16, 32, 64), (0, 8, 16, 32, 64))
    """
    if batch_size <= 0 or devices <= 0 or batch_size % devices:
        raise ValueError(
            f"default_buckets: batch_size is {batch_size}, expected a positive multiple"
            f" of {devices} device(s)"
        )
    parts = [batch_size // p for p in (16, 8, 4, 2, 1) if batch_size % p == 0]
    return (0, *(rows for rows in parts if rows % devices == 0))


def plan(
    labels: np.ndarray,
    is_tail: np.ndarray,
    buckets: Sequence[int],
    devices: int = 1,
    *,
    where: np.ndarray | None = None,
) -> Plan:
    """Puts tail rows first and picks the smallest bucket that holds them.

    The order is stable: tail rows keep their order, and so do the others. With several
    devices the tail rows are dealt out in turn, so that each device has its share first
    in its own block of rows.

    Args:
        labels: [B] int, of the whole global batch.
        is_tail: [K] bool.
        buckets: row counts, from `default_buckets`; must contain B.
        devices: number of equal blocks of rows.
        where: optional [B] bool; False rows (padding) are never tail.

    Returns:
        `Plan(permutation, rows)`.

    Raises:
        ValueError: if a label is out of range, or a bucket does not fit.
        TypeError: if labels are not integers.

    Example:
        >>> found = plan(np.array([0, 1, 0, 0]), np.array([False, True]), (0, 2, 4))
        >>> found.permutation.tolist(), found.rows
        ([1, 0, 2, 3], 2)
    """
    check_integers("plan", "labels", labels)
    labels, is_tail = np.asarray(labels), np.asarray(is_tail, bool)
    size = len(labels)
    if size % devices:
        raise ValueError(f"plan: {size} rows, expected a multiple of {devices} devices")
    buckets = sorted(buckets)
    bad = [b for b in buckets if not 0 <= b <= size or b % devices]
    if bad or not buckets or buckets[-1] != size:
        raise ValueError(
            f"plan: buckets are {buckets}, expected multiples of {devices} (devices)"
            f" within [0, {size}] that contain {size}"
        )
    real = np.ones(size, bool) if where is None else np.asarray(where, bool)
    known = np.where(real, labels, labels.dtype.type(0))
    if size and not (0 <= known.min() and known.max() < len(is_tail)):
        raise ValueError(
            f"plan: labels lie in [{known.min()}, {known.max()}], expected"
            f" [0, {len(is_tail)})"
        )
    tail_row = is_tail[known] & real
    tail, rest = np.flatnonzero(tail_row), np.flatnonzero(~tail_row)
    per_device = -(-len(tail) // devices)
    rows = next(b for b in buckets if b // devices >= per_device)
    permutation, block = [], size // devices
    for device in range(devices):
        dealt = tail[device::devices]
        filled, rest = np.split(rest, [block - len(dealt)])
        permutation += [dealt, filled]
    return Plan(np.concatenate(permutation), rows)
