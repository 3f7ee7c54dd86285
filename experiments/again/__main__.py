"""Points of the first tables, run again with the code of today.

    python -m experiments.again
    python -m experiments.again table

The first tables were measured before the schedules and averages that `CHANGELOG.md`
lists under "Numerics" had changed. A few cheap points of each say how far that goes.
"""

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.etf_factorial import run as etf_factorial
from experiments.grid import Point, cell, mean_std, replace_block, run_points
from experiments.sharpness import run as sharpness
from experiments.supervised_lt import run as supervised_lt
from ltjax.report.cells import markdown_grid, read_rows

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results" / "again.csv"
METRICS = {"balanced_accuracy": "all", "few": "few"}
FRAME = ("fixed ETF", "DR", "batch", "BN+l2", "yes")  # ETF + DR as published
LEARNED = ("learnable", "CE", "none", "plain", "no")


class Earlier(NamedTuple):
    """A point of a table, and the row that it has there."""

    table: str
    point: Point
    row: Mapping[str, str]


def earlier(table: str, point: Point, rows: Sequence[Mapping[str, str]]) -> Earlier:
    """The point with its row; nothing builds on its run."""
    key = {name: str(value) for name, value in point.key.items()}
    (row,) = [row for row in rows if key.items() <= row.items()]
    name = " ".join(key.values())
    again = point._replace(key={"table": table, "point": name}, workdir="")
    return Earlier(table, again, row)


def points() -> list[Earlier]:
    """What is run again, the cheapest first."""
    supervised = read_rows(supervised_lt.RESULTS)
    found = [
        earlier(
            "supervised_lt",
            supervised_lt.point(
                "mnist1d",
                100,
                "exp",
                name,
                supervised_lt.tuned("mnist1d", name),
                tuning=False,
            ),
            supervised,
        )
        for name in ("CE", "LA")
    ]
    cells = read_rows(etf_factorial.RESULTS)
    found += [
        earlier(
            "etf_factorial",
            etf_factorial.point("mnist1d", 100, 0, 1500, 3, levels),
            cells,
        )
        for levels in (LEARNED, FRAME)
    ]
    rules = read_rows(sharpness.RESULTS / "final.csv")
    radius = sharpness.tuned_radius("mnist1d", "sam", "la")
    sam = sharpness.point("mnist1d", "sam", "la", 100, tuned=radius)
    return [*found, earlier("sharpness", sam, rules)]


def comparison(found: Sequence[Earlier], rows: Sequence[Mapping[str, str]]) -> str:
    """Both rows of every point that was run again, and their differences."""
    lines = []
    for one in found:
        key = {name: str(value) for name, value in one.point.key.items()}
        mine = [row for row in rows if key.items() <= row.items()]
        for metric, name in METRICS.items() if mine else ():
            now = mine[-1]
            change = float(now[f"{metric}_mean"]) - float(one.row[f"{metric}_mean"])
            cells = [cell(one.row, metric), cell(now, metric)]
            cells.append(mean_std(change, float("nan"), digits=2))
            lines.append([one.table, key["point"], name, *cells])
    if not lines:
        return "No rows yet."
    head = ["table", "point", "of", "in the table", "again", "change"]
    return markdown_grid(head, lines, align="lllrrr")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.again", description=__doc__.splitlines()[0]
    )
    parser.add_argument("stage", nargs="?", default="run", choices=("run", "table"))
    args = parser.parse_args(argv)
    found = points()
    if args.stage == "table":
        text = comparison(found, read_rows(RESULTS))
        replace_block(HERE / "README.md", "results", text)
    else:
        run_points([one.point for one in found], RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
