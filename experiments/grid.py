"""Grids of runs with one CSV row each: what the experiments folders share.

A grid can be stopped and started again: a point whose row is in the CSV is not run
twice. Every row carries what produced it.

A point may keep its run for points that build on it: one that starts from its
parameters (`config.init_from`), or another classifier on its outputs.
"""

import collections
import contextlib
import datetime
import importlib
import logging
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from ltjax.report.tables import Cell, append_csv, cell_text, read_rows  # noqa: E402

METRICS = ("balanced_accuracy", "many", "medium", "few", "worst", "ece")
PROVENANCE = ("seeds", "steps", "config", "code", "jax", "hardware", "minutes", "date")


class Point(NamedTuple):
    """One cell of a grid.

    Attributes:
        key: column -> value; identifies the row.
        config: a ConfigDict.
        command: how to get that config by hand.
        workdir: where the run is kept, "" for nowhere.
        classifier: a classifier to put on the finished run of `workdir` in place of its
            own head (`ltjax options classifiers`); nothing is trained then.
        options: of the classifier.
    """

    key: Mapping[str, object]
    config: object
    command: str
    workdir: str = ""
    classifier: str = ""
    options: Mapping[str, object] = {}


def small_config(dataset: str, arg: str, *, tuning: bool):
    """A family's config as the tables use it: small, and for tuning on other data.

    Args:
        dataset: "mnist1d", or "mnist", which gets an MLP without augmentation: many
            runs on two cores.
        arg: the argument of `configs/<dataset>_lt.py`.
        tuning: two seeds, and data that the five final seeds never see: MNIST-1D is
            generated anew, MNIST keeps other training images.

    Returns:
        A ConfigDict.
    """
    config = importlib.import_module(f"configs.{dataset}_lt").get_config(arg)
    if dataset == "mnist":
        config.model.name, config.model.hidden = "mlp", (256, 256)
        config.augment.name = "none"
    config.log_every = config.eval_every = config.checkpoint_every = "100%"
    config.replicas.seeds = (100, 101) if tuning else (0, 1, 2, 3, 4)
    if tuning and dataset == "mnist1d":
        config.data.seed = 7
    elif tuning:
        config.data.subset_seed = 7
    return config


