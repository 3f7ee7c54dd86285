"""From the workdir of a run to a `Predictor`: files are read, networks built again."""

import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ltjax._checks import check_choice, check_range
from ltjax.data.signature import Signature, signature_from, stand_in
from ltjax.data.splits import Splits
from ltjax.data.unlabelled_streams import Unlabelled
from ltjax.models.table import MEMORY, keep_network
from ltjax.options import nearest
from ltjax.serving.predictor import Predictor
from ltjax.train.checkpoint_files import has_checkpoints
from ltjax.train.lanes import replica_table
from ltjax.train.parts import make_parts
from ltjax.train.restore import read_checkpoint, read_config
from ltjax.train.state import NEVER
from ltjax.train.workdir import read_json

_LOG = logging.getLogger(__name__)


def load(
    run_dir: str | os.PathLike,
    *,
    checkpoint: int | str = "last",
    replica: int = 0,
    batch_size: int = 256,
    model: Any = None,
) -> Predictor:
    """Loads a finished or stopped run to predict with; needs no training data.

    Args:
        run_dir: workdir of the run. Of a run in stages the folder of one stage, or the
            folder of all of them for the last one.
        checkpoint: "last", "best" (by the metric that the run is judged by) or a step.
        replica: which of the run's seeds and settings.
        batch_size: largest number of inputs at a time.
        model: the network, of a run that `ltjax.fit` was given it for in another
            process; a network with a name or an import path is found by itself.

    Returns:
        `Predictor`.

    Raises:
        FileNotFoundError: if there is no run or no such checkpoint.
        ConfigError: if its files are damaged, or a component is not there.
        ValueError: for a replica that does not exist or has diverged, and for a run
            that does not predict classes or was written by a version that did not say
            what its inputs are.
    """
    workdir = _workdir(pathlib.Path(run_dir))
    if model is not None:
        name = read_json(workdir / "config.json")["model"]["name"]
        if not name.startswith(f"{MEMORY}:"):
            raise ValueError(
                f"load: model is given, but the run's network is {name!r}, expected"
                " None: it is found by this name"
            )
        keep_network(model, name)
    config = read_config(workdir)
    facts = read_facts(workdir)
    replicas = replica_table(config)
    if not 0 <= replica < len(replicas):
        raise ValueError(
            f"load: replica is {replica}, but the run has {len(replicas)}, expected"
            f" [0, {len(replicas)})"
        )
    check_range("load", "batch_size", batch_size, low=1)
    if isinstance(checkpoint, str):
        check_choice("load", "checkpoint", checkpoint, ("last", "best"))
    signature, splits = read_inputs(workdir, facts)
    parts = make_parts(config, splits)
    seeds = np.asarray([one["seed"] for one in replicas], np.int32)
    hypers = {
        name: np.asarray([one["hyper"][name] for one in replicas], np.float32)
        for name in replicas[0]["hyper"]
    }
    shapes = jax.eval_shape(jax.vmap(parts.init), seeds, hypers)
    found = read_checkpoint(workdir, shapes, parts.method.tables, step=checkpoint)
    state = jax.tree.map(lambda x: x[replica], found.state.replace(opt_state=None))
    state = jax.device_put(state, jax.local_devices()[0])
    if int(state.diverged) != NEVER:
        lost = np.asarray(found.state.diverged) != NEVER
        raise ValueError(
            f"load: replica {replica} diverged at step {int(state.diverged)}, expected"
            f" one of {np.flatnonzero(~lost).tolist()}"
        )
    return Predictor(config, facts, signature, parts, state, batch_size=batch_size)


def read_facts(workdir: pathlib.Path) -> dict[str, Any]:
    """What run.json says.

    Raises:
        FileNotFoundError: if it is missing.
    """
    path = workdir / "run.json"
    if not path.exists():
        raise FileNotFoundError(
            f"load: {workdir} does not hold a run that has begun (no run.json)"
        )
    return read_json(path)


def read_inputs(
    workdir: pathlib.Path, facts: Mapping[str, Any]
) -> tuple[Signature, Splits]:
    """What run.json says of the inputs, and what stands in for the data.

    Raises:
        ValueError: naming the file, if it says nothing of them or makes no sense.
    """
    try:
        return signature_from(facts["inputs"]), stand_in_splits(facts)
    except Exception as error:  # whatever a value of another type leads to
        versions = facts.get("versions")
        written = versions.get("ltjax") if isinstance(versions, dict) else None
        lacks = f"lacks {error}" if isinstance(error, KeyError) else f"says {error}"
        raise ValueError(
            f"load: {workdir / 'run.json'} {lacks}, so that shape, dtype and"
            f" normalization of the inputs are unknown; it was written by ltjax"
            f" {written or 'of an unknown version'}. Start `ltjax train` in this"
            " workdir once more, with the data at hand: it writes what is missing and"
            " trains nothing anew"
        ) from error


def stand_in_splits(facts: Mapping[str, Any]) -> Splits:
    """What stands in for the data of a run, from its run.json.

    Args:
        facts: with "inputs" and "companions".

    Returns:
        `Splits` whose examples cannot be read, without what is evaluated.
    """
    companions = {
        name: Unlabelled(stand_in(signature_from(one["inputs"])), one["ratio"])
        for name, one in facts["companions"].items()
    }
    return Splits(stand_in(signature_from(facts["inputs"])), {}, companions)


def _workdir(folder: pathlib.Path) -> pathlib.Path:
    """The workdir itself, or the one of the last stage below a folder of stages."""
    if (folder / "config.json").exists():
        return folder
    stages = {
        int(path.parent.name.partition("_")[0]): path.parent
        for path in folder.glob("*_*/config.json")
        if path.parent.name.partition("_")[0].isdecimal()
    }
    if not stages:
        what = "a folder without config.json" if folder.is_dir() else "not a folder"
        if not folder.exists():
            beside = [path.name for path in folder.parent.glob("*/")]
            what = f"missing{nearest(folder.name, beside)}" if beside else "missing"
        raise FileNotFoundError(
            f"load: run_dir {folder} is {what}; expected the workdir of a run"
        )
    last = stages[max(stages)]
    if not has_checkpoints(last):
        raise FileNotFoundError(
            f"load: the last stage {last} has no checkpoint yet; expected the folder of"
            f" one that has, such as {stages[min(stages)]}"
        )
    _LOG.info("the last stage of the run: %s", last)
    return last
