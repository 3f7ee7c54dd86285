"""Where the unlabelled stream of a run comes from, as components.

`COMPANIONS` make a second stream of examples without labels: those that the data have
stored without one, or what the long-tailed subset left, whose labels are taken away.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from ltjax.data.readers import DataError
from ltjax.data.source import UNKNOWN, Source
from ltjax.data.unlabelled import (
    UNLABELLED_PROFILES,
    semi_supervised_counts,
    semi_supervised_split,
)
from ltjax.options import Component, ConfigError, NoOptions, option


@dataclasses.dataclass(frozen=True)
class Unlabelled:
    """A second stream.

    Attributes:
        source: its examples, none of which has a label; what is known of the true ones
            is the column "truth".
        ratio: the number of rows for every training row.
    """

    source: Source
    ratio: int

    def __post_init__(self):
        labelled = np.flatnonzero(self.source.labels != UNKNOWN)
        if labelled.size:
            raise DataError(
                f"Source {self.source.name}: {labelled.size} of the"
                f" {len(self.source)} examples of an unlabelled stream have labels, the"
                f" first is labels[{labelled[0]}] ="
                f" {self.source.labels[labelled[0]]}; expected {UNKNOWN} everywhere,"
                " and the true labels, if they are known, as the column 'truth'"
            )


class Remainder(NamedTuple):
    """What a companion is made from.

    Attributes:
        whole: the whole training split.
        chosen: positions of the labelled training set in it.
        bare: positions of the examples that are stored without a label.
    """

    whole: Source
    chosen: np.ndarray
    bare: np.ndarray


class CompanionFacts(NamedTuple):
    """Names of the streams that a component makes."""

    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class StreamOptions:
    """Shared by the unlabelled streams."""

    ratio: int = option(7, "mu, rows for every labelled row", low=1)
    include_labelled: bool = option(
        False, "the labelled examples are part of the stream too"
    )


@dataclasses.dataclass(frozen=True)
class UnlabelledOptions(StreamOptions):
    """Of an unlabelled stream of the examples that the labelled subset left."""

    max_count: int = option(
        0, "examples of the largest class; 0 = all that are left", low=0
    )
    imbalance_factor: float = option(100.0, "gamma_u of the stream", low=1)
    profile: str = option(
        "consistent", "of the stream", choices=tuple(UNLABELLED_PROFILES)
    )
    seed: int = option(0, "of the stream", low=0, below=2**31)


def _none(options: NoOptions, setting: Remainder) -> dict[str, Unlabelled]:
    _check_none_bare("none", setting)
    return {}


def _stored(options: StreamOptions, setting: Remainder) -> dict[str, Unlabelled]:
    whole, chosen, bare = setting
    if not bare.size:
        raise ConfigError(
            [
                f"config.unlabelled.name is 'stored', but all {len(whole)} training"
                f" examples of {whole.name} have a label; expected examples without"
                " one, or 'rest' and a smaller data.max_count"
            ]
        )
    taken = np.concatenate([chosen, bare]) if options.include_labelled else bare
    return _stream(whole.select(taken), options.ratio)


def _rest(options: UnlabelledOptions, setting: Remainder) -> dict[str, Unlabelled]:
    _check_none_bare("rest", setting)
    whole, chosen, _ = setting
    left = np.setdiff1d(np.arange(len(whole)), chosen)
    if options.max_count:
        counts = semi_supervised_counts(
            whole.num_classes,
            options.max_count,
            options.imbalance_factor,
            options.profile,
            seed=options.seed,
        )
        available = np.bincount(whole.labels[left], minlength=whole.num_classes)
        if (counts > available).any():
            raise ConfigError(
                [
                    f"config.unlabelled asks for {counts.tolist()} examples, but the"
                    f" labelled subset leaves {available.tolist()}; expected a smaller"
                    " max_count, or a smaller data.max_count"
                ]
            )
        taken = semi_supervised_split(
            whole.labels[left], np.zeros_like(counts), counts, seed=options.seed
        )
        left = left[taken.unlabelled]
    if options.include_labelled:
        left = np.concatenate([chosen, left])
    if not left.size:
        raise ConfigError(
            [
                "config.unlabelled has no example: the labelled subset takes the whole"
                " training split; expected a smaller data.max_count"
            ]
        )
    source = whole.select(left)
    columns = {"truth": source.labels, **source.columns}
    return _stream(dataclasses.replace(source, columns=columns), options.ratio)


def _stream(source: Source, ratio: int) -> dict[str, Unlabelled]:
    """The stream "unlabelled" of these examples, without their labels."""
    hidden = np.full(len(source), UNKNOWN, np.int32)
    source = dataclasses.replace(source, labels=hidden)
    return {"unlabelled": Unlabelled(source, ratio)}


def _check_none_bare(name: str, setting: Remainder) -> None:
    """Refuses to leave out the examples that are stored without a label."""
    whole, _, bare = setting
    if bare.size:
        raise ConfigError(
            [
                f"{bare.size} of the {len(whole)} training examples of {whole.name}"
                f" have no label (the first is example {whole.origin[bare[0]]},"
                f" 0-based), but config.unlabelled.name is {name!r}, which would leave"
                " them out; expected 'stored' and a semi-supervised method, or only"
                " examples with labels"
            ]
        )


COMPANIONS: dict[str, Component] = {
    "none": Component("no second stream", NoOptions, _none),
    "stored": Component(
        "the examples of the training split that have no label",
        StreamOptions,
        _stored,
        facts=lambda options: CompanionFacts(("unlabelled",)),
    ),
    "rest": Component(
        "what the labelled subset left of the training split, without its labels",
        UnlabelledOptions,
        _rest,
        facts=lambda options: CompanionFacts(("unlabelled",)),
    ),
}
