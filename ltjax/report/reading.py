"""Reads and checks the workdirs of runs.

A workdir holds `config.json`, `run.json`, `metrics.jsonl` and files
`evaluation/<split>_<step>.npz`, as the training loop writes them.
"""

import logging
import os
import pathlib
import re
from collections.abc import Iterator, Mapping

import numpy as np

from ltjax._archives import check_members
from ltjax._seal import BrokenSeal, unsealed
from ltjax.report.runs import PROFILES, SUMMARY, Run

_LOG = logging.getLogger(__name__)

TRAIN = "train"  # evaluations of the training set: diagnostics, never results


class ReportError(ValueError):
    """A folder that no report can be made from; the message names it and says why."""


def read_metrics(path: str | os.PathLike) -> list[dict]:
    """The records of a `metrics.jsonl`, in order of steps.

    Args:
        path: of the file; a missing one has no records.

    Returns:
        One dict per line. A last line that the run was cut off in is left out, with a
        warning.

    Raises:
        ReportError: if it is a folder, or another line is not a JSON object with a
            "step".
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise ReportError(
            f"{path} is a folder, expected a file {path / 'metrics.jsonl'}; read_run"
            " reads a workdir as a whole"
        )
    if not path.exists():
        return []
    text = path.read_text(errors="replace")
    lines = text.splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = unsealed(line)
            record["step"] = int(record["step"])
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            if number == len(lines) and not text.endswith("\n"):
                _LOG.warning("%s: the last line is cut off and left out", path)
                break
            raise ReportError(
                f"{path}: line {number} is not a metrics record ({error})"
            ) from None
        records.append(record)
    return sorted(records, key=lambda record: record["step"])


def read_facts(path: pathlib.Path) -> dict:
    """A JSON file with a checksum.

    Raises:
        ReportError: if it is damaged.
    """
    try:
        return unsealed(path.read_text(errors="replace"))
    except BrokenSeal as error:
        raise ReportError(f"{path} is damaged: {error}") from None


def _read_arrays(path: str, prefix: str = "") -> dict[str, np.ndarray]:
    try:
        check_members(path)
        # numpy leaves a file open that it finds damaged.
        with open(path, "rb") as raw, np.load(raw) as file:
            chosen = [name for name in file.files if name.startswith(prefix)]
            arrays = {name: file[name] for name in chosen}
    except Exception as error:  # a flipped bit makes zipfile raise almost anything
        raise ReportError(f"{path} cannot be read: {error}") from None
    for name, value in arrays.items():
        if not isinstance(value, np.ndarray):  # numpy hands out what it cannot decode
            raise ReportError(f"{path} cannot be read: {name!r} is no array")
    return arrays


def _check_info(path: pathlib.Path, info: dict) -> None:
    """Refuses facts of a run that do not fit each other."""
    absent = [k for k in ("class_counts", "replicas", "method") if k not in info]
    if absent:
        raise ReportError(f"{path} has no {absent[0]!r}")
    for key, kind in (("class_counts", (int, float)), ("replicas", dict)):
        values = info[key]
        if not isinstance(values, list) or not values:
            raise ReportError(f"{path} has {key} = {values!r}, expected a list")
        if not all(isinstance(value, kind) for value in values):
            raise ReportError(f"{path} has {key} of another type than it should be")
    for key in ("class_names", "columns"):
        if not isinstance(info.get(key), list | None):
            raise ReportError(f"{path} has {key} = {info[key]!r}, expected a list")
    if not all(0 <= count < 2**63 for count in info["class_counts"]):
        raise ReportError(f"{path} has class_counts that are no counts")
    count, names = len(info["class_counts"]), info.get("class_names")
    if names and len(names) != count:
        raise ReportError(f"{path} has {len(names)} class names for {count} classes")
    for column in info.get("columns") or ():
        _check_column(path, column)
    _check_limits(path, info.get("shot_groups"))


def _check_limits(path: pathlib.Path, limits: object) -> None:
    if limits is None:
        return
    if (
        not isinstance(limits, dict)
        or set(limits) != {"many", "few"}
        or not all(isinstance(limit, int) for limit in limits.values())
    ):
        raise ReportError(f"{path} has shot_groups = {limits!r}, expected two counts")
    if limits["few"] > limits["many"] + 1:
        raise ReportError(f"{path} has shot_groups = {limits!r}, which overlap")


def _check_column(path: pathlib.Path, column: object) -> None:
    needed = {"key", "title", "best", "meaning"}
    if isinstance(column, dict) and needed <= set(column):
        if column["best"] in ("max", "min") and isinstance(column["key"], str):
            return
    raise ReportError(
        f"{path} lists the column {column!r}, expected key, title, best ('max' or"
        " 'min') and meaning"
    )


def _check_arrays(path: str, arrays: Mapping[str, np.ndarray], info: dict) -> None:
    """Refuses arrays of another number of replicas or classes than the run has."""
    expected = (len(info["replicas"]), len(info["class_counts"]))
    counted = arrays.get("confusion", arrays.get("support"))
    if counted is not None and counted.shape[:2] != expected:
        raise ReportError(
            f"{path} holds (replicas, classes) {counted.shape[:2]}, but run.json says"
            f" {expected}"
        )
    _check_replicas(path, arrays, info)
    if counted is None and not any(name.startswith(SUMMARY) for name in arrays):
        raise ReportError(f"{path} holds neither summaries nor counts of classes")


def _check_replicas(path: str, arrays: Mapping[str, np.ndarray], info: dict) -> None:
    replicas = len(info["replicas"])
    for name, value in arrays.items():
        if value.shape[:1] != (replicas,):
            raise ReportError(
                f"{path} holds {name!r} of shape {value.shape}, but run.json says"
                f" {replicas} replicas"
            )


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


def _other_profiles(
    path: pathlib.Path, split: str, step: int
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(File, its profiles) of the splits that were evaluated beside `split`."""
    for file in sorted((path / "evaluation").glob(f"*_{step}.npz")):
        other = file.stem.removesuffix(f"_{step}")
        if other not in (split, TRAIN):
            found = _read_arrays(str(file), PROFILES)
            yield (
                str(file),
                {
                    name.replace(PROFILES, f"{PROFILES}{other}: ", 1): value
                    for name, value in found.items()
                },
            )


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
        ReportError: if the folder is missing, empty or not a workdir, has not been
            evaluated, or its files disagree.
    """
    path = pathlib.Path(path)
    if split == TRAIN:
        raise ReportError(
            "the evaluations of 'train' are diagnostics of the training set, expected"
            " the name of an evaluation split such as 'test'"
        )
    if not path.is_dir():
        raise ReportError(f"{path} is not a folder, expected the workdir of a run")
    missing = [n for n in ("run.json", "config.json") if not (path / n).exists()]
    if missing:
        state = "holds no" if any(path.iterdir()) else "is empty, expected"
        raise ReportError(f"{path} {state} {' and '.join(missing)} of a run")
    info, config = read_facts(path / "run.json"), read_facts(path / "config.json")
    _check_info(path / "run.json", info)
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
    arrays = _read_arrays(found[step])
    _check_arrays(found[step], arrays, info)
    for file, profiles in _other_profiles(path, split, step):
        _check_replicas(file, profiles, info)
        arrays |= profiles
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
        members=tuple(range(len(info["replicas"]))),
    )
