"""Procedural scenes of digits with a class for every pixel, made on the spot.

A scene is a gray image with a few digits on a textured background. Digits are drawn
with long-tailed frequencies, so that pixel counts are long-tailed as well; a pixel's
class is 0 for the background and 1 + d for digit d. Where a glyph's edge runs through a
pixel its class is not defined: it is `IGNORED`.
"""

import dataclasses

import numpy as np

from ltjax._checks import check_range
from ltjax.data.loading import array_source
from ltjax.data.source import Source
from ltjax.metrics.segmentation import IGNORED

# 5 x 7 dot-matrix digits, a row per line.
_GLYPHS = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00010 00100 01000 11111",
    "11111 00010 00100 00010 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)
_SCALE = 2  # pixels per dot


def glyph(digit: int) -> np.ndarray:
    """The dots of a digit.

    Args:
        digit: 0 to 9.

    Returns:
        [7, 5] bool.

    Example:
        >>> int(glyph(1).sum())
        10
    """
    rows = _GLYPHS[digit].split()
    return np.array([[dot == "1" for dot in row] for row in rows])


def digit_scenes(
    count: int,
    *,
    size: int = 32,
    num_digits: int = 5,
    per_scene: int = 3,
    imbalance_factor: float = 20.0,
    noise: float = 0.1,
    seed: int = 0,
    split: str = "train",
) -> Source:
    r"""Scenes with dense targets.

    Digit d occurs with probability proportional to :math:`\gamma^{-d/(D-1)}`. Digits
    may overlap; the later one is in front.

    Args:
        count: N scenes.
        size: height and width in pixels, at least 16.
        num_digits: D of 1 to 10; there are D + 1 classes.
        per_scene: digits drawn into a scene, some of which may be hidden.
        imbalance_factor: gamma >= 1, how much rarer the last digit is than the first.
        noise: deviation of the pixels' noise; the background has a gradient as well.
        seed: of the scenes; with `split` it makes independent sets.
        split: name of the split.

    Returns:
        `Source` of float32 images [size, size, 1] with the column "targets" [N, size,
        size] uint8. Labels are the rarest class present, 0 for an empty scene.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> scenes = digit_scenes(4, num_digits=2)
        >>> scenes.columns["targets"].shape, scenes.num_classes
        ((4, 32, 32), 3)
    """
    name = "digit_scenes"
    check_range(name, "count", count, low=1)
    check_range(name, "size", size, low=16)
    check_range(name, "num_digits", num_digits, low=1, high=10)
    check_range(name, "per_scene", per_scene, low=1)
    check_range(name, "imbalance_factor", imbalance_factor, low=1)
    check_range(name, "noise", noise, low=0)
    generator = _generator(seed, split)
    decay = np.arange(num_digits) / max(num_digits - 1, 1)
    frequency = imbalance_factor**-decay
    frequency /= frequency.sum()
    ramp = np.linspace(-0.5, 0.5, size)
    images = np.zeros((count, size, size, 1), np.float32)
    targets = np.zeros((count, size, size), np.uint8)
    labels = np.zeros(count, np.int32)
    for i in range(count):
        slope = generator.uniform(-0.3, 0.3, 2)
        image = slope[0] * ramp[:, None] + slope[1] * ramp[None, :]
        target = np.zeros((size, size), np.uint8)
        for digit in generator.choice(num_digits, per_scene, p=frequency):
            _draw(image, target, int(digit), generator)
        image = image + noise * generator.standard_normal((size, size))
        images[i, :, :, 0], targets[i] = image, target
        present = target[target != IGNORED]
        labels[i] = present.max(initial=0)
    return array_source(
        images,
        labels,
        num_classes=num_digits + 1,
        name=name,
        split=split,
        class_names=("background", *map(str, range(num_digits))),
        columns={"targets": targets},
    )


