r"""A classifier on the blended features of a diffusion network that stays as it is.

Every set of features comes from a technique and a noise level; the head "blending"
weighs them channel by channel and classifies the image, or every pixel. Loss, class
weights and sampler are those of the config.

References:
    Meng et al., "Suppress Content Shift: Better Diffusion Features via Off-the-Shelf
    Generation Techniques", NeurIPS 2024.
"""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.methods.diffusion.denoising import (
    ScheduleOptions,
    diffusion_of,
    layer_of,
)
from ltjax.methods.diffusion.process import TECHNIQUES
from ltjax.methods.method import Method, MethodFacts, Setting
from ltjax.methods.segmentation.pixelwise import pixel_needs, pixelwise
from ltjax.methods.supervised.supervised import SupervisedOptions, supervised
from ltjax.options import Component, NoOptions, option


@dataclasses.dataclass(frozen=True)
class FeatureOptions(ScheduleOptions):
    """Of blended features."""

    techniques: tuple[str, ...] = option(
        ("none",), "a set of features each: none, control, low_rank"
    )
    times: tuple[int, ...] = option(
        (50,), "noise levels, a set of features each", low=0
    )
    layer: str = option("up0", "layer as wide as the first one: up0 or last")
    draws: int = option(2, "of the noise, over which features are averaged", low=1)
    pixels: bool = option(False, "whether each pixel has a class")

    def __post_init__(self):
        if not self.techniques or not self.times:
            raise ValueError("techniques and times must not be empty")
        for name in self.techniques:
            if name not in TECHNIQUES or TECHNIQUES[name].label:
                known = [name for name, one in TECHNIQUES.items() if not one.label]
                raise ValueError(
                    f"techniques has {name!r}, expected some of {', '.join(known)}: a"
                    " classifier has no labels to tell"
                )


def diffusion_features(options: FeatureOptions, setting: Setting) -> Method:
    """Supervised training of the head on feature sets.

    Args:
        options: see `FeatureOptions`.
        setting: the network "main" has the head "blending".

    Returns:
        A `Method`; nothing but the head is meant to train.

    Raises:
        ValueError: (when traced) if the layer is not as wide as the network's features.
    """
    diffusion = diffusion_of(options, setting)
    network = setting.networks["main"]
    on_sets = network._replace(forward=network.classify)
    seen = dataclasses.replace(setting, networks={"main": on_sets})
    inner = (
        pixelwise(NoOptions(), seen)
        if options.pixels
        else supervised(SupervisedOptions(), seen)
    )

    def sets(state: Any, images: jax.Array) -> jax.Array:
        """[B, F, h, w, c]."""
        found = []
        for name, time in itertools.product(options.techniques, options.times):
            layers = diffusion.activations(
                state,
                images,
                None,
                technique=name,
                time=time,
                key=jax.random.key(0),
                draws=options.draws,
            )
            found.append(layer_of(layers, options.layer))
        made = jnp.stack(found, axis=1)
        if made.shape[-1] != network.num_features:
            raise ValueError(
                f"method 'diffusion_features': layer {options.layer!r} has"
                f" {made.shape[-1]} channels, expected {network.num_features}, as"
                " 'up0' and 'last' have"
            )
        return made

    def prepare(state, batch, *, key, program):
        made = jax.lax.stop_gradient(sets(state, batch["inputs"]))
        return inner.prepare(state, {**batch, "inputs": made}, key=key, program=program)

    def predict(state, inputs):
        return inner.predict(state, sets(state, inputs))

    return inner._replace(
        prepare=prepare,
        predict=predict,
        parts={"diffusion": diffusion},
    )


def _needs(options: FeatureOptions, config) -> list[str]:
    faults = []
    if config.model.name != "diffusion_unet":
        faults.append(
            f"config.model.name is {config.model.name!r}, but method"
            " 'diffusion_features' needs a diffusion network, 'diffusion_unet'"
        )
    else:
        for name in options.techniques:
            module = TECHNIQUES[name].module
            if module and not getattr(config.model, module):
                faults.append(
                    f"config.method.techniques has {name!r}, which needs"
                    f" config.model.{module}"
                )
    if config.head.name == "blending" and config.head.pixels != options.pixels:
        faults.append(
            f"config.head.pixels is {config.head.pixels}, but config.method.pixels is"
            f" {options.pixels}, expected the same"
        )
    return faults + (pixel_needs(options, config) if options.pixels else [])


FEATURES = Component(
    "a classifier on blended features of a diffusion network (Meng 2024)",
    FeatureOptions,
    diffusion_features,
    _needs,
    lambda options: MethodFacts(
        head="blending",
        dense=True,
        columns=("targets",) if options.pixels else (),
    ),
)
