"""Tables of results: Markdown for people, CSV for programs.

Columns are those that a run's evaluators declare, in percent where they say so. Means
and standard deviations are over replicas (seeds); the deviation is the sample's
(ddof = 1) and left out for a single replica.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ltjax.report.cells import (
    Cell,
    append_csv,
    cell,
    cell_text,
    csv_grid,
    csv_text,
    markdown_grid,
    markdown_text,
    read_rows,
)
from ltjax.report.runs import GROUPS, LeftOut, Run

if TYPE_CHECKING:
    from ltjax.metrics.column import Column

__all__ = [
    "Cell",
    "Row",
    "append_csv",
    "best_rows",
    "cell",
    "cell_text",
    "class_table",
    "columns_of",
    "csv_table",
    "csv_text",
    "digits_of",
    "group_rule",
    "hardware_text",
    "legend",
    "markdown_grid",
    "markdown_table",
    "markdown_text",
    "notes",
    "read_rows",
    "results_csv",
    "table_rows",
]

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
    "judged",
    "judged_mean",
    "judged_std",
    "config",
    "code_version",
    "hardware",
    "hours",
)


class Row(NamedTuple):
    """One run of a table."""

    name: str
    seeds: int
    cells: tuple[Cell, ...]


def columns_of(runs: Sequence[Run]) -> tuple["Column", ...]:
    """The columns of a table of these runs: all that any of them has, in order."""
    found: dict[str, Column] = {}
    for run in runs:
        for column in run.columns:
            found.setdefault(column.key, column)
    return tuple(found.values())


def digits_of(column: "Column") -> int:
    """Digits of a metric that are shown behind the point."""
    return 2 if column.percent else 3


def table_rows(
    runs: Sequence[Run], columns: Sequence["Column"] | None = None
) -> list[Row]:
    """The numbers of a table, one row per run.

    Args:
        runs: comparable ones, in order.
        columns: metrics to show; default those of the runs' evaluators.

    Returns:
        One Row per run; a metric that a run does not have is unknown.
    """
    columns = columns_of(runs) if columns is None else columns
    rows = []
    for run in runs:
        summary = run.summary
        cells = tuple(
            cell(summary.get(column.key), factor=100.0 if column.percent else 1.0)
            for column in columns
        )
        rows.append(Row(run.name, len(run.members), cells))
    return rows


def best_rows(rows: Sequence[Row], columns: Sequence["Column"]) -> list[set[int]]:
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
        digits = digits_of(column)
        shown = {i: round(v, digits) for i, v in known.items() if v is not None}
        top = (max if column.best == "max" else min)(shown.values(), default=None)
        winners = {i for i, value in shown.items() if value == top}
        result.append(winners if len(winners) < len(shown) else set())
    return result


def table_texts(
    rows: Sequence[Row], columns: Sequence["Column"]
) -> list[tuple[str, ...]]:
    """The cells of a table as they are shown, row by row."""
    return [
        tuple(
            cell_text(value, digits_of(column))
            for value, column in zip(row.cells, columns, strict=True)
        )
        for row in rows
    ]


def group_rule(run: Run) -> str:
    """The rule behind many, medium and few, with the groups' sizes."""
    many, few = run.shot_limits
    size = {name: int(members.sum()) for name, members in run.groups.items()}
    return (
        f"Many: more than {many} training examples per class ({size['many']} classes);"
        f" medium: {few} to {many} ({size['medium']});"
        f" few: fewer than {few} ({size['few']})."
    )


def shows_groups(columns: Sequence["Column"]) -> bool:
    """Whether a table has a column of many, medium or few."""
    return any(column.key in GROUPS for column in columns)


def legend(columns: Sequence["Column"]) -> str:
    """What the columns of a table mean."""
    meanings = "; ".join(f"{column.title}: {column.meaning}" for column in columns)
    others = [column.title for column in columns if not column.percent]
    if not others:
        unit = "In percent, mean"
    elif len(others) == len(columns):
        unit = "Mean"
    else:
        unit = f"In percent (except {', '.join(others)}), mean"
    return (
        f"{meanings}. {unit} ± sample standard deviation over seeds. An en dash marks"
        " an empty group, a replica that diverged, or a metric that was not computed"
        " for the run."
    )


def notes(runs: Sequence[Run], left_out: Sequence[LeftOut] = ()) -> list[str]:
    """What a reader of the table must know: runs that are not whole, or not there."""
    found = []
    for run in runs:
        lost = int(run.diverged.sum())
        if lost:
            found.append(
                f"{run.name}: {lost} of {len(run.members)} replicas diverged; figures"
                " show the others."
            )
        if run.total_steps is not None and run.step < run.total_steps:
            found.append(
                f"{run.name}: evaluated at step {run.step} of {run.total_steps}, not at"
                " the end of training."
            )
    return found + [f"Left out: {one.reason}." for one in left_out]


