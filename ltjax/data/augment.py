r"""Augmentation on the device: what happens to a batch between feed and model.

Keys are handed out one per position of the global batch, so the result depends on the
step and the position only and not on how many devices or processes share the batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax.data import signal_ops
from ltjax.data.modalities import each_modality
from ltjax.data.transforms import (
    center_crop,
    color_jitter,
    cutout,
    flip,
    normalize,
    pad_crop,
    random_resized_crop,
)
from ltjax.options import Component, nearest, option, options_of, read_options

Batch = Mapping[str, Any]


class Pipeline(NamedTuple):
    """What happens to a batch between the feed and the model.

    A batch holds "inputs" [B, ...] as they are stored, and what else is known of its
    rows (labels that move with the pixels are there). Both functions return the batch
    with float32 "inputs", or with views of other names ("weak", "strong", "view1", ...)
    in their place.

    Attributes:
        train: (key, batch, **hints) -> batch; random, one key per position. `hints` are
            per-example numbers [B] that a method gives (`Method.guide`).
        eval: batch -> batch, with "inputs".
        deterministic: whether both are the same function.
        views: names of the views that `train` makes.
    """

    train: Callable[..., Batch]
    eval: Callable[[Batch], Batch]
    deterministic: bool = False
    views: tuple[str, ...] = ("inputs",)


class PipelineFacts(NamedTuple):
    """What is known of a pipeline before it is made; see `Pipeline`.

    Attributes:
        views: that it makes.
        hints: names of the per-example numbers that it understands.
        modalities: whether it takes inputs of several modalities.
        moves: whether pixels may change their places.
        carries: columns with an entry for every pixel that move along.
    """

    views: tuple[str, ...] = ("inputs",)
    hints: tuple[str, ...] = ()
    modalities: bool = False
    moves: bool = True
    carries: tuple[str, ...] = ()


class PipelineSetting(NamedTuple):
    """What a pipeline may be made from: the statistics of the data set, or None."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True)
class NormalizeOptions:
    """Shared by the pipelines that normalize."""

    mean: tuple[float, ...] = option(
        (), "per channel of pixels in [0, 1]; () = the data set's"
    )
    std: tuple[float, ...] = option((), "likewise", above=0)


@dataclasses.dataclass(frozen=True)
class ShiftOptions(NormalizeOptions):
    """Of random shifts."""

    pad: int = option(2, "largest shift in pixels", low=0)


@dataclasses.dataclass(frozen=True)
class ShiftEachOptions:
    """Of random shifts of several modalities."""

    pad: int = option(2, "largest shift of an image in pixels", low=0)
    turn: float = option(
        0.5, "largest circular shift of a signal, of its length", low=0, high=0.5
    )


@dataclasses.dataclass(frozen=True)
class CifarOptions(NormalizeOptions):
    """Of the CIFAR recipe."""

    pad: int = option(4, "largest shift in pixels", low=0)
    cutout_size: int = option(0, "side of the square that is cut out; 0 = none", low=0)


@dataclasses.dataclass(frozen=True)
class CutoutOptions(CifarOptions):
    """Of the CIFAR recipe with Cutout."""

    cutout_size: int = option(16, "side of the square that is cut out", low=0)


@dataclasses.dataclass(frozen=True)
class ImagenetOptions(NormalizeOptions):
    """Of the ImageNet recipe."""

    size: int = option(224, "side of the crops in pixels", low=1)
    jitter: float = option(0.4, "strength of the color jitter; 0 = none", low=0)


@dataclasses.dataclass(frozen=True)
class INaturalistOptions(ImagenetOptions):
    """Of the iNaturalist recipe: the ImageNet recipe without jitter."""

    jitter: float = option(0.0, "strength of the color jitter; 0 = none", low=0)


@dataclasses.dataclass(frozen=True)
class UnitOptions:
    """Of the pipeline that changes nothing."""


def on_inputs(train: Callable | None, evaluate: Callable) -> Pipeline:
    """A pipeline of functions of the inputs alone.

    Args:
        train: (key, example) -> example, or None if training is like evaluation.
        evaluate: inputs [B, ...] -> float32 [B, ...].

    Returns:
        A `Pipeline`.
    """

    def of_train(key, batch, **hints):
        if train is None:
            return of_eval(batch)
        return {**batch, "inputs": per_example(train)(key, batch["inputs"])}

    def of_eval(batch):
        return {**batch, "inputs": evaluate(batch["inputs"])}

    return Pipeline(of_train, of_eval, deterministic=train is None)


def per_example(one: Callable) -> Callable:
    """`one(key, example)` over a batch, with a key for each position."""

    def batch(key, inputs):
        return jax.vmap(one)(jax.random.split(key, len(inputs)), inputs)

    return batch


def normalizer(options: NormalizeOptions, setting: PipelineSetting) -> Callable:
    """The normalization of a pipeline, by its own statistics or the data set's.

    Raises:
        ValueError: if there are none.
    """
    mean, std = options.mean or setting.mean, options.std or setting.std
    if mean is None or std is None:
        raise ValueError(
            f"augment: the pipeline normalizes, but mean is {mean} and std is {std};"
            " expected one number per channel (augment.mean, augment.std), or the"
            " pipeline 'none'"
        )
    return functools.partial(normalize, mean=np.asarray(mean), std=np.asarray(std))


def unit(inputs: ArrayLike) -> jax.Array:
    """Float inputs as they are, pixels scaled to [0, 1]."""
    inputs = jnp.asarray(inputs)
    return inputs.astype(jnp.float32) / (255 if inputs.dtype == jnp.uint8 else 1)


