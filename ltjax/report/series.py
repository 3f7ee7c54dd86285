"""What figures and charts show of comparable runs: arrays by method, nothing drawn."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from ltjax.report.collapse import PANELS
from ltjax.report.reading import TRAIN
from ltjax.report.runs import Run
from ltjax.report.tables import columns_of

if TYPE_CHECKING:
    from ltjax.metrics import BinSums

Curve = tuple[np.ndarray, np.ndarray]  # steps [T], values [T, R]
Panels = dict[str, dict[str, Curve]]  # axis label -> run -> curve

_BINS = {"bin_count", "bin_confidence", "bin_correct"}
# What the training step itself logs of every run. Other metrics are a method's own.
_OF_THE_STEP = ("loss", "lr", "accuracy", "grad_norm", "passes")
_OF_THE_RULE = ("gap_", "ascent_norm_", "cosine_")


def rarest_group(run: Run) -> str | None:
    """few, else medium: the group to look at beside all classes; None if it is all."""
    for name in ("few", "medium"):
        members = run.groups[name]
        if members.any() and not members.all():
            return name
    return None


def class_recalls(runs: Iterable[Run]) -> dict[str, np.ndarray]:
    """Run -> recall [R, K], of the runs that classify."""
    recalls = {run.name: run.recall for run in runs}
    return {name: recall for name, recall in recalls.items() if recall is not None}


def confusion_of(run: Run) -> np.ndarray | None:
    """[R, K, K] of the replicas that did not diverge; None if there is nothing."""
    if "confusion" not in run.arrays or run.diverged.all():
        return None
    confusion = run.arrays["confusion"][~run.diverged]
    return confusion if np.any(confusion) else None


def _judged_label(runs: list[Run]) -> tuple[str, str, float] | None:
    """(key, axis label, factor) of the metric that most tells about these runs."""
    columns = {column.key: column for column in columns_of(runs)}
    for run in runs:
        column = columns.get(run.judged or "")
        if column is None:
            continue
        name = {"balanced_accuracy": "balanced accuracy"}.get(column.key, column.title)
        split, unit = run.split, " (%)" if column.percent else ""
        factor = 100.0 if column.percent else 1.0
        return f"eval/{split}/{column.key}", f"{name}, {split}{unit}", factor
    return None


def _curves(runs: list[Run], key: str, factor: float = 1.0) -> dict[str, Curve]:
    """Run -> curve of a metric, of the runs that logged it twice."""
    lines = {run.name: run.curve(key) for run in runs}
    lines = {n: (x, factor * y) for n, (x, y) in lines.items() if len(x) > 1}
    # A metric may be undefined, as the cosines of fewer than two few-shot classes are.
    known = any(np.isfinite(values).any() for _, values in lines.values())
    return lines if known else {}


def _charted(runs: list[Run]) -> dict[str, tuple[str, float]]:
    """Axis label -> (metric, factor) of the main figure over training."""
    rarest, split = rarest_group(runs[0]), runs[0].split
    wanted = {"training loss (nats)": ("train/loss", 1.0)}
    judged = _judged_label(runs)
    if judged:
        key, label, factor = judged
        wanted[label] = (key, factor)
    if rarest:
        label = f"{rarest}-shot accuracy, {split} (%)"
        wanted[label] = (f"eval/{split}/{rarest}", 100.0)
    return wanted


def training_panels(runs: list[Run]) -> Panels:
    """Loss, the metric that judges the runs, and the rarest group over training."""
    found = {label: _curves(runs, *how) for label, how in _charted(runs).items()}
    return {label: lines for label, lines in found.items() if lines}


def collapse_curves(runs: list[Run]) -> Panels:
    """Metric of `ltjax.report.collapse.PANELS` -> run -> curve."""
    found = {metric: _curves(runs, f"eval/{TRAIN}/{metric}") for metric in PANELS}
    return {metric: lines for metric, lines in found.items() if lines}


def calibration_panels(runs: list[Run]) -> dict[str, dict[str, "BinSums"]]:
    """Classes -> run -> bin sums (count, confidence, correct), each [R, bins]."""
    from ltjax.metrics import class_bins, pool_classes

    binned = {
        run.name: class_bins({k: run.arrays[k][~run.diverged] for k in _BINS})
        for run in runs
        if _BINS <= set(run.arrays) and not run.diverged.all()
    }
    if not binned:
        return {}
    panels = {"all classes": {n: pool_classes(b) for n, b in binned.items()}}
    rarest = rarest_group(runs[0])
    if rarest:
        members = runs[0].groups[rarest]
        pooled = {n: pool_classes(b, members) for n, b in binned.items()}
        panels[f"{rarest}-shot classes"] = pooled
    return panels


def _logged(runs: list[Run], wanted: Callable[[str, str], bool]) -> Panels:
    """Curves of the metrics that `wanted(prefix, name)` says, in the order logged."""
    keys = dict.fromkeys(key for run in runs for r in run.records for key in r)
    panels: Panels = {}
    for key in keys:
        prefix, _, name = key.rpartition("/")
        if prefix and wanted(prefix, name):
            split = prefix.rpartition("/")[2]
            label = name.replace("_", " ")
            label += "" if prefix == "train" else f", {split}"
            lines = _curves(runs, key)
            if lines:
                panels[label] = lines
    return panels


def _own(name: str) -> bool:
    return name not in _OF_THE_STEP and not name.startswith(_OF_THE_RULE)


def method_panels(runs: list[Run]) -> Panels:
    """What methods log of themselves: which labels they believe, how right they are."""
    return _logged(runs, lambda prefix, name: prefix == "train" and _own(name))


def other_panels(runs: list[Run]) -> Panels:
    """Everything else that was logged."""
    charted = {key for key, _ in _charted(runs).values()}
    charted |= {f"eval/{TRAIN}/{metric}" for metric in PANELS}

    def wanted(prefix: str, name: str) -> bool:
        if f"{prefix}/{name}" in charted or prefix == "time":
            return False
        return prefix != "train" or not _own(name)

    return _logged(runs, wanted)