def markdown_table(
    runs: Sequence[Run], columns: Sequence["Column"] | None = None
) -> str:
    """A Markdown table of comparable runs, the best mean of each column in bold.

    Args:
        runs: comparable ones, in order.
        columns: metrics to show; default those of the runs' evaluators.

    Returns:
        Lines of a table, ending in a newline; names are escaped.
    """
    columns = columns_of(runs) if columns is None else columns
    rows = table_rows(runs, columns)
    best = best_rows(rows, columns)
    lines = []
    for i, (row, texts) in enumerate(
        zip(rows, table_texts(rows, columns), strict=True)
    ):
        bold = [f"**{t}**" if i in best[j] else t for j, t in enumerate(texts)]
        lines.append([markdown_text(row.name), str(row.seeds), *bold])
    titles = [markdown_text(column.title) for column in columns]
    return markdown_grid(["Method", "Seeds", *titles], lines)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def csv_table(runs: Sequence[Run], columns: Sequence["Column"] | None = None) -> str:
    """The same numbers for programs, with two more digits.

    Args:
        runs: of one or several data sets.
        columns: metrics to show; default those of the runs' evaluators.

    Returns:
        CSV text: method, dataset, imbalance_factor, replicas, then `<key>_mean` and
        `<key>_std` per metric; unknown is empty.
    """
    columns = columns_of(runs) if columns is None else columns
    head = ["method", "dataset", "imbalance_factor", "replicas"]
    head += [f"{c.key}_{part}" for c in columns for part in ("mean", "std")]
    rows = [head]
    for run, row in zip(runs, table_rows(runs, columns), strict=True):
        numbers = [
            _number(value, digits_of(column) + 2)
            for column, c in zip(columns, row.cells, strict=True)
            for value in c
        ]
        facts = [row.name, run.data, f"{run.imbalance_factor:g}", str(row.seeds)]
        rows.append(facts + numbers)
    return csv_grid(rows)


def class_table(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]] | None:
    """The recall of every class, from most to least frequent.

    Args:
        runs: comparable ones, in order.

    Returns:
        (head, rows) of texts: class, group, training examples, then a column per run
        that has recalls, in percent; None if none has.
    """
    recalls = {run.name: run.recall for run in runs}
    known = {name: value for name, value in recalls.items() if value is not None}
    if not known:
        return None
    counts = runs[0].class_counts
    names = runs[0].class_names or tuple(map(str, range(len(counts))))
    group_of = np.full(len(counts), "", dtype=object)
    for name, members in runs[0].groups.items():
        group_of[members] = name
    rows = []
    for k in np.argsort(-counts, kind="stable"):
        texts = [cell_text(cell(recall[:, k]), 1) for recall in known.values()]
        rows.append([names[k], group_of[k], str(counts[k]), *texts])
    return ["Class", "Group", "Training examples", *known], rows


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
        CSV text with the columns `RESULT_FIELDS`. Accuracies are in percent with two
        digits (many, medium, few, worst: means over seeds); "judged" names the metric
        that decides which checkpoint is best, in the unit of its column. Hours are
        those of training, of all seeds together; unknown is empty.
    """
    rows: list[list[str]] = [list(RESULT_FIELDS)]
    for run in runs:
        summary = run.summary
        top1 = cell(summary.get("accuracy"))
        values: dict[str, str] = {
            "method": run.name,
            "dataset": run.data,
            "imbalance_factor": f"{run.imbalance_factor:g}",
            "backbone": run.backbone,
            "epochs": "" if run.epochs is None else f"{run.epochs:g}",
            "steps": str(run.step),
            "seeds": " ".join(map(str, run.seeds)),
            "top1_mean": _number(top1.mean, 2),
            "top1_std": _number(top1.std, 2),
            "judged": run.judged or "",
            "judged_mean": "",
            "judged_std": "",
            "config": os.path.relpath(run.path / "config.json", relative_to),
            "code_version": str(run.info.get("code", "")),
            "hardware": hardware_text(run),
            "hours": _number(run.hours, 3),
        }
        for key in ("many", "medium", "few", "worst"):
            values[key] = _number(cell(summary.get(key)).mean, 2)
        for column in run.columns:
            if column.key == run.judged:
                ((found,),) = (row.cells for row in table_rows([run], [column]))
                values["judged_mean"] = _number(found.mean, digits_of(column))
                values["judged_std"] = _number(found.std, digits_of(column))
        rows.append([values[field] for field in RESULT_FIELDS])
    return csv_grid(rows)
