"""Several labels per example, as people have them: "sky|sea", or columns of 0 and 1."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltjax.data.class_labels import encode_labels
from ltjax.data.readers import DataError

SEPARATOR = "|"


def holds_label_sets(values: Sequence[Any] | np.ndarray) -> bool:
    """Whether any of the labels are several ones.

    Example:
        >>> holds_label_sets(["sky", "sky|sea"]), holds_label_sets(["sky", 3])
        (True, False)
    """
    return any(isinstance(value, str) and SEPARATOR in value for value in values)


def encode_label_sets(
    caller: str,
    values: Sequence[Any] | np.ndarray,
    names: tuple[str, ...] | None = None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Names that are separated by "|" as rows of 0 and 1.

    Args:
        caller: whose labels these are, for messages.
        values: N texts such as "sky|sea".
        names: those of the training data, in order; None for all that occur.

    Returns:
        (targets uint8 [N, K], the names of the K labels).

    Raises:
        DataError: for a row without a label, or with one that is not among the names.

    Example:
        >>> targets, names = encode_label_sets("example", ["sky|sea", "sea"])
        >>> targets.tolist(), names
        ([[1, 1], [1, 0]], ('sea', 'sky'))
    """
    sets = [_labels(value) for value in values]
    for row, labels in enumerate(sets):
        if not labels:
            raise DataError(
                f"{caller}: row {row} (0-based) has no label, expected one or more,"
                f" separated by {SEPARATOR!r}"
            )
    rows = np.repeat(np.arange(len(sets)), [len(labels) for labels in sets])
    every = [label for labels in sets for label in labels]
    if names is None:
        # Labels that are all different are classes here: they occur beside others.
        _, names = encode_labels(caller, 2 * every)
    numbers, _ = encode_labels(caller, every, names)
    targets = np.zeros((len(sets), len(names)), np.uint8)
    targets[rows, numbers] = 1
    return targets, names


def _labels(value: Any) -> list[Any]:
    if not isinstance(value, str):
        return [] if value is None or value != value else [value]
    return [label.strip() for label in value.split(SEPARATOR) if label.strip()]


def indicator_targets(caller: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Columns of 0 and 1, one for each label, as rows.

    Args:
        caller: whose they are, for messages.
        columns: name of a label -> [N].

    Returns:
        uint8 [N, K].

    Raises:
        DataError: naming the column and row of another value, or a row without a label.

    Example:
        >>> indicator_targets("example", {"sky": np.array([1, 0]),
        ...                               "sea": np.array([True, True])}).tolist()
        [[1, 1], [0, 1]]
    """
    for name, column in columns.items():
        for row, value in enumerate(column):
            if not isinstance(value, (int, float, np.number, np.bool_)) or (
                value not in (0, 1)
            ):
                raise DataError(
                    f"{caller}: label column {name!r} holds {value!r} in row {row}"
                    " (0-based), expected 0 or 1"
                )
    targets = np.stack([np.asarray(c, np.uint8) for c in columns.values()], axis=1)
    empty = np.flatnonzero(~targets.any(axis=1))
    if empty.size:
        raise DataError(
            f"{caller}: row {empty[0]} (0-based) has no label ({empty.size} such"
            f" row(s)), expected a 1 in one or more of {', '.join(columns)}"
        )
    return targets


def rarest_labels(targets: np.ndarray) -> np.ndarray:
    """The stratum of each example: the rarest of its labels, the last of equal ones.

    Args:
        targets: [N, K] of 0 and 1, at least one 1 in each row.

    Returns:
        int32 [N].

    Example:
        >>> rarest_labels(np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0]])).tolist()
        [1, 2, 1]
    """
    counts = targets.sum(axis=0)
    order = np.lexsort((-np.arange(len(counts)), counts))  # the rarest first
    return order[np.argmax(targets[:, order] > 0, axis=1)].astype(np.int32)
