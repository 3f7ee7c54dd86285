"""The tables of the README, from the CSV files and the cost model."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence

from experiments.reliability.table import provenance as provenance_of_fork

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"
README = HERE / "README.md"

Rows = Sequence[Mapping[str, str]]


def append(
    path: pathlib.Path, row: Mapping[str, str], *, place: pathlib.Path | None
) -> None:
    """Adds a row with its provenance to a results file.

    Args:
        path: of the file.
        row: column -> text.
        place: a folder for a fork that asks for the devices, where this process may
            not; None: this one asks.
    """
    from ltjax.report.cells import append_csv

    if place is None:
        from experiments.bench.common import provenance

        made = provenance()
    else:
        made = provenance_of_fork(place)
    append_csv(path, [{**row, **made}])


def newest(path: pathlib.Path, *key: str) -> list[Mapping[str, str]]:
    """The last row of a results file for each value of some columns."""
    from ltjax.report.cells import read_rows

    return list({tuple(row[k] for k in key): row for row in read_rows(path)}.values())


def made_with(rows: Rows) -> str:
    """What rows were made with, each combination once."""
    made = {
        f"{row['date']}, ltjax {row['commit']}, jax {row['jax']}, Python"
        f" {row['python']}, {row['device']}, {row['cores']} cores"
        for row in rows
    }
    return f"{'; '.join(sorted(made))}."


def _grid(head: Sequence[str], lines: Iterable[Sequence[object]], align: str) -> str:
    from ltjax.report.cells import markdown_grid

    return markdown_grid(head, list(lines), align=align)


def processes_text(rows: Rows) -> str:
    """How runs of several processes compare with those of one."""
    alike = [row for row in rows if row["check"] == "alike"]
    head = ("Layout, feed", "Processes", "Same batches", "Parameters", "State")
    lines = [
        (r["case"], r["processes"], r["batches"], r["parameters"], r["state"])
        for r in sorted(alike, key=lambda row: (row["case"], int(row["processes"])))
    ]
    blocks = [_grid(head, lines, "lrrrr")]
    head = ("", "", "Processes x devices", "Parameters", "State", "")
    lines = [
        *(
            (r["check"], r["case"], r["processes"], r["parameters"], r["state"])
            + (r["remark"],)
            for check in ("restored", "killed", "preempted")
            for r in rows
            if r["check"] == check
        )
    ]
    blocks.append(_grid(head, lines, "llrrrl"))
    return "\n".join([*blocks, made_with(rows)])


def compiled_text(rows: Rows) -> str:
    """The cost model beside compiled programs, in megabytes on one device."""
    head = ("Program", "", "Model, MB", "Compiled, MB", "Ratio")
    lines = [
        (
            row["program"],
            row["quantity"],
            *(f"{float(row[name]) / 1e6:,.2f}" for name in ("model", "compiled")),
            f"{float(row['ratio']):.3f}",
        )
        for row in rows
    ]
    return f"{_grid(head, lines, 'llrrr')}\n{made_with(rows)}"


def chips_text() -> str:
    """What the cost model says of large runs, in megabytes on one chip."""
    from experiments.scale.cost import held, plans, sent

    head = ("Training", "Chips", "Inputs a chip", "Gradients", "Parameters")
    head += ("Features", "State", "Activations", "Other")
    lines = []
    for name, step in plans():
        moves, keeps = sent(step), held(step)
        state = ("parameters", "optimizer", "average", "statistics")
        other = ("batch", "gathered", "gradients")
        sizes = [
            *(moves[part] for part in ("gradients", "parameters", "features")),
            sum(keeps[part] for part in state),
            keeps["activations"],
            sum(keeps[part] for part in other),
        ]
        inputs = step.views * step.batch // step.chips
        lines.append((name, step.chips, inputs, *(f"{x / 1e6:,.0f}" for x in sizes)))
    return _grid(head, lines, "l" + "r" * (len(head) - 1))


def write(results: pathlib.Path = RESULTS, readme: pathlib.Path = README) -> None:
    """Puts the tables into a README."""
    from experiments.grid import replace_block

    ran = newest(results / "processes.csv", "check", "case", "processes")
    replace_block(readme, "processes", processes_text(ran))
    compiled = newest(results / "cost.csv", "program", "quantity")
    replace_block(readme, "compiled", compiled_text(compiled))
    replace_block(readme, "chips", chips_text())
