"""The tables of the README, from the CSV."""

import pathlib
from collections.abc import Mapping, Sequence

from experiments.grid import replace_block
from experiments.seeded import cell, claims_table
from experiments.weak.points import CLAIMS, FREE, GROUPS, OURS, TABLES
from ltjax.report.cells import markdown_grid, read_rows

HEAD = ("all", "many", "medium", "few")


def setting_table(
    rows: Sequence[Mapping[str, str]], name: str, ratio: int, setting: str
) -> str:
    """Accuracy by class group of every method that was run in a setting."""
    table, lines = TABLES[name], []
    for method in table.methods:
        own = FREE if method in table.free else setting
        key = {"table": name, "ratio": str(ratio), "method": method, "setting": own}
        if any(key.items() <= row.items() for row in rows):
            lines.append([method, *(cell(rows, key, metric) for metric in GROUPS)])
    if not lines:
        return ""
    grid = markdown_grid(["method", *HEAD], lines)
    return f"**Ratio {ratio}, {setting}**\n\n{grid}"


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """Everything of the README that is a number."""
    blocks = []
    for name, table in TABLES.items():
        blocks += [f"### {table.title}", claims_table(rows, CLAIMS[name])]
        if name in OURS:
            blocks.append(claims_table(rows, OURS[name], kind="comparison"))
        blocks += [setting_table(rows, name, *where) for where in table.settings]
    return "\n\n".join(block.rstrip() for block in blocks if block)


def write(results: pathlib.Path, readme: pathlib.Path) -> None:
    """Puts the tables of a results file into a README."""
    replace_block(readme, "results", text(read_rows(results)))
