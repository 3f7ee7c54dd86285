"""1, 2 and 4 processes train the same thing: batches, parameters, restores, kills.

All on eight virtual CPU devices that meet on the loopback. Every comparison is with a
run of one process that nobody disturbed.
"""

import hashlib
import json
import os
import pathlib
import signal
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from experiments.reliability.processes import Command, logged_step, start
from experiments.scale.jobs import Job, batches, begin, ended, seconds_to_end, train

COUNTS = (1, 2, 4)
PACE = 0.1  # seconds of a step that is going to be interrupted
PEER_SECONDS = 5.0
ROUNDING = 1e-5  # of a parameter, after `STEPS`
EXACT = 1e-6

STEPS = {
    "batch_size": 32,
    "total": "40 steps",
    "log_every": "2 steps",
    "eval_every": "20 steps",
    "checkpoint_every": "10 steps",
}
SMALL = {"model.name": "mlp", "model.hidden": "(256, 128)", "model.norm": "batch"}
FSDP = {"fsdp": 2}
REPLICAS = {
    "model.hidden": "(32,)",
    "replicas.layout": "devices",
    "replicas.seeds": "(0, 1, 2, 3, 4, 5, 6, 7)",
}
_BASE = Job("mnist1d_lt.py:method=ldam_drw,smoke", STEPS | SMALL)
LAYOUTS = {"fsdp 2": FSDP, "replicas over devices": REPLICAS}
FEEDS = ("resident", "streaming")

# What a preempted job consists of: state of every kind, parameters in two parts.
_PAIR = STEPS | FSDP | {"replicas.seeds": "(0, 1)", "total": "20 steps"}
_EARLY = {"pseudo_labels.start": "2 steps", "pseudo_labels.every": "4 steps"}
SUBJECTS = {
    "sse_sam": Job("mnist1d_lt.py:method=la,gradient=sse_sam,smoke", _PAIR | SMALL),
    "fixmatch, darp": Job("semi_lt.py:method=darp,smoke", _PAIR | SMALL | _EARLY),
    "moco": Job("selfsup_lt.py:method=moco,probe=false,smoke", _PAIR | SMALL),
}


def layout_job(layout: str, feed: str) -> Job:
    """A supervised run in one of the `LAYOUTS`."""
    return _BASE.having({**LAYOUTS[layout], "data.feed": feed})


class Place:
    """A folder of runs; those that nobody disturbs are trained once.

    Args:
        folder: that exists.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder, self._calm, self._count = folder, {}, 0

    def fresh(self) -> tuple[pathlib.Path, pathlib.Path]:
        """A workdir and a place for the digests of its rows."""
        self._count += 1
        return tuple(self.folder / f"{kind}{self._count}" for kind in ("run", "rows"))

    def calm(self, job: Job) -> tuple[pathlib.Path, list[str]]:
        """The workdir of a job, and the hashes of its batches."""
        key = repr(job)
        if key not in self._calm:
            workdir, rows = self.fresh()
            train(job, workdir, rows=rows)
            self._calm[key] = workdir, batches(rows, job)
        return self._calm[key]

    def told(self, find: Any) -> Any:
        """What a function finds out in a process of its own, as JSON."""
        said = self.folder / "said.txt"
        said.unlink(missing_ok=True)
        command = start(lambda: print("\n" + json.dumps(find())), said)
        if code := command.wait():
            raise RuntimeError(f"exit code {code}\n{said.read_text()[-3000:]}")
        return json.loads(said.read_text().splitlines()[-1])


def differences(one: pathlib.Path, other: pathlib.Path) -> dict[str, float]:
    """The largest difference of two runs' parameters, and of their whole states."""
    import numpy as np

    from ltjax.train.leaves import named, raw
    from ltjax.train.restore import restore_run

    states = [named(raw(restore_run(place)[1])) for place in (one, other)]
    assert states[0].keys() == states[1].keys()
    found = {"parameters": 0.0, "state": 0.0}
    for name, leaf in states[0].items():
        ours, theirs = (np.asarray(x, np.float64) for x in (leaf, states[1][name]))
        largest = float(np.abs(ours - theirs).max(initial=0.0))
        found["state"] = max(found["state"], largest)
        if name.startswith("params."):
            found["parameters"] = max(found["parameters"], largest)
    return found


def _row(check: str, case: str, **columns: str) -> dict[str, str]:
    empty = dict.fromkeys(("processes", "batches", "parameters", "state", "remark"), "")
    return {"check": check, "case": case, **empty, **columns}


def _compared(place: Place, workdir: pathlib.Path, calm: pathlib.Path) -> dict:
    found = place.told(partial(differences, workdir, calm))
    return {name: f"{value:.1e}" for name, value in found.items()}


