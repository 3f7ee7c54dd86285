"""The files of a run's workdir other than checkpoints and metrics.

`config.json` (what was asked for), `run.json` (what it is made of, on which machine)
and `evaluation/<split>_<step>.npz` (the sums every number of a report comes from). All
are written to a temporary name first, so that none is ever half there.
"""

import dataclasses
import functools
import json
import logging
import os
import pathlib

import jax
import numpy as np

from ltjax.options import ConfigError, nearest
from ltjax.train import provenance
from ltjax.train.checkpoint import has_checkpoints, restore_params
from ltjax.train.config import to_dict
from ltjax.train.evaluate import judged_metric
from ltjax.train.run import Run
from ltjax.train.state import TrainState, with_parameters

_LOG = logging.getLogger(__name__)

# Changing these on a resumed run does not change what it computes.
_FREE_TO_CHANGE = (
    "log_every",
    "eval_every",
    "eval_batch_size",
    "evaluators",
    "checkpoint_every",
    "keep_latest",
    "keep_every",
    "keep_best",
    "watchdog_minutes",
    "fsdp",
    "label",
    "data.data_dir",
    "data.feed",
    "data.workers",
)


def prepare_workdir(workdir: pathlib.Path, run: Run) -> pathlib.Path:
    """Creates workdir and its two JSON files, or checks that they fit this run.

    Args:
        workdir: created if need be.
        run: what is going to be trained there.

    Returns:
        `workdir`.

    Raises:
        ConfigError: if workdir cannot be written or holds a run of another config
            (one without a checkpoint would start anew anyway).
    """
    try:
        (workdir / "evaluation").mkdir(parents=True, exist_ok=True)
        probe = workdir / f".write-test-{jax.process_index()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError([f"workdir {workdir} cannot be written: {error}"]) from None
    ours = to_dict(run.config)
    path = workdir / "config.json"
    if path.exists() and has_checkpoints(workdir):
        theirs = read_json(path)
        old, new = _flatten(theirs), _flatten(json.loads(json.dumps(ours)))
        changed = sorted(
            key
            for key in old.keys() | new.keys()
            if old.get(key) != new.get(key) and key not in _FREE_TO_CHANGE
        )
        if changed:
            raise ConfigError(
                [
                    f"workdir {workdir} holds a run with {key} = {old.get(key)!r},"
                    f" but this config has {new.get(key)!r}; use another workdir"
                    for key in changed
                ]
            )
    if jax.process_index() == 0:
        write_json(path, ours)
        facts = dataclasses.asdict(run.info)
        facts["class_counts"] = run.info.class_counts.tolist()
        facts |= {
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
            "judged": judged_metric(run.evaluators, run.eval_sets),
            **provenance.versions(),
            **provenance.hardware(),
        }
        write_json(workdir / "run.json", facts)
    return workdir


def init_from(state: TrainState, run: Run, shardings) -> TrainState:
    """The state with parameters and model state of another run's last checkpoint.

    Args:
        state: a fresh state, [R, ...].
        run: whose config's `init_from` names the other run's workdir, `init_skip` the
            top-level modules that stay fresh.
        shardings: of the state.

    Returns:
        The state; one replica of the other run serves all of this one's.

    Raises:
        ConfigError: naming every array that is missing or does not fit.
    """
    config, fresh = run.config, frozenset(run.config.init_skip)
    try:
        params, model_state, step = restore_params(config.init_from)
    except FileNotFoundError as error:
        raise ConfigError([f"config.init_from: {error}"]) from None
    unknown = fresh - set(state.params)
    faults = [
        f"config.init_skip has {name!r}, unknown{nearest(name, state.params)}"
        for name in sorted(unknown)
    ]
    loaded = _flatten({"params": params, "model_state": model_state})
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
                f"{name} is {found} in {config.init_from}, expected {leaf.shape}"
                " (or one replica)"
            )
            return leaf
        used += 1
        return np.broadcast_to(value, leaf.shape).astype(leaf.dtype)

    own = {"params": state.params, "model_state": state.model_state}
    chosen = jax.tree_util.tree_map_with_path(pick, own)
    if faults:
        raise ConfigError(faults)
    _LOG.info("initialized %d arrays from step %d of %s", used, step, config.init_from)
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


def _flatten(tree, prefix: str = "") -> dict:
    if isinstance(tree, dict):
        return {
            key: value
            for name, sub in tree.items()
            for key, value in _flatten(sub, f"{prefix}{name}.").items()
        }
    return {prefix[:-1]: tree}


def read_json(path: pathlib.Path):
    """What `write_json` wrote.

    Raises:
        ConfigError: if it is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError([f"{path} is damaged: {error}"]) from None


def write_json(path: pathlib.Path, value) -> None:
    """Writes JSON under its final name only when it is complete."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(fresh, path)


def save_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes a compressed .npz under its final name only when it is complete."""
    fresh = path.with_suffix(".tmp")
    with fresh.open("wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    os.replace(fresh, path)
