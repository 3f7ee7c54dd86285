"""Tables: a row per example, in a CSV or Parquet file or a data frame.

The classes are in a label column, or several labels in one ("sky|sea"), or in columns
of 0 and 1. An empty label is that of an unlabelled example. The inputs are the numeric
columns, or the images that a column of paths names, relative to the file.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ltjax.data.class_folders import IMAGE_SUFFIXES
from ltjax.data.class_labels import encode_labels
from ltjax.data.label_sets import (
    encode_label_sets,
    holds_label_sets,
    indicator_targets,
    rarest_labels,
)
from ltjax.data.readers import (
    ArrayReader,
    Contents,
    DataError,
    FileReader,
    Sizing,
)
from ltjax.data.table_files import check_header
from ltjax.options import nearest

LABEL_NAMES = ("label", "class", "target", "y", "labels")
CANDIDATES = "candidates"  # sets of labels, of which one is true
TRUTH = "truth"  # clean labels, for measurement only
INDEX_NAMES = ("", "id", "index", "unnamed: 0")  # number rows and say nothing of them

Columns = Mapping[str, np.ndarray]


class Layout(NamedTuple):
    """How the columns of a table are used.

    Attributes:
        label: the column of the classes, or the names of those of 0 and 1.
        names: of the classes.
        features: the columns of the inputs; () if these are images.
        paths: the column of the paths of images, or "".
        ignored: columns that are not used.
        several: whether an example has several labels.
        indicators: the columns of 0 and 1, one for each label; () for one column.
        candidates: whether the labels of an example are candidates.
        truth: the column of the clean labels, or "".
    """

    label: str
    names: tuple[str, ...]
    features: tuple[str, ...]
    paths: str
    ignored: tuple[str, ...]
    several: bool = False
    indicators: tuple[str, ...] = ()
    candidates: bool = False
    truth: str = ""

    def note(self, caller: str) -> str:
        """What is not used of a table, for the log; "" if there is nothing."""
        if not self.ignored:
            return ""
        return (
            f"{caller}: the columns {list(self.ignored)} are not used, for they are not"
            " numeric or number the rows"
        )


def has_label_sets(caller: str, columns: Columns, *, label: str = "") -> bool:
    """Whether the examples of a training table have several labels each.

    Args:
        caller: the file, for messages.
        columns: of the table.
        label: see `find_layout`.

    Returns:
        Whether the label names columns of 0 and 1, or its column holds "a|b".

    Raises:
        DataError: if there is no label column, or more than one.
    """
    if _indicators(caller, columns, label):
        return True
    return holds_label_sets(columns[_label_column(caller, columns, label)])


def candidate_column(columns: Columns) -> str:
    """The column "candidates" of a table, if it holds words; otherwise ""."""
    found = [name for name in columns if name.strip().casefold() == CANDIDATES]
    words = [name for name in found if not _is_numeric(columns[name])]
    return words[0] if words else ""


def find_layout(
    caller: str,
    columns: Columns,
    *,
    label: str = "",
    several: bool = False,
    candidates: bool = False,
) -> Layout:
    """Decides what each column of a training table is for.

    Args:
        caller: the file, for messages.
        columns: of the table.
        label: the column of the classes; "" finds one of `LABEL_NAMES`. With several
            labels also the columns of 0 and 1, as "sky,sea".
        several: whether an example has several labels, see `has_label_sets`.
        candidates: whether the labels of an example are candidates. They are in the
            column "candidates", where there is one, and the label column then holds
            the clean labels.

    Returns:
        `Layout`.

    Raises:
        DataError: if there is no label column, or more than one; if there are
            candidates that nobody asked for; if no column can be an input.
    """
    indicators = _indicators(caller, columns, label) if several or candidates else ()
    sets, truth = candidate_column(columns), _truth_column(columns, label)
    if indicators:
        names = indicators
    elif candidates:
        if sets and not truth:
            truth = _label_column(caller, columns, label, needed=False)
        label = sets or _label_column(caller, columns, label)
        truth = truth if truth != label else ""
        _, names = encode_label_sets(f"{caller}, column {label!r}", columns[label])
    else:
        label = _label_column(caller, columns, label)
        if sets and sets != label:
            raise DataError(
                f"{caller} has a column {sets!r}, candidates of which one is the label;"
                " expected config.data.candidates = true and a method of partial"
                " labels, or no such column"
            )
        column = f"{caller}, column {label!r}"
        if several:
            _, names = encode_label_sets(column, columns[label])
        else:
            _, names = encode_labels(column, columns[label], unlabelled=True)
    told = (*(indicators or (label,)), truth)
    others = [name for name in columns if name not in told]
    paths = [name for name in others if _holds_paths(columns[name])]
    if len(paths) > 1:
        raise DataError(
            f"{caller} has the columns {paths} of image paths, expected one"
        )
    if paths:
        ignored = tuple(name for name in others if name != paths[0])
        inputs = (), paths[0], ignored
        return Layout(label, names, *inputs, several, indicators, candidates, truth)
    features = tuple(
        name
        for name in others
        if _is_numeric(columns[name]) and name.strip().casefold() not in INDEX_NAMES
    )
    if not features:
        raise DataError(
            f"{caller} has the columns {list(columns)}, of which none beside"
            f" {label!r} is numeric or holds paths of images; expected features as"
            " numbers"
        )
    inputs = features, "", tuple(name for name in others if name not in features)
    return Layout(label, names, *inputs, several, indicators, candidates, truth)


def table_contents(
    caller: str,
    columns: Columns,
    layout: Layout,
    *,
    root: str | os.PathLike = "",
    sizing: Sizing | None = None,
) -> Contents:
    """The examples of a table.

    Args:
        caller: the file, for messages.
        columns: of the table.
        layout: from `find_layout` of the training table.
        root: that paths of images are relative to.
        sizing: of images.

    Returns:
        Contents: features float32 [F], or RGB images.

    Raises:
        DataError: if a column is missing or not numeric, or a feature is not finite.
    """
    # Test data may have a label in the place of candidates.
    told = () if layout.candidates else layout.indicators or (layout.label,)
    needed = (*told, *layout.features, *filter(None, [layout.paths]))
    for name in needed:
        if name not in columns:
            raise DataError(
                f"{caller} has no column {name!r}, which the training table"
                f" has{nearest(name, columns)}"
            )
    told, names = _read_labels(caller, columns, layout), layout.names
    if layout.paths:
        paths = [str(path) for path in columns[layout.paths]]
        reader = FileReader(os.fspath(root) or ".", paths, sizing or Sizing())
        shape = reader(np.array([0])).shape[1:]
        inputs: Any = {"reader": reader, "shape": shape, "dtype": np.dtype(np.uint8)}
    else:
        features = [_numbers(caller, name, columns[name]) for name in layout.features]
        rows = np.stack(features, axis=1)
        inputs = {
            "reader": ArrayReader(rows),
            "shape": rows.shape[1:],
            "dtype": rows.dtype,
            "features": layout.features,
        }
    return Contents(**inputs, **told, num_classes=len(names), class_names=names)


def _read_labels(caller: str, columns: Columns, layout: Layout) -> dict[str, Any]:
    """Fields of `Contents`: the labels, and what else is said of them."""

    def classes(name: str, **more: bool) -> np.ndarray:
        column = f"{caller}, column {name!r}"
        return encode_labels(column, columns[name], layout.names, **more)[0]

    truth = classes(layout.truth) if layout.truth in columns else None
    name, indicators = layout.label, layout.indicators
    if layout.candidates and not {*(indicators or (name,))} <= set(columns):
        # Test data, with their labels.
        given = layout.truth if layout.truth in columns else ""
        return {"labels": classes(_label_column(caller, columns, given))}
    if not layout.candidates and not layout.several:
        return {"labels": classes(name, unlabelled=True), "truth": truth}
    if indicators:
        sets = indicator_targets(caller, {one: columns[one] for one in indicators})
    else:
        column = f"{caller}, column {name!r}"
        sets, _ = encode_label_sets(column, columns[name], layout.names)
    if layout.several:
        return {"labels": rarest_labels(sets), "targets": sets}
    hidden = np.full(len(sets), -1, np.int32)
    return {"labels": hidden, "candidates": sets.astype(bool), "truth": truth}


def _truth_column(columns: Columns, label: str) -> str:
    """The column "truth", unless it is named as the label; "" if there is none."""
    found = [name for name in columns if name.strip().casefold() == TRUTH]
    return next((name for name in found if name != label), "")


def _indicators(caller: str, columns: Columns, label: str) -> tuple[str, ...]:
    """The columns that "sky,sea" names; () if the label is a column itself."""
    if label in columns or "," not in label:
        return ()
    names = tuple(name.strip() for name in label.split(","))
    for name in names:
        if name not in columns:
            raise DataError(
                f"{caller} has no label column {name!r}{nearest(name, columns)}"
            )
    check_header(f"{caller}: label {label!r}", names)
    return names


def _label_column(
    caller: str, columns: Columns, label: str, *, needed: bool = True
) -> str:
    """The column of the classes; "" if there is none and none is needed."""
    if label:
        if label not in columns:
            raise DataError(
                f"{caller} has no label column {label!r}{nearest(label, columns)}"
            )
        return label
    found = [name for name in columns if name.strip().casefold() in LABEL_NAMES]
    if len(found) == 1:
        return found[0]
    if not found and not needed:
        return ""
    trouble = f"{len(found)} label columns {found}" if found else "no label column"
    raise DataError(
        f"{caller} has {trouble}, expected one that is called"
        f" {', '.join(LABEL_NAMES)}, or its name in --label (label= in Python); the"
        f" columns are {', '.join(map(repr, columns))}"
    )


def _holds_paths(column: np.ndarray) -> bool:
    if column.dtype.kind not in "OUT":
        return False
    return len(column) > 0 and all(
        isinstance(one, str)
        and os.path.splitext(one.strip())[1].lower() in IMAGE_SUFFIXES
        for one in column
    )


def _is_numeric(column: np.ndarray) -> bool:
    if column.dtype.kind in "biuf":
        return True
    if column.dtype.kind != "O":
        return False
    kinds = (int, float, np.number, np.bool_, type(None))
    return all(isinstance(one, kinds) for one in column)


def _numbers(caller: str, name: str, column: np.ndarray) -> np.ndarray:
    if not _is_numeric(column):
        wrong = next(x for x in column if not isinstance(x, (int, float)))
        raise DataError(
            f"{caller}: column {name!r} holds {wrong!r}, expected numbers as in the"
            " training table"
        )
    values = column.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise DataError(
            f"{caller}: column {name!r} is missing or not finite in {bad.size} of"
            f" {len(values)} rows, first in row {bad[0]} (0-based); fill in numbers or"
            " drop the rows or the column"
        )
    return values
