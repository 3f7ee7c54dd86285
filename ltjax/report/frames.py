"""Runs as a pandas data frame, a row per replica."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ltjax.report.build import find_workdirs
from ltjax.report.reading import ReportError, read_run
from ltjax.report.runs import Run

_LOG = logging.getLogger(__name__)
_OWN = ("replicas", "seed", "label")  # of a config, but not what sets rows apart


def to_dataframe(
    *workdirs: str | os.PathLike, split: str = "test", per_class: bool = False
) -> Any:
    """The numbers of evaluated runs, a row for each run and replica.

    Args:
        *workdirs: of runs, folders of such, or of a sweep.
        split: which evaluations to read.
        per_class: a row for each class too, with its recall in place of the metrics.

    Returns:
        A `pandas.DataFrame`. Columns: run (its workdir), method, data, split, step,
        replica, seed; every option of the configs, by dotted name, whose value is not
        the same in all rows; then every metric that any run has, as a fraction, NaN
        where a run has not. With
        `per_class`: class (by name, if there are names), class_index, train_examples,
        group, recall. A run that cannot be read is left out, with a warning.

    Raises:
        ReportError: if none can be read.
        ImportError: if pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "to_dataframe needs pandas: pip install 'ltjax[frames]'"
        ) from None
    runs, reasons = [], []
    for path in dict.fromkeys(found for w in workdirs for found in find_workdirs(w)):
        try:
            runs.append(read_run(path, split=split))
        except ReportError as error:
            reasons.append(str(error))
            _LOG.warning("left out: %s", error)
    if not runs:
        raise ReportError(reasons[0] if reasons else "no run: workdirs is empty")
    places = [(run, r) for run in runs for r in range(len(run.members))]
    options = _options([_config(run, r) for run, r in places])
    rows: list[dict[str, Any]] = []
    for (run, r), chosen in zip(places, options, strict=True):
        facts = {
            "run": str(run.path),
            "method": run.method,
            "data": run.data,
            "split": run.split,
            "step": run.step,
            "replica": run.members[r],
            "seed": run.seeds[r],
            **chosen,
        }
        if per_class:
            rows += [facts | one for one in _classes(run, r)]
        else:
            rows.append(facts | {k: float(v[r]) for k, v in run.summary.items()})
    return pandas.DataFrame(rows)


def _config(run: Run, r: int) -> dict[str, Any]:
    """Options of one replica by dotted name; those that replicas vary are its own."""
    hyper = run.info["replicas"][run.members[r]].get("hyper") or {}
    config = {key: value for key, value in run.config.items() if key not in _OWN}
    return {**_flat(config), **hyper}


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, Mapping):
        return {
            key: value
            for name, sub in tree.items()
            for key, value in _flat(sub, f"{prefix}{name}.").items()
        }
    return {prefix[:-1]: _hashable(tree)}


def _hashable(value: Any) -> Any:
    """Lists as tuples, so that rows can be grouped by them."""
    if isinstance(value, Mapping):
        return tuple((key, _hashable(sub)) for key, sub in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _options(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each row, the options that are not the same in all rows."""
    names = dict.fromkeys(name for config in configs for name in config)
    differ = [
        name
        for name in names
        if any(config.get(name) != configs[0].get(name) for config in configs)
    ]
    return [{name: config.get(name) for name in differ} for config in configs]


def _classes(run: Run, r: int) -> list[dict[str, Any]]:
    recall = run.recall
    if recall is None:
        raise ReportError(f"{run.path} does not classify, so per_class has no rows")
    names, counts = run.class_names, run.class_counts
    return [
        {
            "class": names[k] if names else k,
            "class_index": k,
            "train_examples": int(counts[k]),
            "group": next((g for g, members in run.groups.items() if members[k]), None),
            "recall": float(recall[r, k]),
        }
        for k in range(len(counts))
    ]
