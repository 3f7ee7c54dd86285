"""The directive `measured`: rows of our own result files as a table.

    ```{measured} supervised_lt/results/supervised.csv
    :where: dataset=mnist1d, profile=exp, imf=100
    :columns: method, balanced_accuracy, few
    :rows: CE, LA
    ```

A column `x` of a file that has `x_mean` and `x_std` is shown as mean ± deviation; where
a file has a row for each seed, they are computed here.
"""

import csv
import functools
import pathlib
import statistics

from docutils import nodes
from docutils.parsers.rst import Directive, directives

from ltjax.methods.presets import PRESETS

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
_TITLES = {
    "balanced_accuracy": "all",
    "ece": "ECE",
    "probe_all": "probe, all",
    "probe_few": "probe, few",
}


@functools.cache
def rows_of(path: str) -> tuple[dict[str, str], ...]:
    """The rows of a result file, a path below `experiments`."""
    with (EXPERIMENTS / path).open(newline="") as file:
        return tuple(csv.DictReader(file))


def selected(path: str, where: dict[str, str]) -> list[dict[str, str]]:
    """The rows whose columns have the given texts.

    Raises:
        ValueError: if there is none, or a column does not exist.
    """
    missing = where.keys() - rows_of(path)[0].keys()
    if missing:
        raise ValueError(f"{path} has no column {sorted(missing)[0]!r}")
    found = [r for r in rows_of(path) if all(r[k] == v for k, v in where.items())]
    if not found:
        raise ValueError(f"{path} has no row with {where}")
    return found


def cell(rows: list[dict[str, str]], column: str) -> str:
    """What a table says of rows that differ in their seeds only.

    Raises:
        ValueError: if two rows are of one seed: they are of different settings.
    """
    seeds = [row.get("seed") for row in rows]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"several rows of one seed; :where: must tell apart {rows}")
    if f"{column}_mean" in rows[0]:
        (row,) = rows
        mean, std = float(row[f"{column}_mean"]), float(row[f"{column}_std"])
        return f"{mean:.1f} ± {std:.1f}"
    texts = {row[column] for row in rows}
    if "nan" in texts:
        return "–"  # the split has no class of this group
    if len(texts) == 1:
        return texts.pop()
    values = [float(row[column]) for row in rows]
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


# Kind of components -> (file, which of its rows, the column that names a component).
MEASURED = {
    "presets": (
        "supervised_lt/results/supervised.csv",
        {"dataset": "mnist1d", "profile": "exp", "imf": "100"},
        "method",
    ),
    "gradients": (
        "sharpness/results/final.csv",
        {"dataset": "mnist1d", "imf": "100", "loss": "la"},
        "rule",
    ),
}


def label_of(preset: str) -> str:
    """What tables call a preset; of one with stages, its last."""
    values = PRESETS[preset]
    return {**values, **values.get("stages", ({},))[-1]}["label"]


def result_of(kind: str, name: str) -> str:
    """The measured row of a component as a sentence; "" if it was not measured."""
    path, where, column = MEASURED[kind]
    named = label_of(name) if kind == "presets" else name
    found = [row for row in selected(path, where) if row[column] == named]
    if not found:
        return ""
    told = ", ".join(
        f"{title} {cell(found[:1], key)}"
        for key, title in (
            ("balanced_accuracy", "balanced accuracy"),
            ("many", "many"),
            ("few", "few"),
        )
    )
    seeds = len(found[0]["seeds"].split())
    setting = ", ".join(f"{key} {value}" for key, value in where.items())
    return f"{told} (percent, {seeds} seeds; {setting})."


class Measured(Directive):
    """See the module."""

    required_arguments = 1
    option_spec = {  # noqa: RUF012
        name: directives.unchanged_required for name in ("where", "columns", "rows")
    }

    def run(self) -> list[nodes.Node]:
        """The table."""
        (path,) = self.arguments
        where = dict(
            part.strip().split("=") for part in self.options["where"].split(",")
        )
        columns = [name.strip() for name in self.options["columns"].split(",")]
        rows = selected(path, where)
        grouped: dict[str, list] = {}
        for row in rows:
            grouped.setdefault(row[columns[0]], []).append(row)
        names = [name.strip() for name in self.options.get("rows", "").split(",")]
        texts = [
            [name, *(cell(grouped[name], column) for column in columns[1:])]
            for name in (names if names != [""] else grouped)
        ]
        head = [_TITLES.get(name, name.replace("_", " ")) for name in columns]
        return [_table(head, texts)]


def _table(head: list[str], rows: list[list[str]]) -> nodes.table:
    table = nodes.table()
    group = nodes.tgroup(cols=len(head))
    table += group
    group += [nodes.colspec(colwidth=1) for _ in head]
    for part, lines in ((nodes.thead(), [head]), (nodes.tbody(), rows)):
        group += part
        for line in lines:
            row = nodes.row()
            whole = [text.replace(" ± ", "\u00a0±\u00a0") for text in line]
            row += [nodes.entry("", nodes.paragraph("", text)) for text in whole]
            part += row
    return table


def setup(app) -> dict:
    """Registers the directive."""
    app.add_directive("measured", Measured)
    return {"parallel_read_safe": True}