def run_points(
    points: Iterable[Point],
    path: pathlib.Path,
    *,
    more: Mapping[str, str] | None = None,
) -> list[dict[str, str]]:
    """Runs every point that has no row yet; returns all rows.

    A point with a grid of replicas gives one row per setting; the varied options,
    without their sections, are columns of the key. `more` names further columns and the
    metrics, not in percent, that they show. A setting that diverges for any seed gives
    a row of NaN: that too is a result. A run that a pending point builds on is made
    again where it is gone.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    from ltjax.train.build import build
    from ltjax.train.check import check

    points = list(points)
    rows = read_rows(path)
    pending = [not is_done(point, rows) for point in points]
    bases = {_base(p) for p, waits in zip(points, pending, strict=True) if waits}
    for k, (point, waits) in enumerate(zip(points, pending, strict=True), start=1):
        is_base = not point.classifier and point.workdir in bases - {""}
        if not (waits or is_base):
            continue
        key = {name: str(value) for name, value in point.key.items()}
        print(f"[{k}/{len(points)}] {' '.join(key.values())}", flush=True)
        started = time.perf_counter()
        config = check(point.config)
        built = build(config)
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            metrics = _metrics(point, built)
        if not waits:
            continue
        if not metrics:
            print("diverged", flush=True)
            nan = np.full(len(built.info.replicas), np.nan)
            metrics = collections.defaultdict(lambda nan=nan: nan)
        minutes = (time.perf_counter() - started) / 60
        for varied, members in _settings(built.info.replicas, config.replicas.grid):
            row = {**key, **varied}
            for name in METRICS:
                values = 100 * metrics[f"eval/test/{name}"][members]
                spread = values.std(ddof=1) if len(values) > 1 else float("nan")
                row[f"{name}_mean"] = f"{values.mean():.3f}"
                row[f"{name}_std"] = f"{spread:.3f}"
            for name, metric in (more or {}).items():
                row[name] = f"{metrics[metric][members].mean():.4f}"
            seeds = [built.info.replicas[r]["seed"] for r in members]
            row |= provenance_row(built, point.command, seeds=seeds, minutes=minutes)
            append_csv(path, [row])
    return read_rows(path)


def is_done(point: Point, rows: Sequence[Mapping[str, str]]) -> bool:
    """Whether the point has rows."""
    key = {name: str(value) for name, value in point.key.items()}
    return any(key.items() <= row.items() for row in rows)


def _base(point: Point) -> str:
    """The kept run that a point builds on; "" if there is none."""
    return point.workdir if point.classifier else point.config.get("init_from", "")


def _metrics(point: Point, built) -> Mapping[str, np.ndarray]:
    """What the point is measured by, nothing if all of it diverged.

    Trains unless the run is kept already.
    """
    from ltjax.train.loop import run
    from ltjax.train.posthoc import evaluate_classifier
    from ltjax.train.records import NonFinite

    if point.classifier:
        return evaluate_classifier(point.workdir, point.classifier, **point.options)
    with tempfile.TemporaryDirectory() as nowhere:
        try:
            return run(built, point.workdir or nowhere, tensorboard=False).metrics
        except NonFinite:
            return {}


def _settings(replicas, grid):
    """(varied options, indices of their replicas) of every grid setting."""
    found: dict[tuple, list[int]] = {}
    for r, replica in enumerate(replicas):
        setting = tuple(
            (name.rpartition(".")[2], f"{replica['hyper'][name]:g}") for name in grid
        )
        found.setdefault(setting, []).append(r)
    return [(dict(setting), np.asarray(rows)) for setting, rows in found.items()]


def provenance_row(
    built, command: str, *, seeds, minutes: float = float("nan")
) -> dict[str, str]:
    """The columns `PROVENANCE` of what `built` gave."""
    from ltjax.train import provenance

    found, hardware = provenance.versions(), provenance.hardware()["hardware"]
    return {
        "seeds": " ".join(map(str, seeds)),
        "steps": str(built.info.total_steps),
        "config": command,
        "code": str(found["code"]),
        "jax": found["versions"]["jax"],
        "hardware": f"{hardware['cpu']}, {hardware['cores']} cores"
        if hardware["platform"] == "cpu"
        else f"{hardware['devices']} x {hardware['device']}",
        "minutes": f"{minutes:.2f}",
        "date": datetime.date.today().isoformat(),
    }


def cell(row: Mapping[str, str], name: str) -> str:
    """ "mean ± std" of a metric, an en dash if the group is empty."""
    return mean_std(float(row[f"{name}_mean"]), float(row[f"{name}_std"]))


def mean_std(mean: float, std: float, digits: int = 1) -> str:
    """A mean and its deviation as tables show them; NaN where there is none."""
    known = [None if np.isnan(value) else value for value in (mean, std)]
    return cell_text(Cell(*known), digits)


def score(row: Mapping[str, str]) -> float:
    """What tuning maximizes: balanced accuracy, of a diverged point minus infinity."""
    return float(np.nan_to_num(float(row["balanced_accuracy_mean"]), nan=-np.inf))


def replace_block(readme: pathlib.Path, name: str, text: str) -> None:
    """Replaces what stands between the markers of `name` in a README."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = readme.read_text()
    if begin not in old or end not in old:
        raise ValueError(f"{readme} lacks the markers {begin} and {end}")
    head, rest = old.split(begin, 1)
    tail = rest.split(end, 1)[1]
    readme.write_text(f"{head}{begin}\n{text.rstrip()}\n{end}{tail}")
