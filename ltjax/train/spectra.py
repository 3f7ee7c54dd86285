"""Hessian spectra of a run's checkpoint, whole and by group of classes."""

import os
import pathlib

import jax
import numpy as np

from ltjax.losses import softmax_cross_entropy
from ltjax.sharpness import tail_classes
from ltjax.sharpness.spectrum import Spectrum, class_spectra
from ltjax.train.restore import restore_run
from ltjax.train.workdir import save_arrays, write_json

GROUPINGS = ("head_tail", "shots", "classes")


def run_spectra(
    workdir: str | os.PathLike,
    *,
    grouping: str = "head_tail",
    eta: int | None = None,
    replica: int = 0,
    step: int | str = "last",
    num_steps: int = 64,
    num_starts: int = 3,
    trace_probes: int = 100,
    seed: int = 0,
    batch_size: int = 1000,
) -> dict[str, Spectrum]:
    """Spectra of the unweighted cross-entropy on the un-augmented training set.

    The model is in evaluation mode, whatever loss it was trained with, so that runs can
    be compared. Also writes `spectrum/<grouping>_<step>.npz` and `.json` in `workdir`.

    Args:
        workdir: of a run.
        grouping: "head_tail", "shots" (many, medium, few) or "classes" (one by one).
        eta: with "head_tail": a class with fewer training examples is tail, so that
            runs of different gradient rules can be compared; None for the tail of the
            run's own rule.
        replica: which replica of the run.
        step: of the checkpoint, or "last" or "best", see `restore_run`.
        num_steps: Lanczos steps per start.
        num_starts: random starts.
        trace_probes: most products spent on a trace, at least 2.
        seed: of the starts.
        batch_size: examples per Hessian-vector product.

    Returns:
        Group -> `Spectrum`, "all" first.

    Raises:
        ValueError: for an unknown grouping or replica.
        FileNotFoundError: if workdir holds no readable checkpoint, or none of that
            step.
    """
    run, state, step = restore_run(
        workdir, changes=lambda config: config.method.facts.uncorrected, step=step
    )
    count = len(run.info.replicas)
    if grouping not in GROUPINGS:
        raise ValueError(f"spectrum: grouping is {grouping!r}, expected {GROUPINGS}")
    if not 0 <= replica < count:
        raise ValueError(f"spectrum: replica is {replica}, expected [0, {count})")
    state = jax.tree.map(lambda x: x[replica], state)
    feed = run.train_set.feed
    arrays = jax.device_put(feed.arrays)
    everything = np.arange(run.info.num_train, dtype=np.int32)
    rows = feed.rows(everything, np.ones(len(everything), bool))
    labels = rows["label"] if "label" in rows else feed.arrays["label"]

    def loss_fn(params, rows):
        batch = feed.batch(arrays, rows, None, train=False)
        outputs = run.method.predict(state.replace(params=params), batch["inputs"])
        return softmax_cross_entropy(outputs["logits"], batch["label"])

    spectra = class_spectra(
        loss_fn,
        state.params,
        {**rows, "label": labels},
        _groups(run, grouping, eta),
        batch_size=min(batch_size, len(everything)),
        key=jax.random.key(seed),
        num_steps=num_steps,
        num_starts=num_starts,
        trace_probes=trace_probes,
    )
    _write(pathlib.Path(workdir) / "spectrum", f"{grouping}_{step}", spectra)
    return spectra


def _groups(run, grouping: str, eta: int | None) -> dict[str, np.ndarray]:
    counts = run.info.class_counts
    if eta is not None and grouping != "head_tail":
        raise ValueError(
            f"spectrum: eta is {eta}, but the grouping is {grouping!r}, expected"
            " 'head_tail'"
        )
    if grouping == "head_tail":
        if eta is not None:
            tail = np.asarray(tail_classes(counts, eta=eta))
            return {"head": ~tail, "tail": tail}
        if not run.rule.has_tail:
            raise ValueError(
                f"spectrum: the gradient rule {run.config.gradient.name!r} of this run"
                " does not tell head from tail classes, expected eta (fewer examples"
                " are tail), or the grouping 'shots' or 'classes'"
            )
        tail = run.rule.is_tail
        return {"head": ~tail, "tail": tail}
    if grouping == "shots":
        return run.info.groups
    return {f"class {k}": np.arange(len(counts)) == k for k in range(len(counts))}


def _write(folder: pathlib.Path, name: str, spectra: dict[str, Spectrum]) -> None:
    folder.mkdir(exist_ok=True)
    summary, curves = {}, {}
    for group, found in spectra.items():
        numbers = found._asdict()
        for field in ("grid", "density", "ritz_values", "ritz_weights"):
            curves[f"{group}/{field}"] = np.asarray(numbers.pop(field))
        summary[group] = {key: float(value) for key, value in numbers.items()}
    save_arrays(folder / f"{name}.npz", curves)
    write_json(folder / f"{name}.json", summary)
