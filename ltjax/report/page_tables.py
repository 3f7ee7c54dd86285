"""The tables of the page: results, differences, classes, costs and settings."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from ltjax.report.cells import UNKNOWN, Cell, cell_text, csv_grid
from ltjax.report.confusions import confused_pairs
from ltjax.report.costs import cost_of, duration_text
from ltjax.report.markup import Entry, Head, Line, code, note, table
from ltjax.report.paired import LEVEL, Difference, run_differences
from ltjax.report.runs import Run
from ltjax.report.series import confusion_of
from ltjax.report.tables import (
    best_rows,
    class_table,
    columns_of,
    digits_of,
    hardware_text,
    table_rows,
    table_texts,
)

_LISTED_CLASSES = 2000  # a table of more is for programs: classes.csv
_PAIRS = 20  # of each run on the page; confused.csv has more
_FILTERED = 12  # rows from which a table gets a filter


def _filter(rows: int, what: str) -> str:
    return what if rows >= _FILTERED else ""


def _by_seed(run: Run, key: str, factor: float, digits: int) -> str:
    """The values behind a mean, for the pointer; "" for one seed."""
    values = run.summary.get(key)
    if values is None or len(values) < 2:
        return ""
    pairs = zip(run.seeds, factor * np.asarray(values), strict=True)
    return ", ".join(f"seed {seed}: {value:.{digits}f}" for seed, value in pairs)


def _value(found: Cell) -> float | str:
    return "" if found.mean is None else round(found.mean, 6)


def results_table(runs: Sequence[Run]) -> str:
    """Mean and deviation of every metric, the best of each marked."""
    columns = columns_of(runs)
    rows = table_rows(runs, columns)
    best = best_rows(rows, columns)
    texts = table_texts(rows, columns)
    lines = []
    for i, (run, row) in enumerate(zip(runs, rows, strict=True)):
        cells = [Entry(row.name), Entry(str(row.seeds))]
        for j, column in enumerate(columns):
            factor = 100.0 if column.percent else 1.0
            seeds = _by_seed(run, column.key, factor, digits_of(column))
            kind = "best" if i in best[j] else ""
            cells.append(Entry(texts[i][j], kind, _value(row.cells[j]), seeds))
        lines.append(Line(cells, run.name))
    heads = [Head("Method"), Head("Seeds")]
    heads += [
        Head(c.title, descending=c.best == "max", title=c.meaning) for c in columns
    ]
    found = _filter(len(runs), "Methods")
    return table(heads, lines, label="Results", kind="numbers", data_filter=found)


# ------------------------------------------------------------------------- Differences

DIFFERENCES = (
    f"Mean difference by seed, below it its {100 * LEVEL:g} % interval (paired t"
    " over the seeds that both runs have). A triangle marks a gap beyond the noise of"
    " the seeds: its interval leaves 0 out, upwards for better, downwards for worse."
    " Of twenty such intervals one misses by chance, and nothing is corrected for the"
    " number of comparisons. Seeds are the only noise that it knows: all runs share one"
    " training set."
)


def difference_text(found: Difference, digits: int) -> str:
    """A difference as HTML, its interval in small print, or an en dash.

    Example:
        >>> difference_text(Difference(1.25, 0.5, 2.0, 3), 2)
        '+1.25 <small>[0.50, 2.00]</small>'
    """
    if found.mean is None:
        return UNKNOWN
    text = f"{found.mean:+.{digits}f}"
    if found.low is None or found.high is None:
        return text
    return f"{text} <small>[{found.low:.{digits}f}, {found.high:.{digits}f}]</small>"


def _baselines(runs: Sequence[Run]) -> list[Run]:
    """Runs to compare with: the best one first, then in the order of the table."""
    columns = [c for c in columns_of(runs) if c.key == runs[0].judged]
    if not columns:
        return list(runs)
    (winners,) = best_rows(table_rows(runs, columns), columns)
    first = runs[min(winners)] if winners else runs[0]
    return [first, *(run for run in runs if run is not first)]


def differences_table(runs: Sequence[Run]) -> str:
    """Every run against every other, by seed; "" unless two share two seeds."""
    columns, lines, known = columns_of(runs), [], False
    for baseline in _baselines(runs):
        for run in runs:
            if run is baseline:
                continue
            found = run_differences(run, baseline, columns)
            known |= any(one.low is not None for one in found)
            cells = [Entry(run.name), Entry(baseline.name, "chosen")]
            cells.append(Entry(str(max((one.seeds for one in found), default=0))))
            for column, one in zip(columns, found, strict=True):
                kind = ""
                if one.mean is not None and one.beyond:
                    better = (one.mean > 0) == (column.best == "max")
                    kind = "beyond" if better else "beyond worse"
                text = difference_text(one, digits_of(column))
                value = "" if one.mean is None else round(one.mean, 6)
                cells.append(Entry(text, kind, value, markup=True))
            lines.append(Line(cells, run.name, baseline.name))
    if not known:
        return ""
    heads = [Head("Method"), Head("Compared with", kind="chosen"), Head("Seeds")]
    heads += [Head(c.title, descending=c.best == "max") for c in columns]
    names = json.dumps([run.name for run in _baselines(runs)])
    shown = table(
        heads, lines, label="Differences", kind="numbers", data_baselines=names
    )
    return f"<h3>Which gaps exceed the noise</h3>{shown}{note(DIFFERENCES)}"


def differences_csv(runs: Sequence[Run]) -> str | None:
    """Every run against every other, by seed; None unless two share two seeds."""
    columns = columns_of(runs)
    head = ["method", "baseline", "seeds"]
    head += [f"{c.key}_{part}" for c in columns for part in ("mean", "low", "high")]
    rows, known = [], False
    for baseline in runs:
        for run in runs:
            if run is baseline:
                continue
            found = run_differences(run, baseline, columns)
            known |= any(one.low is not None for one in found)
            row = [run.name, baseline.name, str(max(one.seeds for one in found))]
            for column, one in zip(columns, found, strict=True):
                digits = digits_of(column) + 2
                row += ["" if x is None else f"{x:.{digits}f}" for x in one[:3]]
            rows.append(row)
    return csv_grid([head, *rows]) if known else None


# --------------------------------------------------------------------- Classes and cost


def classes_table(runs: Sequence[Run], identity: str) -> str:
    """The recall of every class, folded away; "" if no run classifies."""
    found = class_table(runs)
    if found is None:
        return ""
    head, rows = found
    summary = f"<summary>Accuracy of each class in percent ({len(rows)})</summary>"
    if len(rows) > _LISTED_CLASSES:
        told = note("More classes than a page can show: see classes.csv.")
        return f"<details>{summary}{told}</details>"
    named = len(head) - sum(run.recall is not None for run in runs)
    heads = [Head(text) for text in head[:named]]
    heads += [Head(text, method=text, descending=True) for text in head[named:]]
    lines = []
    for row in rows:
        cells = [Entry(text) for text in row[:named]]
        cells += [
            Entry(t, value=t.partition(" ")[0].strip(UNKNOWN)) for t in row[named:]
        ]
        lines.append(Line(cells))
    shown = table(
        heads,
        lines,
        label="Accuracy of each class in percent",
        kind="numbers",
        tall=len(rows) > 25,
        id=f"{identity}-classes",
        data_columns="methods",
        data_filter=_filter(len(rows), "Classes"),
    )
    return f"<details>{summary}{shown}</details>"


def pairs_table(runs: Sequence[Run]) -> str:
    """The pairs of classes that each run confuses most; "" if none is."""
    lines = []
    for run in runs:
        confusion = confusion_of(run)
        if confusion is None:
            continue
        names = run.class_names or tuple(map(str, range(len(run.class_counts))))
        for pair in confused_pairs(confusion, at_most=_PAIRS):
            share, count = f"{100 * pair.share:.1f}", f"{pair.count:g}"
            texts = (run.name, names[pair.true], names[pair.predicted], share, count)
            lines.append(Line([Entry(text) for text in texts], run.name))
    heads = [Head(text) for text in ("Method", "True class", "Predicted class")]
    heads += [Head("Share (%)", descending=True), Head("Examples", descending=True)]
    if not lines:
        return ""
    shown = table(
        heads,
        lines,
        label="Pairs of classes that are confused most",
        kind="numbers",
        tall=len(lines) > 25,
        data_filter=_filter(len(lines), "Pairs"),
    )
    return f"<h4>Pairs that are confused most</h4>{shown}"


def costs_table(runs: Sequence[Run]) -> str:
    """Steps, passes and time of each run beside what it is judged by."""
    columns = [c for c in columns_of(runs) if c.key == runs[0].judged]
    lines = []
    for run, row in zip(runs, table_rows(runs, columns), strict=True):
        cost = cost_of(run)
        passes = "" if cost.passes is None else f"{cost.passes:.2f}"
        seconds = "" if cost.seconds is None else round(cost.seconds, 3)
        hours = None if cost.seconds is None else cost.seconds / 3600
        step = "" if cost.step is None else f"{cost.step:.2f}"
        cells = [
            Entry(run.name),
            *(
                Entry(cell_text(found, digits_of(column)), value=_value(found))
                for column, found in zip(columns, row.cells, strict=True)
            ),
            Entry(str(cost.steps)),
            Entry(passes or UNKNOWN, value=passes),
            Entry(duration_text(hours) or UNKNOWN, value=seconds),
            Entry(step or UNKNOWN, value=step),
            Entry(
                f"{run.info['num_params']:,}" if "num_params" in run.info else UNKNOWN
            ),
        ]
        lines.append(Line(cells, run.name))
    heads = [Head("Method")]
    heads += [
        Head(c.title, descending=c.best == "max", title=c.meaning) for c in columns
    ]
    heads += [
        Head("Steps"),
        Head(
            "Passes / step", title="forward and backward passes of a step, on average"
        ),
        Head("Time", title="of training, all seeds side by side"),
        Head("ms / step"),
        Head("Parameters"),
    ]
    shown = table(heads, lines, label="Cost of training", kind="numbers")
    return f"<h3>Cost of training</h3>{shown}"


# -------------------------------------------------------------- Settings and provenance


def flatten(config: Mapping, prefix: str = "") -> dict[str, object]:
    """A nested config as dotted names -> values.

    Example:
        >>> flatten({"loss": {"name": "la", "tau": 1.0}})
        {'loss.name': 'la', 'loss.tau': 1.0}
    """
    flat: dict[str, object] = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def settings_tables(runs: Sequence[Run]) -> str:
    """What differs between the configs, then what they share."""
    flats = [flatten(run.config) for run in runs]
    names = list(dict.fromkeys(name for flat in flats for name in flat))
    texts = {n: [json.dumps(f[n]) if n in f else UNKNOWN for f in flats] for n in names}
    varied = [name for name in names if len(set(texts[name])) > 1]
    shared = [name for name in names if len(set(texts[name])) == 1]
    parts = []
    if varied:
        lines = [Line([code(n), *map(code, texts[n])]) for n in varied]
        heads = [Head("Setting"), *(Head(run.name, method=run.name) for run in runs)]
        shown = table(heads, lines, label="Settings that differ")
        parts.append(f"<h3>What differs</h3>{shown}")
    if shared:
        lines = [Line([code(n), code(texts[n][0])]) for n in shared]
        heads = [Head("Setting"), Head("Value")]
        shown = table(
            heads,
            lines,
            label="Shared settings",
            data_filter=_filter(len(shared), "Settings"),
        )
        whose = "that all runs share" if len(runs) > 1 else "of the run"
        summary = f"<summary>{len(shared)} settings {whose}</summary>"
        parts.append(f"<details>{summary}{shown}</details>")
    return "\n".join(parts)


def provenance_table(runs: Sequence[Run]) -> str:
    """Seeds, code, versions, hardware and training set of each run."""
    lines = []
    for run in runs:
        versions = run.info.get("versions") or {}
        facts = (
            run.name,
            ", ".join(map(str, run.seeds)),
            run.step,
            run.info.get("code", ""),
            ", ".join(f"{name} {number}" for name, number in versions.items()),
            hardware_text(run),
            duration_text(run.hours).replace(" ", "\u00a0"),
            run.info.get("subset", ""),
        )
        lines.append(Line([Entry(str(fact)) for fact in facts], run.name))
    heads = (
        "Method",
        "Seeds",
        "Steps",
        "Code",
        "Versions",
        "Hardware",
        "Time",
        "Subset",
    )
    return table([Head(text) for text in heads], lines, label="Provenance")
