"""What earlier runs say of the training examples, as columns of the training set.

`config.columns_from` maps a column to outputs of finished runs:

    columns_from = {"teacher": "stage:base#projection"}
    columns_from = {"expert": "stage:expert1#projection,stage:expert2#projection"}

Each of them speaks of the examples that it was trained on, in evaluation mode; of an
example that several were trained on, the last one has its way. `config.only` then keeps
the examples with given values of columns.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax.data.source import Source
from ltjax.options import ConfigError


class Said(NamedTuple):
    """An output [n, ...] of a run, for each example of the source it was trained on."""

    source: Source
    values: np.ndarray


class Told(NamedTuple):
    """A training set with its further columns, and the same examples without them.

    What a run computes goes on from the first one. What it is compared by is the second
    one: on other devices the columns of earlier runs differ by rounding.
    """

    train: Source
    bare: Source


def outputs_of(text: str) -> list[tuple[str, str]]:
    """The (run, output) pairs of an entry of `columns_from`.

    Raises:
        ValueError: if one of them is not of the form RUN#OUTPUT.

    Example:
        >>> outputs_of("stage:a#features, runs/b#features")
        [('stage:a', 'features'), ('runs/b', 'features')]
    """
    pairs = []
    for part in str(text).split(","):
        run, _, output = part.strip().rpartition("#")
        if not run or not output:
            raise ValueError(f"{part.strip()!r} is not of the form RUN#OUTPUT")
        pairs.append((run, output))
    return pairs


def told_by(
    train: Source, said: Mapping[str, Sequence[Said]], only: Mapping[str, Any]
) -> Told:
    """A training set with what earlier runs say of its examples.

    Args:
        train: the training set.
        said: column -> what the runs say, of examples of the same data set.
        only: column -> value; examples with another one are left out.

    Returns:
        `Told`.

    Raises:
        ConfigError: if a run was trained on other data, none was trained on an example,
            or no example is left.
    """
    columns = {**train.columns}
    for name, runs in said.items():
        columns[name] = _joined(name, train, runs)
    kept = np.ones(len(train), bool)
    for name, value in only.items():
        kept &= columns[name] == value
    if not kept.any():
        raise ConfigError([f"config.only is {dict(only)}, which no example fulfils"])
    rows = np.flatnonzero(kept)
    full = dataclasses.replace(train, columns=columns)
    return Told(full.select(rows), train.select(rows))


def _joined(name: str, train: Source, runs: Sequence[Said]) -> np.ndarray:
    """[N, ...], what the runs say of each example, brought together by its position."""
    faults = []
    order = np.argsort(train.origin)
    known = np.zeros(len(train), bool)
    column: np.ndarray | None = None
    for said in runs:
        other = said.source
        if (other.name, other.split) != (train.name, train.split):
            faults.append(
                f"config.columns_from.{name}: a run was trained on {other.name}"
                f" {other.split}, expected {train.name} {train.split}"
            )
            continue
        shape = (len(train), *said.values.shape[1:])
        if column is None:
            column = np.zeros(shape, said.values.dtype)
        if column.shape != shape:
            faults.append(
                f"config.columns_from.{name}: its runs say {column.shape[1:]} and"
                f" {shape[1:]} of an example, expected one shape"
            )
            continue
        place = np.searchsorted(train.origin, other.origin, sorter=order)
        place = order[np.minimum(place, len(train) - 1)]
        ours = train.origin[place] == other.origin
        column[place[ours]], known[place[ours]] = said.values[ours], True
    if column is not None and not faults and not known.all():
        faults.append(
            f"config.columns_from.{name}: none of its runs was trained on"
            f" {int((~known).sum())} of the {len(train)} examples, such as number"
            f" {int(np.flatnonzero(~known)[0])}"
        )
    if faults or column is None:
        raise ConfigError(faults or [f"config.columns_from.{name} names no run"])
    return column
