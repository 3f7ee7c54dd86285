r"""Denoising: which noise was added to an image?

.. math:: \ell_i = \frac1D \lVert \epsilon_\theta(x_{t_i}, t_i, y_i) - \epsilon_i
          \rVert^2, \qquad t_i \sim U\{1, \dots, T\}

The label is left out now and then, so that one network knows both the prompted and the
unprompted noise. A stage that starts from a trained network may tune a control branch
(`trains="control"`, on the edges of each image) or corrections of low rank
(`trains="low_rank"`) for the techniques of Meng et al.

References:
    Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020; Ho and
    Salimans, "Classifier-Free Diffusion Guidance", 2022; Meng et al., "Suppress Content
    Shift: Better Diffusion Features via Off-the-Shelf Generation Techniques", NeurIPS
    2024. Its features are those of Stable Diffusion; here the network is one that this
    method has trained.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax._numerics import mask_rows
from ltjax.losses.denoising import SCHEDULES, denoising, noise_schedule, noised
from ltjax.methods.diffusion.process import Diffusion
from ltjax.methods.method import Method, MethodFacts, Setting, even_part
from ltjax.metrics import sobel_edges
from ltjax.options import Component, ConfigError, option

PLACES = ("all", "control", "low_rank")


@dataclasses.dataclass(frozen=True)
class ScheduleOptions:
    """Of the noise levels."""

    schedule: str = option("cosine", "of the noise levels", choices=SCHEDULES)
    steps: int = option(1000, "T, the number of noise levels", low=1)


@dataclasses.dataclass(frozen=True)
class DenoisingOptions(ScheduleOptions):
    """Of denoising."""

    label_dropout: float = option(
        0.1,
        "share of the examples whose class is not told; 1 = no classes",
        low=0,
        high=1,
    )
    trains: str = option(
        "all",
        "the technique that is tuned, on top of a trained network",
        choices=PLACES,
    )
    time: int = option(50, "noise level of the features that it predicts", low=0)
    layer: str = option("up1", "layer of these: bottom, up<k> or last")
    draws: int = option(2, "of the noise, over which features are averaged", low=1)


def diffusion_of(options: ScheduleOptions, setting: Setting) -> Diffusion:
    """The network of a setting with its noise levels."""
    return Diffusion(
        network=setting.networks["main"],
        kept=noise_schedule(options.schedule, steps=options.steps),
        num_classes=setting.num_classes,
        ema=setting.evaluate_ema,
    )


def check_labels(setting: Setting, params: Any) -> None:
    """Raises ConfigError if the network knows fewer classes than there are."""
    known = params["backbone"]["label"]["embedding"].shape[0] - 1
    if known < setting.num_classes:
        raise ConfigError(
            [
                f"config.model.labels is {known}, expected at least the"
                f" {setting.num_classes} classes of the data"
            ]
        )


def pooled_features(
    options: Any, diffusion: Diffusion, state: Any, inputs: jax.Array
) -> jax.Array:
    """[B, D], mean over positions of a layer's activations without a technique."""
    found = diffusion.activations(
        state,
        inputs,
        None,
        technique="none",
        time=options.time,
        key=jax.random.key(0),
        draws=options.draws,
    )
    return jnp.mean(layer_of(found, options.layer), axis=(1, 2))


def layer_of(found: dict[str, jax.Array], layer: str) -> jax.Array:
    """The activations of a layer.

    Raises:
        ValueError: if there is none of that name.
    """
    if layer not in found:
        raise ValueError(
            f"the network has no layer {layer!r}, expected one of"
            f" {', '.join(sorted(found))}"
        )
    return found[layer]


def denoise(options: DenoisingOptions, setting: Setting) -> Method:
    """Noise prediction on "inputs".

    Args:
        options: see `DenoisingOptions`.
        setting: the network "main" has the head "noise".

    Returns:
        A `Method` that predicts "features" [B, D].

    Raises:
        ConfigError: (by `init`) if the network cannot be told all classes.
    """
    diffusion, rule = diffusion_of(options, setting), setting.rule
    kept = jnp.asarray(diffusion.kept, jnp.float32)

    def init(key, params, model_state):
        check_labels(setting, params)

    def prepare(state, batch, *, key, program):
        x = mask_rows(batch["mask"], batch["inputs"])
        time_key, noise_key, drop_key = jax.random.split(key, 3)
        time = jax.random.randint(time_key, (len(x),), 1, options.steps + 1)
        noise = jax.random.normal(noise_key, x.shape, x.dtype)
        more = {"time": time, "noise": noise, "noisy": noised(x, noise, kept[time])}
        if options.label_dropout < 1:
            told = jax.random.uniform(drop_key, (len(x),)) >= options.label_dropout
            more["prompt"] = jnp.where(told, batch["label"], -1)
        if options.trains == "control":
            more["control"] = sobel_edges(x)[..., None]
        return state.method_state, {**batch, **more}

    def loss(params, state, batch, *, key, program):
        asked = {"image": batch["noisy"], "time": batch["time"]}
        if "prompt" in batch:
            asked["label"] = batch["prompt"]
        if "control" in batch:
            asked["control"] = batch["control"]
        outputs, model_state = setting.networks["main"].forward(
            params,
            state.model_state,
            asked,
            train=True,
            mask=batch["mask"] if setting.padded else None,
            **({"low_rank": True} if options.trains == "low_rank" else {}),
        )
        values = denoising(outputs["noise"], batch["noise"], where=batch["mask"])
        late = batch["mask"] & (2 * batch["time"] > options.steps)
        aux = {
            "model_state": model_state,
            "outputs": {"noise": outputs["noise"]},
            "metrics": {
                "loss_noisy_half": (jnp.sum(values * late), jnp.sum(late)),
            },
        }
        return {"noise": values}, aux

    def terms(state, batch, aux, *, program):
        return rule.terms({"noise": even_part(batch)}, state, batch, program.rule)

    def predict(state, inputs):
        return {"features": pooled_features(options, diffusion, state, inputs)}

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        init=init,
        prepare=prepare,
        evaluators=("denoising",),
        parts={"diffusion": diffusion},
    )


def _needs(options: DenoisingOptions, config) -> list[str]:
    faults = []
    if config.model.name != "diffusion_unet":
        faults.append(
            f"config.model.name is {config.model.name!r}, but method 'denoising' needs"
            " a network that is told times, 'diffusion_unet'"
        )
    elif options.trains != "all" and not getattr(config.model, options.trains):
        faults.append(
            f"config.method.trains is {options.trains!r}, but config.model has no such"
            f" part, expected config.model.{options.trains} to be set"
        )
    if options.time > options.steps:
        faults.append(
            f"config.method.time is {options.time}, expected at most the number of"
            f" steps, {options.steps}"
        )
    return faults


DENOISING = Component(
    "the noise that was added to an image, a diffusion model (Ho 2020, Meng 2024)",
    DenoisingOptions,
    denoise,
    _needs,
    lambda options: MethodFacts(
        head="noise",
        reads_labels=options.label_dropout < 1,
        reads_loss=False,
        reads_weights=False,
        dense=True,
    ),
)
