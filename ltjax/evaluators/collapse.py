"""Neural collapse of the training set: NC1 to NC4 of every evaluation.

Features are those of evaluation mode without augmentation. Two passes: class means
first, then the spread around those means.
"""

import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.methods.method import averaged
from ltjax.metrics import (
    ClassMeanState,
    CollapseState,
    collapse_geometry,
    collapse_metrics,
)
from ltjax.options import Component, NoOptions


def make(options: NoOptions, setting: EvaluatorSetting) -> Evaluator:
    """See `ltjax.metrics.CollapseMetrics`.

    Scalars are "nc1", "nc1_balanced", "nc2_...", "nc3", "nc4" and "minority_collapse"
    (of the few-shot classes; NaN for fewer than two of them).

    Raises:
        ValueError: if the network does not expose its class vectors.
    """
    network, num_classes = setting.networks["main"], len(setting.class_counts)
    vectors = network.class_vectors
    if vectors is None:
        raise ValueError(
            "collapse: the network does not expose its class vectors, expected a head"
            " with `class_vectors`"
        )

    def outputs_of(state, batch):
        params, model_state = averaged(state, ema=setting.evaluate_ema)
        return network.forward(params, model_state, batch["inputs"], train=False)[0]

    def means(state, sums, batch, extra):
        features = outputs_of(state, batch)["features"]
        return sums.update(features, batch["label"], batch["mask"])

    def spread(state, sums, batch, geometry):
        out = outputs_of(state, batch)
        features, logits = out["features"], out["logits"]
        return sums.update(geometry, features, logits, batch["label"], batch["mask"])

    def class_vectors(state):
        return vectors(*averaged(state, ema=setting.evaluate_ema))

    def arrays(found, geometry, rows):
        metrics = collapse_metrics(geometry, found, rows, few=setting.groups["few"])
        return {name: np.asarray(value) for name, value in metrics._asdict().items()}

    def summarize(arrays):
        return {name: value for name, value in arrays.items() if value.ndim == 1}

    return Evaluator(
        judge=Sweep(spread, CollapseState.empty(num_classes)),
        arrays=arrays,
        summarize=summarize,
        bank=Sweep(means, ClassMeanState.empty(num_classes, network.num_features)),
        digest=collapse_geometry,
        about=class_vectors,
        on_train=True,
    )


COLLAPSE = Component("neural collapse of the training set", NoOptions, make)
