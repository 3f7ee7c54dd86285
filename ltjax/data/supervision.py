"""What a method is told about the labels, as components.

`LABELS` change the labels of the training set: a method sees candidate sets or noisy
labels, the clean ones stay in the column "truth", for measurement only.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ltjax.data import candidates, label_noise
from ltjax.data.source import UNKNOWN, Source
from ltjax.options import Component, ConfigError, NoOptions, option


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
    at_least: int = option(
        1, "candidates; 2 gives a set of one a second label (PRODEN)", low=1, high=2
    )


@dataclasses.dataclass(frozen=True)
class HierarchicalOptions(CandidateOptions):
    """Of candidate sets that keep to superclasses."""

    within: float = option(
        0.5, "of a wrong label of the same superclass", low=0, high=1
    )
    across: float = option(0.0, "of a label of another one", low=0, high=1)
    superclasses: tuple[int, ...] = option(
        (), "that of each class; () = those of CIFAR-100", low=0
    )


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


@dataclasses.dataclass(frozen=True)
class AsymmetricOptions(NoiseOptions):
    """Of classes that are mistaken for one other class each."""

    confusions: tuple[int, ...] = option(
        (), "the class that each is mistaken for, its own = never; () = the next", low=0
    )


@dataclasses.dataclass(frozen=True)
class GroupOptions(NoiseOptions):
    """Of classes that are confused within groups."""

    groups: tuple[tuple[int, ...], ...] = option(
        (), "of classes, as ((1, 9), (3, 5)); () = those of CIFAR-10 or CIFAR-100"
    )


def _given(options: NoOptions, source: Source) -> Source:
    return source


def with_candidates(sets: Callable[..., np.ndarray]) -> Callable[..., Source]:
    """A component's `make` from (options, labels, K) -> candidate sets [N, K]."""

    def make(options: Any, source: Source) -> Source:
        _check_clean(source)
        try:
            found = sets(options, source.labels, source.num_classes)
        except ValueError as error:  # the options do not fit the number of classes
            raise ConfigError([f"config.labels: {error}"]) from None
        columns = {**source.columns, "candidates": found, "truth": source.labels}
        hidden = np.full(len(source), UNKNOWN, np.int32)
        return dataclasses.replace(source, labels=hidden, columns=columns)

    return make


def with_noise(transition: Callable[..., np.ndarray]) -> Callable[..., Source]:
    """A component's `make` from (options, class_counts) -> transition matrix [K, K].

    Where all classes have one rate, exactly that share of the labels is wrong.
    """

    def make(options: NoiseOptions, source: Source) -> Source:
        _check_clean(source)
        try:
            matrix = transition(options, source.class_counts)
        except ValueError as error:
            raise ConfigError([f"config.labels: {error}"]) from None
        alike = np.ptp(np.diagonal(matrix)) < 1e-9
        noisy = label_noise.corrupt_labels(
            source.labels,
            matrix,
            selection="exact" if alike else "independent",
            seed=options.seed,
        )
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


def _check_clean(source: Source) -> None:
    """Refuses to change labels that are not the clean ones."""
    for name in ("candidates", "truth"):
        if name in source.columns:
            raise ConfigError(
                [
                    f"config.labels changes clean labels, but {source.name} has a"
                    f" column {name!r} of its own; expected config.labels.name 'given'"
                ]
            )


def _superclasses(options: HierarchicalOptions, num_classes: int) -> tuple[int, ...]:
    given = options.superclasses
    if not given and num_classes == len(candidates.CIFAR100_SUPERCLASSES):
        return candidates.CIFAR100_SUPERCLASSES
    if len(given) != num_classes:
        raise ValueError(
            f"superclasses is {given}, expected {num_classes} numbers, one for each"
            " class"
        )
    return given


def _asymmetric(options: AsymmetricOptions, counts: np.ndarray) -> np.ndarray:
    given = options.confusions
    if given and len(given) != len(counts):
        raise ValueError(
            f"confusions is {given}, expected {len(counts)} classes, one for each class"
        )
    changed = {k: other for k, other in enumerate(given) if other != k}
    return label_noise.asymmetric_noise(
        len(counts), options.rate, changed if given else None
    )


def _look_alike(options: NoiseOptions, counts: np.ndarray) -> np.ndarray:
    if len(counts) != 10:
        raise ValueError(f"the data have {len(counts)} classes, expected CIFAR-10")
    return label_noise.asymmetric_noise(
        10, options.rate, label_noise.CIFAR10_CONFUSIONS
    )


_GROUPS = {
    10: label_noise.CIFAR10_CONFUSED_GROUPS,
    100: label_noise.CIFAR100_CONFUSED_GROUPS,
}


def _grouped(options: GroupOptions, counts: np.ndarray) -> np.ndarray:
    groups = options.groups or _GROUPS.get(len(counts))
    if groups is None:
        raise ValueError(
            f"groups is (), the published ones of 10 or 100 classes, but there are"
            f" {len(counts)}; expected groups of two classes or more"
        )
    return label_noise.group_noise(len(counts), options.rate, groups)


_HIDDEN = LabelFacts(("candidates", "truth"), hidden=True)
_NOISY = LabelFacts(("truth",))


def _candidates(about: str, options: type, sets: Callable) -> Component:
    return Component(
        about, options, with_candidates(sets), facts=lambda options: _HIDDEN
    )


def _noise(about: str, transition: Callable, options: type = NoiseOptions) -> Component:
    return Component(
        about, options, with_noise(transition), facts=lambda options: _NOISY
    )


LABELS: dict[str, Component] = {
    "given": Component("the labels as they are stored", NoOptions, _given),
    "uniform_candidates": _candidates(
        "candidate sets: every wrong label with the same probability (Lv 2020)",
        UniformOptions,
        lambda o, labels, k: candidates.candidate_sets(
            labels,
            candidates.uniform_ambiguity(k, o.ambiguity),
            seed=o.seed,
            at_least=o.at_least,
        ),
    ),
    "hierarchical_candidates": _candidates(
        "candidate sets: labels of the same superclass (PiCO's CIFAR-100-H, Wang 2022),"
        " or these more often (within = 8 across: RECORDS' CIFAR-100-NU, Hong 2023)",
        HierarchicalOptions,
        lambda o, labels, k: candidates.candidate_sets(
            labels,
            candidates.hierarchical_ambiguity(
                np.array(_superclasses(o, k)), within=o.within, across=o.across
            ),
            seed=o.seed,
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
        lambda o, counts: label_noise.symmetric_noise(len(counts), o.rate),
    ),
    "imbalanced_noise": _noise(
        "labels flipped to a class by its frequency (Wei 2021)",
        lambda o, counts: label_noise.imbalanced_noise(counts, o.rate),
    ),
    "proportional_noise": _noise(
        "labels drawn anew by frequency, which keeps the counts (Wei 2021)",
        lambda o, counts: label_noise.proportional_noise(counts, o.rate),
    ),
    "asymmetric_noise": _noise(
        "labels flipped to the next class, or to one given for each",
        _asymmetric,
        AsymmetricOptions,
    ),
    "cifar10_noise": _noise(
        "labels of CIFAR-10 flipped to what they look like: truck to automobile, bird"
        " to airplane, deer to horse, cat and dog (Patrini 2017)",
        _look_alike,
    ),
    "group_noise": _noise(
        "labels confused within groups of classes, others clean (HAR, Cao 2021)",
        _grouped,
        GroupOptions,
    ),
}
