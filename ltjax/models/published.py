"""What converters of published weights have in common."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray

# Mean and deviation of the channels of an image in [0, 1], as networks were trained.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Published(NamedTuple):
    """A file of published weights, as far as names, shapes and a JSON file tell.

    Attributes:
        family: of the names, such as "timm ViT".
        name: of `config.model.name` that any such network has.
        options: of that network.
        mean: of each channel of the images that it was trained with.
        std: likewise.
        guessed: options that the file does not tell, so that a config may know better.
    """

    family: str
    name: str
    options: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    guessed: frozenset[str] = frozenset()


class Converted(NamedTuple):
    """Arrays under the names of a train state, and the names nobody knows."""

    arrays: dict[str, Array]
    unknown: list[str]


def renamed(name: str, rules: Sequence[tuple[str, str]]) -> str | None:
    """The name by the first rule that matches all of it; None if there is none.

    Args:
        name: there.
        rules: (pattern, name with the groups as {0}, {1}, ...). A block that counts
            from 0 there, the second group of a place "layer1.0.", counts from 1 here.

    Example:
        >>> rules = [(r"layer(\\d)\\.(\\d+)\\.conv(\\d)", "stage{0}_block{1}.conv{2}")]
        >>> renamed("layer2.0.conv1", rules)
        'stage2_block1.conv1'
    """
    for pattern, target in rules:
        match = re.fullmatch(pattern, name)
        if match:
            groups = list(match.groups())
            for k, group in enumerate(groups):
                if f"block{{{k}}}" in target:
                    groups[k] = str(int(group) + 1)
            return target.format(*groups)
    return None


def kernel(weight: Array) -> Array:
    """A weight [out, in, ...] as a kernel [..., in, out]."""
    weight = np.asarray(weight)
    return np.moveaxis(weight, (0, 1), (-1, -2))
