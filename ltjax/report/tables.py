"""Tables of results: Markdown for people, CSV for programs. All numbers in percent.

Means and standard deviations are over replicas (seeds); the deviation is the sample's
(ddof = 1) and left out for a single replica.
"""

import csv
import io
import os
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from ltjax.report.runs import Run


class Column(NamedTuple):
    """One metric of the tables.

    Attributes:
        key: in `Run.summary`.
        title: of the column.
        best: max or min, which end is better.
        meaning: for the legend.
    """

    key: str
    title: str
    best: str
    meaning: str


COLUMNS = (
    Column("balanced_accuracy", "All", "max", "balanced accuracy, the mean recall"),
    Column("many", "Many", "max", "mean recall of the many-shot classes"),
    Column("medium", "Medium", "max", "mean recall of the medium-shot classes"),
    Column("few", "Few", "max", "mean recall of the few-shot classes"),
    Column("worst", "Worst", "max", "smallest recall of any class"),
    Column("g_mean", "G-mean", "max", "geometric mean of the recalls"),
    Column("ece", "ECE", "min", "expected calibration error, 15 bins; lower is better"),
)

RESULT_FIELDS = (
    "method",
    "dataset",
    "imbalance_factor",
    "backbone",
    "epochs",
    "steps",
    "seeds",
    "top1_mean",
    "top1_std",
    "many",
    "medium",
    "few",
    "worst",
    "config",
    "code_version",
    "hardware",
    "hours",
)


class Cell(NamedTuple):
    """Mean and sample standard deviation over replicas, in percent; None if unknown."""

    mean: float | None
    std: float | None


class Row(NamedTuple):
    """One run of a table."""

    name: str
    seeds: int
    cells: tuple[Cell, ...]


def cell(values: np.ndarray | None) -> Cell:
    """Mean and standard deviation of fractions, in percent.

    Args:
        values: [R] fractions, or None.

    Returns:
        The Cell. A NaN (an empty group, a diverged replica) makes the mean unknown: a
        mean over the survivors would flatter the method.

    Example:
        >>> cell(np.array([0.5, 0.75]))
        Cell(mean=62.5, std=17.67766952966369)
    """
    if values is None or not np.isfinite(values).all():
        return Cell(None, None)
    values = 100 * np.atleast_1d(np.asarray(values, float))
    std = float(values.std(ddof=1)) if values.size > 1 else None
    return Cell(float(values.mean()), std)


def table_rows(runs: Sequence[Run], columns: Sequence[Column] = COLUMNS) -> list[Row]:
    """The numbers of a table, one row per run.

    Args:
        runs: comparable ones, in order.
        columns: metrics to show.

    Returns:
        One Row per run.
    """
    rows = []
    for run in runs:
        summary = run.summary
        cells = tuple(cell(summary.get(column.key)) for column in columns)
        rows.append(Row(run.name, len(run.members), cells))
    return rows


def best_rows(rows: Sequence[Row], columns: Sequence[Column] = COLUMNS) -> list[set]:
    """Which rows have the best mean of each column, to the digits shown.

    Args:
        rows: of `table_rows`.
        columns: of the same table.

    Returns:
        One set of row indices per column; empty if all are equal.
    """
    result = []
    for j, column in enumerate(columns):
        known = {i: row.cells[j].mean for i, row in enumerate(rows)}
        shown = {i: round(v, 2) for i, v in known.items() if v is not None}
        top = (max if column.best == "max" else min)(shown.values(), default=None)
        winners = {i for i, value in shown.items() if value == top}
        result.append(winners if len(winners) < len(shown) else set())
    return result


def cell_text(value: Cell) -> str:
    """A cell as "71.23 ± 0.45", "71.23" or an en dash."""
    if value.mean is None:
        return "–"
    return f"{value.mean:.2f}" + ("" if value.std is None else f" ± {value.std:.2f}")


def group_rule(run: Run) -> str:
    """The rule behind many, medium and few, with the groups' sizes."""
    many, few = run.shot_limits
    size = {name: int(members.sum()) for name, members in run.groups.items()}
    return (
        f"Many: more than {many} training examples per class ({size['many']} classes);"
        f" medium: {few} to {many} ({size['medium']});"
        f" few: fewer than {few} ({size['few']})."
    )


