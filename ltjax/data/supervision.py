"""What a method is told about the labels, as components.

`LABELS` change the labels of the training set: a method sees candidate sets or noisy
labels, the clean ones stay in the column "truth", for measurement only. `COMPANIONS`
make a second, unlabelled stream from the examples that the long-tailed subset left.
"""

from typing import NamedTuple

import numpy as np

from ltjax.data.source import Source
from ltjax.options import Component, NoOptions


class Unlabelled(NamedTuple):
    """A second stream: its examples, and the number of rows for every training row."""

    source: Source
    ratio: int


class Remainder(NamedTuple):
    """What a companion is made from.

    Attributes:
        whole: the whole training split.
        chosen: positions of the long-tailed subset in it.
    """

    whole: Source
    chosen: np.ndarray


class CompanionFacts(NamedTuple):
    """Names of the streams that a component makes."""

    names: tuple[str, ...] = ()


class LabelFacts(NamedTuple):
    """Columns that a component adds to the training set."""

    columns: tuple[str, ...] = ()


def _given(options: NoOptions, source: Source) -> Source:
    return source


def _none(options: NoOptions, setting: Remainder) -> dict[str, Unlabelled]:
    return {}


LABELS: dict[str, Component] = {
    "given": Component(
        "the labels as they are stored",
        NoOptions,
        _given,
    ),
}

COMPANIONS: dict[str, Component] = {
    "none": Component("no second stream", NoOptions, _none),
}
