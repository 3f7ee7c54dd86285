"""Runs the points of a grid side by side: one process for each, one CSV for all.

A grid can be stopped and started again: a point whose rows are in the CSV is not run
twice. A point that fails is told at the end with the last lines of its log; the others
go on.
"""

import json
import math
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from experiments.grid import Point, is_done
from experiments.reliability.processes import Command, preload, start
from ltjax.report.cells import append_csv, read_rows

TOLD = 30  # lines of the log of a point that failed


class Place(NamedTuple):
    """Where a process runs: on these cores, or on the accelerator if there are none."""

    cores: tuple[int, ...]


class Failure(NamedTuple):
    """A point without rows, and why."""

    name: str
    code: int
    log: str


class _Running(NamedTuple):
    point: Point
    place: Place
    command: Command
    found: pathlib.Path


def places(jobs: int, accelerated: int = 0) -> list[Place]:
    """The cores that this process may use, dealt out to `jobs` processes.

    Args:
        jobs: processes on the CPU; more than there are cores share them.
        accelerated: further processes that share the accelerator.

    Returns:
        One Place for each.
    """
    cores = sorted(os.sched_getaffinity(0))
    dealt = [
        Place(tuple(cores[k::jobs]) or (cores[k % len(cores)],)) for k in range(jobs)
    ]
    return [*dealt, *[Place(())] * accelerated]


def run_pool(
    points: Sequence[Point],
    path: pathlib.Path,
    measure: Callable[[Point], list[dict[str, str]]],
    *,
    jobs: int,
    accelerated: int = 0,
    seconds: float = math.inf,
    grace: float = 60.0,
    prepare: Callable[[], object] = lambda: None,
) -> list[Failure]:
    """Runs every point that has no rows yet.

    Args:
        points: the most important first.
        path: the CSV; the rows of a point are added as soon as it is done.
        measure: the rows of a point; called in a process of its own.
        jobs: processes at a time, each on cores of its own.
        accelerated: further processes, which share the accelerator.
        seconds: after which no point is started, without what `prepare` takes.
        grace: seconds after that in which running points may end; then they are killed.
        prepare: called once before the processes are forked, and only if there is
            something to run. It must not touch a device.

    Returns:
        The points that failed. Those that were never started are not among them.
    """
    rows = read_rows(path)
    waiting = [point for point in points if not is_done(point, rows)]
    print(f"{len(waiting)} of {len(points)} points to run", flush=True)
    if not waiting:
        return []
    preload()
    prepare()
    begin = time.monotonic()
    free, running, failures = places(jobs, accelerated), [], []
    with tempfile.TemporaryDirectory() as scratch:
        try:
            while running or (waiting and time.monotonic() - begin < seconds):
                spent = time.monotonic() - begin
                while waiting and free and spent < seconds:
                    point, place = waiting.pop(0), free.pop(0)
                    running.append(_begin(point, place, measure, scratch))
                for one in [r for r in running if r.command.poll() is not None]:
                    running.remove(one)
                    free.append(one.place)
                    failure = _end(one, path)
                    failures += [failure] if failure else []
                    told = "failed" if failure else "done"
                    print(f"{spent:6.0f} s  {told}  {name_of(one.point)}", flush=True)
                if spent > seconds + grace:
                    break
                time.sleep(0.05)
        finally:
            for one in running:
                one.command.kill()
        for one in running:
            failures.append(Failure(name_of(one.point), -9, "stopped: out of time"))
    if waiting:
        print(f"{len(waiting)} points were not started", flush=True)
    return failures


def name_of(point: Point) -> str:
    """A point in one line."""
    return " ".join(map(str, point.key.values()))


def _begin(point, place, measure, scratch) -> _Running:
    number, found = tempfile.mkstemp(dir=scratch)
    os.close(number)

    def work() -> None:
        _settle(place)
        pathlib.Path(found).write_text(json.dumps(measure(point)))

    command = start(work, pathlib.Path(f"{found}.log"))
    return _Running(point, place, command, pathlib.Path(found))


def _settle(place: Place) -> None:
    """Binds this process to its place, before a backend starts."""
    import jax

    if place.cores:
        os.sched_setaffinity(0, place.cores)
        jax.config.update("jax_platforms", "cpu")
    else:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"


def _end(one: _Running, path: pathlib.Path) -> Failure | None:
    """Adds the rows of a process that has ended, or says why there are none."""
    code = one.command.poll()
    if code == 0:
        append_csv(path, json.loads(one.found.read_text()))
        return None
    lines = one.command.log.read_text(errors="replace").splitlines()
    return Failure(name_of(one.point), code or 0, "\n".join(lines[-TOLD:]))


def report(failures: Sequence[Failure], path: pathlib.Path) -> None:
    """Prints the failures, and writes them with their logs to a file if there are."""
    for one in failures:
        last = one.log.splitlines()[-1] if one.log else ""
        print(f"FAILED ({one.code}) {one.name}: {last}", flush=True)
    if failures:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = [
            f"== {one.name} (exit code {one.code})\n{one.log}\n" for one in failures
        ]
        path.write_text("\n".join(text))
