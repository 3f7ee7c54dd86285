"""Data sets without a file: scenes, glyphs, images beside signals, bundled ones."""

import dataclasses
from collections.abc import Callable

from ltjax.data.bundled import BUNDLED, bundled
from ltjax.data.data_options import DataFacts, DataOptions, OwnDataOptions, data_needs
from ltjax.data.multimodal_digits import MODALITIES, multimodal_digits
from ltjax.data.scenes import digit_glyphs, digit_scenes, digit_sets
from ltjax.data.source import Source
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class MultimodalDigitsOptions(DataOptions):
    """Of images and signals of the same digit, made on the spot."""

    train_per_class: int = option(500, "training examples of a class", low=1)
    test_per_class: int = option(100, "test examples of a class", low=1)
    size: int = option(28, "height and width of the images in pixels", low=8)
    noise: float = option(0.3, "deviation of the pixels' noise", low=0)
    absent_image: float = option(
        0.0, "share of examples whose image shows no digit", low=0, high=1
    )
    absent_signal: float = option(
        0.0, "share of the others whose signal is of no digit", low=0, high=1
    )
    absent: str = option(
        "noise", "what is there in its place", choices=("noise", "zeros")
    )
    seed: int = option(42, "of signals and images", low=0, below=2**31)


@dataclasses.dataclass(frozen=True)
class SceneOptions(OwnDataOptions):
    """Of procedural scenes, whose pixel counts are long-tailed by themselves."""

    train_size: int = option(1000, "training scenes", low=1)
    test_size: int = option(200, "test scenes", low=1)
    size: int = option(32, "height and width in pixels", low=16)
    num_digits: int = option(5, "D; there are D + 1 classes", low=1, high=10)
    per_scene: int = option(3, "digits of a scene", low=1)
    rarity: float = option(20.0, "how much rarer the last digit is", low=1)
    noise: float = option(0.1, "deviation of the pixels' noise", low=0)
    seed: int = option(0, "of the scenes", low=0, below=2**31)


@dataclasses.dataclass(frozen=True)
class GlyphOptions(DataOptions):
    """Of procedural images of digits, which are made on the spot."""

    train_per_class: int = option(500, "training images of a digit", low=1)
    test_per_class: int = option(100, "test images of a digit", low=1)
    size: int = option(16, "height and width in pixels", low=16)
    num_digits: int = option(10, "K", low=2, high=10)
    noise: float = option(0.2, "deviation of the pixels' noise", low=0)
    seed: int = option(0, "of the images", low=0, below=2**31)


@dataclasses.dataclass(frozen=True)
class BundledOptions(DataOptions):
    """Of small real data sets that come with scikit-learn."""

    which: str = option("breast_cancer", "of the data sets", choices=BUNDLED)
    test_share: float = option(0.3, "of each class, for the test", above=0, below=1)
    seed: int = option(0, "of the two parts", low=0, below=2**31)


def _scenes(about: str, maker: Callable[..., Source]) -> Component:
    """Procedural scenes, whose column "targets" says what is in them."""

    def make(options: SceneOptions, split: str) -> Source:
        test = split == options.test_split
        return maker(
            options.test_size if test else options.train_size,
            size=options.size,
            num_digits=options.num_digits,
            per_scene=options.per_scene,
            imbalance_factor=options.rarity,
            noise=options.noise,
            seed=options.seed,
            split=split,
        )

    facts = DataFacts(("targets",))
    return Component(about, SceneOptions, make, data_needs, lambda options: facts)


def _multimodal_digits() -> Component:
    def make(options: MultimodalDigitsOptions, split: str) -> Source:
        return multimodal_digits(
            split,
            train_per_class=options.train_per_class,
            test_per_class=options.test_per_class,
            size=options.size,
            noise=options.noise,
            absent_image=options.absent_image,
            absent_signal=options.absent_signal,
            absent=options.absent,
            seed=options.seed,
        )

    return Component(
        "an image and a signal of the same digit, made on the spot",
        MultimodalDigitsOptions,
        make,
        _modality_needs,
        lambda options: DataFacts(modalities=MODALITIES),
    )


def _modality_needs(options: DataOptions, config) -> list[str]:
    """Several modalities go through what takes a dict of inputs."""
    faults = data_needs(options, config)
    model, names = config.model, config.data.facts.modalities
    if set(model.facts.modalities) != set(names):
        has = model.facts.modalities
        faults.append(
            f"config.data.name is {config.data.name!r}, whose inputs are"
            f" {' and '.join(names)}, but config.model.name {model.name!r} takes"
            f" {' and '.join(has) if has else 'one array'}; expected 'modalities' with"
            f" model.names {names}"
        )
    if not config.augment.facts.modalities:
        faults.append(
            f"config.augment.name is {config.augment.name!r}, which takes one array,"
            f" but data {config.data.name!r} has several modalities; expected 'none' or"
            " 'shift_each'"
        )
    if config.method.facts.one_array:
        faults.append(
            f"method {config.method.name!r} changes inputs of one array, but data"
            f" {config.data.name!r} has several modalities"
        )
    return faults


def _glyphs(options: GlyphOptions, split: str) -> Source:
    test = split == options.test_split
    return digit_glyphs(
        options.test_per_class if test else options.train_per_class,
        size=options.size,
        num_digits=options.num_digits,
        noise=options.noise,
        seed=options.seed,
        split=split,
    )


def _bundled(options: BundledOptions, split: str) -> Source:
    return bundled(
        options.which,
        test=split == options.test_split,
        test_share=options.test_share,
        seed=options.seed,
    )


MADE: dict[str, Component] = {
    "bundled": Component(
        "breast cancer, digits or wine, as they come with scikit-learn",
        BundledOptions,
        _bundled,
        data_needs,
        lambda options: DataFacts(),
    ),
    "multimodal_digits": _multimodal_digits(),
    "digit_glyphs": Component(
        "small images of single digits, made on the spot",
        GlyphOptions,
        _glyphs,
        data_needs,
        lambda options: DataFacts(),
    ),
    "digit_scenes": _scenes(
        "scenes of digits with a class for every pixel, made on the spot", digit_scenes
    ),
    "digit_sets": _scenes(
        "scenes labelled with the digits in them, made on the spot", digit_sets
    ),
}
