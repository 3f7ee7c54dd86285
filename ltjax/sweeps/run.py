"""Trains what a sweep's folder lacks, run after run."""

import logging
import os
import pathlib
import traceback
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax.options import ConfigError
from ltjax.sweeps.grid import SEED, Grid, canonical, points_of, told
from ltjax.sweeps.manifest import (
    DIVERGED,
    DONE,
    FAILED,
    NEW,
    Entry,
    entry_of,
    read_manifest,
    write_manifest,
)
from ltjax.sweeps.plan import Block, Maker, block, plan
from ltjax.train.config import TrainConfig, to_dict
from ltjax.train.guards import StopRequest
from ltjax.train.identity import compare_runs
from ltjax.train.lanes import replica_table
from ltjax.train.lock import workdir_lock
from ltjax.train.loop import Preempted
from ltjax.train.records import NonFinite
from ltjax.train.stages import train_stages
from ltjax.train.state import NEVER
from ltjax.train.workdir import FREE_TO_CHANGE

_LOG = logging.getLogger(__name__)


class Sweep(NamedTuple):
    """A sweep's folder, and what is asked of it.

    Attributes:
        workdir: of the sweep.
        entries: all of its runs, those of earlier grids among them.
        blocks: folder -> the run, of those that hold points of the grid.
    """

    workdir: pathlib.Path
    entries: list[Entry]
    blocks: dict[str, Block]

    @property
    def asked(self) -> list[Entry]:
        """The runs that hold points of the grid."""
        return [entry for entry in self.entries if entry.folder in self.blocks]

    @property
    def waiting(self) -> list[Entry]:
        """Those of them that are to be trained. What diverged would do so again."""
        return [entry for entry in self.asked if entry.state in (NEW, FAILED)]


class Outcome(NamedTuple):
    """What a sweep has come to.

    Attributes:
        folders: workdirs for a report, of all runs that have begun.
        failures: point, or points -> what happened.
    """

    folders: list[pathlib.Path]
    failures: dict[str, str]


def open_sweep(
    grid: Grid, make: Maker, workdir: str | os.PathLike, *, limit: int = 8
) -> Sweep:
    """Looks what a folder has of a grid, and plans the rest; writes nothing.

    Args:
        grid: key -> values.
        make: from what is fixed to a ConfigDict.
        workdir: of the sweep; it need not exist.
        limit: most replicas of a run.

    Returns:
        `Sweep`.

    Raises:
        ConfigError: with every fault of a config, or if the folder holds a sweep of
            another one.
        UsageError: for a key or a value of the grid.
    """
    place = pathlib.Path(workdir).expanduser()
    entries = read_manifest(place)
    wanted = set(points_of(grid))
    found = [entry for entry in entries if entry.points & wanted]
    blocks, faults = {}, []
    for entry in found:
        blocks[entry.folder] = block(
            make, entry.fixed, {key: tuple(v) for key, v in entry.varied.items()}
        )
        faults += _changed(place, entry, blocks[entry.folder])
    if faults:
        raise ConfigError(faults)
    held = set().union(*(entry.points for entry in found))
    for fresh in plan(grid, make, limit=limit, skip=held):
        entry = entry_of(fresh, len(entries))
        entries.append(entry)
        blocks[entry.folder] = fresh
    return Sweep(place, entries, blocks)


def _changed(place: pathlib.Path, entry: Entry, now: Block) -> list[str]:
    """Faults: what the config says otherwise than when the run was planned."""
    configs = [to_dict(stage.config) for stage in now.stages]
    if len(configs) != len(entry.configs):
        told_as = f"it has {len(entry.configs)} stages, but this config {len(configs)}"
        return [f"{place / entry.folder} is of another config: {told_as}"]
    return [
        f"{place / entry.folder} is of another config: {fault}; use another workdir"
        for old, new in zip(entry.configs, configs, strict=True)
        for fault in compare_runs(
            {"config": old}, {"config": new}, free=FREE_TO_CHANGE
        ).faults
    ]


def run_sweep(sweep: Sweep, **options: Any) -> Outcome:
    """Trains the runs that wait. One that fails does not stop the others.

    Args:
        sweep: from `open_sweep`.
        **options: of `ltjax.train.loop.run`.

    Returns:
        `Outcome`.

    Raises:
        Preempted: after SIGTERM, once the state of the run is saved.
        WorkdirInUse: if another process sweeps in the folder.
    """
    workdir, entries = sweep.workdir, sweep.entries
    waiting = sweep.waiting
    with workdir_lock(workdir), StopRequest() as stop:
        write_manifest(workdir, entries)
        for number, entry in enumerate(waiting, 1):
            if stop.asked:
                raise Preempted(
                    f"stopped before run {number} of {len(waiting)}; the others are"
                    " saved"
                )
            _LOG.info("run %d of %d: %s", number, len(waiting), told(entry.grid))
            _train(workdir, entry, sweep.blocks[entry.folder], options)
            write_manifest(workdir, entries)
            jax.clear_caches()  # no other run has the same programs
    return Outcome(_folders(sweep), _failures(sweep))


def _train(
    workdir: pathlib.Path, entry: Entry, block: Block, options: dict[str, Any]
) -> None:
    """Trains one run, and notes in its entry what became of it."""
    place = workdir / entry.folder
    entry.reason, entry.lost = "", []
    try:
        result = train_stages(list(block.stages), place, **options)
    except Preempted:
        raise
    except NonFinite as error:
        entry.state, entry.reason = DIVERGED, str(error)
    except Exception as error:
        entry.state, entry.reason = FAILED, f"{type(error).__name__}: {error}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "failure.txt").write_text(traceback.format_exc())
    else:
        diverged = np.asarray(result.state.diverged) != NEVER
        config = block.stages[-1].config
        entry.state = DONE
        entry.lost = [_point(config, r, entry) for r in diverged.nonzero()[0].tolist()]
    if entry.reason:
        _LOG.warning("%s: %s", told(entry.grid), entry.reason)


def _point(config: TrainConfig, replica: int, entry: Entry) -> dict[str, str]:
    """The point that a replica is."""
    row = replica_table(config)[replica]
    varied = {
        key: canonical(str(row["seed"] if key == SEED else row["hyper"][key]))
        for key in entry.varied
    }
    return {**entry.fixed, **varied}


def _folders(sweep: Sweep) -> list[pathlib.Path]:
    folders = [sweep.workdir / entry.folder / entry.last for entry in sweep.entries]
    return [folder for folder in folders if (folder / "run.json").exists()]


def _failures(sweep: Sweep) -> dict[str, str]:
    found = {}
    for entry in sweep.asked:
        if entry.reason:
            found[told(entry.grid)] = entry.reason
        for point in entry.lost:
            one = told({key: (value,) for key, value in point.items()})
            found[one] = "diverged; the other replicas of the run went on"
    return found


def state_of(entry: Entry, workdir: pathlib.Path) -> str:
    """One word for plans: "new", "begun", "done", "failed" or "diverged"."""
    begun = entry.state == NEW and (workdir / entry.folder).is_dir()
    return "begun" if begun else entry.state
