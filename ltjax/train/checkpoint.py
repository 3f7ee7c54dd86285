"""The checkpoints of a run: written in the background, restored, judged.

Only this file and `checkpoint_files`, which says what is on disk, know Orbax.
"""

import contextlib
import itertools
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from ltjax._checks import check_choice
from ltjax.train import integrity, leaves
from ltjax.train.barrier import Barrier
from ltjax.train.checkpoint_files import (
    CheckpointMismatch,
    agree_on,
    open_manager,
    reason_of,
)
from ltjax.train.integrity import DamagedCheckpoint, Piece

_LOG = logging.getLogger(__name__)
_POLICIES = ocp.checkpoint_managers

# Orbax adds the time of the commit to this file after everything else is complete.
_WRITTEN_LAST = "_CHECKPOINT_METADATA"


class SaveFailed(RuntimeError):
    """A checkpoint could not be written; those that were complete still are."""


class Restored(NamedTuple):
    """A restored checkpoint: the state, its step and what was saved beside it."""

    state: Any
    step: int
    info: dict


class _Saving(NamedTuple):
    """The save in progress: its step, and of what its arrays' checksums are made."""

    step: int
    arrays: dict[str, tuple[list[Piece], tuple[int, ...]]]


# Entry of what is saved beside a state: the metric that "best" goes by.
JUDGED = "judged"


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
        several = jax.process_count() > 1
        meet = ocp.multihost.get_barrier_sync_fn() if several else None
        self._barrier = Barrier(meet) if meet else None
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=_POLICIES.AnyPreservationPolicy(policies),
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
            async_options=ocp.AsyncOptions(
                post_finalization_callback=self._write_checksums,
                # Where a folder cannot be made in the background, the threads that are
                # to write into it wait for it until Orbax's timeout of 20 minutes.
                # Making the three of them at once takes no measurable time.
                create_directories_asynchronously=False,
                barrier_sync_fn=self._barrier,
            ),
        )
        self._saving: _Saving | None = None
        self._in_flight: int | None = None  # step that is not known to be complete
        self._failed = False
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        return open_manager(self._directory, self._options)

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

        Raises:
            SaveFailed: if this one cannot be started or the previous one failed.
        """
        if step in self._manager.all_steps():
            return False
        self._finish()  # until then the previous one needs what `_saving` holds
        raw = leaves.raw(state)
        with self._failing_as(step), jax.transfer_guard_device_to_host("allow"):
            if jax.process_index() == 0:
                self._saving = _Saving(step, _on_host(raw))
            self._in_flight = step
            return self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(raw),
                    info=ocp.args.JsonSave(dict(info)),
                ),
                metrics=None if best is None else {"best": best},
                force=True,
            )

    def _write_checksums(self) -> None:
        """Runs in the thread that saves, on process 0, just before the commit."""
        assert self._saving is not None
        step, arrays = self._saving
        (folder,) = self._directory.glob(f"{step}.orbax-checkpoint-tmp*")
        sums = {
            name: integrity.pieces_checksum(pieces, shape)
            for name, (pieces, shape) in arrays.items()
        }
        integrity.write_checksums(folder, sums, skip=(_WRITTEN_LAST,))
        self._saving = None  # and with it the arrays

    def check(self) -> None:
        """Raises if the last save has failed by now; does not wait for it.

        Raises:
            SaveFailed: naming the step, the reason and the last complete checkpoint.
        """
        failed = self._barrier is not None and self._barrier.failed
        if self._in_flight is not None and (
            failed or not self._manager.is_saving_in_progress()
        ):
            self._finish()

    def _finish(self) -> None:
        """Waits for the save in progress, if there is one."""
        if self._in_flight is not None:
            with self._failing_as(self._in_flight):
                self._manager.wait_until_finished()
            self._in_flight = None

    @contextlib.contextmanager
    def _failing_as(self, step: int) -> Iterator[None]:
        """Turns what Orbax raises, of whatever kind, into a `SaveFailed`."""
        try:
            yield
        except Exception as error:
            self._failed, self._saving, self._in_flight = True, None, None
            kept = [int(p.name) for p in self._directory.glob("*") if p.name.isdigit()]
            last = f"the last complete one is {max(kept)}" if kept else "there is none"
            raise SaveFailed(
                f"checkpoint {step} cannot be saved: {reason_of(error)}; {last}"
            ) from error

    def restore(
        self, template: Any, shardings: Any, *, step: int | None = None
    ) -> Restored | None:
        """The newest checkpoint that is as it was saved, or None if there is none.

        A damaged checkpoint is reported, set aside as `<step>.damaged` and the previous
        one used. One of another structure, shape or dtype raises: it is not damaged but
        foreign, and going on without it would lose it. For the same reason whatever
        else keeps a checkpoint from being restored whose files are as they were written
        (too little memory, say) raises as it is.

        Args:
            template: the state's tree of arrays or shapes.
            shardings: of every leaf, on this run's mesh.
            step: of the one that is wanted, in place of the newest.

        Returns:
            The restored state on those shardings, its step and info.

        Raises:
            CheckpointMismatch: naming the first leaves that differ.
            FileNotFoundError: if there is none of that step.
            DamagedCheckpoint: if the one of that step is damaged.
        """
        if step is not None:
            if step not in self.steps():
                raise FileNotFoundError(
                    f"there is no checkpoint of step {step}, only of {self.steps()}"
                )
            return self._read(step, template, shardings)
        for step in reversed(self.steps()):
            try:
                return self._read(step, template, shardings)
            except DamagedCheckpoint as error:
                _LOG.warning("%s; using the previous one", error)
                self._set_aside(step)
        return None

    def _read(self, step: int, template: Any, shardings: Any) -> Restored:
        checksums = integrity.check_files(self._directory / str(step), step)
        wanted = leaves.abstract(template, shardings)
        raw = info = error = None
        try:
            saved = self._manager.item_metadata(step)["state"]
            if saved is None:
                raise DamagedCheckpoint(step, ["its metadata cannot be read"])
            _check_fit(
                leaves.mismatches(leaves.named(saved), leaves.named(wanted)), step
            )
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(wanted),
                    info=ocp.args.JsonRestore(),
                ),
            )
            raw, info = restored["state"], restored["info"]
        except Exception as caught:  # noqa: BLE001  Orbax raises many kinds
            error = caught
        agree_on(error, step, checked=checksums is not None)
        integrity.check_leaves(leaves.named(raw), checksums, step)
        return Restored(leaves.wrap(raw, template), step, info or {})

    def infos(self) -> Iterator[tuple[dict, int]]:
        """What was saved beside the undamaged states, which are not read.

        Yields:
            (info, step), the newest first.
        """
        for step in reversed(self.steps()):
            try:
                integrity.check_files(self._directory / str(step), step)
                args = ocp.args.Composite(info=ocp.args.JsonRestore())
                yield self._manager.restore(step, args=args)["info"], step
            except (OSError, ValueError, KeyError) as error:
                _LOG.debug("no info of step %d: %s", step, error)

    def find(self, which: int | str) -> int:
        """The step of a checkpoint that is called "last", "best", or by its step.

        Args:
            which: a step, "last", or "best": the one with the best judged metric among
                those that are kept, the later of two that are as good.

        Returns:
            A step.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: for another word.
        """
        if isinstance(which, int):
            return which
        check_choice("checkpoint", "which", which, ("last", "best"))
        if which == "last":
            found = [step for _, step in itertools.islice(self.infos(), 1)]
            if not found:
                raise FileNotFoundError("there is no readable checkpoint")
            return found[0]
        judged = [(info[JUDGED], step) for info, step in self.infos() if JUDGED in info]
        if not judged:
            raise FileNotFoundError(
                "no checkpoint was evaluated when it was saved: eval_every and"
                " checkpoint_every have to meet, and keep_best keeps the best one"
            )
        sign = 1 if judged[0][0]["best"] == "max" else -1
        told, step = max(judged, key=lambda one: (sign * one[0]["value"], one[1]))
        _LOG.info(
            "checkpoint %d is the best of %d by %s = %.4f%s",
            step,
            len(judged),
            told["key"],
            told["value"],
            "; it was chosen on the test split" if "/test/" in told["key"] else "",
        )
        return step

    def _set_aside(self, step: int) -> None:
        """Renames a checkpoint, so that its step can be saved again."""
        if self._options.read_only:
            return
        self._manager.close()
        numbered = (f"{step}.damaged-{n}" for n in itertools.count(2))
        names = itertools.chain([f"{step}.damaged"], numbered)
        if jax.process_index() == 0:
            name = next(n for n in names if not (self._directory / n).exists())
            (self._directory / str(step)).rename(self._directory / name)
            _LOG.warning("checkpoint %d is kept as %s", step, name)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"set aside checkpoint {step}")
        self._manager = self._open()

    def reached_preemption(self, step: int) -> bool:
        """Whether the platform asked all processes to stop at this step."""
        return self._manager.reached_preemption(step)

    def close(self) -> None:
        """Waits until everything is on disk.

        Raises:
            SaveFailed: if the last save failed, unless that was said before.
        """
        said = self._failed
        try:
            self._finish()
            self._manager.close()
        except Exception as error:
            with contextlib.suppress(Exception):  # the rest of what it would close
                self._manager.close()
            if said:
                return
            if isinstance(error, SaveFailed):
                raise
            raise SaveFailed(f"checkpoints: {reason_of(error)}") from error


def _on_host(tree: Any) -> dict[str, tuple[list[Piece], tuple[int, ...]]]:
    """What `_Saving.arrays` holds: the values on this host."""
    named = leaves.named(tree)
    for leaf in named.values():  # all copies at once, then wait for each
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    found = {k: (integrity.host_pieces(leaf), leaf.shape) for k, leaf in named.items()}
    return {k: (pieces, shape) for k, (pieces, shape) in found.items() if pieces}


def _check_fit(faults: list[str], step: int) -> None:
    if faults:
        more = f" (and {len(faults) - 4} more)" if len(faults) > 4 else ""
        raise CheckpointMismatch(
            f"checkpoint {step} does not fit this run: {'; '.join(faults[:4])}{more}"
        )
