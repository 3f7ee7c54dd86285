"""A finished (or stopped) run, read back from its workdir."""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax._checks import check_choice
from ltjax.options import ConfigError, check_value, options_of
from ltjax.train.build import build, make_evaluators
from ltjax.train.check import check
from ltjax.train.checkpoint import Checkpoints, Restored
from ltjax.train.config import TrainConfig
from ltjax.train.earlier import Said, outputs_of
from ltjax.train.evaluate import (
    Judgement,
    make_collector,
    make_judge,
    without_lost,
)
from ltjax.train.lanes import reading_lanes
from ltjax.train.mesh import Layout, make_mesh
from ltjax.train.run import Run
from ltjax.train.state import NEVER, TrainState
from ltjax.train.workdir import find_start, read_json

Changes = Mapping[str, float] | Callable[[TrainConfig], Mapping[str, float]]


def restore_run(
    workdir: str | os.PathLike,
    *,
    changes: Changes | None = None,
    step: int | str = "last",
) -> tuple[Run, TrainState, int]:
    """Builds the run of a workdir and restores its newest readable checkpoint.

    Args:
        workdir: of the run.
        changes: swept options to take other values, such as {"method.posthoc_tau":
            1.5}; or a function of the checked config that gives them.
        step: of the checkpoint; "last" is the newest readable one, "best" the one with
            the best judged metric.

    Returns:
        (run, state with a leading replica axis, step).

    Raises:
        FileNotFoundError: if workdir holds no run or no readable checkpoint, or none of
            that step.
        ValueError: for a change of something that is not a swept option of the run, or
            a value out of range.
    """
    config = read_config(workdir)
    chosen = dict(changes(config) if callable(changes) else changes or {})
    _check_changes(config, chosen)
    run = build(config, said=earlier_columns(config, pathlib.Path(workdir)))
    restored = read_checkpoint(workdir, run.shapes, run.method.tables, step=step)
    state = restored.state
    hyper = dict(state.hyper)
    for key, value in chosen.items():
        hyper[key] = jax.numpy.full_like(hyper[key], value)
    return run, state.replace(hyper=hyper), restored.step


def read_config(workdir: str | os.PathLike) -> TrainConfig:
    """The checked config of a run.

    Raises:
        FileNotFoundError: if workdir holds no run.
        ConfigError: if config.json is damaged, or of a component that is not there.
    """
    path = pathlib.Path(workdir) / "config.json"
    if not os.fspath(workdir) or not path.exists():
        raise FileNotFoundError(f"{workdir} does not hold a run (no config.json)")
    return check(read_json(path))


def read_checkpoint(
    workdir: str | os.PathLike,
    shapes: Any,
    tables: tuple[str, ...],
    *,
    step: int | str = "last",
) -> Restored:
    """A checkpoint of a run, on all devices.

    Args:
        workdir: of the run.
        shapes: of the state, [R, ...].
        tables: see `ltjax.methods.method.Method`.
        step: see `restore_run`.

    Returns:
        `Restored`.

    Raises:
        FileNotFoundError: if there is no readable checkpoint, or none of that step.
        CheckpointMismatch: if it is that of another state.
    """
    layout = Layout(make_mesh())
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        shardings = layout.state(shapes, tables)
        wanted = None if step == "last" else checkpoints.find(step)
        restored = checkpoints.restore(shapes, shardings, step=wanted)
    finally:
        checkpoints.close()
    if restored is None:
        raise FileNotFoundError(f"{workdir} does not hold a readable checkpoint")
    return restored


def earlier_columns(
    config: TrainConfig, workdir: pathlib.Path
) -> dict[str, list[Said]]:
    """What the runs say that a config takes columns of its training set from.

    Args:
        config: from `ltjax.train.check.check`.
        workdir: of the run of that config; earlier stages lie beside it.

    Returns:
        Column -> what each of its runs says, for `ltjax.train.build.build`.

    Raises:
        ConfigError: if a run is not there, has several replicas, or has no such output.
    """
    found: dict[str, list[Said]] = {}
    for column, text in config.columns_from.items():
        where = f"config.columns_from.{column}"
        found[column] = []
        for start, output in outputs_of(text):
            try:
                place = find_start(start, workdir, where=where)
                run, state, _ = restore_run(place)
                values, _ = split_outputs(run, state, "train", outputs=(output,))
            except (FileNotFoundError, ValueError) as error:
                raise ConfigError([f"{where}: {error}"]) from None
            if len(run.info.replicas) > 1:
                raise ConfigError(
                    [
                        f"{where}: the run {start} has {len(run.info.replicas)}"
                        " replicas, expected one"
                    ]
                )
            found[column].append(Said(run.sources["train"], values[output][0]))
    return found


