"""What both sides of the GPU benchmark share: programs in turn, rows as lines of JSON.

Nothing here imports JAX or PyTorch, so that each has the GPU to itself.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Dense peaks of H100 and H200 SXM, TFLOP/s, in NVIDIA's data sheets (half of what these
# state with sparsity).
PEAK_TFLOPS = {"tf32": 495.0, "bfloat16": 989.0}


class Subject(NamedTuple):
    """A program that is ready to be timed.

    Attributes:
        cells: column -> value, what is known of it beforehand.
        call: runs `steps` steps and waits for them.
        steps: per call.
        gflops: of the matrix products and convolutions of a step; 0 if not counted.
    """

    cells: dict[str, Any]
    call: Callable[[], Any]
    steps: int = 1
    gflops: float = 0.0


def in_turn(
    subjects: Sequence[Subject], *, blocks: int, seconds: float
) -> list[list[float]]:
    """Times subjects in turn, in both orders.

    Args:
        subjects: at least one; their first call, which is not timed, warms them up.
        blocks: calls of each at most; at least three are made.
        seconds: after which no further block begins.

    Returns:
        Of every subject, the seconds of one step in each block.
    """
    for subject in subjects:
        subject.call()
    times: list[list[float]] = [[] for _ in subjects]
    end = time.perf_counter() + seconds
    for block in range(blocks):
        if block >= 3 and time.perf_counter() > end:
            break
        order = range(len(subjects))
        for k in reversed(order) if block % 2 else order:
            start = time.perf_counter()
            subjects[k].call()
            times[k].append((time.perf_counter() - start) / subjects[k].steps)
    return times


def timed_cells(subject: Subject, times: Sequence[float], device: str) -> dict:
    """The columns that follow from the times of a subject's step."""
    low, median, high = np.quantile(times, (0.25, 0.5, 0.75))
    cells = {
        **subject.cells,
        "milliseconds": f"{1e3 * median:.4g}",
        "milliseconds_low": f"{1e3 * low:.4g}",
        "milliseconds_high": f"{1e3 * high:.4g}",
        "blocks": len(times),
        "steps_per_block": subject.steps,
    }
    size, total = cells.get("examples"), cells.pop("total_steps", None)
    if size:
        cells["examples_per_s"] = f"{size / median:.5g}"
    if total:
        cells["extrapolated_steps"] = total
        cells["extrapolated_minutes"] = f"{total * median / 60:.4g}"
    if subject.gflops:
        cells["gflops"] = f"{subject.gflops:.4g}"
        peak = PEAK_TFLOPS.get(cells["precision"])
        if peak and any(name in device for name in ("H100", "H200")):
            cells["mfu"] = f"{subject.gflops / median / 1e3 / peak:.3g}"
    return cells


def say(**cells: Any) -> None:
    """Hands a row to the process that writes it."""
    print(json.dumps({k: str(v) for k, v in cells.items() if v is not None}))
    sys.stdout.flush()


def failed(cells: dict, error: Exception) -> dict:
    """The row of a subject that raised."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    kept = {k: v for k, v in cells.items() if k != "total_steps"}
    return {**kept, "error": text[:300]}


def chosen_section(doc: str, sections: Mapping[str, Callable]) -> tuple[Callable, bool]:
    """What the command line of a side asks for: its section, and whether as a toy."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("section", choices=sections)
    parser.add_argument("--toy", action="store_true")
    args = parser.parse_args()
    return sections[args.section], args.toy
