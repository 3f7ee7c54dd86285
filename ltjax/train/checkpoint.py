"""Checkpoints: the only file that knows Orbax.

Layout: `<workdir>/checkpoints/<step>/{state, info}`. A step folder appears atomically
once it is complete, so a run killed while saving leaves the previous one in place.
"""

import logging
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

_LOG = logging.getLogger(__name__)
_POLICIES = ocp.checkpoint_managers


class CheckpointMismatch(ValueError):
    """A checkpoint that belongs to another model, optimizer or method."""


class Restored(NamedTuple):
    """A restored checkpoint: the state, its step and what was saved beside it."""

    state: Any
    step: int
    info: dict


def _raw(tree: Any) -> Any:
    """Typed keys as their uint32 data; everything else unchanged."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _is_key(x) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _abstract(template: Any, shardings: Any) -> Any:
    """Shapes, dtypes and shardings of the raw tree of `template`."""

    def leaf(x, sharding):
        if _is_key(x):
            x = jax.eval_shape(jax.random.key_data, x)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(leaf, template, shardings)


def _wrap(raw: Any, template: Any) -> Any:
    return jax.tree.map(
        lambda x, t: jax.random.wrap_key_data(x) if _is_key(t) else x, raw, template
    )


def _flat(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): x for path, x in leaves
    }


def _manager(directory, options) -> ocp.CheckpointManager:
    # Handlers are named here so that metadata can be read before the first save.
    handlers = {
        "state": ocp.StandardCheckpointHandler(),
        "info": ocp.JsonCheckpointHandler(),
    }
    return ocp.CheckpointManager(directory, options=options, item_handlers=handlers)


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
        workdir: of the run.
        keep_latest: how many of the newest to keep.
        keep_every: also keep those at multiples of this many steps; 0 = off.
        keep_best: also keep the one with the largest saved metric "best".
        read_only: never write (evaluation, `init_from`).
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        keep_latest: int = 3,
        keep_every: int = 0,
        keep_best: bool = False,
        read_only: bool = False,
    ):
        self._directory = pathlib.Path(workdir).resolve() / "checkpoints"
        policies: list = [_POLICIES.LatestN(keep_latest)]
        if keep_every:
            policies.append(_POLICIES.EveryNSteps(keep_every))
        if keep_best:
            policies.append(
                _POLICIES.BestN(
                    get_metric_fn=lambda metrics: metrics["best"],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=_POLICIES.AnyPreservationPolicy(policies),
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
        )
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        return _manager(self._directory, self._options)

    def steps(self) -> list[int]:
        """Steps that have a complete checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def save(
        self, step: int, state: Any, info: Mapping, *, best: float | None = None
    ) -> bool:
        """Starts saving `state` at `step`; False if that step is saved already.

        Args:
            step: of the state.
            state: a tree of arrays; may be donated as soon as this returns.
            info: JSON-ready; saved beside the state.
            best: what `keep_best` ranks by.

        Returns:
            Whether a checkpoint was written.
        """
        if step in self._manager.all_steps():
            return False
        return self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_raw(state)),
                info=ocp.args.JsonSave(dict(info)),
            ),
            metrics=None if best is None else {"best": best},
            force=True,
        )

    def restore(
        self, template: Any, shardings: Any, *, step: int | None = None
    ) -> Restored | None:
        """The newest checkpoint that can be read, or None if there is none.

        A damaged checkpoint is reported, set aside as `<step>.damaged` and the previous
        one used. One of another structure, shape or dtype raises: it is not damaged but
        foreign, and going on without it would lose it.

        Args:
            template: the state's tree of arrays or shapes.
            shardings: of every leaf, on this run's mesh.
            step: of the one that is wanted, in place of the newest.

        Returns:
            The restored state on those shardings, its step and info.

        Raises:
            CheckpointMismatch: naming the first leaves that differ.
            FileNotFoundError: if there is none of that step.
        """
        if step is not None:
            if step not in self.steps():
                raise FileNotFoundError(
                    f"there is no checkpoint of step {step}, only of {self.steps()}"
                )
            state, info = self._read(step, template, shardings)
            return Restored(state, step, info)
        for step in reversed(self.steps()):
            try:
                state, info = self._read(step, template, shardings)
            except CheckpointMismatch:
                raise
            except Exception as error:  # noqa: BLE001  Orbax raises many kinds
                reason = str(error).strip().splitlines()[0] if str(error) else ""
                _LOG.warning(
                    "checkpoint %d is damaged (%s: %.120s); using the previous one",
                    step,
                    type(error).__name__,
                    reason,
                )
                self._set_aside(step)
                continue
            return Restored(state, step, info)
        return None

    def _read(self, step: int, template: Any, shardings: Any):
        saved = self._manager.item_metadata(step)["state"]
        if saved is None:
            raise OSError("its metadata cannot be read")
        _compare(_flat(saved), _flat(_abstract(template, shardings)), step)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(_abstract(template, shardings)),
                info=ocp.args.JsonRestore(),
            ),
        )
        return _wrap(restored["state"], template), restored["info"]

    def _set_aside(self, step: int) -> None:
        if self._options.read_only:
            return
        self._manager.close()
        if jax.process_index() == 0:
            folder = self._directory / str(step)
            folder.rename(folder.with_name(f"{step}.damaged"))
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"set aside checkpoint {step}")
        self._manager = self._open()

    def reached_preemption(self, step: int) -> bool:
        """Whether the platform asked all processes to stop at this step."""
        return self._manager.reached_preemption(step)

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def _compare(saved: dict, wanted: dict, step: int) -> None:
    faults = [f"{name} is missing" for name in wanted.keys() - saved.keys()]
    faults += [f"{name} is not expected" for name in saved.keys() - wanted.keys()]
    for name in wanted.keys() & saved.keys():
        old, new = saved[name], wanted[name]
        if tuple(old.shape) != tuple(new.shape) or np.dtype(old.dtype) != new.dtype:
            faults.append(
                f"{name} is {np.dtype(old.dtype)}{list(old.shape)},"
                f" expected {new.dtype}{list(new.shape)}"
            )
    if faults:
        shown = "; ".join(sorted(faults)[:4])
        raise CheckpointMismatch(
            f"checkpoint {step} does not fit this run: {shown}"
            + (f" (and {len(faults) - 4} more)" if len(faults) > 4 else "")
        )


def has_checkpoints(workdir: str | os.PathLike) -> bool:
    """Whether `workdir` holds a checkpoint, readable or not."""
    found = pathlib.Path(workdir, "checkpoints").glob("*")
    return any(re.fullmatch(r"\d+(\.damaged)?", path.name) for path in found)


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
    manager = _manager(directory, ocp.CheckpointManagerOptions(read_only=True))
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            shapes = manager.item_metadata(step)["state"]
            template = jax.tree.map(
                lambda m: np.empty(m.shape, m.dtype), dict(shapes.tree)
            )
            state = manager.restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(template)),
            )["state"]
        except Exception as error:  # noqa: BLE001
            _LOG.warning("checkpoint %d is damaged (%s)", step, type(error).__name__)
            continue
        return state["params"], state["model_state"], step
    raise FileNotFoundError(f"{workdir} holds no readable checkpoint")