def digit_sets(count: int, *, num_digits: int = 5, **options) -> Source:
    """The same scenes with the digits that are visible in them as several labels.

    Args:
        count: N scenes.
        num_digits: D of 1 to 10, the number of classes.
        **options: of `digit_scenes`.

    Returns:
        `Source` like that of `digit_scenes`, but with the column "targets" [N, D]
        uint8, multi-hot. Labels are the rarest digit present.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> sets = digit_sets(4, num_digits=2)
        >>> sets.columns["targets"].shape, sets.num_classes
        ((4, 2), 2)
    """
    scenes = digit_scenes(count, num_digits=num_digits, **options)
    pixels = scenes.columns["targets"].reshape(count, -1)
    present = np.stack([(pixels == 1 + d).any(1) for d in range(num_digits)], axis=1)
    # A scene's last digit lies in front, so that every scene shows one.
    labels = num_digits - 1 - np.argmax(present[:, ::-1], axis=1)
    return dataclasses.replace(
        scenes,
        name="digit_sets",
        labels=labels.astype(np.int32),
        num_classes=num_digits,
        class_names=tuple(map(str, range(num_digits))),
        columns={"targets": present.astype(np.uint8)},
    )


def digit_glyphs(
    per_class: int,
    *,
    size: int = 16,
    num_digits: int = 10,
    noise: float = 0.2,
    seed: int = 0,
    split: str = "train",
) -> Source:
    """Gray images of one digit each, stretched, moved and noisy, in equal numbers.

    Args:
        per_class: images of each digit.
        size: height and width in pixels, at least 16.
        num_digits: K of 2 to 10, the number of classes.
        noise: deviation of the pixels' noise, of the range from black to white.
        seed: of the images; with `split` it makes independent sets.
        split: name of the split.

    Returns:
        `Source` of uint8 images [size, size, 1], in random order. Mean and deviation
        are declared as one half each, which makes the range -1 to 1.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> glyphs = digit_glyphs(3, num_digits=2)
        >>> glyphs.shape, glyphs.class_counts.tolist()
        ((16, 16, 1), [3, 3])
    """
    name = "digit_glyphs"
    check_range(name, "per_class", per_class, low=1)
    check_range(name, "size", size, low=16)
    check_range(name, "num_digits", num_digits, low=2, high=10)
    check_range(name, "noise", noise, low=0)
    generator = _generator(seed, split)
    labels = generator.permutation(np.repeat(np.arange(num_digits), per_class))
    images = np.zeros((len(labels), size, size, 1), np.uint8)
    for i, digit in enumerate(labels):
        height = generator.integers(size * 9 // 16, size * 14 // 16 + 1)
        width = generator.integers(size * 6 // 16, size * 11 // 16 + 1)
        rows, columns = (np.arange(height) * 7 // height, np.arange(width) * 5 // width)
        dots = glyph(int(digit))[rows][:, columns]
        top, left = (generator.integers(0, size - n + 1) for n in (height, width))
        image = np.full((size, size), generator.uniform(0, 0.25))
        image[top : top + height, left : left + width][dots] = generator.uniform(0.5, 1)
        image += noise * generator.standard_normal(image.shape)
        images[i, :, :, 0] = np.rint(255 * np.clip(image, 0, 1))
    return array_source(
        images,
        labels.astype(np.int32),
        num_classes=num_digits,
        name=name,
        split=split,
        class_names=tuple(map(str, range(num_digits))),
        mean=(0.5,),
        std=(0.5,),
    )


def _generator(seed: int, split: str) -> np.random.Generator:
    """Independent streams for the splits of a set."""
    stream = {"train": 0, "test": 1, "val": 2}.get(split, 3)
    return np.random.Generator(np.random.Philox(key=[seed, stream]))


def _draw(image, target, digit: int, generator: np.random.Generator) -> None:
    """Puts a digit somewhere, and an ignored rim where dots meet the background."""
    dots = np.kron(glyph(digit), np.ones((_SCALE, _SCALE), bool))
    height, width = dots.shape
    top = generator.integers(0, image.shape[0] - height + 1)
    left = generator.integers(0, image.shape[1] - width + 1)
    window = (slice(top, top + height), slice(left, left + width))
    image[window][dots] = generator.uniform(0.7, 1.3)
    rim = dots & ~_eroded(dots)
    target[window][dots] = 1 + digit
    # Every fourth pixel of the rim has no class, as a hand-drawn mask would not.
    undecided = rim & (generator.random(dots.shape) < 0.25)
    target[window][undecided] = IGNORED


def _eroded(dots: np.ndarray) -> np.ndarray:
    padded = np.pad(dots, 1)
    inside = padded[1:-1, 1:-1]
    for shift in ((0, 1), (2, 1), (1, 0), (1, 2)):
        rows, columns = (
            slice(s, s + n) for s, n in zip(shift, dots.shape, strict=True)
        )
        inside = inside & padded[rows, columns]
    return inside
