"""Linear probes on the activations of a diffusion network, by layer, level, technique.

Images are classified from the mean over positions; with a class for every pixel the
probe sees single pixels, drawn so that the classes of an image are equally likely.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.classifiers import logistic_probe, probe_logits
from ltjax.evaluators.denoising import diffusion_of
from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.evaluators.gate import TechniqueOptions
from ltjax.methods.diffusion.denoising import layer_of
from ltjax.methods.diffusion.process import TECHNIQUES
from ltjax.metrics import (
    accuracy,
    balanced_accuracy,
    group_accuracy,
    mean_iou,
    pixel_confusion,
)
from ltjax.metrics.column import Column
from ltjax.metrics.segmentation import IGNORED
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class DiffusionProbeOptions(TechniqueOptions):
    """Of the probes."""

    techniques: tuple[str, ...] = option((), "besides none: pseudo, control, low_rank")
    times: tuple[int, ...] = option((10, 25, 50, 100), "noise levels", low=0)
    layers: tuple[str, ...] = option(("up1",), "bottom, up<k> or last")
    draws: int = option(2, "of the noise, over which features are averaged", low=1)
    l2: float = option(1e-4, "penalty of the weights", above=0)
    pixels: int = option(32, "of each training image, if pixels have classes", low=1)

    def __post_init__(self):
        super().__post_init__()
        for name in self.techniques:
            if TECHNIQUES[name].label == "given":
                raise ValueError(
                    f"techniques has {name!r}, which tells the network the classes that"
                    " a probe is to find, expected 'pseudo'"
                )
        if not self.times or not self.layers:
            raise ValueError("times and layers must not be empty")


def balanced_pixels(key: jax.Array, targets: jax.Array, count: int) -> jax.Array:
    """Indices [count] of pixels of one image, each of its classes equally likely.

    Args:
        key: a typed key.
        targets: [P] int; `IGNORED` ones are not drawn unless there is nothing else.
        count: of draws, with replacement.
    """
    often = jnp.zeros(IGNORED + 1).at[targets].add(1.0)
    weights = jnp.where(targets == IGNORED, 1e-9, 1 / often[targets])
    return jax.random.categorical(key, jnp.log(weights), shape=(count,))


def measure_of(dense: np.ndarray) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """What probes are judged by, [R] bool: whether pixels have classes."""
    if dense.any():
        return "mIoU", mean_iou
    return "mean recall", balanced_accuracy


def make(options: DiffusionProbeOptions, setting: EvaluatorSetting) -> Evaluator:
    """Metrics "probe_<technique>_<layer>_<time>" and the same of groups of classes.

    The mean recall of classes, or the mean intersection over union if pixels have
    classes; "probe_best" is the largest one without a technique.

    Args:
        options: see `DiffusionProbeOptions`.
        setting: of a run with a diffusion network.

    Returns:
        `Evaluator`.

    Raises:
        ValueError: if the method has no such network, or (when judging) if it has no
            such layer.
    """
    diffusion = diffusion_of("diffusion_probe", setting)
    num_classes, groups = len(setting.class_counts), setting.groups
    names = ("none", *options.techniques)
    cases = [
        f"{name}_{layer}_{time}"
        for name, time, layer in itertools.product(names, options.times, options.layers)
    ]

    def maps(state, batch) -> list[jax.Array]:
        """Activations [B, h, w, c] of each case."""
        key, x, found = jax.random.key(options.seed), batch["inputs"], []
        for name in names:
            labels = diffusion.labels(name, state, x, key=key)
            for time in options.times:
                layers = diffusion.activations(
                    state,
                    x,
                    labels,
                    technique=name,
                    time=time,
                    key=key,
                    draws=options.draws,
                )
                found += [layer_of(layers, layer) for layer in options.layers]
        return found

    def is_dense(batch) -> bool:
        return "targets" in batch and batch["targets"].ndim == 3

    def flat(features, batch) -> jax.Array:
        """[B, P, c] of every pixel, or [B, 1, c] of the whole image."""
        if not is_dense(batch):
            return jnp.mean(features, axis=(1, 2))[:, None, :]
        rows, height, width = batch["targets"].shape
        shape = (rows, height, width, features.shape[-1])
        full = jax.image.resize(features, shape, method="linear", antialias=False)
        return full.reshape(rows, height * width, -1)

    def targets_of(batch) -> jax.Array:
        if not is_dense(batch):
            return batch.get("truth", batch["label"])[:, None]
        return batch["targets"].reshape(len(batch["targets"]), -1).astype(jnp.int32)

    def gather(state, batch, extra):
        targets = targets_of(batch)
        found = [flat(one, batch) for one in maps(state, batch)]
        if not is_dense(batch):
            return found, targets
        base = jax.random.key(options.seed)

        def chosen(index, targets):
            key = jax.random.fold_in(base, index)
            return balanced_pixels(key, targets, options.pixels)

        rows = jax.vmap(chosen)(batch["index"], targets)
        taken = [jnp.take_along_axis(one, rows[..., None], axis=1) for one in found]
        return taken, jnp.take_along_axis(targets, rows, axis=1)

    def digest(gathered) -> list[Any]:
        found, targets = gathered

        def solve(features, labels):
            features = np.asarray(features).reshape(-1, features.shape[-1])
            return logistic_probe(
                features,
                np.asarray(labels).reshape(-1).astype(np.int32),
                num_classes=num_classes,
                l2=options.l2,
            )

        solved = []
        for features in found:
            each = [solve(*one) for one in zip(features, targets, strict=True)]
            solved.append(jax.tree.map(lambda *x: np.stack(jax.device_get(x)), *each))
        return solved

    def judge(state, sums, batch, solved):
        targets = targets_of(batch)
        valid = batch["mask"][:, None] & (targets >= 0) & (targets != IGNORED)
        found = []
        for features, probe in zip(maps(state, batch), solved, strict=True):
            rows = flat(features, batch)
            logits = probe_logits(probe, rows.reshape(-1, rows.shape[-1]))
            said = jnp.argmax(logits, axis=-1).reshape(targets.shape)
            found.append(pixel_confusion(targets, said, num_classes, where=valid))
        dense = jnp.asarray(is_dense(batch))
        return {"counts": sums["counts"] + jnp.stack(found), "dense": dense}

    def arrays(found, extra, about):
        counts = np.asarray(found["counts"], np.int64)
        dense = np.asarray(found["dense"])
        what, measure = measure_of(dense)
        profile = {
            f"profiles/{what} of probes (%)/{case.replace('_', ' ')}": 100
            * measure(counts[:, k])
            for k, case in enumerate(cases)
        }
        return {"diffusion_counts": counts, "diffusion_dense": dense, **profile}

    def summarize(arrays):
        values, matrices = {}, arrays["diffusion_counts"]
        _, measure = measure_of(arrays["diffusion_dense"])
        for k, case in enumerate(cases):
            matrix = matrices[:, k]
            values[f"probe_{case}"] = measure(matrix)
            values[f"probe_{case}_accuracy"] = accuracy(matrix)
            for group, found in group_accuracy(matrix, groups).items():
                values[f"probe_{case}_{group}"] = found.accuracy
        plain = [values[f"probe_{case}"] for case in cases if case.startswith("none_")]
        return {"probe_best": np.max(plain, axis=0), **values}

    empty = {
        "counts": jnp.zeros((len(cases), num_classes, num_classes), jnp.int32),
        "dense": jnp.zeros((), bool),
    }
    return Evaluator(
        judge=Sweep(judge, empty),
        arrays=arrays,
        summarize=summarize,
        columns=(
            Column(
                "probe_best",
                "Best probe",
                "max",
                "mean recall (pixels: mIoU) of the best layer and noise level",
            ),
        ),
        bank=Sweep(gather),
        digest=digest,
        judged="probe_best",
    )


DIFFUSION_PROBE = Component(
    "linear probes on a diffusion network's layers by noise level (Meng 2024)",
    DiffusionProbeOptions,
    make,
)
