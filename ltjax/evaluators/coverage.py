"""How much of the test set lies near what was trained on, by class group."""

import dataclasses
import functools

import jax
import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting
from ltjax.evaluators.representation import (
    FeatureOptions,
    feature_function,
    gathered,
)
from ltjax.metrics import balancedness, feature_coverage
from ltjax.metrics.column import Column
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class CoverageOptions(FeatureOptions):
    """Of the coverage of features."""

    k: int = option(5, "neighbours whose distance a training example may have", low=1)
    block: int = option(1024, "examples at a time", low=1)


def coverage(options: CoverageOptions, setting: EvaluatorSetting) -> Evaluator:
    """The share of each class's features that have a training feature nearby.

    Args:
        options: see `CoverageOptions`.
        setting: the network "main".

    Returns:
        `Evaluator` with the metrics "feature_coverage" (the mean over the classes),
        "feature_coverage_many", ... and "feature_coverage_std" (of the group means).
    """
    num_classes = len(setting.class_counts)
    features_of = feature_function("coverage", options, setting)

    @functools.partial(jax.jit, static_argnames="k")
    def covered(features, bank, *, k):
        return feature_coverage(features, bank, neighbors=k, block=options.block)

    def of_one(features, labels, bank):
        rows = covered(features, bank, k=min(options.k, len(features) - 1))
        found = np.full(num_classes, np.nan)
        for k in np.unique(labels):
            found[k] = np.mean(np.asarray(rows)[labels == k])
        return found

    def arrays(found, extra, about):
        features, labels, bank = map(np.asarray, (*found, extra[0]))
        each = [of_one(*one) for one in zip(features, labels, bank, strict=True)]
        return {"feature_coverage": np.stack(each)}

    def summarize(arrays):
        even = balancedness(arrays["feature_coverage"], setting.groups)
        return {
            "feature_coverage": even.average,
            **{f"feature_coverage_{name}": x for name, x in even.groups.items()},
            "feature_coverage_std": even.group_std,
        }

    meaning = f"a training feature as near as the {options.k} nearest of the split"
    columns = (
        Column(
            "feature_coverage",
            "Coverage",
            "max",
            f"share of {options.features} with {meaning}, mean over the classes",
        ),
        Column(
            "feature_coverage_few",
            "Coverage Few",
            "max",
            f"share of {options.features} of few-shot classes with {meaning}",
        ),
    )
    return Evaluator(
        judge=gathered(features_of),
        arrays=arrays,
        summarize=summarize,
        columns=columns,
        bank=gathered(features_of),
    )


COVERAGE = Component(
    "share of features with a training feature nearby (Naeem 2020)",
    CoverageOptions,
    coverage,
)
