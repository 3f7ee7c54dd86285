"""The training loop: restore or start, step, log, evaluate, save, until done.

One function, top to bottom. What a step computes is in `step.py`; what a run is made
of, in `build.py`.
"""

import dataclasses
import logging
import os
import pathlib
from typing import Any

import jax
import numpy as np

from ltjax.class_stats import shot_groups
from ltjax.metrics import classification
from ltjax.train import provenance
from ltjax.train.build import Run
from ltjax.train.checkpoint import Checkpoints
from ltjax.train.config import ConfigError, TrainConfig, duration_steps, to_dict
from ltjax.train.diagnostics import make_diagnostics
from ltjax.train.evaluate import make_evaluator
from ltjax.train.features import extract_features, reuses_features
from ltjax.train.guards import StopRequest, Watchdog
from ltjax.train.mesh import Layout, check_divisible, make_mesh
from ltjax.train.state import TrainState
from ltjax.train.step import NEVER, empty_sums, make_program, replica_mode
from ltjax.train.workdir import init_from, prepare_workdir, save_arrays
from ltjax.train.writers import JsonLines, Progress, TensorBoard, Writers

_LOG = logging.getLogger(__name__)

# Below this cosine between the perturbation and what rounding leaves of it, a run in
# reduced precision is another algorithm than the one its config names.
FAINT_COSINE = 0.9


class NonFinite(RuntimeError):
    """Training produced a NaN or infinity; the last good checkpoint is kept."""


class Preempted(RuntimeError):
    """The run was asked to stop, has saved its state, and can be started again."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a finished run leaves in memory.

    Attributes:
        state: final train state, every leaf with a leading replica axis.
        metrics: last evaluation: "eval/<split>/<name>" -> [R].
        evaluation: split -> accumulated arrays of `ltjax.metrics.classification`.
        traces: how often the train step and the evaluations were traced.
        start_step: 0, or the step resumed from.
    """

    state: TrainState
    metrics: dict[str, np.ndarray]
    evaluation: dict[str, dict[str, np.ndarray]]
    traces: dict[str, int]
    start_step: int


def run(run: Run, workdir: str | os.PathLike, *, tensorboard: bool = True) -> Result:
    """Trains `run` in `workdir`, resuming what is there.

    Args:
        run: from `ltjax.train.build.build`.
        workdir: created if need be. Holds config.json, run.json, metrics.jsonl,
            checkpoints/, evaluation/ and TensorBoard files.
        tensorboard: whether to write TensorBoard files.

    Returns:
        The `Result`.

    Raises:
        ConfigError: if workdir holds a run of another config, or sizes do not divide.
        NonFinite: naming step, replica and batch indices.
        Preempted: after SIGTERM (or the platform's notice), once the state is saved.
    """
    with StopRequest() as stop:  # also while the first programs are compiled
        return _train(run, pathlib.Path(workdir), tensorboard, stop)


