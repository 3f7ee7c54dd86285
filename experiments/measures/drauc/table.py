"""The tables of the README, from the CSV."""

import pathlib
from collections.abc import Mapping, Sequence

from experiments.grid import replace_block
from experiments.measures.drauc.points import CLAIMS, COLUMNS, METHODS, SHARES
from experiments.seeded import cell, claims_table
from ltjax.report.cells import markdown_grid, read_rows


def share_table(rows: Sequence[Mapping[str, str]], share: float) -> str:
    """Areas after training with one share of positives."""
    lines = []
    for method in METHODS:
        key = {"method": method, "share": str(share)}
        if any(key.items() <= row.items() for row in rows):
            lines.append([method, *(cell(rows, key, metric) for metric in COLUMNS)])
    if not lines:
        return ""
    head = ["AUC", *(name.replace("_", " ") for name in COLUMNS)]
    return f"**Share of positives {share}**\n\n{markdown_grid(head, lines)}"


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """Everything of the README that is a number."""
    blocks = [claims_table(rows, CLAIMS), *(share_table(rows, s) for s in SHARES)]
    return "\n\n".join(block.rstrip() for block in blocks if block)


def write(results: pathlib.Path, readme: pathlib.Path) -> None:
    """Puts the tables of a results file into a README."""
    replace_block(readme, "results", text(read_rows(results)))