def _check_changes(config: TrainConfig, changes: Mapping[str, float]) -> None:
    for key, value in changes.items():
        path, _, name = key.partition(".")
        section = config.sections.get(path)
        known = options_of(type(section.options)) if section else {}
        if name not in known or not known[name].rule.sweep:
            kind = f"{path} {section.name!r}" if section else f"no section {path!r}"
            raise ValueError(
                f"{key} is not a swept option of this run ({kind}), so a finished run"
                " cannot take another value of it"
            )
        fault, _ = check_value(known[name], value)
        if fault:
            raise ValueError(f"{key} is {value}, {fault}")


def evaluate_run(
    workdir: str | os.PathLike,
    *,
    changes: Changes | None = None,
    step: int | str = "last",
) -> dict[str, np.ndarray]:
    """Metrics of a checkpoint of a run.

    Args:
        workdir: of the run.
        changes: see `restore_run`.
        step: see `restore_run`.

    Returns:
        "eval/<split>/<metric>" -> [R], NaN for replicas that diverged.
    """
    return judge_run(workdir, changes=changes, step=step).values


class Judged(NamedTuple):
    """Metrics of a checkpoint of a run.

    Attributes:
        values: "eval/<split>/<metric>" -> [R].
        step: of the checkpoint.
        replicas: {"seed", "hyper"} of each replica.
    """

    values: dict[str, np.ndarray]
    step: int
    replicas: tuple[dict, ...]


def judge_run(
    workdir: str | os.PathLike,
    *,
    changes: Changes | None = None,
    step: int | str = "last",
) -> Judged:
    """As `evaluate_run`, and what was evaluated."""
    run, state, found = restore_run(workdir, changes=changes, step=step)
    lost = np.asarray(state.diverged) != NEVER
    judgement = without_lost(judge_splits(run, run.method.predict, state), lost)
    return Judged(judgement.values, found, run.info.replicas)


def judge_splits(
    run: Run, predict: Callable[[Any, jax.Array], dict], state: Any
) -> Judgement:
    """Judges any way to predict on the splits of a run.

    Args:
        run: whose splits, classes and groups they are.
        predict: (state, inputs) -> outputs, of one replica.
        state: whatever `predict` takes, every leaf with a leading axis R.

    Returns:
        `Judgement`.
    """
    evaluators = run.evaluators
    if predict is not run.method.predict:
        # What looks into the run's own state cannot judge another way to predict.
        again = make_evaluators(
            run.config,
            {"main": run.model},
            run.method._replace(predict=predict),
            run.info,
        )
        evaluators = {
            name: one
            for name, one in again.items()
            if not one.on_train and one.about is None
        }
    lanes = reading_lanes(run.config, len(run.info.replicas))
    judge = make_judge(evaluators, run.eval_sets, run.train_set, lanes, run.pool_set)
    return judge(state)


def split_outputs(
    run: Run, state: TrainState, split: str, *, outputs: Sequence[str] = ("logits",)
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the networks say of every example of a split, in the order of the split.

    All of it comes to the host: for a few thousand classes or a large data set, stream
    with `ltjax.train.evaluate.make_pass` instead.

    Args:
        run: whose splits they are.
        state: with a leading axis R, from `restore_run` or a result of `loop.run`.
        split: "train" (without augmentation), "test", or "val" where there is one.
        outputs: names of what the run predicts, such as "logits" and "features".

    Returns:
        (name -> [R, N, ...], labels [N]).

    Raises:
        ValueError: for a split or an output that the run does not have.
    """
    splits = {one.name: one for one in (run.train_set, *run.eval_sets)}
    check_choice("split_outputs", "split", split, splits)

    def fn(state, batch, extra):
        found = run.method.predict(state, batch["inputs"])
        for name in outputs:
            check_choice("split_outputs", "outputs", name, found)
        return {name: found[name] for name in outputs}, batch["label"]

    lanes = reading_lanes(run.config, len(run.info.replicas))
    values, labels = make_collector(fn, splits[split], lanes)(state)
    return values, labels[0]
