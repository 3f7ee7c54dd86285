"""Accuracy of every class, its groups and its calibration, from integer counts."""

import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.metrics import classification, column
from ltjax.metrics.streaming import ClassificationState
from ltjax.options import Component, NoOptions


def make(options: NoOptions, setting: EvaluatorSetting) -> Evaluator:
    """See `ltjax.metrics.summarize` for the metrics."""
    counts, groups = np.asarray(setting.class_counts), setting.groups

    def judge(state, sums, batch, extra):
        outputs = setting.predict(state, batch["inputs"])
        return sums.update(outputs, batch["label"], batch["mask"])

    def summarize(arrays):
        return classification.summarize(arrays, counts, groups=groups)

    return Evaluator(
        judge=Sweep(judge, ClassificationState.empty(len(counts))),
        arrays=lambda found, extra, about: found.arrays(),
        summarize=summarize,
        columns=column.CLASSIFICATION,
        judged="balanced_accuracy",
    )


CLASSIFICATION = Component("accuracy by class and group, calibration", NoOptions, make)
