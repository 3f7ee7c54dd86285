"""Other classifiers on the features of a finished run: nothing is trained.

What has to be fitted (class means, a strength tau) is fitted for each replica by
itself, on the training set without augmentation or on held-out examples, never on the
test set.
"""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax._checks import check_choice
from ltjax.classifiers import (
    adjust_logits,
    class_means,
    global_mean,
    init_class_sums,
    select_tau,
    select_tau_norm,
    transform_features,
    update_class_sums,
)
from ltjax.classifiers.posthoc import RULES
from ltjax.methods import decoupled
from ltjax.train.build import Run
from ltjax.train.evaluate import make_pass
from ltjax.train.mesh import Layout, make_mesh
from ltjax.train.restore import evaluate_splits, restore_run, split_outputs
from ltjax.train.state import TrainState, evaluated
from ltjax.train.step import replica_mode
from ltjax.train.validate import head_name
from ltjax.train.workdir import save_arrays, write_json

CLASSIFIERS = {
    "la": "post-hoc logit adjustment",
    "tau_norm": "tau-normalized head",
    "ncm": "nearest class mean",
}


class Posthoc(NamedTuple):
    """A classifier on top of a finished run.

    Attributes:
        label: what tables call it, beside the run's name.
        fitted: arrays with a leading axis R.
        logits: (fitted, outputs of the run) -> [B, K], of one replica.
        values: name -> [R], what was chosen, such as "tau".
    """

    label: str
    fitted: Any
    logits: Callable[[Any, dict], jax.Array]
    values: dict[str, np.ndarray]


def fit_la(
    run: Run,
    state: TrainState,
    *,
    tau: float | None = None,
    rule: str = "one_standard_error",
    select_on: str = "val",
) -> Posthoc:
    """Logit adjustment with a given tau, or the one chosen on held-out examples.

    Args:
        run: from `restore_run(workdir, posthoc_tau=0.0)`.
        state: likewise.
        tau: strength; None chooses it by `select_tau`.
        rule: see `select_tau`.
        select_on: "val", or "train", which fits a network that has not memorized it.

    Returns:
        A `Posthoc`.
    """
    counts = run.info.class_counts
    if tau is None:
        logits, labels = _outputs(run, state, select_on)
        found = [select_tau(z, labels, counts, rule=rule).tau for z in logits]
    else:
        found = [tau] * len(run.info.replicas)
    taus = np.asarray(found, np.float32)
    return Posthoc(
        "LA post hoc",
        taus,
        lambda tau, outputs: adjust_logits(outputs["logits"], counts, tau=tau),
        {"tau": taus},
    )


def fit_tau_norm(
    run: Run,
    state: TrainState,
    *,
    tau: float | None = None,
    rule: str = "one_standard_error",
    select_on: str = "val",
    bias_mode: str = "drop",
) -> Posthoc:
    """The tau-normalized head with a given tau, or the one chosen on held-out examples.

    Args:
        run: see `fit_la`.
        state: likewise.
        tau: strength; None chooses it by `select_tau_norm`, exactly.
        rule: see `select_tau_norm`.
        select_on: see `fit_la`.
        bias_mode: "drop" (published) or "keep", which needs a given tau.

    Returns:
        A `Posthoc`.

    Raises:
        ValueError: if the run's head is not linear, or tau is to be chosen with a bias.
    """
    params, _ = evaluated(state, ema=run.config.evaluate_ema)
    if head_name(run.config) != "linear" or decoupled.SCALE in params:
        raise ValueError(
            f"tau_norm: the head of {run.info.name} is {head_name(run.config)!r} with"
            f" model.class_scale {run.config.model.class_scale!r}, expected 'linear'"
            " with 'none': the norms of its columns are what tau takes away"
        )
    head = jax.device_get(params["head"])
    kernel, bias = head["kernel"], head.get("bias")
    if tau is None:
        if bias_mode == "keep":
            raise ValueError(
                "tau_norm: with the bias kept there is no exact search for tau,"
                " expected a given tau (or bias_mode='drop')"
            )
        logits, labels = _outputs(run, state, select_on)
        found = [
            select_tau_norm(
                z, labels, kernel[r], None if bias is None else bias[r], rule=rule
            ).tau
            for r, z in enumerate(logits)
        ]
    else:
        found = [tau] * len(run.info.replicas)
    taus = np.asarray(found, np.float32)
    fitted = {"tau": taus, "kernel": kernel}
    if bias is not None:
        fitted["bias"] = bias
    logits_of = decoupled.tau_normalized(bias_mode=bias_mode)
    return Posthoc("tau-norm", fitted, logits_of, {"tau": taus})


