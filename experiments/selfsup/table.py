"""The tables of the README, from the CSV."""

import pathlib
from collections.abc import Mapping, Sequence

from experiments.grid import replace_block
from experiments.seeded import cell, claims_table
from experiments.selfsup.points import CLAIMS, COLUMNS, METHODS, RATIO, SETS
from ltjax.report.cells import markdown_grid, read_rows

HEAD = (
    "probe, all",
    "many",
    "medium",
    "few",
    "std of groups",
    "10-NN, all",
    "10-NN, few",
)


def set_table(rows: Sequence[Mapping[str, str]], data: str) -> str:
    """Every learner that was pre-trained on a set."""
    lines = []
    for method in METHODS:
        key = {"method": method, "data": data, "ratio": str(RATIO)}
        if any(key.items() <= row.items() for row in rows):
            lines.append([method, *(cell(rows, key, metric) for metric in COLUMNS)])
    if not lines:
        return ""
    return f"**Pre-trained on the {data} set**\n\n{markdown_grid(['', *HEAD], lines)}"


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """Everything of the README that is a number."""
    blocks = [claims_table(rows, CLAIMS), *(set_table(rows, data) for data in SETS)]
    return "\n\n".join(block.rstrip() for block in blocks if block)


def write(results: pathlib.Path, readme: pathlib.Path) -> None:
    """Puts the tables of a results file into a README."""
    replace_block(readme, "results", text(read_rows(results)))