def _none(options: UnitOptions, setting: PipelineSetting) -> Pipeline:
    return on_inputs(None, functools.partial(each_modality, unit))


def _normalize(options: NormalizeOptions, setting: PipelineSetting) -> Pipeline:
    return on_inputs(None, normalizer(options, setting))


def _shift(options: ShiftOptions, setting: PipelineSetting) -> Pipeline:
    finish = normalizer(options, setting)

    def one(key, image):
        return finish(pad_crop(key, image, pad=options.pad))

    return on_inputs(one, finish)


def _shift_each(options: ShiftEachOptions, setting: PipelineSetting) -> Pipeline:
    def one(key, example):
        if example.ndim == 3:
            example = pad_crop(key, example, pad=options.pad)
        elif example.ndim == 2:
            example = signal_ops.shift(key, example, most=options.turn)
        return unit(example)

    def train(key, batch, **hints):
        arrays, tree = jax.tree.flatten(batch["inputs"])
        keys = jax.random.split(key, len(arrays))
        moved = map(per_example(one), keys, arrays)
        return {**batch, "inputs": tree.unflatten(moved)}

    def evaluate(batch):
        return {**batch, "inputs": each_modality(unit, batch["inputs"])}

    return Pipeline(train, evaluate)


def _cifar(options: CifarOptions, setting: PipelineSetting) -> Pipeline:
    finish = normalizer(options, setting)

    def one(key, image):
        crop_key, flip_key, cutout_key = jax.random.split(key, 3)
        image = flip(flip_key, pad_crop(crop_key, image, pad=options.pad))
        if options.cutout_size:
            image = cutout(cutout_key, image, size=options.cutout_size)
        return finish(image)

    return on_inputs(one, finish)


def _imagenet(options: ImagenetOptions, setting: PipelineSetting) -> Pipeline:
    finish, size, jitter = normalizer(options, setting), options.size, options.jitter

    def one(key, image):
        crop_key, flip_key, color_key = jax.random.split(key, 3)
        image = random_resized_crop(crop_key, image, size=size) / 255
        image = flip(flip_key, image)
        if jitter:
            image = color_jitter(
                color_key,
                image,
                brightness=jitter,
                contrast=jitter,
                saturation=jitter,
            )
        return finish(image)

    return on_inputs(one, lambda images: finish(center_crop(images, size=size)))


_USUAL = PipelineFacts()


def _pipeline(
    about: str,
    options: type,
    make: Callable,
    told: PipelineFacts = _USUAL,
) -> Component:
    return Component(about, options, make, facts=lambda options: told)


PIPELINES: dict[str, Component] = {
    "none": _pipeline(
        "inputs as they are, pixels in [0, 1]",
        UnitOptions,
        _none,
        PipelineFacts(modalities=True, moves=False),
    ),
    "normalize": _pipeline(
        "normalization only", NormalizeOptions, _normalize, PipelineFacts(moves=False)
    ),
    "shift": _pipeline(
        "pad and crop: for digits, which a flip would make into others",
        ShiftOptions,
        _shift,
    ),
    "shift_each": _pipeline(
        "of several modalities: images padded and cropped, signals turned",
        ShiftEachOptions,
        _shift_each,
        PipelineFacts(modalities=True),
    ),
    "cifar": _pipeline("pad by 4, crop, flip (Cao 2019, code)", CifarOptions, _cifar),
    "cifar_cutout": _pipeline("and Cutout 16", CutoutOptions, _cifar),
    "imagenet": _pipeline(
        "random resized crop, flip, color jitter (Kang 2020)",
        ImagenetOptions,
        _imagenet,
    ),
    "inaturalist": _pipeline(
        "random resized crop, flip (Kang 2020)", INaturalistOptions, _imagenet
    ),
}


def build(
    name: str,
    *,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    **options,
) -> Pipeline:
    """The augmentation pipeline of a recipe.

    Args:
        name: key of `PIPELINES`; `ltjax options augment` lists them.
        mean: per channel of pixels in [0, 1], as `Source.mean`.
        std: likewise.
        **options: of the pipeline.

    Returns:
        `Pipeline`.

    Raises:
        ValueError: for an unknown name or option, or if a pipeline that normalizes gets
            no mean and std.

    Example:
        >>> pipeline = build("cifar", mean=[0.5], std=[0.5])
        >>> batch = {"inputs": jnp.zeros((2, 8, 8, 1), jnp.uint8)}
        >>> pipeline.train(jax.random.key(0), batch)["inputs"].shape
        (2, 8, 8, 1)

    References:
        Cao et al., NeurIPS 2019 (cifar) and Kang et al., ICLR 2020 (imagenet,
        inaturalist), released code.
    """
    if name not in PIPELINES:
        raise ValueError(
            f"augment.build: {name!r} is unknown{nearest(name, PIPELINES)}"
        )
    component = PIPELINES[name]
    known = options_of(component.options)
    for key in options:
        if key not in known:
            raise ValueError(
                f"augment.build: {name!r} has no option {key!r}{nearest(key, known)}"
            )
    chosen, faults = read_options(component.options, options)
    if faults:
        told = [fault.removeprefix("config").lstrip(".: ") for fault in faults]
        raise ValueError(f"augment.build: {'; '.join(told)}")
    statistics = [None if x is None else tuple(x) for x in (mean, std)]  # pyright: ignore
    return component.make(chosen, PipelineSetting(*statistics))
