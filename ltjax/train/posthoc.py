"""Judges another classifier on a finished run; `ltjax.methods.classifiers` has them."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ltjax.methods.classifiers import Finished
from ltjax.methods.method import averaged
from ltjax.models.class_scale import SCALE
from ltjax.options import ConfigError, read
from ltjax.train.evaluate import make_pass
from ltjax.train.lanes import reading_lanes
from ltjax.train.restore import Judged, judge_splits, restore_run, split_outputs
from ltjax.train.run import Run
from ltjax.train.sections import OTHER_KINDS
from ltjax.train.state import TrainState
from ltjax.train.workdir import read_json, save_arrays, write_json


def evaluate_classifier(
    workdir: str | os.PathLike,
    classifier: str,
    *,
    out: str | os.PathLike | None = None,
    step: int | str = "last",
    **options: Any,
) -> dict[str, np.ndarray]:
    """Metrics of another classifier on a finished run.

    Args:
        workdir: of the run.
        classifier: a key of `ltjax.methods.classifiers.CLASSIFIERS`.
        out: a folder to write the evaluation to, as the workdir of a run that
            `ltjax report` can show beside others.
        step: of the checkpoint, see `restore_run`.
        **options: of the classifier.

    Returns:
        "eval/<split>/<metric>" -> [R], and what was chosen, "classifier/tau" -> [R].

    Raises:
        ConfigError: for an unknown classifier or option.
        ValueError: if there are no held-out examples to choose tau on.
        FileNotFoundError: if workdir holds no readable checkpoint.
    """
    return judge_classifier(workdir, classifier, out=out, step=step, **options).values


def judge_classifier(
    workdir: str | os.PathLike,
    classifier: str,
    *,
    out: str | os.PathLike | None = None,
    step: int | str = "last",
    **options: Any,
) -> Judged:
    """As `evaluate_classifier`, and what was evaluated."""
    table = OTHER_KINDS["classifiers"]
    chosen, faults = read("classifier", {**options, "name": classifier}, table)
    if chosen is None:
        raise ConfigError([fault.removeprefix("config.") for fault in faults])
    # Without the adjustment that the run itself predicts with.
    run, state, step = restore_run(workdir, changes=_unadjusted, step=step)
    found = chosen.make(finished(run, state))

    def predict(state, inputs):
        fitted, state = state
        outputs = run.method.predict(state, inputs)
        return {**outputs, "logits": found.logits(fitted, outputs)}

    lanes = reading_lanes(run.config, len(run.info.replicas))
    whole = jax.tree.map(lambda _: lanes.layout.replicated, found.fitted)
    fitted = lanes.layout.place(found.fitted, whole)
    judgement = judge_splits(run, predict, (fitted, state))
    values = dict(judgement.values)
    values |= {f"classifier/{name}": value for name, value in found.values.items()}
    if out is not None:
        _write(
            pathlib.Path(workdir),
            pathlib.Path(out),
            found.label,
            step,
            judgement.arrays,
        )
    return Judged(values, step, run.info.replicas)


def _unadjusted(config: Any) -> dict[str, float]:
    """Changes that leave the network's own logits: no correction at prediction."""
    return config.method.facts.uncorrected


def finished(run: Run, state: TrainState) -> Finished:
    """What a classifier may ask of a restored run.

    Args:
        run: from `restore_run`.
        state: likewise.

    Returns:
        `Finished`.
    """
    config, count = run.config, len(run.info.replicas)
    params, _ = averaged(state, ema=config.evaluate_ema)

    def outputs(name: str):
        names = {split.name for split in (run.train_set, *run.eval_sets)} - {"test"}
        if name not in names:
            raise ValueError(
                f"there is no split {name!r} to choose tau on, only {sorted(names)}:"
                " give a tau, choose on 'train', or train with data.holdout or"
                " data.val_split"
            )
        return split_outputs(run, state, name)

    def sweep(update, empty, extra):
        def of_batch(state, sums, batch, extra):
            return update(
                run.method.predict(state, batch["inputs"]), sums, batch, extra
            )

        lanes = reading_lanes(config, count)
        return make_pass(of_batch, run.train_set, lanes, empty=empty)(state, extra)

    return Finished(
        name=run.info.name,
        class_counts=run.info.class_counts,
        num_features=run.model.num_features,
        head=config.head.name,
        scaled=SCALE in params,
        params=jax.device_get(params),
        outputs=outputs,
        sweep=sweep,
        replicas=count,
    )


def _write(
    workdir: pathlib.Path,
    out: pathlib.Path,
    label: str,
    step: int,
    sets: Mapping[str, dict],
) -> None:
    """A folder that reads like the workdir of a finished run."""
    (out / "evaluation").mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text((workdir / "config.json").read_text())
    info = read_json(workdir / "run.json")
    name = f"{info['method']} + {label}"
    write_json(out / "run.json", {**info, "name": name, "method": name})
    for split, arrays in sets.items():
        save_arrays(out / "evaluation" / f"{split}_{step}.npz", arrays)
