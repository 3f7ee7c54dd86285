"""What checkpoints are on disk, and what is in one whoever wrote it.

Layout: `<workdir>/checkpoints/<step>/{state, info, checksums.json}`. A step folder
appears atomically once it is complete, so a run killed while saving leaves the previous
one in place. Its checksums are part of what must be there by then, and nothing is
restored, by whomever, before they have been compared.
"""

import logging
import os
import pathlib
import re
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ltjax.train import integrity, leaves
from ltjax.train.integrity import DamagedCheckpoint

_LOG = logging.getLogger(__name__)


class CheckpointMismatch(ValueError):
    """A checkpoint that belongs to another model, optimizer or method."""


def open_manager(directory, options) -> ocp.CheckpointManager:
    """Orbax's manager of a folder of checkpoints."""
    # Handlers are named here so that metadata can be read before the first save.
    handlers = {
        "state": ocp.StandardCheckpointHandler(),
        "info": ocp.JsonCheckpointHandler(),
    }
    return ocp.CheckpointManager(directory, options=options, item_handlers=handlers)


def reason_of(error: Exception) -> str:
    """What went wrong, in a few words: TensorStore takes thousands."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:
        return os.strerror(int(code[1]))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]:.200}" if lines else type(error).__name__


def agree_on(error: Exception | None, step: int, *, checked: bool) -> None:
    """Raises what kept any of the processes from reading a checkpoint.

    Where its files are known to be right, only what says so itself is damage.
    """
    known = isinstance(error, DamagedCheckpoint)
    foreign = isinstance(error, CheckpointMismatch)
    damaged = error is not None and (known or not (checked or foreign))
    worst = integrity.worst(0 if error is None else 1 if damaged else 2)
    if worst == 0:
        return
    if error is None:
        error = OSError("another process cannot read it")
    if worst == 2 or known:
        raise error
    raise DamagedCheckpoint(step, [reason_of(error)]) from error


def has_checkpoints(workdir: str | os.PathLike) -> bool:
    """Whether `workdir` holds a checkpoint, readable or not."""
    found = pathlib.Path(workdir, "checkpoints").glob("*")
    return any(re.fullmatch(r"\d+(\.damaged(-\d+)?)?", path.name) for path in found)


def save_tree(folder: pathlib.Path, tree: Any) -> None:
    """Writes a tree of arrays as a folder that `ocp.StandardCheckpointer` restores."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve(), tree)


def restore_params(workdir: str | os.PathLike) -> tuple[dict, dict, int]:
    """Parameters and model state of a run's newest checkpoint, as numpy arrays.

    Works on any machine, whatever devices the run had.

    Args:
        workdir: of the run.

    Returns:
        (params, model_state, step), every leaf with its leading replica axis.

    Raises:
        FileNotFoundError: if there is no readable checkpoint.
    """
    directory = pathlib.Path(workdir).resolve() / "checkpoints"
    if not directory.is_dir():
        raise FileNotFoundError(f"{workdir} holds no checkpoints")
    manager = open_manager(directory, ocp.CheckpointManagerOptions(read_only=True))
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            checksums = integrity.check_files(directory / str(step), step)
            state, error = {}, None
            try:
                shapes = manager.item_metadata(step)["state"]
                template = jax.tree.map(
                    lambda m: np.empty(m.shape, m.dtype), dict(shapes.tree)
                )
                state = manager.restore(
                    step,
                    args=ocp.args.Composite(state=ocp.args.StandardRestore(template)),
                )["state"]
            except Exception as caught:  # noqa: BLE001
                error = caught
            agree_on(error, step, checked=checksums is not None)
            integrity.check_leaves(leaves.named(state), checksums, step)
        except DamagedCheckpoint as damage:
            _LOG.warning("%s; using the previous one", damage)
            continue
        return state["params"], state["model_state"], step
    raise FileNotFoundError(f"{workdir} holds no readable checkpoint")
