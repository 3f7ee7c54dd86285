"""Content shift of a diffusion network, and which technique lowers it (GATE).

Each image is noised to a high level and brought back by DDIM, steered by a technique.
The score is how far the result is from the image to a frozen encoder: the network's own
clean features at a layer, without noise. No downstream task is trained.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.evaluators.denoising import diffusion_of
from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.evaluators.pictures import displayed
from ltjax.methods.diffusion.denoising import layer_of
from ltjax.methods.diffusion.process import TECHNIQUES
from ltjax.metrics import (
    drift,
    edge_f1,
    gate_benefit,
    linear_cka,
    peak_signal_to_noise,
)
from ltjax.metrics.column import Column
from ltjax.options import Component, nearest, option

_SHOWN = 8  # images in the report


@dataclasses.dataclass(frozen=True)
class TechniqueOptions:
    """Shared by evaluators of techniques."""

    techniques: tuple[str, ...] = option(
        ("prompt",), "compared with none: " + ", ".join([*TECHNIQUES][1:])
    )
    seed: int = option(0, "of the noise and the bootstrap", low=0, below=2**31)

    def __post_init__(self):
        for name in self.techniques:
            if name not in TECHNIQUES or name == "none":
                hint = nearest(name, [*TECHNIQUES][1:])
                raise ValueError(f"techniques has {name!r}, unknown{hint}")


@dataclasses.dataclass(frozen=True)
class GateOptions(TechniqueOptions):
    """Of the drift."""

    strength: float = option(0.6, "noise level of the drift, of T", low=0, high=1)
    steps: int = option(20, "of DDIM", low=1)
    images: int = option(256, "first examples of the split that are judged", low=2)
    reference: str = option("bottom", "layer of the frozen encoder")
    time: int = option(50, "noise level of the features", low=0)
    layer: str = option("up1", "layer of the features")
    draws: int = option(2, "of the noise of the features", low=1)
    peak: float = option(2.0, "range of the pixels, for PSNR", above=0)


def make(options: GateOptions, setting: EvaluatorSetting) -> Evaluator:
    """Metrics of "none" and each technique.

    "drift_<t>", "edge_f1_<t>" and "psnr_<t>" of regenerated images, "content_shift_<t>"
    (one minus linear CKA of features at `time` and of the clean ones), and for a
    technique "benefit_<t>" with its interval and "recommended_<t>".

    Args:
        options: see `GateOptions`.
        setting: of a run with a diffusion network.

    Returns:
        `Evaluator`.

    Raises:
        ValueError: if the method has no such network, or (when judging) if the network
            lacks what a technique needs.
    """
    diffusion = diffusion_of("gate", setting)
    names = ("none", *options.techniques)

    def reference(state, *sets) -> list[jax.Array]:
        """[B, D] of each set of images: the frozen encoder sees them without noise."""
        found = diffusion.activations(
            state,
            jnp.concatenate(sets),
            None,
            technique="none",
            time=0,
            key=jax.random.key(options.seed),
            draws=1,
        )
        pooled = jnp.mean(layer_of(found, options.reference), axis=(1, 2))
        return jnp.split(pooled, len(sets))

    def features(state, x, labels, name: str, time: int) -> jax.Array:
        """[B, D] at a noise level, steered."""
        found = diffusion.activations(
            state,
            x,
            labels,
            technique=name,
            time=time,
            key=jax.random.key(options.seed),
            draws=options.draws,
        )
        return jnp.mean(layer_of(found, options.layer), axis=(1, 2))

    def look(state, batch):
        key, x = jax.random.key(options.seed), batch["inputs"]
        told = {
            name: diffusion.labels(name, state, x, batch["label"], key=key)
            for name in names
        }
        made = {
            name: diffusion.regeneration(
                state,
                x,
                told[name],
                technique=name,
                strength=options.strength,
                steps=options.steps,
                key=key,
            )
            for name in names
        }
        clean, *others = reference(state, x, *made.values())
        kept: dict[str, Any] = {"clean": features(state, x, None, "none", 0)}
        for name, other in zip(names, others, strict=True):
            kept[name] = {
                "drift": drift(clean, other),
                "edge_f1": edge_f1(made[name], x),
                "psnr": peak_signal_to_noise(made[name], x, peak=options.peak),
                "features": features(state, x, told[name], name, options.time),
                "picture": displayed(made[name]),
            }
        return {**kept, "picture": displayed(x)}

    def judge(state, batch, extra):
        shapes = jax.eval_shape(look, state, batch)
        wanted = batch["index"] < options.images
        # Batches beyond the images that count are not computed.
        found = jax.lax.cond(
            jnp.any(wanted & batch["mask"]),
            lambda: look(state, batch),
            lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes),
        )
        return {**found, "wanted": wanted}

    def arrays(found, extra, about):
        wanted = np.asarray(found["wanted"])[0]
        replicas = range(len(found["clean"]))
        made: dict[str, Any] = {}
        for name in names:
            own = {k: np.asarray(x)[:, wanted] for k, x in found[name].items()}
            clean = np.asarray(found["clean"])[:, wanted]
            cka = [linear_cka(own["features"][r], clean[r]) for r in replicas]
            made[f"gate_content_shift_{name}"] = 1 - np.array(cka)
            for key in ("drift", "edge_f1", "psnr"):
                made[f"gate_{key}_{name}"] = own[key]
            made[f"profiles/drift by technique/{name}"] = own["drift"].mean(axis=1)
            made[f"pictures/brought back by {name}"] = own["picture"][:, :_SHOWN]
        images = np.asarray(found["picture"])[:, wanted]
        return {"pictures/image": images[:, :_SHOWN], **made}

    def summarize(arrays):
        values = {}
        for name in names:
            for key in ("drift", "edge_f1", "psnr"):
                values[f"{key}_{name}"] = arrays[f"gate_{key}_{name}"].mean(axis=1)
            values[f"content_shift_{name}"] = arrays[f"gate_content_shift_{name}"]
        plain = arrays["gate_drift_none"]
        for name in options.techniques:
            steered = arrays[f"gate_drift_{name}"]
            found = [
                gate_benefit(*pair, seed=options.seed)
                for pair in zip(plain, steered, strict=True)
            ]
            values[f"benefit_{name}"] = np.array([one.mean for one in found])
            values[f"benefit_{name}_low"] = np.array([one.low for one in found])
            values[f"benefit_{name}_high"] = np.array([one.high for one in found])
            values[f"recommended_{name}"] = np.array(
                [float(one.recommended) for one in found]
            )
        return values

    columns = [Column("drift_none", "Drift", "min", "1 - cosine after regeneration")]
    for name in options.techniques:
        meaning = f"how much less drift with {name} (GATE)"
        columns.append(Column(f"benefit_{name}", f"GATE {name}", "max", meaning))
    columns.append(
        Column(
            "content_shift_none", "Content shift", "min", "1 - CKA with clean features"
        )
    )
    return Evaluator(
        judge=Sweep(judge),
        arrays=arrays,
        summarize=summarize,
        columns=tuple(columns),
    )


GATE = Component(
    "content shift of a diffusion network and what lowers it (Meng 2024)",
    GateOptions,
    make,
)