def fit_ncm(
    run: Run,
    state: TrainState,
    *,
    transform: str = "cl2n",
    average: str = "examples",
    score: str = "euclidean",
) -> Posthoc:
    """Nearest class means of the training set's features, streamed.

    Args:
        run: see `fit_la`.
        state: likewise.
        transform: "none", "l2n" or "cl2n", see `nearest_class_mean`.
        average: what "cl2n" centers by, "examples" (published) or "classes".
        score: "euclidean" or "dot".

    Returns:
        A `Posthoc`.
    """
    logits = decoupled.nearest_mean(score=score)
    check_choice("ncm", "transform", transform, ("none", "l2n", "cl2n"))
    empty = init_class_sums(run.info.num_classes, run.model.num_features)

    def sums(how: str, center=None):
        def update(state, sums, batch, center):
            features = run.predict(state, batch["inputs"])["features"]
            features = transform_features(features, center, transform=how)
            return update_class_sums(
                sums, features, batch["label"], where=batch["mask"]
            )

        run_pass = make_pass(update, run.train_set, empty=empty, **_options(run))
        return run_pass(state, center)

    center = None
    if transform == "cl2n":
        mean = jax.vmap(lambda sums: global_mean(sums, average=average))
        center = jax.device_get(mean(sums("none")))
    fit = jax.vmap(lambda sums, center: class_means(sums, center, transform=transform))
    fitted = jax.device_get(fit(sums(transform, center), center))
    label = "NCM" if transform == "cl2n" else f"NCM {transform}"
    return Posthoc(label, fitted, logits, {})


_FIT = {"la": fit_la, "tau_norm": fit_tau_norm, "ncm": fit_ncm}


def evaluate_classifier(
    workdir: str | os.PathLike,
    classifier: str,
    *,
    out: str | os.PathLike | None = None,
    **options,
) -> dict[str, np.ndarray]:
    """Metrics of another classifier on a finished run.

    Args:
        workdir: of the run; its newest readable checkpoint is used.
        classifier: a key of `CLASSIFIERS`.
        out: a folder to write the evaluation to, as the workdir of a run that
            `ltjax report` can show beside others.
        **options: of `fit_la`, `fit_tau_norm` or `fit_ncm`.

    Returns:
        "eval/<split>/<metric>" -> [R], and what was chosen, "classifier/tau" -> [R].

    Raises:
        ValueError: for an unknown classifier or option value, or if there are no
            held-out examples to choose tau on.
        FileNotFoundError: if workdir holds no readable checkpoint.
    """
    check_choice("eval", "classifier", classifier, CLASSIFIERS)
    if "rule" in options:
        check_choice("eval", "rule", options["rule"], RULES)
    run, state, step = restore_run(workdir, posthoc_tau=0.0)
    found = _FIT[classifier](run, state, **options)

    def predict(state, inputs):
        fitted, state = state
        outputs = run.predict(state, inputs)
        return {**outputs, "logits": found.logits(fitted, outputs)}

    layout = Layout(make_mesh())
    fitted = layout.put(found.fitted, layout.replicated)
    values, sets = evaluate_splits(run, predict, (fitted, state))
    values |= {f"classifier/{name}": value for name, value in found.values.items()}
    if out is not None:
        _write(pathlib.Path(workdir), pathlib.Path(out), found.label, step, sets)
    return values


def _options(run: Run) -> dict[str, Any]:
    count = len(run.info.replicas)
    return {
        "count": count,
        "layout": Layout(make_mesh()),
        "mode": replica_mode("auto", count),
        "batch_size": run.config.eval_batch_size,
    }


def _outputs(run: Run, state: TrainState, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits [R, N, K] and labels [N] of a split that is not the test split."""
    names = {split.name for split in (run.train_set, *run.eval_sets)} - {"test"}
    if name not in names:
        raise ValueError(
            f"there is no split {name!r} to choose tau on, only {sorted(names)}: give"
            " a tau, choose on 'train', or train with data.holdout or data.val_split"
        )
    outputs, labels = split_outputs(run, state, name)
    return outputs["logits"], labels


def _write(workdir, out, label: str, step: int, sets: dict) -> None:
    """A folder that reads like the workdir of a finished run."""
    (out / "evaluation").mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text((workdir / "config.json").read_text())
    info = json.loads((workdir / "run.json").read_text())
    name = f"{info['method']} + {label}"
    write_json(out / "run.json", {**info, "name": name, "method": name})
    for split, arrays in sets.items():
        save_arrays(out / "evaluation" / f"{split}_{step}.npz", arrays)
