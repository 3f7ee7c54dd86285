"""What a method is told about the labels, as components.

`LABELS` change the labels of the training set: a method sees candidate sets or noisy
labels, the clean ones stay in the column "truth", for measurement only. `COMPANIONS`
make a second, unlabelled stream from the examples that the long-tailed subset left.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ltjax.data import candidates, label_noise
from ltjax.data.source import UNKNOWN, Source
from ltjax.data.unlabelled import (
    UNLABELLED_PROFILES,
    semi_supervised_counts,
    semi_supervised_split,
)
from ltjax.options import Component, ConfigError, NoOptions, option

# ------------------------------------------------------------------------- labels


class LabelFacts(NamedTuple):
    """What is known of the labels before they are made.

    Attributes:
        columns: that are added to the training set.
        hidden: whether the method is not given the labels themselves.
    """

    columns: tuple[str, ...] = ()
    hidden: bool = False


@dataclasses.dataclass(frozen=True)
class CandidateOptions:
    """Shared by the candidate sets."""

    seed: int = option(0, "of the sets", low=0, below=2**31)


@dataclasses.dataclass(frozen=True)
class UniformOptions(CandidateOptions):
    """Of uniform candidate sets."""

    ambiguity: float = option(0.3, "q, of every wrong label", low=0, high=1)


@dataclasses.dataclass(frozen=True)
class LabelDependentOptions(CandidateOptions):
    """Of candidate sets with the next classes."""

    probabilities: tuple[float, ...] = option(
        (0.5, 0.4, 0.3, 0.2, 0.1), "of the labels y + 1, y + 2, ...", low=0, high=1
    )


@dataclasses.dataclass(frozen=True)
class NoiseOptions:
    """Shared by the kinds of label noise."""

    rate: float = option(
        0.4, "share of the examples whose label is another", low=0, high=1
    )
    seed: int = option(0, "of the noise", low=0, below=2**31)


def _given(options: NoOptions, source: Source) -> Source:
    return source


def with_candidates(sets: Callable[..., np.ndarray]) -> Callable[..., Source]:
    """A component's `make` from (options, labels, K) -> candidate sets [N, K]."""

    def make(options: Any, source: Source) -> Source:
        found = sets(options, source.labels, source.num_classes)
        columns = {**source.columns, "candidates": found, "truth": source.labels}
        hidden = np.full(len(source), UNKNOWN, np.int32)
        return dataclasses.replace(source, labels=hidden, columns=columns)

    return make


def with_noise(transition: Callable[..., np.ndarray]) -> Callable[..., Source]:
    """A component's `make` from (class_counts, rate) -> transition matrix [K, K]."""

    def make(options: NoiseOptions, source: Source) -> Source:
        matrix = transition(source.class_counts, options.rate)
        noisy = label_noise.corrupt_labels(source.labels, matrix, seed=options.seed)
        empty = np.flatnonzero(np.bincount(noisy, minlength=source.num_classes) == 0)
        if empty.size:
            raise ConfigError(
                [
                    f"config.labels.rate is {options.rate}, with which class {empty[0]}"
                    " has no example left that bears its label; expected less noise, or"
                    " another config.labels.seed"
                ]
            )
        columns = {**source.columns, "truth": source.labels}
        return dataclasses.replace(source, labels=noisy, columns=columns)

    return make


_HIDDEN = LabelFacts(("candidates", "truth"), hidden=True)
_NOISY = LabelFacts(("truth",))


def _candidates(about: str, options: type, sets: Callable) -> Component:
    return Component(
        about, options, with_candidates(sets), facts=lambda options: _HIDDEN
    )


def _noise(about: str, transition: Callable) -> Component:
    return Component(
        about, NoiseOptions, with_noise(transition), facts=lambda options: _NOISY
    )


LABELS: dict[str, Component] = {
    "given": Component("the labels as they are stored", NoOptions, _given),
    "uniform_candidates": _candidates(
        "candidate sets: every wrong label with the same probability (Lv 2020)",
        UniformOptions,
        lambda o, labels, k: candidates.candidate_sets(
            labels, candidates.uniform_ambiguity(k, o.ambiguity), seed=o.seed
        ),
    ),
    "label_dependent_candidates": _candidates(
        "candidate sets: the next classes, the nearer the more often (Wang 2022)",
        LabelDependentOptions,
        lambda o, labels, k: candidates.candidate_sets(
            labels,
            candidates.label_dependent_ambiguity(k, o.probabilities),
            seed=o.seed,
        ),
    ),
    "subset_candidates": _candidates(
        "candidate sets: random subsets with the true label (Feng 2020)",
        CandidateOptions,
        lambda o, labels, k: candidates.candidate_subsets(labels, k, seed=o.seed),
    ),
    "symmetric_noise": _noise(
        "labels flipped to any other class alike",
        lambda counts, rate: label_noise.symmetric_noise(len(counts), rate),
    ),
    "imbalanced_noise": _noise(
        "labels flipped to a class by its frequency (Wei 2021)",
        label_noise.imbalanced_noise,
    ),
    "asymmetric_noise": _noise(
        "labels flipped to the next class",
        lambda counts, rate: label_noise.asymmetric_noise(len(counts), rate),
    ),
}

# --------------------------------------------------------------------- companions


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


@dataclasses.dataclass(frozen=True)
class UnlabelledOptions:
    """Of an unlabelled stream of the examples that the labelled subset left."""

    ratio: int = option(7, "mu, rows for every labelled row", low=1)
    max_count: int = option(
        0, "examples of the largest class; 0 = all that are left", low=0
    )
    imbalance_factor: float = option(100.0, "gamma_u of the stream", low=1)
    profile: str = option(
        "consistent", "of the stream", choices=tuple(UNLABELLED_PROFILES)
    )
    include_labelled: bool = option(
        False, "the labelled examples are part of the stream too"
    )
    seed: int = option(0, "of the stream", low=0, below=2**31)


def _none(options: NoOptions, setting: Remainder) -> dict[str, Unlabelled]:
    return {}


def _rest(options: UnlabelledOptions, setting: Remainder) -> dict[str, Unlabelled]:
    whole, chosen = setting
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
    hidden = np.full(len(source), UNKNOWN, np.int32)
    columns = {**source.columns, "truth": source.labels}
    source = dataclasses.replace(source, labels=hidden, columns=columns)
    return {"unlabelled": Unlabelled(source, options.ratio)}


COMPANIONS: dict[str, Component] = {
    "none": Component("no second stream", NoOptions, _none),
    "rest": Component(
        "what the labelled subset left of the training split, without its labels",
        UnlabelledOptions,
        _rest,
        facts=lambda options: CompanionFacts(("unlabelled",)),
    ),
}
