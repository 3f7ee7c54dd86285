"""Evaluated runs, and which of them may be compared.

A run knows what it was judged by: its metrics are the arrays "summary/<metric>" of the
evaluation, its columns those that run.json lists. A folder without them is that of a
classifier, whose metrics follow from its counts.

Replicas that differ in a hyper-parameter (a grid) are different settings:
`Run.settings` takes them apart, so that a mean over replicas is always one over seeds.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ltjax.metrics.column import Column

GROUPS = ("many", "medium", "few")
SUMMARY = "summary/"  # of an evaluation file: what its evaluators made of the split
# Of an evaluation file, then a title, "/" and where: [R], in the unit of the title.
PROFILES = "profiles/"


class LeftOut(NamedTuple):
    """A workdir that a report was asked for and does not show."""

    path: pathlib.Path
    reason: str


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
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, if the data set has them."""
        names = self.info.get("class_names")
        return tuple(map(str, names)) if names else None

    @property
    def backbone(self) -> str:
        """Name of the network."""
        model = self.config.get("model") or {}
        return str(self.info.get("backbone") or model.get("name", ""))

    @property
    def components(self) -> dict[str, Mapping[str, str]]:
        """Section of the config -> "name" and "about" of what was chosen there."""
        return dict(self.info.get("components") or {})

    @property
    def total_steps(self) -> int | None:
        """Length of the run, if known."""
        return self.info.get("total_steps")

    @property
    def shot_limits(self) -> tuple[int, int]:
        """Limits (m, f): many means more than m training examples, few fewer than f."""
        limits = {"many": 100, "few": 20, **self.info}
        limits |= self.info.get("shot_groups") or {}
        return int(limits["many"]), int(limits["few"])

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """many, medium, few -> bool [K], by the run's own limits."""
        from ltjax.class_stats import shot_groups

        many, few = self.shot_limits
        return shot_groups(self.class_counts, many=many, few=few)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seed of each replica."""
        return tuple(self.info["replicas"][r].get("seed", r) for r in self.members)

    @property
    def imbalance_factor(self) -> float:
        """n_max / n_min of the training set, as the class counts have it."""
        counts = self.class_counts
        return float(counts.max() / counts.min()) if counts.min() > 0 else float("inf")

    @property
    def has_counts(self) -> bool:
        """Whether the evaluation holds counts by class, as of a classifier."""
        return "confusion" in self.arrays or "support" in self.arrays

    @functools.cached_property
    def summary(self) -> dict[str, np.ndarray]:
        """Metric -> [R]: what the run's evaluators made of the split.

        Of a folder without summaries, `ltjax.metrics.summarize` of its counts.
        """
        stored = {
            name.removeprefix(SUMMARY): np.asarray(value, float)
            for name, value in self.arrays.items()
            if name.startswith(SUMMARY)
        }
        if stored or not self.has_counts:
            return stored
        from ltjax.metrics import summarize

        values = summarize(self.arrays, self.class_counts, groups=self.groups)
        return {name: np.asarray(value) for name, value in values.items()}

    @property
    def columns(self) -> tuple["Column", ...]:
        """What a table shows of the run: columns of the metrics that it has."""
        from ltjax.metrics.column import CLASSIFICATION, Column

        listed = self.info.get("columns")
        if listed is None:
            known = CLASSIFICATION
        else:
            # A newer engine may say more of a column than this report shows.
            fields = Column._fields
            known = tuple(
                Column(**{key: value for key, value in column.items() if key in fields})
                for column in listed
            )
        return tuple(column for column in known if column.key in self.summary)

    @property
    def judged(self) -> str | None:
        """The metric that decides which checkpoint of the run is best, if any does."""
        judged = self.info.get("judged")
        if judged:
            return str(judged[0]).rpartition("/")[2]
        columns = self.columns
        return columns[0].key if columns else None

    @property
    def diverged(self) -> np.ndarray:
        """Replicas without a single number, [R] bool."""
        lost = np.ones(len(self.members), bool)
        for values in self.summary.values():
            lost &= ~np.isfinite(values)
        return lost & bool(self.summary)

    @property
    def recall(self) -> np.ndarray | None:
        """Accuracy of each class, [R, K]; None if the run does not classify.

        NaN for a class without a test example and for a replica that diverged.
        """
        if not self.has_counts:
            return None
        from ltjax.metrics import per_class_recall

        return np.where(self.diverged[:, None], np.nan, per_class_recall(self.arrays))

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
            short = {k: k.rpartition(".")[2] for k in varied}
            if len(set(short.values())) < len(varied):
                short = {k: k for k in varied}
            setting = ", ".join(f"{short[k]}={hyper[k]:g}" for k in varied)
            parts.append(
                dataclasses.replace(
                    self,
                    name=f"{self.name} ({setting})",
                    arrays={k: x[at] for k, x in self.arrays.items()},
                    members=tuple(self.members[i] for i in at),
                )
            )
        return parts


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
        place = _folder_names([run.path for run in members])
        named = [
            dataclasses.replace(run, name=f"{run.name} [{place[run.path]}]")
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


def _folder_names(paths: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
    """As many of the last parts of paths as it takes to tell them apart."""
    whole = {path: path.resolve().parts for path in dict.fromkeys(paths)}
    size = 1
    while len({parts[-size:] for parts in whole.values()}) < len(whole):
        size += 1
    return {path: "/".join(parts[-size:]) for path, parts in whole.items()}


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
