"""Whether what a run is evaluated on has been trained on, found out by content."""

import hashlib
import logging
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from ltjax.data.modalities import byte_count
from ltjax.data.readers import DataError
from ltjax.data.source import Source

_LOG = logging.getLogger(__name__)
_BLOCK = 1 << 22  # bytes of inputs that are read at a time


class Overlap(NamedTuple):
    """What `find_overlap` finds.

    Attributes:
        shared: examples of the other split whose input is a training input too.
        total: its examples.
        distinct: whether most inputs differ from each other, in both splits.
    """

    shared: int
    total: int
    distinct: bool


def find_overlap(train: Source, other: Source) -> Overlap:
    """Counts the inputs that two splits share, bit by bit.

    Args:
        train: of which every input is read.
        other: likewise.

    Returns:
        `Overlap`.

    Example:
        >>> from ltjax.data import array_source
        >>> train = array_source([[0.0], [1.0], [2.0]], [0, 1, 1])
        >>> find_overlap(train, array_source([[2.0], [3.0]], [1, 0]))
        Overlap(shared=1, total=2, distinct=True)
    """
    trained, seen = _digests(train), _digests(other)
    known = set(trained)
    distinct = all(len(set(one)) > len(one) / 2 for one in (trained, seen))
    return Overlap(sum(x in known for x in seen), len(seen), distinct)


def check_overlap(
    train: Source, evaluated: Mapping[str, Source], *, max_bytes: int = 1 << 28
) -> None:
    """Warns of evaluation examples that are trained on; refuses if all of them are.

    Features that take a few values only may well repeat, so that a split is refused
    only if most inputs are distinct.

    Args:
        train: the training examples.
        evaluated: split -> its examples.
        max_bytes: of the inputs of two splits; larger ones are not compared, which is
            logged.

    Raises:
        DataError: naming the split that holds nothing but training examples.
    """
    for name, other in evaluated.items():
        if train.shape != other.shape or train.dtype != other.dtype:
            continue  # which another check refuses
        size = byte_count(train.element)
        if (len(train) + len(other)) * size > max_bytes:
            _LOG.info("train and %s are too large to look for shared examples", name)
            continue
        shared, total, distinct = find_overlap(train, other)
        if shared == total and distinct:
            raise DataError(
                f"all {total} examples of the {name} split are training examples:"
                f" its metrics would be those of the training set; expected other data"
                " (data.test, or '{split}' in the path of an .npz file)"
            )
        if shared:
            _LOG.warning(
                "%d of the %d examples of the %s split are training examples too,"
                " input for input: its metrics are too good",
                shared,
                total,
                name,
            )


def _digests(source: Source) -> list[bytes]:
    """A hash of the input of each example."""
    block = max(1, _BLOCK // max(byte_count(source.element), 1))
    found = []
    for start in range(0, len(source), block):
        inputs = source.read(np.arange(start, min(start + block, len(source))))
        found += [
            hashlib.blake2b(
                b"".join(part.tobytes() for part in one), digest_size=16
            ).digest()
            for one in zip(*jax.tree.leaves(inputs), strict=True)
        ]
    return found
