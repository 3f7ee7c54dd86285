"""A finished (or stopped) run, read back from its workdir."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ltjax._checks import check_choice
from ltjax.class_stats import shot_groups
from ltjax.metrics import classification
from ltjax.train.build import Run, build
from ltjax.train.checkpoint import Checkpoints
from ltjax.train.evaluate import make_collector, make_evaluator
from ltjax.train.mesh import Layout, make_mesh
from ltjax.train.state import TrainState
from ltjax.train.step import replica_mode
from ltjax.train.validate import validate
from ltjax.train.workdir import read_json


def restore_run(
    workdir: str | os.PathLike,
    *,
    posthoc_tau: float | None = None,
    step: int | None = None,
) -> tuple[Run, TrainState, int]:
    """Builds the run of a workdir and restores its newest readable checkpoint.

    Args:
        workdir: of the run.
        posthoc_tau: strength of the logit adjustment at prediction in place of the
            config's.
        step: of the checkpoint, in place of the newest.

    Returns:
        (run, state with a leading replica axis, step).

    Raises:
        FileNotFoundError: if workdir holds no run or no readable checkpoint, or none of
            that step.
    """
    path = pathlib.Path(workdir) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{workdir} holds no run (no config.json)")
    config = validate(read_json(path))
    if posthoc_tau is not None:
        loss = dataclasses.replace(config.loss, posthoc_tau=posthoc_tau)
        config = dataclasses.replace(config, loss=loss)
    run = build(config)
    seeds = np.asarray([r["seed"] for r in run.info.replicas], np.int32)
    hypers = {
        name: np.asarray([r["hyper"][name] for r in run.info.replicas], np.float32)
        for name in run.info.replicas[0]["hyper"]
    }
    shapes = jax.eval_shape(jax.vmap(run.init), seeds, hypers)
    layout = Layout(make_mesh())
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        restored = checkpoints.restore(shapes, layout.state(shapes), step=step)
    finally:
        checkpoints.close()
    if restored is None:
        raise FileNotFoundError(f"{workdir} holds no readable checkpoint")
    state = restored.state
    if posthoc_tau is not None:
        tau = jax.numpy.full_like(state.hyper["posthoc_tau"], posthoc_tau)
        state = state.replace(hyper={**state.hyper, "posthoc_tau": tau})
    return run, state, restored.step


def evaluate_run(
    workdir: str | os.PathLike, *, posthoc_tau: float | None = None
) -> dict[str, np.ndarray]:
    """Metrics of a run's newest readable checkpoint.

    Args:
        workdir: of the run.
        posthoc_tau: see `restore_run`.

    Returns:
        "eval/<split>/<metric>" -> [R].
    """
    run, state, _ = restore_run(workdir, posthoc_tau=posthoc_tau)
    return evaluate_splits(run, run.predict, state)[0]


def evaluate_splits(
    run: Run, predict: Callable[[Any, jax.Array], dict], state: Any
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """Metrics of any way to predict, on the splits of a run.

    Args:
        run: whose splits, classes and groups they are.
        predict: (state, inputs) -> outputs with "logits", of one replica.
        state: whatever `predict` takes, every leaf with a leading axis R.

    Returns:
        ("eval/<split>/<metric>" -> [R], split -> accumulated arrays).
    """
    config, info = run.config, run.info
    groups = shot_groups(info.class_counts, many=config.many, few=config.few)
    values, sets = {}, {}
    for split in run.eval_sets:
        evaluator = make_evaluator(
            predict,
            split,
            num_classes=info.num_classes,
            count=len(info.replicas),
            layout=Layout(make_mesh()),
            mode=replica_mode("auto", len(info.replicas)),
            batch_size=config.eval_batch_size,
        )
        sets[split.name] = evaluator(state)
        summary = classification.summarize(
            sets[split.name], info.class_counts, groups=groups
        )
        values |= {f"eval/{split.name}/{key}": v for key, v in summary.items()}
    return values, sets


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

    def fn(state, batch):
        found = run.predict(state, batch["inputs"])
        for name in outputs:
            check_choice("split_outputs", "outputs", name, found)
        return {name: found[name] for name in outputs}, batch["label"]

    count = len(run.info.replicas)
    collect = make_collector(
        fn,
        splits[split],
        count=count,
        layout=Layout(make_mesh()),
        mode=replica_mode("auto", count),
        batch_size=run.config.eval_batch_size,
    )
    values, labels = collect(state)
    return values, labels[0]