def _train(
    run: Run, workdir: pathlib.Path, tensorboard: bool, stop: StopRequest
) -> Result:
    config, info = run.config, run.info
    count = len(info.replicas)
    layout = _layout(config, count)
    mode, size = replica_mode(config.replicas.layout, count), config.steps_per_call

    def every(text: str) -> int:
        steps = duration_steps(
            text,
            steps_per_epoch=info.steps_per_epoch,
            batch_size=config.batch_size,
            total_steps=info.total_steps,
        )
        return -(-steps // size) * size

    log_every, eval_every = every(config.log_every), every(config.eval_every)
    save_every, total = every(config.checkpoint_every), info.total_steps
    if total % size:
        raise ConfigError(
            [f"config.total is {total} steps, expected a multiple of steps_per_call"]
        )
    workdir = prepare_workdir(workdir, run)

    # Compile-time description of the state: shapes, shardings.
    seeds = np.asarray([r["seed"] for r in info.replicas], np.int32)
    hypers = {
        name: np.asarray([r["hyper"][name] for r in info.replicas], np.float32)
        for name in info.replicas[0]["hyper"]
    }
    init = jax.vmap(run.init)
    shapes = jax.eval_shape(init, seeds, hypers)
    shardings = layout.state(shapes)

    checkpoints = Checkpoints(
        workdir,
        keep_latest=config.keep_latest,
        keep_every=every(config.keep_every),
        keep_best=config.keep_best,
    )
    restored = checkpoints.restore(shapes, shardings)
    start = restored.step if restored else 0
    if restored:
        state = restored.state
        _LOG.info("resumed from the checkpoint of step %d", start)
    else:
        state = jax.jit(init, out_shardings=shardings)(seeds, hypers)
        if config.init_from:
            state = init_from(state, run, shardings)
    if reuses_features(run):
        run = extract_features(run, state, layout, mode)

    traces = {"step": 0, "eval": 0}

    def traced(kind: str):
        return lambda: traces.__setitem__(kind, traces[kind] + 1)

    program = make_program(
        run.step,
        lambda arrays, rows, key: run.feed.batch(arrays, rows, key, train=True),
        count=count,
        layout=layout,
        mode=mode,
        steps_per_call=size,
        on_trace=traced("step"),
    )
    plan_rows = _rows_of(run, size)
    local = layout.local_rows(config.batch_size)
    arrays = layout.put(run.feed.arrays, layout.replicated)
    with jax.set_mesh(layout.mesh):
        zeros = _zero_sums(run, shapes, arrays, plan_rows(0), count)
    sums_sharding = layout.state(zeros) if mode == "devices" else layout.replicated
    rows_sharding = layout.rows if size == 1 else _after_chunk_axis(layout)
    compiled = jax.jit(
        program,
        static_argnames="program",
        donate_argnums=(0, 1),
        out_shardings=(shardings, sums_sharding),
    )
    evaluators = {
        split.name: make_evaluator(
            run.predict,
            split,
            num_classes=info.num_classes,
            count=count,
            layout=layout,
            mode=mode,
            batch_size=config.eval_batch_size,
            on_trace=traced("eval"),
        )
        for split in run.eval_sets
    }

    main = jax.process_index() == 0
    sinks: list = []
    if main:
        sinks.append(JsonLines(workdir / "metrics.jsonl", resume_step=start))
        if tensorboard:
            sinks.append(TensorBoard(workdir, resume_step=start))
    writers = Writers(sinks)
    progress = Progress(
        total if main else 0,
        start=start,
        examples_per_step=config.batch_size * count,
        label=info.name,
    )
    epoch = lambda step: step / info.steps_per_epoch  # noqa: E731

    def fetch(sums) -> dict[str, np.ndarray]:
        """Interval averages per replica; raises on the first non-finite step."""
        sums = layout.fetch(sums)
        if (sums["bad_step"] != NEVER).any():
            _stop_non_finite(run, sums["bad_step"])
        return {
            f"train/{name}": total / np.where(n > 0, n, np.nan)
            for name, (total, n) in sums["metrics"].items()
        }

    faint = False  # whether it was said that perturbations are rounded off

    def log(step: int, values: dict) -> None:
        nonlocal faint
        line = writers.write(step, epoch(step), values | progress.rates())
        if main:
            progress.show(line)
            faint = faint or _warn_if_faint(step, values, config.model.dtype)

    groups = shot_groups(info.class_counts, many=config.many, few=config.few)
    diagnose = None
    if config.collapse or config.bound:
        diagnose = make_diagnostics(
            run,
            groups=groups,
            count=count,
            layout=layout,
            mode=mode,
            arrays=arrays if run.feed is run.train_set.feed else None,
            on_trace=traced("eval"),
        )

    def evaluate(step: int, state) -> tuple[dict, dict]:
        values, sets = {}, {}
        for name, evaluator in evaluators.items():
            sets[name] = evaluator(state)
            summary = classification.summarize(
                sets[name], info.class_counts, groups=groups
            )
            values |= {f"eval/{name}/{key}": v for key, v in summary.items()}
            if main:
                save_arrays(workdir / "evaluation" / f"{name}_{step}.npz", sets[name])
        if diagnose is not None:
            more, details = diagnose(state)
            values |= {f"eval/train/{key}": v for key, v in more.items()}
            if main:
                save_arrays(workdir / "evaluation" / f"diagnostics_{step}.npz", details)
        return values, sets

    def save(step: int, state, best=None) -> None:
        extra = {"step": step, "config": to_dict(config), **provenance.versions()}
        if checkpoints.save(step, state, extra, best=best):
            _LOG.info("saved step %d", step)

    sums = layout.put(zeros, sums_sharding)
    pending: tuple[int, Any] | None = None
    metrics: dict = {}
    evaluation: dict = {}
    beat = Watchdog(config.watchdog_minutes)
    try:
        with (
            jax.set_mesh(layout.mesh),  # scope="shard" asks for it while tracing
            jax.transfer_guard("disallow"),
        ):
            step = start
            for rows in run.feed.iterate(
                plan_rows, start // size, total // size, local=local
            ):
                state, sums = compiled(
                    state,
                    sums,
                    arrays,
                    layout.put(rows, rows_sharding),
                    program=run.program(step),
                )
                step += size
                if step == start + size:  # compilation does not count
                    jax.block_until_ready(sums)
                    progress.advance(step)
                    progress.resume()
                progress.advance(step)
                beat()
                # The record of an interval is fetched one interval late, when the
                # device has long finished it, so that its queue never runs dry.
                if step % log_every == 0 or step == total:
                    if pending:
                        log(pending[0], fetch(pending[1]))
                    pending = (step, sums)
                    sums = layout.put(zeros, sums_sharding)
                evaluating = step == total or (eval_every and step % eval_every == 0)
                saving = step == total or (save_every and step % save_every == 0)
                stopping = stop(step, checkpoints)
                if not (evaluating or saving or stopping):
                    continue
                if pending:
                    log(pending[0], fetch(pending[1]))
                    pending = None
                fetch(sums)  # never save or judge a state that is not finite
                progress.pause()
                best = None
                if evaluating:
                    metrics, evaluation = evaluate(step, state)
                    log(step, metrics)
                    progress.pause()
                    judged = "val" if "val" in evaluators else "test"
                    best = np.mean(metrics[f"eval/{judged}/balanced_accuracy"]).item()
                if saving or stopping:
                    save(step, state, best=best if config.keep_best else None)
                if stopping and step < total:
                    raise Preempted(f"stopped at step {step} of {total}; state saved")
                progress.resume()
            if not evaluation:  # resumed a finished run
                metrics, evaluation = evaluate(total, state)
    finally:
        beat.stop()
        progress.close()
        run.feed.close()
        checkpoints.close()  # waits until the last one is on disk
        writers.close()
    return Result(state, metrics, evaluation, traces, start)


def _layout(config: TrainConfig, count: int) -> Layout:
    devices = config.replicas.layout == "devices"
    layout = Layout(make_mesh(config.fsdp), "devices" if devices else "batch")
    try:
        check_divisible(config.batch_size, layout, what="config.batch_size")
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    if devices and count % layout.mesh.size:
        raise ConfigError(
            [
                f"there are {count} replicas, expected a multiple of the"
                f" {layout.mesh.size} devices for replicas.layout='devices'"
            ]
        )
    return layout


def _rows_of(run: Run, size: int):
    """Plan of the feed: step (or chunk of `size` steps) -> (indices, mask)."""

    def rows(index: int):
        if size == 1:
            return run.plan(index)
        plans = [run.plan(index * size + k) for k in range(size)]
        return tuple(np.stack([p[i] for p in plans]) for i in range(2))

    return rows


def _after_chunk_axis(layout: Layout):
    return layout.sharding(None, *layout.rows.spec)


def _zero_sums(run: Run, shapes, arrays, plan, count: int) -> dict:
    """Zero accumulators [R] for whatever metrics the programs of the step return."""
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), shapes)
    indices, mask = (part.reshape(-1, part.shape[-1])[0] for part in plan)
    rows = run.feed.rows(indices, mask)
    key = jax.eval_shape(jax.random.key, 0)
    names: dict[str, Any] = {}
    for program in run.programs:

        def metrics_of(state, arrays, rows, key, program=program):
            batch = run.feed.batch(arrays, rows, key, train=True)
            return run.step(state, batch, program=program)[1]

        names |= jax.eval_shape(metrics_of, one, arrays, rows, key)
    return jax.tree.map(lambda x: np.stack([np.asarray(x)] * count), empty_sums(names))


def _warn_if_faint(step: int, values: dict, dtype: str) -> bool:
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


def _stop_non_finite(run: Run, bad_steps: np.ndarray) -> None:
    replica = int(np.argmin(bad_steps))
    step = int(bad_steps[replica])
    indices = run.plan(step)[0][replica]
    raise NonFinite(
        f"loss or gradient is not finite at step {step} of replica {replica}"
        f" ({run.info.replicas[replica]}); training-set rows of that batch:"
        f" {indices.tolist()}"
    )
