"""The records of a run: interval averages, console, files, and what diverged."""

import contextlib
import logging
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ltjax.train.config import to_dict
from ltjax.train.lanes import Lanes
from ltjax.train.run import Run
from ltjax.train.state import NEVER
from ltjax.train.step import MetricSums, empty_sums, make_batch
from ltjax.train.trackers import Guarded, Opening
from ltjax.train.writers import JsonLines, Progress, TensorBoard, Writers

_LOG = logging.getLogger(__name__)

# Below this cosine between the perturbation and what rounding leaves of it, a run in
# reduced precision is another algorithm than the one its config names.
FAINT_COSINE = 0.9


class NonFinite(RuntimeError):
    """Training produced a NaN or infinity; the last good checkpoint is kept."""


class Records:
    """Fetches, averages and writes what the steps and evaluations of a run report.

    Args:
        run: whose records they are.
        lanes: its replicas.
        workdir: where metrics.jsonl lies.
        start: the step resumed from; later records of an interrupted attempt go.
        tensorboard: whether to write TensorBoard files.
        writers: further sinks, see `ltjax.train.trackers`.
    """

    def __init__(
        self,
        run: Run,
        lanes: Lanes,
        workdir: pathlib.Path,
        *,
        start: int,
        tensorboard: bool,
        writers: Sequence[Any] = (),
    ):
        self._run, self._lanes = run, lanes
        self._main = jax.process_index() == 0
        sinks: list = []
        if self._main:
            sinks.append(JsonLines(workdir / "metrics.jsonl", resume_step=start))
            sinks += [TensorBoard(workdir, resume_step=start)] if tensorboard else []
            told = Opening(
                workdir, run.info.name, to_dict(run.config), run.info.total_steps
            )
            for sink in map(Guarded, writers):
                sink.open(told)
                sinks.append(sink)
        self._writers = Writers(sinks)
        self._progress = Progress(
            run.info.total_steps if self._main else 0,
            start=start,
            examples_per_step=run.config.batch_size * lanes.count,
            label=run.info.name,
            shown={
                f"eval/{split.name}/{column.key}": f"{split.name} {column.brief}"
                for split in run.eval_sets
                for evaluator in run.evaluators.values()
                for column in evaluator.columns
                if column.brief
            },
        )
        self._pending: tuple[int, Any] | None = None
        self._diverged = np.full(lanes.count, NEVER)
        self._told_faint = False

    def advance(self, step: int, *, first: bool, wait_for: Any) -> None:
        """Says that `step` steps have been dispatched; compilation does not count."""
        if first:
            jax.block_until_ready(wait_for)
            self._progress.advance(step)
            self._progress.resume()
        self._progress.advance(step)

    def interval(self, step: int, sums: MetricSums) -> None:
        """Ends an interval: writes the one before, keeps this one on the device."""
        self._write_pending()
        self._pending = step, sums

    def flush(self, sums: MetricSums) -> None:
        """Writes what is pending and looks whether the sums so far are finite.

        Raises:
            NonFinite: if every replica has diverged.
        """
        self._write_pending()
        self._fetch(sums)

    def write(self, step: int, values: dict[str, np.ndarray]) -> None:
        """Writes one record of per-replica values [R]."""
        epoch = step / self._run.info.steps_per_epoch
        line = self._writers.write(step, epoch, values | self._progress.rates())
        if self._main:
            self._progress.show(line)
            dtype = getattr(self._run.config.model.options, "dtype", "float32")
            self._told_faint = self._told_faint or warn_if_faint(step, values, dtype)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The clock of the rates stands still."""
        self._progress.pause()
        yield
        self._progress.resume()

    def close(self) -> None:
        """Closes console and files."""
        self._progress.close()
        self._writers.close()

    def _write_pending(self) -> None:
        if self._pending:
            (step, sums), self._pending = self._pending, None
            self.write(step, self._fetch(sums))

    def _fetch(self, sums: MetricSums) -> dict[str, np.ndarray]:
        """Interval averages per replica; says which replicas have diverged."""
        sums = self._lanes.layout.fetch(sums)
        fresh = (sums.bad_step != NEVER) & (self._diverged == NEVER)
        self._diverged = np.minimum(self._diverged, sums.bad_step)
        for replica in np.flatnonzero(fresh):
            message = not_finite(self._run, int(replica), int(self._diverged[replica]))
            if (self._diverged != NEVER).all():
                raise NonFinite(message)
            _LOG.warning(
                "%s; this replica stays as it was before, the others go on", message
            )
        return {
            f"train/{name}": total / np.where(n > 0, n, np.nan)
            for name, (total, n) in sums.metrics.items()
        }


def not_finite(run: Run, replica: int, step: int) -> str:
    """What there is to know about a step that gave a NaN or infinity."""
    told = dict(run.info.replicas[replica])
    grid = run.config.replicas.grid
    varied = {key: told["hyper"][key] for key in grid}
    indices = run.plan(step)[0][replica]
    own = indices.reshape(len(indices), -1)[:, 0].tolist()
    listed = ", ".join(map(str, own[:16])) + (", ..." if len(own) > 16 else "")
    return (
        f"loss, gradient or state is not finite at step {step} of replica {replica}"
        f" (seed {told['seed']}{f', {varied}' if varied else ''}); training-set rows of"
        f" that batch: [{listed}]"
    )


def zero_sums(run: Run, lanes: Lanes, shapes: Any, arrays: Any) -> MetricSums:
    """Zero accumulators [R] for whatever metrics the programs of the step return."""
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), shapes)
    indices, mask = run.plan(0)
    # Features of a frozen backbone have rows of each replica's own.
    rows = jax.tree.map(lambda x: x[0], run.feed.rows(indices, mask))
    names: dict[str, Any] = {}
    for program in run.programs:

        def metrics_of(state, arrays, rows, program=program):
            batch = make_batch(run, state, arrays, rows)
            return run.step(state, batch, program=program)[1]

        names |= jax.eval_shape(metrics_of, one, arrays, rows)
    return jax.tree.map(
        lambda x: np.stack([np.asarray(x)] * lanes.count), empty_sums(names)
    )


def warn_if_faint(step: int, values: dict, dtype: str) -> bool:
    """Warns if a term's perturbation hardly survives rounding; whether it did."""
    for name, cosines in values.items():
        if not name.startswith("train/cosine_"):
            continue
        low = cosines[cosines < FAINT_COSINE]  # NaN where nothing was perturbed
        if low.size:
            _LOG.warning(
                "%s is %.3f at step %d: of the perturbation of gradient term %s,"
                " rounding to %s leaves little (expected a cosine of at least %g); set"
                " model.dtype='float32', or take a larger rho",
                name,
                low.min(),
                step,
                name.rpartition("_")[2],
                dtype,
                FAINT_COSINE,
            )
            return True
    return False
