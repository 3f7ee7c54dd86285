"""The training loop: restore or start, step, log, judge, save, stop.

What a step computes is in `step.py`, what a run is made of in `build.py`.
"""

import contextlib
import dataclasses
import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ltjax.data.overlap import check_overlap
from ltjax.durations import duration_steps
from ltjax.options import ConfigError
from ltjax.train.accelerator import unused_gpu
from ltjax.train.checkpoint import JUDGED, Checkpoints
from ltjax.train.evaluate import Judgement, make_judge, without_lost
from ltjax.train.features import extract_features, reuses_features
from ltjax.train.guards import StopRequest, Watchdog
from ltjax.train.lanes import Lanes, training_lanes
from ltjax.train.peers import Peers
from ltjax.train.programs import compiled
from ltjax.train.records import Records, zero_sums
from ltjax.train.refresh import make_refresher
from ltjax.train.run import Run
from ltjax.train.state import NEVER, TrainState
from ltjax.train.step import make_program
from ltjax.train.workdir import (
    check_continues,
    held_workdir,
    init_from,
    prepare_workdir,
    record_of,
    save_arrays,
)

_LOG = logging.getLogger(__name__)


class Preempted(RuntimeError):
    """The run was asked to stop, has saved its state, and can be started again."""


class _Interrupted(Exception):
    """A pass over a split was left early, because the run was asked to stop."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a finished run leaves in memory.

    Attributes:
        state: final train state, every leaf with a leading replica axis.
        metrics: last evaluation: "eval/<split>/<name>" -> [R].
        evaluation: split -> arrays of its evaluation file.
        traces: how often the train step, the evaluations and refreshes were traced.
        start_step: 0, or the step resumed from.
    """

    state: TrainState
    metrics: dict[str, np.ndarray]
    evaluation: dict[str, dict[str, np.ndarray]]
    traces: dict[str, int]
    start_step: int


