"""Linear probes: how well a linear classifier does on features as they are.

A probe gathers the features of its examples first, without augmentation, and is solved
to the optimum of logistic regression. Its protocols differ by the examples: the
training set as it is (long-tailed), a few of every class, or all that are stored, of
which the training set is a subset (full).
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from ltjax.class_stats import count_labels
from ltjax.classifiers import LinearProbe, logistic_probe, probe_logits, probe_rows
from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting
from ltjax.evaluators.representation import (
    FeatureOptions,
    feature_function,
    gathered,
    judged_by,
)
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class ProbeOptions(FeatureOptions):
    """Of linear probes."""

    l2: float = option(1e-4, "penalty of the weights, published 5e-6", above=0)


@dataclasses.dataclass(frozen=True)
class FewShotProbeOptions(ProbeOptions):
    """Of linear probes on few training examples of each class."""

    per_class: int = option(
        0, "examples of a class; 0 = as many as the rarest one has", low=0
    )
    draw: int = option(0, "seed of the choice", low=0, below=2**31)


@dataclasses.dataclass(frozen=True)
class FullProbeOptions(ProbeOptions):
    """Of linear probes on all stored training examples."""

    per_class: int = option(
        0, "examples of a class, published 50, 100 and all; 0 = all", low=0
    )
    draw: int = option(0, "seed of the choice", low=0, below=2**31)


def _probe(
    options: ProbeOptions,
    setting: EvaluatorSetting,
    *,
    prefix: str,
    title: str,
    solve: Callable[..., LinearProbe],
    on_pool: bool = False,
) -> Evaluator:
    """The accuracy of a linear classifier that `solve(features, labels)` finds."""
    features_of = feature_function(prefix.rstrip("_"), options, setting)

    def digest(found):
        solved = [solve(*one) for one in zip(*map(np.asarray, found), strict=True)]
        return jax.tree.map(lambda *x: np.stack([np.asarray(y) for y in x]), *solved)

    def logits_of(state, batch, solved):
        return probe_logits(solved, features_of(state, batch))

    return judged_by(
        prefix,
        title,
        f"{title.lower()} on {options.features}",
        title.lower(),
        logits_of,
        setting,
        bank=gathered(features_of),
        digest=digest,
        on_pool=on_pool,
    )


def probe(options: ProbeOptions, setting: EvaluatorSetting) -> Evaluator:
    """Accuracy of logistic regression on the training features, solved to the optimum.

    On a long-tailed training set this is the long-tailed protocol.

    Args:
        options: see `ProbeOptions`.
        setting: the network "main".

    Returns:
        `Evaluator` with the metrics "probe_balanced_accuracy", "probe_many", ...
    """
    solve = functools.partial(
        logistic_probe, num_classes=len(setting.class_counts), l2=options.l2
    )
    return _probe(options, setting, prefix="probe_", title="Probe", solve=solve)


def balanced_probe(options: ProbeOptions, setting: EvaluatorSetting) -> Evaluator:
    """As `probe`, every class with the same weight in the objective.

    Args:
        options: see `ProbeOptions`.
        setting: the network "main".

    Returns:
        `Evaluator` with the metrics "balanced_probe_balanced_accuracy", ...
    """
    num_classes = len(setting.class_counts)

    def solve(features, labels):
        counts = np.asarray(count_labels(labels, num_classes))
        weights = len(labels) / (num_classes * np.maximum(counts, 1))
        return logistic_probe(
            features,
            labels,
            num_classes=num_classes,
            l2=options.l2,
            class_weights=weights,
        )

    return _probe(
        options, setting, prefix="balanced_probe_", title="Balanced probe", solve=solve
    )


def _on_some(
    options: FewShotProbeOptions | FullProbeOptions,
    num_classes: int,
    per_class: int | str,
) -> Callable[..., LinearProbe]:
    """Solves on as many examples of every class; 0 for all there are."""

    def solve(features, labels):
        if per_class:
            rows = probe_rows(
                labels, num_classes, per_class=per_class, seed=options.draw
            )
            features, labels = features[rows], labels[rows]
        return logistic_probe(features, labels, num_classes=num_classes, l2=options.l2)

    return solve


def few_shot_probe(
    options: FewShotProbeOptions, setting: EvaluatorSetting
) -> Evaluator:
    """As `probe`, on the same few training examples of every class.

    Args:
        options: see `FewShotProbeOptions`.
        setting: the network "main".

    Returns:
        `Evaluator` with the metrics "few_shot_probe_balanced_accuracy", ...
    """
    per_class = options.per_class or "smallest"
    solve = _on_some(options, len(setting.class_counts), per_class)
    return _probe(
        options, setting, prefix="few_shot_probe_", title="Few-shot probe", solve=solve
    )


def full_probe(options: FullProbeOptions, setting: EvaluatorSetting) -> Evaluator:
    """As `probe`, on all training examples of the data set, which is balanced or so.

    The class groups are those of the long-tailed set that the network was trained on.

    Args:
        options: see `FullProbeOptions`.
        setting: the network "main".

    Returns:
        `Evaluator` with the metrics "full_probe_balanced_accuracy", ...
    """
    return _probe(
        options,
        setting,
        prefix="full_probe_",
        title="Full probe",
        solve=_on_some(options, len(setting.class_counts), options.per_class),
        on_pool=True,
    )


PROBE = Component(
    "linear probe on the training features, solved to the optimum", ProbeOptions, probe
)
BALANCED_PROBE = Component(
    "linear probe with the same weight for every class", ProbeOptions, balanced_probe
)
FEW_SHOT_PROBE = Component(
    "linear probe on as few examples of every class (Jiang 2021)",
    FewShotProbeOptions,
    few_shot_probe,
)
FULL_PROBE = Component(
    "linear probe on all stored training examples, or some of every class (Zhou 2022)",
    FullProbeOptions,
    full_probe,
)
