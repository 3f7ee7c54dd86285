"""The command line that grids of seeded runs share."""

import argparse
import logging
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments import pool
from experiments.grid import ROOT, replace_block
from ltjax.report.cells import read_rows

Text = Callable[[Sequence[Mapping[str, str]]], str]
DRAWN = ("train_per_class", "test_per_class", "seed")  # what MNIST-1D depends on


def main(package: str, about: str, points: Any, text: Text, argv=None) -> int:
    """Runs the grid of a package, or writes its tables.

    Its folder has a README.md, and the rows in results/NAME.csv by its own name. A
    further grid of it is a module there, whose name the block of the README bears.

    Args:
        package: such as "experiments.weak", or a module of one.
        about: its first line says what the experiment is.
        points: module with `points(smoke)` and `measure(point)`.
        text: the rows -> what the README shows of them.
        argv: of the command line.

    Returns:
        The exit code: 0 even if points failed, which the output then tells.
    """
    here, name = ROOT.joinpath(*package.split(".")), package.rpartition(".")[2]
    here, block = (here, "results") if here.is_dir() else (here.parent, name)
    parser = argparse.ArgumentParser(
        prog=f"python -m {package}", description=about.splitlines()[0]
    )
    parser.add_argument("stage", nargs="?", default="run", choices=("run", "table"))
    parser.add_argument("--out", type=pathlib.Path, default=here / "results")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="on the CPU")
    parser.add_argument("--gpu-jobs", type=int, default=0, help="share the accelerator")
    parser.add_argument("--seconds", type=float, default=math.inf, help="to start runs")
    parser.add_argument("--grace", type=float, default=60.0, help="seconds to end them")
    parser.add_argument("--only", nargs="*", default=(), help="words of a point's name")
    parser.add_argument("--smoke", action="store_true", help="a few steps of one seed")
    args = parser.parse_args(argv)
    results = args.out / f"{name}.csv"
    if args.stage == "table":
        replace_block(here / "README.md", block, text(read_rows(results)))
        return 0
    logging.getLogger("absl").setLevel(logging.ERROR)
    chosen = [
        point
        for point in points.points(smoke=args.smoke)
        if all(word in pool.name_of(point).split() for word in args.only)
    ]
    failures = pool.run_pool(
        chosen,
        results,
        points.measure,
        jobs=args.jobs,
        accelerated=args.gpu_jobs,
        seconds=args.seconds,
        grace=args.grace,
        prepare=lambda: _load(chosen),
    )
    pool.report(failures, args.out / f"{name}_failures.txt")
    return 0


def _load(points: list) -> None:
    """Generates the signals once, for all processes to inherit."""
    from ltjax.data.mnist1d import open_mnist1d

    signals = [point for point in points if point.config.data.name == "mnist1d"]
    for drawn in {tuple(point.config.data[n] for n in DRAWN) for point in signals}:
        open_mnist1d("train", **dict(zip(DRAWN, drawn, strict=True)))
