"""`ltjax predict RUN PATHS... --out preds.csv`: classes of new inputs, as a table."""

import argparse
import os
import sys

from ltjax.commands.arguments import add_run, read_prior
from ltjax.config_file import UsageError

EXIT_FAILED = 1


def add_parser(commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "predict",
        help="classes of new images or features, as a CSV file",
        description="Predicts with a finished run, without its training data. The table"
        " has a row for each input: path (of a table: path:row), predicted class, its"
        " probability, then the probability of every class. An image that cannot be"
        " used is named and left out; the exit code is then 1.",
    )
    add_run(parser)
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="images, folders of images, or .npz, .npy or .csv files of features",
    )
    parser.add_argument("--out", required=True, metavar="FILE.csv")
    parser.add_argument(
        "--top",
        type=int,
        default=0,
        metavar="K",
        help="the K most probable classes in place of all of them",
    )
    parser.add_argument("--batch-size", type=int, default=256)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Predicts, and writes the table."""
    prior = read_prior("predict", "--prior", args.prior)
    trained = read_prior("predict", "--trained-prior", args.trained_prior)
    folder = os.path.dirname(os.path.abspath(args.out))
    if os.path.isdir(args.out) or not os.path.isdir(folder):
        raise UsageError(
            f"ltjax predict: --out is {args.out!r}, expected a file in a folder that"
            " exists"
        )
    from ltjax.serving import load
    from ltjax.serving.files import find_files

    files = find_files(args.paths)
    predictor = load(
        args.workdir,
        checkpoint=args.checkpoint,
        replica=args.replica,
        batch_size=args.batch_size,
    )
    classes = len(predictor.class_names)
    if not 0 <= args.top <= classes:
        raise UsageError(
            f"ltjax predict: --top is {args.top}, expected 1 to {classes}, the number"
            " of classes"
        )
    if len(predictor.output_shape) > 1:
        raise UsageError(
            f"ltjax predict: {args.workdir} predicts a class for every pixel, which a"
            " table does not hold; use ltjax.load in Python"
        )
    predictor.correction(prior, trained)  # a prior that cannot be used is said first
    done, failed = _write(args, predictor, files, prior, trained)
    print(f"{done} predicted, {failed} failed: {args.out}", file=sys.stderr)
    return EXIT_FAILED if failed else 0


def _write(args, predictor, files, prior, trained) -> tuple[int, int]:
    """(rows of the table, inputs that failed); the table appears when it is whole."""
    from ltjax.report.cells import csv_grid
    from ltjax.serving.files import read_items

    head = ["path", "predicted", "probability", *predictor.class_names]
    if args.top:
        more = [(f"predicted_{k}", f"probability_{k}") for k in range(2, args.top + 1)]
        head = head[:3] + [name for pair in more for name in pair]
    done = failed = 0
    fresh = f"{args.out}.tmp"
    try:
        with open(fresh, "w", newline="", encoding="utf-8") as file:
            file.write(csv_grid([head]))
            for names, values, faults in _batches(
                read_items(files, predictor.signature), args.batch_size
            ):
                for fault in faults:
                    print(f"error: {fault}", file=sys.stderr)
                failed, done = failed + len(faults), done + len(names)
                if names:
                    found = predictor.probabilities(
                        values, prior=prior, trained_prior=trained
                    )
                    rows = zip(names, found, strict=True)
                    file.write(
                        csv_grid([_row(predictor, args.top, *row) for row in rows])
                    )
        os.replace(fresh, args.out)
    except BaseException:
        if os.path.exists(fresh):
            os.remove(fresh)
        raise
    return done, failed


def _batches(items, size: int):
    """(names, inputs [n, ...], faults) of up to `size` items at a time."""
    import itertools

    import jax
    import numpy as np

    while batch := list(itertools.islice(items, size)):
        faults = [one.value for one in batch if isinstance(one.value, Exception)]
        good = [one for one in batch if not isinstance(one.value, Exception)]
        rows = [one.value for one in good]
        values = jax.tree.map(lambda *each: np.stack(each), *rows) if good else None
        yield [one.name for one in good], values, faults


def _row(predictor, top: int, name: str, probabilities) -> list[str]:
    """Cells of one input; of classes that are as likely the first comes first."""
    order = (-probabilities).argsort(kind="stable")
    best = [
        cell
        for k in order[: top or 1]
        for cell in (predictor.class_names[k], f"{probabilities[k]:.6g}")
    ]
    every = [] if top else [f"{p:.6g}" for p in probabilities]
    return [name, *best, *every]
