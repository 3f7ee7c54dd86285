"""The tables of the README, from the CSV."""

import pathlib
from collections.abc import Mapping, Sequence

from experiments.grid import replace_block
from experiments.measures.experts.points import CLAIMS, COLUMNS, METHODS, RATIOS
from experiments.seeded import cell, claims_table
from ltjax.report.cells import markdown_grid, read_rows

HEAD = (
    "long-tailed 50",
    "10",
    "uniform",
    "reversed 10",
    "50",
    "mean of priors",
    "few classes",
)


def ratio_table(rows: Sequence[Mapping[str, str]], ratio: int) -> str:
    """Accuracy under the test priors after training with one ratio."""
    lines = []
    for method in METHODS:
        key = {"method": method, "ratio": str(ratio)}
        if any(key.items() <= row.items() for row in rows):
            lines.append([method, *(cell(rows, key, metric) for metric in COLUMNS)])
    if not lines:
        return ""
    return f"**Ratio {ratio}**\n\n{markdown_grid(['test prior', *HEAD], lines)}"


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """Everything of the README that is a number."""
    blocks = [claims_table(rows, CLAIMS), *(ratio_table(rows, r) for r in RATIOS)]
    return "\n\n".join(block.rstrip() for block in blocks if block)


def write(results: pathlib.Path, readme: pathlib.Path) -> None:
    """Puts the tables of a results file into a README."""
    replace_block(readme, "results", text(read_rows(results)))
