"""Where metrics go: JSON lines always, a console line, TensorBoard files if wished.

A record is a dict of per-replica values. On disk the mean is the value of its key; with
several replicas, `std` (sample standard deviation) and `replicas` hold the rest.
"""

import json
import logging
import math
import os
import pathlib
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ltjax._seal import sealed, unsealed

_LOG = logging.getLogger(__name__)


def record(step: int, epoch: float, values: Mapping[str, Any]) -> dict:
    """A JSON-ready record of per-replica values.

    Args:
        step: optimizer updates done.
        epoch: the same in epochs.
        values: key -> [R] floats.

    Returns:
        {"step", "epoch", key: mean, ...} and, for R > 1, "std" and "replicas". NaN (an
        empty group) becomes null.

    Example:
        >>> record(10, 0.5, {"train/loss": [1.0, 3.0]})["train/loss"]
        2.0
    """
    line: dict[str, Any] = {"step": int(step), "epoch": round(float(epoch), 4)}
    std, replicas = {}, {}
    for key, value in values.items():
        value = np.atleast_1d(np.asarray(value, np.float64))
        line[key] = _json(value.mean())
        if value.size > 1:
            with np.errstate(invalid="ignore"):  # inf - inf
                std[key] = _json(value.std(ddof=1))
            replicas[key] = [_json(v) for v in value]
    if std:
        line |= {"std": std, "replicas": replicas}
    return line


def _json(value: float) -> float | None:
    value = float(value)
    return value if math.isfinite(value) else None


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record: means, and standard deviations under `<key>_std`.

    Example:
        >>> scalars(record(10, 0.5, {"train/loss": [1.0, 3.0]}))
        {'train/loss': 2.0, 'train/loss_std': 1.4142135623730951}
    """
    means = {
        key: value
        for key, value in line.items()
        if isinstance(value, float) and key != "epoch"
    }
    deviations = {f"{key}_std": value for key, value in line.get("std", {}).items()}
    return means | {k: v for k, v in deviations.items() if v is not None}


class JsonLines:
    """`metrics.jsonl`: one sealed record per line, flushed at once.

    On resume, records past the restored step (of the interrupted attempt) and a
    half-written last line are dropped, atomically, before the first new record; so are
    damaged lines, with a warning.
    """

    def __init__(self, path: pathlib.Path, *, resume_step: int):
        kept = []
        if path.exists():
            lines = path.read_text(errors="replace").splitlines()
            for number, line in enumerate(lines, 1):
                try:
                    if unsealed(line)["step"] <= resume_step:
                        kept.append(line)
                except (ValueError, KeyError, TypeError) as error:
                    if number < len(lines):  # the last one may be half written
                        _LOG.warning("%s: line %d is dropped: %s", path, number, error)
            fresh = path.with_suffix(".tmp")
            fresh.write_text("".join(f"{line}\n" for line in kept))
            os.replace(fresh, path)
        self._file = path.open("a")

    def write(self, line: dict) -> None:
        """Appends one record."""
        self._file.write(json.dumps(sealed(line)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard:
    """TensorBoard event files by tensorboardX (no TensorFlow)."""

    def __init__(self, directory: pathlib.Path, *, resume_step: int):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(
            str(directory),
            purge_step=resume_step + 1,  # of an interrupted attempt
            flush_secs=10,  # a killed run loses no more than that
            # The name has whole seconds: a quick restart would take the same one.
            filename_suffix=f".{time.time_ns()}",
        )

    def write(self, line: dict) -> None:
        """Writes the means, and the standard deviations under `<key>_std`."""
        for key, value in scalars(line).items():
            self._writer.add_scalar(key, value, line["step"])

    def close(self) -> None:
        """Flushes and closes the event file."""
        self._writer.close()


class Progress:
    """A progress bar on a terminal or notebook, a line per interval elsewhere.

    The rate excludes compilation and pauses (evaluation, checkpoints): time counts only
    between `resume` and `pause`.
    """

    def __init__(
        self,
        total: int,
        *,
        start: int,
        examples_per_step: int,
        label: str,
        shown: Mapping[str, str] | None = None,
    ):
        self._total, self._start = total, start
        self._examples_per_step = examples_per_step
        self._label = label
        self._shown = {"train/loss": "loss", "train/accuracy": "acc", **(shown or {})}
        self._busy, self._since = 0.0, None
        self._timed_steps, self._step, self._last = 0, start, start
        self._bar = _bar(total, start, label)

    def resume(self) -> None:
        """Time counts from now."""
        self._since = time.perf_counter()
        self._last = self._step

    def pause(self) -> None:
        """Time does not count until `resume`."""
        if self._since is not None:
            self._busy += time.perf_counter() - self._since
            self._timed_steps += self._step - self._last
            self._since = None

    def advance(self, step: int) -> None:
        """Tells that `step` updates are done."""
        if self._bar is not None:
            self._bar.update(step - self._step)
        self._step = step

    def rates(self) -> dict[str, float]:
        """steps/s and examples/s of the counted time; empty before it is known."""
        self.pause()
        busy, steps = self._busy, self._timed_steps
        self.resume()
        if steps == 0 or busy == 0:
            return {}
        return {
            "time/steps_per_s": steps / busy,
            "time/examples_per_s": steps * self._examples_per_step / busy,
        }

    def show(self, line: dict) -> None:
        """One interval's record, briefly."""
        shown = [
            f"{name} {line[key]:.3f}"
            for key, name in self._shown.items()
            if line.get(key) is not None
        ]
        rate = line.get("time/steps_per_s")
        if rate:
            left = (self._total - line["step"]) / rate
            shown.append(f"{line['time/examples_per_s']:.0f} ex/s")
            shown.append(f"ETA {int(left // 60)}:{int(left % 60):02d}")
        if self._bar is not None:
            self._bar.set_postfix_str(" ".join(shown))
        else:
            head = f"{self._label} step {line['step']}/{self._total}"
            print(f"{head} (epoch {line['epoch']:.1f})", *shown, sep="  ", flush=True)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()


def _bar(total: int, start: int, label: str):
    in_notebook = "ipykernel" in sys.modules
    if not (sys.stderr.isatty() or in_notebook):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without widgets gets a plain bar
        from tqdm.auto import tqdm

    return tqdm(total=total, initial=start, desc=label, unit="step", dynamic_ncols=True)


class Writers:
    """All sinks of a run; on processes other than 0 they are silent."""

    def __init__(self, sinks: list):
        self._sinks = sinks

    def write(self, step: int, epoch: float, values: Mapping[str, Any]) -> dict:
        """Writes one record everywhere and returns it."""
        line = record(step, epoch, values)
        for sink in self._sinks:
            sink.write(line)
        return line

    def close(self) -> None:
        """Closes every sink."""
        for sink in self._sinks:
            sink.close()
