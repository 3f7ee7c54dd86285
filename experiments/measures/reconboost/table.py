"""The tables of the README, from the CSV."""

import pathlib
from collections.abc import Mapping, Sequence

from experiments.grid import replace_block
from experiments.measures.reconboost.points import ABSENT, CLAIMS, COLUMNS, METHODS
from experiments.seeded import cell, claims_table
from ltjax.report.cells import markdown_grid, read_rows

HEAD = ("fused", "few classes", "image alone", "signal alone")


def absent_table(rows: Sequence[Mapping[str, str]], absent: float) -> str:
    """Accuracy of the methods where this share of the images is noise."""
    lines = []
    for method in METHODS:
        key = {"method": method, "absent": str(absent)}
        if any(key.items() <= row.items() for row in rows):
            lines.append([method, *(cell(rows, key, metric) for metric in COLUMNS)])
    if not lines:
        return ""
    title = f"**{absent:.0%} of the images are noise**"
    return f"{title}\n\n{markdown_grid(['balanced accuracy', *HEAD], lines)}"


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """Everything of the README that is a number."""
    blocks = [claims_table(rows, CLAIMS), *(absent_table(rows, x) for x in ABSENT)]
    return "\n\n".join(block.rstrip() for block in blocks if block)


def write(results: pathlib.Path, readme: pathlib.Path) -> None:
    """Puts the tables of a results file into a README."""
    replace_block(readme, "results", text(read_rows(results)))