def alike(case: str, place: Place) -> Iterator[Mapping[str, str]]:
    """1, 2 and 4 processes: the batches of every step, and the final state."""
    layout, feed = case.split(", ")
    job = layout_job(layout, feed)
    alone, expected = place.calm(job)
    for count in COUNTS:
        workdir, found = place.calm(job.having(processes=count))
        same = sum(a == b for a, b in zip(found, expected, strict=True))
        yield _row(
            "alike",
            case,
            processes=str(count),
            batches=f"{same} of {len(expected)}",
            **_compared(place, workdir, alone),
            remark=_hash_of_all(found),
        )


def _hash_of_all(hashes: list[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


def interrupt(
    job: Job, workdir: pathlib.Path, rows: pathlib.Path, *, step: int
) -> tuple[list[Command], int]:
    """A started job that has logged a step, and its last process's index."""
    log = workdir.with_name(f"{workdir.name}.log")
    team = begin(job, workdir, log, rows=rows)
    team[0].wait_until(lambda: logged_step(workdir) >= step)
    return team, len(team) - 1


def preempt(job: Job, workdir: pathlib.Path, rows: pathlib.Path, *, step: int) -> int:
    """SIGTERM to the last process of a job: all save and exit with code 75.

    Args:
        job: to be started.
        workdir: of the run.
        rows: see `begin`.
        step: that has been logged when the signal is sent.

    Returns:
        The step that was saved.
    """
    team, last = interrupt(job._replace(pace=PACE), workdir, rows, step=step)
    os.kill(team[last].pid, signal.SIGTERM)
    codes = ended(team)
    if set(codes) != {75}:
        raise RuntimeError(f"{job}: exit codes {codes}\n{team[0].log.read_text()}")
    return max(int(p.name) for p in (workdir / "checkpoints").glob("[0-9]*"))


# (processes, devices) of one part of a run after the other.
CHAINS = {
    "fsdp 2": ((2, 8), (1, 4), (1, 1)),
    "replicas over devices": ((2, 8), (1, 8), (4, 8)),
}


def restored(layout: str, place: Place) -> Iterator[Mapping[str, str]]:
    """A run that is stopped and goes on with other processes and devices, twice."""
    job = layout_job(layout, "resident")
    alone, _ = place.calm(job)
    workdir, rows = place.fresh()
    stops = []
    *parts, final = [_on(job, *leg) for leg in CHAINS[layout]]
    for part in parts:
        after = (stops[-1] if stops else 0) + 4
        stops.append(preempt(part, workdir, place.fresh()[1], step=after))
    train(final, workdir, rows=rows)
    yield _row(
        "restored",
        layout,
        processes=" → ".join(f"{p} x {d // p}" for p, d in CHAINS[layout]),
        **_compared(place, workdir, alone),
        remark=f"stopped at steps {' and '.join(map(str, stops))}",
    )


def _on(job: Job, processes: int, devices: int) -> Job:
    fewer = {"fsdp": 1} if devices == 1 else {}
    return job.having(fewer, processes=processes, devices=devices)


VICTIMS = {"process 2 of 0..3": 2, "process 0, the coordinator": 0}


def killed(case: str, place: Place) -> Iterator[Mapping[str, str]]:
    """kill -9 of one of four processes: the others end, and the job goes on."""
    changes = {"peer_seconds": PEER_SECONDS}
    job = layout_job("fsdp 2", "resident").having(changes, processes=4)
    calm, _ = place.calm(layout_job("fsdp 2", "resident").having(processes=4))
    workdir, rows = place.fresh()
    team, _ = interrupt(job._replace(pace=PACE), workdir, rows, step=14)
    victim = VICTIMS[case]
    team[victim].kill()
    codes, seconds = seconds_to_end(team)
    train(job, workdir, rows=place.fresh()[1])
    others = sorted(codes[:victim] + codes[victim + 1 :])
    yield _row(
        "killed",
        case,
        processes="4 x 2",
        **_compared(place, workdir, calm),
        remark=f"exit codes {others} after {seconds:.1f} s",
    )


def preempted(subject: str, place: Place) -> Iterator[Mapping[str, str]]:
    """2 processes x 4 devices, SIGTERM to one, resumed on 1 x 8."""
    job = SUBJECTS[subject]
    calm, _ = place.calm(job)
    workdir, rows = place.fresh()
    step = preempt(job.having(processes=2), workdir, rows, step=4)
    train(job, workdir, rows=place.fresh()[1])
    yield _row(
        "preempted",
        subject,
        processes="2 x 4 → 1 x 8",
        **_compared(place, workdir, calm),
        remark=f"stopped at step {step}",
    )


def holds(row: Mapping[str, str]) -> bool:
    """Whether a row shows what it should."""
    bound = EXACT if row["check"] == "preempted" else ROUNDING
    batches_equal = True
    if row["batches"]:
        same, total = row["batches"].split(" of ")
        batches_equal = same == total
    return batches_equal and float(row["parameters"]) <= bound


# Check -> (function, its cases).
CHECKS = {
    "preempted": (preempted, list(SUBJECTS)),
    "killed": (killed, list(VICTIMS)),
    "restored": (restored, list(CHAINS)),
    "alike": (alike, [f"{layout}, {feed}" for layout in LAYOUTS for feed in FEEDS]),
}
