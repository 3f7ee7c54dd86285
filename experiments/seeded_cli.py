"""The command line that grids of seeded runs share."""

import argparse
import logging
import math
import os
import pathlib
from typing import Any

from experiments import pool
from experiments.grid import ROOT

DRAWN = ("train_per_class", "test_per_class", "seed")  # what MNIST-1D depends on


def main(name: str, place: str, about: str, points: Any, table: Any, argv=None) -> int:
    """Runs a grid, or writes its tables.

    Args:
        name: of the results file.
        place: a file of the experiment's folder.
        about: its first line says what the experiment is.
        points: module with `points(smoke)` and `measure(point)`.
        table: module with `write(results, readme)`.
        argv: of the command line.

    Returns:
        The exit code: 0 even if points failed, which the output then tells.
    """
    here = pathlib.Path(place).resolve().parent
    parser = argparse.ArgumentParser(
        prog="python -m " + ".".join(here.relative_to(ROOT).parts),
        description=about.splitlines()[0],
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
        table.write(results, here / "README.md")
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