@dataclasses.dataclass(frozen=True)
class Intervals:
    """When to log, judge and save, in steps; all are multiples of a dispatch."""

    log: int
    judge: int
    save: int
    keep: int
    total: int

    def logs(self, step: int) -> bool:
        """Whether an interval of records ends with `step`."""
        return step % self.log == 0 or step == self.total

    def judges(self, step: int) -> bool:
        """Whether an evaluation follows `step`."""
        return step == self.total or bool(self.judge and step % self.judge == 0)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint follows `step`."""
        return step == self.total or bool(self.save and step % self.save == 0)


def run(
    run: Run | Callable[[], Run],
    workdir: str | os.PathLike,
    *,
    tensorboard: bool = True,
    writers: Sequence[Any] = (),
) -> Result:
    """Trains `run` in `workdir`, resuming what is there.

    Args:
        run: from `ltjax.train.build.build`, or a function that builds it once no other
            process can train in workdir.
        workdir: created if need be. Holds config.json, run.json, metrics.jsonl,
            checkpoints/, evaluation/ and TensorBoard files.
        tensorboard: whether to write TensorBoard files.
        writers: further sinks with `write(record)`, see `ltjax.train.trackers`. One
            that fails is told of and left out; the run goes on.

    Returns:
        The `Result`.

    Raises:
        ConfigError: if workdir holds a run of another config, or sizes do not divide.
        DataError: if a split to evaluate on holds nothing but training examples.
        NonFinite: naming step, replica and batch indices, if every replica diverged.
        Preempted: after SIGTERM (or the platform's notice), once the state is saved.
        WorkdirInUse: naming the process that trains there.
    """
    idle = unused_gpu()
    if idle:
        _LOG.warning("%s", idle)
    with held_workdir(workdir) as path:  # what cannot start leaves no folder behind
        built = run() if callable(run) else run
        evaluated = {split.name: built.sources[split.name] for split in built.eval_sets}
        check_overlap(built.sources["train"], evaluated)
        lanes = training_lanes(built.config, len(built.info.replicas))
        every = _intervals(built)
        path.mkdir(parents=True, exist_ok=True)  # of processes that hold no lock
        with (
            StopRequest() as stop,  # also while the first programs are compiled
            Peers(built.config.peer_seconds),
        ):
            return _train(built, path, lanes, every, stop, tensorboard, writers)


def _train(
    run: Run,
    workdir: pathlib.Path,
    lanes: Lanes,
    every: Intervals,
    stop: StopRequest,
    tensorboard: bool,
    writers: Sequence[Any],
) -> Result:
    # 1. What must agree before anything is computed.
    config = run.config
    layout, size = lanes.layout, config.steps_per_call
    record = record_of(run)
    main = jax.process_index() == 0

    # 2. The state: the newest checkpoint, another run's parameters, or a fresh start.
    shapes = run.shapes
    shardings = layout.state(shapes, run.method.tables)
    checkpoints = Checkpoints(
        workdir,
        keep_latest=config.keep_latest,
        keep_every=every.keep,
        keep_best=config.keep_best,
    )
    try:
        check_continues(run, record, checkpoints)
        prepare_workdir(workdir, run)
        restored = checkpoints.restore(shapes, shardings)
    except BaseException:
        checkpoints.close()
        raise
    start = restored.step if restored else 0
    if restored:
        state = restored.state
        _LOG.info("resumed from the checkpoint of step %d", start)
    else:
        state = _fresh(run, shardings, workdir)
        _LOG.info("%s", describe(run, lanes))
    if reuses_features(run):
        run = extract_features(run, state, lanes)

    # 3. The compiled programs: a step, a dispatch of several, evaluation, refreshes.
    traces = {"step": 0, "eval": 0, "refresh": 0}
    watchdog = Watchdog(config.watchdog_minutes)
    beat = watchdog.beat

    def traced(kind: str) -> Callable[[], None]:
        def begins():
            watchdog.rest()  # compiling takes as long as it does
            traces[kind] += 1

        return begins

    def interruptible(what: str) -> None:
        beat(what)
        # Several processes have to agree on where to stop: between steps.
        if jax.process_count() == 1 and stop.asked:
            raise _Interrupted

    arrays = layout.put(run.feed.arrays, layout.replicated)
    with jax.set_mesh(layout.mesh):
        zeros = zero_sums(run, lanes, shapes, arrays)
    sums_sharding = lanes.sums_sharding(zeros)
    advance = _dispatcher(run, lanes, (shardings, sums_sharding), traced("step"))
    judge = make_judge(
        run.evaluators,
        run.eval_sets,
        run.train_set,
        lanes,
        run.pool_set,
        on_trace=traced("eval"),
        beat=interruptible,
    )
    refresh = make_refresher(
        run, lanes, shardings, on_trace=traced("refresh"), beat=beat
    )

    # 4. Where the records go.
    records = Records(
        run,
        lanes,
        workdir,
        start=start,
        tensorboard=tensorboard and main,
        writers=writers if main else (),
    )
    best_key = run.judged
    judgement: Judgement | None = None

    def evaluate(step: int, state: TrainState) -> Judgement:
        lost = layout.fetch(state.diverged) != NEVER
        found = without_lost(judge(state), lost)
        if main:
            for name, kept in found.arrays.items():
                save_arrays(workdir / "evaluation" / f"{name}_{step}.npz", kept)
        return found

    def save(step: int, state: TrainState, found: Judgement | None) -> None:
        best, facts = None, {"step": step, **record}
        if found is not None and best_key is not None:
            key, end = best_key
            value = float(np.nanmean(found.values[key]))
            facts[JUDGED] = {"key": key, "value": value, "best": end}
            best = value * (1 if end == "max" else -1) if config.keep_best else None
        if checkpoints.save(step, state, facts, best=best):
            _LOG.info("saved step %d", step)

    # 5. The loop. A record is fetched one interval late, when the device has long
    # finished it, so that its queue never runs dry.
    sums = layout.place(zeros, sums_sharding)
    rows_of = _rows_of(run, size, layout.local_replicas(lanes.count))
    local = layout.local_rows(config.batch_size)
    try:
        with (
            jax.set_mesh(layout.mesh),  # scope="shard" asks for it while tracing
            jax.transfer_guard("disallow"),
        ):
            step = start
            for rows in run.feed.iterate(
                rows_of, start // size, every.total // size, local=local
            ):
                state, sums = advance(step, state, sums, arrays, rows, refresh)
                step += size
                records.advance(step, first=step == start + size, wait_for=sums)
                beat(f"step {step}")
                if every.logs(step):
                    checkpoints.check()  # a full disk ends the run at once
                    records.interval(step, sums)
                    sums = layout.place(zeros, sums_sharding)
                judging, saving = every.judges(step), every.saves(step)
                stopping = stop(step, checkpoints)
                if not (judging or saving or stopping):
                    continue
                records.flush(sums)  # never save or judge a state that is not finite
                with records.paused():
                    if judging:
                        try:
                            judgement = evaluate(step, state)
                            records.write(step, judgement.values)
                        except _Interrupted:
                            stopping = True
                        except BaseException:
                            # An unreadable test image must not cost the steps.
                            if saving:
                                save(step, state, None)
                            raise
                    if saving or stopping:
                        beat(f"the checkpoint of step {step}")
                        save(step, state, judgement if judging else None)
                    if stopping and (step < every.total or judgement is None):
                        raise Preempted(
                            f"stopped at step {step} of {every.total}; state saved"
                        )
            if judgement is None:  # resumed a finished run, whose record is there
                judgement = evaluate(every.total, state)
    finally:
        watchdog.stop()
        with contextlib.ExitStack() as closing:  # each of them, whatever fails
            closing.callback(records.close)
            closing.callback(checkpoints.close)  # waits until the last one is on disk
            closing.callback(run.feed.close)
    return Result(state, judgement.values, judgement.arrays, traces, start)


def describe(run: Run, lanes: Lanes) -> str:
    """What is about to be trained, in a few lines."""
    info, groups = run.info, run.info.groups
    counts = info.class_counts
    members = ", ".join(
        f"{name} {int(g.sum())} with {int(counts[g].sum())}"
        for name, g in groups.items()
    )
    devices = lanes.layout.mesh.devices.ravel()
    return (
        f"{info.name}: {info.num_train} training examples of {info.num_classes}"
        f" classes, {counts.max()} to {counts.min()} each (ratio"
        f" {info.imbalance_factor:.4g})\n"
        f"classes and their examples: {members}\n"
        f"{run.model.describe}, {info.num_params:,} parameters\n"
        f"{info.total_steps} steps of {run.config.batch_size}, {lanes.count}"
        f" replica(s), {len(devices)} {devices[0].platform} device(s)"
    )


def _intervals(run: Run) -> Intervals:
    config, info, size = run.config, run.info, run.config.steps_per_call

    def steps(text: str) -> int:
        found = duration_steps(
            text,
            steps_per_epoch=info.steps_per_epoch,
            batch_size=config.batch_size,
            total_steps=info.total_steps,
        )
        return -(-found // size) * size

    if info.total_steps % size:
        raise ConfigError(
            [
                f"config.total is {info.total_steps} steps, expected a multiple of"
                f" steps_per_call = {size}"
            ]
        )
    return Intervals(
        log=steps(config.log_every),
        judge=steps(config.eval_every),
        save=steps(config.checkpoint_every),
        keep=steps(config.keep_every),
        total=info.total_steps,
    )


def _fresh(run: Run, shardings: Any, workdir: pathlib.Path) -> TrainState:
    """The state of step 0, with another run's parameters if the config names one."""
    init = jax.jit(jax.vmap(run.init), out_shardings=shardings)
    state = init(run.info.seeds, run.info.hypers)
    if not run.config.init_from:
        return state
    return init_from(state, run, shardings, workdir)


def _rows_of(run: Run, size: int, own: slice | None = None) -> Callable[[int], Any]:
    """Plan of the feed: step (or dispatch of `size` steps) -> (indices, mask).

    With `own` of those replicas only, whose batches this process holds.
    """
    plan = run.plan
    if own not in (None, slice(0, len(run.info.replicas))):
        plan = _Own(plan, own)
    return plan if size == 1 else _Chunks(plan, size)


class _Own:
    """The plan of some of the replicas; can be pickled."""

    def __init__(self, plan: Callable[[int], Any], own: slice):
        self._plan, self._own = plan, own

    def __call__(self, step: int):
        indices, mask = self._plan(step)
        return indices[self._own], mask[self._own]


class _Chunks:
    """The plans of `size` steps at once, [S, R, B]; can be pickled."""

    def __init__(self, plan: Callable[[int], Any], size: int):
        self._plan, self._size = plan, size

    def __call__(self, index: int):
        plans = [self._plan(index * self._size + k) for k in range(self._size)]
        return tuple(np.stack(part) for part in zip(*plans, strict=True))


def _dispatcher(
    run: Run, lanes: Lanes, out_shardings: Any, on_trace: Callable[[], Any]
) -> Callable[..., Any]:
    """`advance(step, state, sums, arrays, rows, refresh) -> (state, sums)`.

    A dispatch of several steps is one program only where all of them have the same
    static program and no refresh falls between them; otherwise they run one by one.
    """
    layout, size = lanes.layout, run.config.steps_per_call

    def dispatch(steps: int) -> Callable:
        return compiled(
            make_program(run, lanes, steps_per_call=steps, on_trace=on_trace),
            static_argnames="program",
            donate_argnums=(0, 1),
            out_shardings=out_shardings,
        )

    one, rows_sharding = dispatch(1), layout.rows
    several = dispatch(size) if size > 1 else one
    chunk_sharding = layout.sharding(None, *layout.rows.spec)

    def advance(step, state, sums, arrays, rows, refresh):
        state = refresh(step, state)
        programs = [run.program(step + k) for k in range(size)]
        due = (r.due(step + k) for r in run.method.refreshes for k in range(1, size))
        if size == 1:
            with layout.sent(rows, rows_sharding) as rows:
                return one(state, sums, arrays, rows, program=programs[0])
        if len(set(programs)) == 1 and not any(due):
            with layout.sent(rows, chunk_sharding) as rows:
                return several(state, sums, arrays, rows, program=programs[0])
        for k, program in enumerate(programs):
            state = refresh(step + k, state) if k else state
            single = jax.tree.map(lambda x, k=k: x[k], rows)
            with layout.sent(single, rows_sharding) as single:
                state, sums = one(state, sums, arrays, single, program=program)
        return state, sums

    return advance
