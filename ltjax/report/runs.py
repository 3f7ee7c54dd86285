"""Finished runs, read back from their workdirs.

A workdir holds `config.json`, `run.json`, `metrics.jsonl` and files
`evaluation/<split>_<step>.npz`, as the training loop writes them. Replicas that differ
in a hyper-parameter (a grid) are different settings: `Run.settings` takes them apart,
so that a mean over replicas is always one over seeds.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping

import numpy as np


class ReportError(ValueError):
    """A folder that no report can be made from; the message names it and says why."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One evaluated run; arrays have a leading replica axis R.

    Attributes:
        path: the workdir.
        name: what tables and legends call it; different within a report.
        method: label of the method.
        data: name of the data set.
        info: contents of run.json.
        config: contents of config.json.
        records: lines of metrics.jsonl.
        split: evaluated split.
        step: of the evaluation.
        arrays: contents of the evaluation file.
        members: replicas of the workdir that this object stands for, R indices.
    """

    path: pathlib.Path
    name: str
    method: str
    data: str
    info: Mapping
    config: Mapping
    records: tuple[Mapping, ...]
    split: str
    step: int
    arrays: Mapping[str, np.ndarray]
    members: tuple[int, ...]

    @property
    def class_counts(self) -> np.ndarray:
        """Training examples per class, [K] int64."""
        return np.asarray(self.info["class_counts"], np.int64)

    @property
    def shot_limits(self) -> tuple[int, int]:
        """Limits (m, f): many means more than m training examples, few fewer than f."""
        limits = self.info.get("shot_groups") or {}
        return int(limits.get("many", 100)), int(limits.get("few", 20))

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """many, medium, few -> bool [K], by the run's own limits."""
        from ltjax.class_stats import shot_groups

        many, few = self.shot_limits
        return shot_groups(self.class_counts, many=many, few=few)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seed of each replica."""
        return tuple(self.info["replicas"][r]["seed"] for r in self.members)

    @property
    def imbalance_factor(self) -> float:
        """n_max / n_min of the training set, as the class counts have it."""
        counts = self.class_counts
        return float(counts.max() / counts.min()) if counts.min() > 0 else float("inf")

    @property
    def summary(self) -> dict[str, np.ndarray]:
        """Metric -> [R], as of `ltjax.metrics.summarize`."""
        from ltjax.metrics import summarize

        values = summarize(self.arrays, self.class_counts, groups=self.groups)
        return {name: np.asarray(value) for name, value in values.items()}

    @property
    def recall(self) -> np.ndarray:
        """Accuracy of each class, [R, K]; NaN for a class without a test example."""
        from ltjax.metrics import per_class_recall

        return per_class_recall(self.arrays)

    def curve(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """A logged metric over training.

        Args:
            key: such as "train/loss" or "eval/test/few".

        Returns:
            (steps [T], values [T, R]); NaN where a value was not finite.
        """
        steps, values = [], []
        for record in self.records:
            if key not in record:
                continue
            line = (record.get("replicas") or {}).get(key)
            line = [record[key]] * (max(self.members) + 1) if line is None else line
            steps.append(record["step"])
            values.append(
                [np.nan if line[r] is None else line[r] for r in self.members]
            )
        shape = (len(steps), len(self.members))
        return np.asarray(steps, np.int64), np.asarray(values, float).reshape(shape)

    @property
    def epochs(self) -> float | None:
        """Epochs trained, if logged."""
        return max((r["epoch"] for r in self.records if "epoch" in r), default=None)

    @property
    def hours(self) -> float | None:
        """Training time of all replicas, without compilation and evaluation."""
        rates = [r.get("time/steps_per_s") for r in self.records]
        rates = [rate for rate in rates if rate]
        return self.step / rates[-1] / 3600 if rates else None

    def settings(self) -> list["Run"]:
        """This run, once per distinct hyper-parameters of its replicas."""
        hypers = [self.info["replicas"][r].get("hyper") or {} for r in self.members]
        distinct = list({json.dumps(h, sort_keys=True): h for h in hypers}.values())
        if len(distinct) == 1:
            return [self]
        varied = [k for k in distinct[0] if len({h.get(k) for h in distinct}) > 1]
        parts = []
        for hyper in distinct:
            at = [i for i, h in enumerate(hypers) if h == hyper]
            setting = ", ".join(f"{k}={hyper[k]:g}" for k in varied)
            parts.append(
                dataclasses.replace(
                    self,
                    name=f"{self.name} ({setting})",
                    arrays={k: x[at] for k, x in self.arrays.items()},
                    members=tuple(self.members[i] for i in at),
                )
            )
        return parts


def read_metrics(path: str | os.PathLike) -> list[dict]:
    """The records of a `metrics.jsonl`, in order of steps.

    Args:
        path: of the file; a missing one has no records.

    Returns:
        One dict per line. A last line that the run was cut off in is left out.

    Raises:
        ReportError: if another line is no JSON object with a "step".
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    lines = path.read_text(errors="replace").splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            record["step"] = int(record["step"])
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break
            raise ReportError(f"{path}: line {number} is no metrics record") from None
        records.append(record)
    return sorted(records, key=lambda record: record["step"])


