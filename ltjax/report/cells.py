"""Cells, Markdown grids and CSV files: the smallest parts of every table.

Reports and experiments write their tables with these, so that a number, a name or an
unknown value looks the same everywhere.
"""

import csv
import io
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

UNKNOWN = "–"


class Cell(NamedTuple):
    """Mean and sample standard deviation over replicas; None if unknown."""

    mean: float | None
    std: float | None


def cell(values: np.ndarray | None, *, factor: float = 100.0) -> Cell:
    """Mean and standard deviation over replicas.

    Args:
        values: [R], or None.
        factor: 100 for fractions that are shown in percent.

    Returns:
        The Cell. A NaN (an empty group, a diverged replica) makes the mean unknown: a
        mean over the survivors would flatter the method.

    Example:
        >>> cell(np.array([0.5, 0.75]))
        Cell(mean=62.5, std=17.67766952966369)
    """
    if values is None or not np.isfinite(values).all():
        return Cell(None, None)
    values = factor * np.atleast_1d(np.asarray(values, float))
    std = float(values.std(ddof=1)) if values.size > 1 else None
    return Cell(float(values.mean()), std)


def cell_text(value: Cell, digits: int = 2) -> str:
    """A cell as "71.23 ± 0.45", "71.23" or an en dash.

    Example:
        >>> cell_text(Cell(71.234, 0.45)), cell_text(Cell(None, None))
        ('71.23 ± 0.45', '–')
    """
    if value.mean is None:
        return UNKNOWN
    spread = "" if value.std is None else f" ± {value.std:.{digits}f}"
    return f"{value.mean:.{digits}f}{spread}"


def slug(text: str) -> str:
    """`text` as part of a file name.

    Example:
        >>> slug("LA + SAM (rho=0.05)")
        'la_sam_rho_0.05'
    """
    return re.sub(r"[^a-z0-9.]+", "_", text.lower()).strip("_.") or "run"


# ---------------------------------------------------------------------------- Markdown

# Backslash first: it escapes the others.
_MARKDOWN = ("\\", "|", "`", "*", "[", "]")


def markdown_text(text: str) -> str:
    """A name as Markdown shows it: no markup, no HTML, in one line.

    Args:
        text: of a user, such as the label of a run.

    Returns:
        The text with Markdown's and HTML's own characters escaped.

    Example:
        >>> markdown_text("a|b <script>")
        'a\\\\|b &lt;script&gt;'
    """
    text = escape(" ".join(text.split()), quote=False)
    for character in _MARKDOWN:
        text = text.replace(character, f"\\{character}")
    return text


def markdown_grid(
    head: Sequence[str], rows: Sequence[Sequence[object]], *, align: str = ""
) -> str:
    """A Markdown table.

    Args:
        head: titles of the columns.
        rows: cells, already Markdown.
        align: "l" or "r" for each column; the default is a name and then numbers.

    Returns:
        Lines of a table, ending in a newline.

    Raises:
        ValueError: if a row or `align` does not have one entry per column.

    Example:
        >>> print(markdown_grid(["method", "all"], [["CE", 71.2]]), end="")
        | method | all |
        | :-- | --: |
        | CE | 71.2 |
    """
    align = align or "l" + "r" * (len(head) - 1)
    for row in (align, *rows):
        if len(row) != len(head):
            raise ValueError(
                f"markdown_grid: {row!r} has {len(row)} cells, expected one for each of"
                f" the {len(head)} columns"
            )
    rule = [":--" if side == "l" else "--:" for side in align]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in (head, rule, *rows))


# --------------------------------------------------------------------------------- CSV


def csv_text(text: str) -> str:
    """A cell that a spreadsheet does not take for a formula.

    Args:
        text: of a user, or a number.

    Returns:
        The text, with an apostrophe in front if it starts as a formula does and is not
        a number.

    Example:
        >>> csv_text("=1+1"), csv_text("-3.5"), csv_text("LDAM")
        ("'=1+1", '-3.5', 'LDAM')
    """
    if not text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def csv_grid(rows: Sequence[Sequence[str]]) -> str:
    """CSV text of rows, the first of which is the head; see `csv_text`."""
    text = io.StringIO()
    written = [[csv_text(cell) for cell in row] for row in rows]
    csv.writer(text, lineterminator="\n").writerows(written)
    return text.getvalue()


def read_rows(path: str | os.PathLike) -> list[dict[str, str]]:
    """The rows of a CSV file, none if it does not exist."""
    path = pathlib.Path(path)
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, str]]) -> None:
    """Appends rows of equal keys to a CSV file, with a header if it is new.

    Args:
        path: of the file; its folder is made if need be.
        rows: column -> text.

    Raises:
        ValueError: if the file has other columns.
    """
    path = pathlib.Path(path)
    columns = list(rows[0])
    exists = path.exists()
    if exists:
        with path.open(newline="") as file:
            header = next(csv.reader(file))
        if header != columns:
            raise ValueError(
                f"append_csv: {path} has the columns {header}, but the rows {columns}"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if not exists:
            writer.writeheader()
        writer.writerows(rows)
