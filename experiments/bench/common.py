"""What every benchmark shares: provenance, ratios that survive a noisy machine, CSV.

Absolute times say little on a shared machine, so a benchmark times its subject and a
baseline in turn, in one process, and reports the median of the ratios.
"""

import argparse
import csv
import dataclasses
import datetime
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

import ltjax

RESULTS = pathlib.Path(__file__).parent / "results"


def provenance() -> dict[str, str]:
    """Where and with what a number was measured."""
    device = jax.devices()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "ltjax": ltjax.__version__,
        "commit": _commit(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "optax": optax.__version__,
        "python": platform.python_version(),
        "backend": device.platform,
        "device": device.device_kind if device.platform != "cpu" else _cpu_model(),
        "devices": str(jax.device_count()),
        "cores": str(os.cpu_count()),
    }


def _commit() -> str:
    """Short commit of the working tree, "+" if it has changes, empty outside git."""
    git = ["git", "-C", str(pathlib.Path(__file__).parent)]
    try:
        commit = subprocess.check_output(
            [*git, "rev-parse", "--short", "HEAD"], text=True
        )
        changes = subprocess.check_output(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", ":/ltjax"],
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.strip() + ("+" if changes.strip() else "")


def _cpu_model() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Time of a subject over the time of its baseline, over all repeats."""

    median: float
    low: float  # quartiles
    high: float
    seconds: float  # median time of one call
    baseline_seconds: float
    repeats: int
    fastest: float  # the ratio of the fastest calls

    def columns(self) -> dict[str, str]:
        return {
            "ratio": f"{self.median:.3f}",
            "ratio_low": f"{self.low:.3f}",
            "ratio_high": f"{self.high:.3f}",
            "milliseconds": f"{1e3 * self.seconds:.3f}",
            "baseline_milliseconds": f"{1e3 * self.baseline_seconds:.3f}",
            "repeats": str(self.repeats),
        }


def interleaved_ratios(
    baseline: Callable[[], Any],
    subjects: Mapping[str, Callable[[], Any]],
    *,
    repeats: int,
    least_seconds: float = 0.02,
    clock: Callable[[], float] | None = None,
) -> dict[str, Ratio]:
    """Times every subject next to the baseline, `repeats` times, in both orders.

    Args:
        baseline: called without arguments; may return JAX arrays, which are waited for.
        subjects: likewise, by name.
        repeats: number of pairs per subject.
        least_seconds: a measurement repeats its call until it is at least this long.
        clock: in seconds; default time.perf_counter. time.process_time does not count
            what other programs do in between, nor what other processes do for us.

    Returns:
        A `Ratio` per subject.
    """
    clock = clock or time.perf_counter
    calls = {
        name: _enough_calls(f, least_seconds, clock) for name, f in subjects.items()
    }
    baseline_calls = _enough_calls(baseline, least_seconds, clock)
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    for repeat in range(repeats):
        for name, subject in subjects.items():
            if repeat % 2:
                own = _seconds(subject, calls[name], clock)
                base = _seconds(baseline, baseline_calls, clock)
            else:
                base = _seconds(baseline, baseline_calls, clock)
                own = _seconds(subject, calls[name], clock)
            pairs[name].append((own, base))
    return {name: _summary(np.array(times)) for name, times in pairs.items()}


def _seconds(
    function: Callable[[], Any], calls: int, clock: Callable[[], float]
) -> float:
    """Mean time of one of `calls` calls."""
    start = clock()
    for _ in range(calls):
        jax.block_until_ready(function())
    return (clock() - start) / calls


def _enough_calls(
    function: Callable[[], Any], least_seconds: float, clock: Callable[[], float]
) -> int:
    jax.block_until_ready(function())  # compiles
    once = max(_seconds(function, 1, clock), 1e-9)
    return max(1, int(np.ceil(least_seconds / once)))


def _summary(times: np.ndarray) -> Ratio:
    low, median, high = np.quantile(times[:, 0] / times[:, 1], (0.25, 0.5, 0.75))
    seconds, baseline_seconds = np.median(times, axis=0)
    fastest, baseline_fastest = times.min(axis=0)
    return Ratio(
        median,
        low,
        high,
        seconds,
        baseline_seconds,
        len(times),
        fastest / baseline_fastest,
    )


def append_csv(path: pathlib.Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Appends rows of equal keys, with a header if the file is new.

    Raises:
        ValueError: if the file has other columns.
    """
    path = pathlib.Path(path)
    columns = list(rows[0])
    exists = path.exists()
    if exists:
        with path.open(newline="") as file:
            header = next(csv.reader(file))
        if header != columns:
            raise ValueError(
                f"append_csv: {path} has the columns {header}, but the rows {columns}"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if not exists:
            writer.writeheader()
        writer.writerows(rows)


def argument_parser(description: str, *, output: str) -> argparse.ArgumentParser:
    """Options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--quick", action="store_true", help="few repeats, small sizes, nothing written"
    )
    parser.add_argument(
        "--repeats", type=int, default=None, help="pairs of measurements per subject"
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=RESULTS / output,
        help="CSV file to append to (default: %(default)s)",
    )
    return parser