def _read_json(path: pathlib.Path) -> dict:
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise ReportError(f"{path} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ReportError(f"{path} holds a {type(value).__name__}, expected an object")
    return value


def evaluation_steps(path: str | os.PathLike, split: str = "test") -> dict[int, str]:
    """The evaluations of a workdir.

    Args:
        path: the workdir.
        split: name of the split.

    Returns:
        step -> file, in order of steps.
    """
    pattern = re.compile(rf"{re.escape(split)}_(\d+)\.npz")
    files = pathlib.Path(path, "evaluation").glob(f"{split}_*.npz")
    found = {int(m[1]): str(f) for f in files if (m := pattern.fullmatch(f.name))}
    return dict(sorted(found.items()))


def read_run(
    path: str | os.PathLike, *, split: str = "test", step: int | None = None
) -> Run:
    """Reads the workdir of a run.

    Args:
        path: the workdir.
        split: which evaluations to read.
        step: of the evaluation; default the last one. (Choosing the best on the test
            split is not offered: it biases every number.)

    Returns:
        The Run, with all replicas.

    Raises:
        ReportError: if the folder is missing, empty or no workdir, has not been
            evaluated, or its files disagree.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise ReportError(f"{path} is no folder, expected the workdir of a run")
    missing = [n for n in ("run.json", "config.json") if not (path / n).exists()]
    if missing:
        state = "holds no" if any(path.iterdir()) else "is empty, expected"
        raise ReportError(f"{path} {state} {' and '.join(missing)} of a run")
    info, config = _read_json(path / "run.json"), _read_json(path / "config.json")
    absent = [k for k in ("class_counts", "replicas", "method") if k not in info]
    if absent:
        raise ReportError(f"{path / 'run.json'} has no {absent[0]!r}")

    found = evaluation_steps(path, split)
    if not found:
        raise ReportError(
            f"run {info['method']!r} in {path} has no evaluation on split {split!r}"
            f" (no evaluation/{split}_*.npz): let it finish first"
        )
    step = max(found) if step is None else step
    if step not in found:
        raise ReportError(
            f"{path} has no evaluation of step {step}, only {list(found)}"
        )
    with np.load(found[step]) as file:
        arrays = {name: file[name] for name in file.files}
    expected = (len(info["replicas"]), len(info["class_counts"]))
    shape = arrays.get("confusion", arrays.get("support", np.empty(0))).shape[:2]
    if shape != expected:
        raise ReportError(
            f"{found[step]} holds (replicas, classes) {shape}, but run.json says"
            f" {expected}"
        )
    return Run(
        path=path,
        name=str(info["method"]),
        method=str(info["method"]),
        data=str(info.get("data", "")),
        info=info,
        config=config,
        records=tuple(read_metrics(path / "metrics.jsonl")),
        split=split,
        step=step,
        arrays=arrays,
        members=tuple(range(expected[0])),
    )


def is_reference(run: Run, reference: str = "CE") -> bool:
    """Whether `run` is the one that others are compared with, by its method."""
    return run.method.casefold() == reference.casefold()


def group_runs(runs: Iterable[Run], *, reference: str = "CE") -> dict[str, list[Run]]:
    """Runs that may be compared: same data, training class counts and groups.

    Args:
        runs: in the order that tables shall have.
        reference: name of the method that comes first in each group.

    Returns:
        title (such as "cifar10, imbalance factor 100") -> runs, each named differently;
        of two with one name, the folder's is appended.
    """
    buckets: dict[tuple, list[Run]] = {}
    for run in runs:
        counts = tuple(run.class_counts.tolist())
        key = (run.data, run.split, run.shot_limits, counts)
        buckets.setdefault(key, []).append(run)
    groups: dict[str, list[Run]] = {}
    for members in buckets.values():
        names = [run.name.casefold() for run in members]
        named = [
            dataclasses.replace(run, name=f"{run.name} [{run.path.resolve().name}]")
            if names.count(run.name.casefold()) > 1
            else run
            for run in members
        ]
        named = sorted(named, key=lambda run: not is_reference(run, reference))
        title = base = group_title(members[0])
        again = 1
        while title in groups:
            again += 1
            title = f"{base} ({again})"
        groups[title] = named
    return groups


def group_title(run: Run) -> str:
    """What distinguishes the data of a run, for headings."""
    factor = run.imbalance_factor
    parts = [run.data or "data", f"imbalance factor {factor:.3g}"]
    profile = (run.config.get("data") or {}).get("profile")
    if profile and profile != "none":
        parts.insert(1, f"{profile} profile")
    if run.split != "test":
        parts.append(f"{run.split} split")
    return ", ".join(parts)