def legend(columns: Sequence[Column] = COLUMNS) -> str:
    """What the columns of a table mean."""
    meanings = "; ".join(f"{column.title}: {column.meaning}" for column in columns)
    return (
        f"{meanings}. In percent, mean ± sample standard deviation over seeds."
        " An en dash marks an empty group or a replica that diverged."
    )


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


def csv_text(text: str) -> str:
    """A cell that a spreadsheet does not take for a formula.

    Args:
        text: of a user, or a number.

    Returns:
        The text, with an apostrophe in front if it starts as a formula does and is no
        number.

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


def markdown_table(runs: Sequence[Run], columns: Sequence[Column] = COLUMNS) -> str:
    """A Markdown table of comparable runs, the best mean of each column in bold.

    Args:
        runs: comparable ones, in order.
        columns: metrics to show.

    Returns:
        Lines of a table, ending in a newline; names are escaped.
    """
    rows = table_rows(runs, columns)
    best = best_rows(rows, columns)
    head = ["Method", "Seeds", *(column.title for column in columns)]
    lines = [head, [":--", *["--:"] * (len(head) - 1)]]
    for i, row in enumerate(rows):
        texts = [cell_text(value) for value in row.cells]
        texts = [f"**{t}**" if i in best[j] else t for j, t in enumerate(texts)]
        lines.append([markdown_text(row.name), str(row.seeds), *texts])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    written = [[csv_text(cell) for cell in row] for row in rows]
    csv.writer(text, lineterminator="\n").writerows(written)
    return text.getvalue()


def csv_table(runs: Sequence[Run], columns: Sequence[Column] = COLUMNS) -> str:
    """The same numbers for programs, in percent with four digits.

    Args:
        runs: of one or several data sets.
        columns: metrics to show.

    Returns:
        CSV text: method, dataset, imbalance_factor, replicas, then `<key>_mean` and
        `<key>_std` per metric; unknown is empty.
    """
    head = ["method", "dataset", "imbalance_factor", "replicas"]
    head += [f"{c.key}_{part}" for c in columns for part in ("mean", "std")]
    rows = [head]
    for run, row in zip(runs, table_rows(runs, columns), strict=True):
        numbers = [_number(value, 4) for c in row.cells for value in c]
        facts = [row.name, run.data, f"{run.imbalance_factor:g}", str(row.seeds)]
        rows.append(facts + numbers)
    return _csv(rows)


def hardware_text(run: Run) -> str:
    """The hardware of a run in a few words, empty if unknown."""
    found = run.info.get("hardware") or {}
    if isinstance(found, str):
        return found
    device = found.get("device") or found.get("platform") or ""
    if found.get("platform") == "cpu":
        device = found.get("cpu") or device
    count = found.get("devices") or 1
    return f"{count} x {device}" if device and count > 1 else str(device)


def results_csv(runs: Sequence[Run], *, relative_to: str | os.PathLike = ".") -> str:
    """The results file of an experiment, a row per run with its provenance.

    Args:
        runs: of one or several data sets.
        relative_to: folder that paths of configs are written relative to.

    Returns:
        CSV text with the columns `RESULT_FIELDS`; accuracies in percent with two
        digits (many, medium, few, worst: means over seeds), hours of training for all
        seeds together, unknown is empty.
    """
    rows = [list(RESULT_FIELDS)]
    for run in runs:
        summary = run.summary
        top1 = cell(summary["accuracy"])
        values = {
            "method": run.name,
            "dataset": run.data,
            "imbalance_factor": f"{run.imbalance_factor:g}",
            "backbone": (run.config.get("model") or {}).get("name", ""),
            "epochs": "" if run.epochs is None else f"{run.epochs:g}",
            "steps": str(run.step),
            "seeds": " ".join(map(str, run.seeds)),
            "top1_mean": _number(top1.mean, 2),
            "top1_std": _number(top1.std, 2),
            "config": os.path.relpath(run.path / "config.json", relative_to),
            "code_version": str(run.info.get("code", "")),
            "hardware": hardware_text(run),
            "hours": _number(run.hours, 3),
        }
        for key in ("many", "medium", "few", "worst"):
            values[key] = _number(cell(summary[key]).mean, 2)
        rows.append([values[field] for field in RESULT_FIELDS])
    return _csv(rows)
