"""What every benchmark shares: provenance, ratios that survive a noisy machine, CSV.

Absolute times say little on a shared machine, so a benchmark times its subject and a
baseline in turn, in one process, and reports the median of the ratios.
"""

import argparse
import dataclasses
import datetime
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ltjax.report.tables import append_csv
from ltjax.train import provenance as made_by

__all__ = [
    "Ratio",
    "append_csv",
    "argument_parser",
    "interleaved_ratios",
    "provenance",
]

RESULTS = pathlib.Path(__file__).parent / "results"


def provenance() -> dict[str, str]:
    """Where and with what a number was measured."""
    found, hardware = made_by.versions(), made_by.hardware()["hardware"]
    versions = found["versions"]
    on_cpu = hardware["platform"] == "cpu"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "ltjax": versions["ltjax"],
        "commit": str(found["code"]),
        "jax": versions["jax"],
        "numpy": versions["numpy"],
        "optax": versions["optax"],
        "python": versions["python"],
        "backend": hardware["platform"],
        "device": hardware["cpu" if on_cpu else "device"],
        "devices": str(hardware["devices"]),
        "cores": str(hardware["cores"]),
    }


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
