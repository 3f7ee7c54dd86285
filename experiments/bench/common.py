"""What every benchmark shares: provenance, ratios that survive a noisy machine, CSV.

Absolute times say little on a shared machine, so a benchmark times its subject and a
baseline in turn, in one process, and reports the median of the ratios.
"""

import argparse
import dataclasses
import datetime
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ltjax.report.tables import append_csv
from ltjax.train import provenance as made_by

__all__ = [
    "Ratio",
    "append_csv",
    "argument_parser",
    "command",
    "interleaved_ratios",
    "megabytes",
    "parse_with_torch",
    "provenance",
    "ratio_of",
    "row",
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
    return {name: ratio_of(*zip(*times, strict=True)) for name, times in pairs.items()}


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


def ratio_of(own: Sequence[float], base: Sequence[float]) -> Ratio:
    """The `Ratio` of times in seconds that were measured in pairs."""
    times = np.array([own, base])
    low, median, high = np.quantile(times[0] / times[1], (0.25, 0.5, 0.75))
    seconds, baseline_seconds = np.median(times, axis=1)
    fastest, baseline_fastest = times.min(axis=1)
    return Ratio(
        median,
        low,
        high,
        seconds,
        baseline_seconds,
        len(own),
        fastest / baseline_fastest,
    )


def megabytes(compiled: Any) -> float:
    """Peak of temporary memory in MiB, as the compiler has planned it."""
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


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


def parse_with_torch(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parses, with an option that names an interpreter for the PyTorch peer."""
    parser.add_argument(
        "--torch-python",
        metavar="PYTHON",
        help="an interpreter that has torch (contrastive: and lightly, faiss; auc: and"
        " libauc and XCurve; augment: and torchvision)",
    )
    args = parser.parse_args()
    if not args.torch_python:
        print("no --torch-python: PyTorch is left out", file=sys.stderr)
    return args


def row(subject: str, baseline: str, ratio: Ratio, **cells: str) -> dict[str, str]:
    """A line of a CSV file: what was compared, with what, and the outcome."""
    names = {"subject": subject, "baseline": baseline}
    return {**names, **cells, **ratio.columns(), **provenance()}


def command(
    doc: str,
    output: str,
    measure: Callable[[bool, int], Iterable[dict[str, str]]],
    *,
    repeats: int = 11,
    quick_repeats: int = 2,
) -> None:
    """The command line of a benchmark: its rows are printed, and kept unless quick.

    Args:
        doc: docstring of the script; its first line describes the command.
        output: name of the CSV file in results/.
        measure: (quick, repeats) -> rows made by `row`.
        repeats: default of --repeats.
        quick_repeats: the default with --quick.
    """
    args = argument_parser(doc.splitlines()[0], output=output).parse_args()
    default = quick_repeats if args.quick else repeats
    for found in measure(args.quick, args.repeats or default):
        print(
            f"{found['subject']:32} {found['ratio']:>8}"
            f" ({found['ratio_low']} to {found['ratio_high']}) of"
            f" {found['baseline']}, {found['milliseconds']} ms",
            flush=True,
        )
        if not args.quick:
            append_csv(args.output, [found])
