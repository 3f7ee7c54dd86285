"""The files of a run's workdir other than checkpoints and metrics.

`config.json` (what was asked for), `run.json` (what it is made of, on which machine)
and `evaluation/<split>_<step>.npz` (the sums every number of a report comes from). All
are written to a temporary name first, so that none is ever half there.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from ltjax._seal import BrokenSeal, sealed, unsealed
from ltjax.models.pretrained import is_weights_file, read_weights
from ltjax.options import ConfigError, nearest
from ltjax.train import provenance
from ltjax.train.checkpoint import Checkpoints
from ltjax.train.checkpoint_files import restore_params
from ltjax.train.config import default_dict, to_dict
from ltjax.train.identity import compare_runs, data_facts, flatten
from ltjax.train.lock import WorkdirInUse, workdir_lock
from ltjax.train.run import Run
from ltjax.train.state import TrainState, with_parameters

_LOG = logging.getLogger(__name__)
STAGE = "stage:"  # what an `init_from` that names an earlier stage begins with

# Changing these on a resumed run does not change what it computes.
FREE_TO_CHANGE = (
    "log_every",
    "eval_every",
    "eval_batch_size",
    "evaluators",
    "checkpoint_every",
    "keep_latest",
    "keep_every",
    "keep_best",
    "judged",
    "watchdog_minutes",
    "peer_seconds",
    "fsdp",
    "label",
    "data.data_dir",
    "data.feed",
    "data.workers",
)


@contextlib.contextmanager
def held_workdir(workdir: str | os.PathLike) -> Iterator[pathlib.Path]:
    """The folder of a run or of its stages, for the processes of this run alone.

    Args:
        workdir: created if need be; it stays only if something is put there.

    Raises:
        ConfigError: if it is empty or cannot be written.
        WorkdirInUse: if another run holds it.
    """
    if not os.fspath(workdir):
        raise ConfigError(["workdir is empty, expected the folder of the run"])
    path = pathlib.Path(workdir).expanduser()
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(workdir_lock(path, primary=jax.process_index() == 0))
        except WorkdirInUse:
            raise
        except OSError as error:
            raise ConfigError([f"workdir {path} cannot be written: {error}"]) from None
        yield path


def prepare_workdir(workdir: pathlib.Path, run: Run) -> pathlib.Path:
    """Creates workdir and the files that say what the run is.

    Args:
        workdir: created if need be; see `check_continues` for one that holds a run.
        run: what is going to be trained there.

    Returns:
        `workdir`.

    Raises:
        ConfigError: if workdir cannot be written.
    """
    try:
        (workdir / "evaluation").mkdir(parents=True, exist_ok=True)
        probe = workdir / f".write-test-{jax.process_index()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError([f"workdir {workdir} cannot be written: {error}"]) from None
    if jax.process_index() == 0:
        write_json(workdir / "config.json", to_dict(run.config))
        write_json(workdir / "run.json", facts_of(run))
    return workdir


def facts_of(run: Run) -> dict[str, Any]:
    """What run.json says of a run: facts for tables, and where it was made."""
    facts = dataclasses.asdict(run.info)
    facts["class_counts"] = run.info.class_counts.tolist()
    return facts | {
        "method": run.info.name,
        "data": run.config.data.name,
        "imbalance_factor": run.info.imbalance_factor,
        "shot_groups": {"many": run.info.many, "few": run.info.few},
        "backbone": run.config.model.name,
        "columns": [
            column._asdict()
            for evaluator in run.evaluators.values()
            for column in evaluator.columns
        ],
        "judged": run.judged,
        "components": {
            section: {"name": chosen.name, "about": chosen.component.about}
            for section, chosen in run.config.sections.items()
        },
        **provenance.versions(),
        **provenance.hardware(),
    }


def record_of(run: Run) -> dict[str, Any]:
    """What a checkpoint says of its run, for `ltjax.train.identity.compare_runs`."""
    return {
        "config": to_dict(run.config),
        "data": {name: data_facts(source) for name, source in run.sources.items()},
        **provenance.versions(),
    }


def check_continues(run: Run, record: Mapping, checkpoints: Checkpoints) -> None:
    """Checks that the run of the newest checkpoint is the one that is to go on.

    A workdir without a checkpoint starts anew in any case.

    Args:
        run: what is going to be trained.
        record: its `record_of`.
        checkpoints: of the workdir.

    Raises:
        ConfigError: naming every option and every split that differs.
    """
    found = next(checkpoints.infos(), None)
    if found is None:
        return
    faults, notes = compare_runs(
        found[0], record, defaults=default_dict(run.config), free=FREE_TO_CHANGE
    )
    if faults:
        raise ConfigError(
            [
                f"the workdir holds another run: {fault}; use another workdir"
                for fault in faults
            ]
        )
    for note in notes:
        _LOG.warning("the run in this workdir: %s", note)


def find_start(
    init_from: str, workdir: pathlib.Path, *, where: str = "config.init_from"
) -> pathlib.Path:
    """The workdir that an option names: a path, or an earlier stage.

    Raises:
        ConfigError: if there is no such stage beside the workdir.
    """
    if not init_from.startswith(STAGE):
        return pathlib.Path(init_from).expanduser()
    name = init_from.removeprefix(STAGE)
    found = sorted(workdir.absolute().parent.glob(f"*_{name}"))
    if not found:
        raise ConfigError(
            [
                f"{where} is {init_from!r}, but beside {workdir} there is no"
                f" folder K_{name}"
            ]
        )
    return found[0]


def init_from(
    state: TrainState, run: Run, shardings, workdir: pathlib.Path
) -> TrainState:
    """The state with parameters and model state of another run, or of a file.

    Args:
        state: a fresh state, [R, ...].
        run: whose config's `init_from` names the other run's workdir, whose last
            checkpoint counts, or a file of published weights; `init_skip` the top-level
            modules that stay fresh.
        shardings: of the state.
        workdir: of this run; earlier stages lie beside it.

    Returns:
        The state; one replica of the other run serves all of this one's.

    Raises:
        ConfigError: naming every array that is missing or does not fit.
    """
    config, fresh = run.config, frozenset(run.config.init_skip)
    place = find_start(config.init_from, workdir)
    unknown = fresh - set(state.params)
    faults = [
        f"config.init_skip has {name!r}, unknown{nearest(name, state.params)}"
        for name in sorted(unknown)
    ]
    own = {"params": state.params, "model_state": state.model_state}
    try:
        if is_weights_file(place):
            loaded, fresh = _published(place, run, own, fresh)
            told = str(place)
        else:
            params, model_state, step = restore_params(place)
            # An adapter that the other run had not is new.
            fresh |= set(config.adapter.facts.modules) - set(params)
            loaded = flatten({"params": params, "model_state": model_state})
            told = f"step {step} of {place}"
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError([f"config.init_from: {error}"]) from None
    used = 0

    def pick(path, leaf):
        nonlocal used
        # params/<module>/... and model_state/<collection>/<module>/...
        module = path[1 if path[0].key == "params" else 2].key
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if module in fresh:
            return leaf
        value = loaded.get(name)
        if value is None or (
            value.shape[1:] != leaf.shape[1:]
            or value.shape[0] not in (1, leaf.shape[0])
        ):
            found = "missing" if value is None else f"of shape {value.shape}"
            faults.append(
                f"{name} is {found} in {place}, expected {leaf.shape} (or one replica)"
            )
            return leaf
        used += 1
        return np.broadcast_to(value, leaf.shape).astype(leaf.dtype)

    chosen = jax.tree_util.tree_map_with_path(pick, own)
    if faults:
        raise ConfigError(faults)
    _LOG.info("initialized %d arrays from %s", used, told)
    placed = jax.device_put(
        chosen, {"params": shardings.params, "model_state": shardings.model_state}
    )
    start = jax.vmap(
        functools.partial(
            with_parameters,
            init_method=run.method.init,
            adopt=lambda params: run.model.adopt(params, fresh),
        )
    )
    start = jax.jit(start, out_shardings=shardings)
    return start(state, placed["params"], placed["model_state"])


def _published(
    place: pathlib.Path, run: Run, own: Any, fresh: frozenset[str]
) -> tuple[dict[str, np.ndarray], frozenset[str]]:
    """(arrays of a file as those of one replica, modules that stay fresh)."""
    shapes = {name: leaf.shape[1:] for name, leaf in flatten(own).items()}
    backbone = run.config.model.make({})
    found = read_weights(place, backbone, shapes, skip=fresh)
    for note in found.notes:
        _LOG.info("%s: %s", place.name, note)
    loaded = {name: value[None] for name, value in found.arrays.items()}
    return loaded, fresh | found.fresh


def read_json(path: pathlib.Path):
    """What `write_json` wrote.

    Raises:
        ConfigError: if it is damaged.
    """
    try:
        return unsealed(path.read_text(errors="replace"))
    except BrokenSeal as error:
        raise ConfigError([f"{path} is damaged: {error}"]) from None


def write_json(path: pathlib.Path, value: Mapping[str, Any]) -> None:
    """Writes sealed JSON under its final name only when it is complete."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(sealed(value), indent=2) + "\n")
    os.replace(fresh, path)


def save_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes a compressed .npz under its final name only when it is complete."""
    fresh = path.with_suffix(".tmp")
    with fresh.open("wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    os.replace(fresh, path)
