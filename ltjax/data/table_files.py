"""Columns of a table: of a CSV, TSV or Parquet file, or of a data frame."""

import csv
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ltjax.data.readers import DataError, MissingDataError, beside
from ltjax.options import nearest

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")


def read_columns(file: str | os.PathLike) -> dict[str, np.ndarray]:
    """The columns of a CSV, TSV or Parquet file.

    Columns of a CSV file are numbers if every entry is one or empty (NaN).

    Args:
        file: with the names of the columns in its first line.

    Returns:
        Name -> [N] of numbers or objects.

    Raises:
        MissingDataError: if there is no such file.
        DataError: naming the line that does not fit, or the kind of file.
        ModuleNotFoundError: for Parquet without pyarrow; says how to install it.
    """
    file = pathlib.Path(file)
    suffix = file.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise DataError(f"{file} is not a table{nearest(suffix, TABLE_SUFFIXES)}")
    if not file.is_file():
        raise MissingDataError(f"there is no file {file}{beside(file)}")
    return _read_csv(file) if suffix in (".csv", ".tsv") else _read_parquet(file)


def frame_columns(frame: Any) -> dict[str, np.ndarray]:
    """The columns of a pandas (or polars) data frame."""
    names = [str(name) for name in frame.columns]
    check_header("data frame", names)
    return {
        text: np.asarray(frame[name])
        for text, name in zip(names, frame.columns, strict=True)
    }


def check_header(caller: str, names: Sequence[str]) -> None:
    """Refuses two columns of one name."""
    twice = [name for name in names if list(names).count(name) > 1]
    if twice:
        raise DataError(f"{caller} has the column {twice[0]!r} more than once")


def _read_csv(file: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            sample = opened.read(1 << 16)
            opened.seek(0)
            rows = list(csv.reader(opened, delimiter=_delimiter(file, sample)))
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text ({error.reason})") from None
    except csv.Error as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    rows = [(number, row) for number, row in enumerate(rows, start=1) if row]
    if len(rows) < 2:
        raise DataError(
            f"{file} has {len(rows)} line(s), expected the names of the columns and a"
            " line for each example"
        )
    header = [name.strip() for name in rows[0][1]]
    check_header(str(file), header)
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(
                f"{file}: line {number} has {len(row)} entries, expected"
                f" {len(header)} as in the first line"
            )
    table = zip(*(row for _, row in rows[1:]), strict=True)
    return {name: _parsed(column) for name, column in zip(header, table, strict=True)}


def _delimiter(file: pathlib.Path, sample: str) -> str:
    """The one of the usual delimiters that the first line has most of."""
    if file.suffix.lower() == ".tsv":
        return "\t"
    first = sample.partition("\n")[0]
    return max(",;\t|", key=first.count)


_MISSING = ("", "na", "n/a", "nan", "null", "none")


def _parsed(column: Sequence[str]) -> np.ndarray:
    """Numbers if all entries are, words otherwise."""
    words = [word.strip() for word in column]
    try:
        numbers = [
            float("nan") if word.lower() in _MISSING else float(word) for word in words
        ]
    except ValueError:
        return np.array(words, object)
    if all(np.isnan(numbers)):
        return np.array(words, object)
    return np.array(numbers)


def _read_parquet(file: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{file} is a Parquet file, which needs pyarrow: pip install pyarrow"
        ) from error
    try:
        table = parquet.read_table(file)
        columns = [_decoded(pa, column) for column in table.columns]
    except Exception as error:  # of pyarrow, and of words that are not UTF-8
        raise DataError(f"{file} is not a Parquet file, or damaged: {error}") from None
    check_header(str(file), table.column_names)
    return dict(zip(table.column_names, columns, strict=True))


def _decoded(pa: Any, column: Any) -> np.ndarray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.to_numpy(zero_copy_only=False)
