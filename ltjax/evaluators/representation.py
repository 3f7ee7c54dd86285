"""How good features are: votes of neighbors, and their spread on the sphere.

What needs the training set's features gathers them first, without augmentation; every
test feature is then classified by its neighbors among them, in blocks, or by a linear
classifier that was solved on them (`ltjax.evaluators.probes`). What the training labels
are is known here even if they were hidden from the method.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.methods.method import averaged
from ltjax.metrics import (
    balancedness,
    category_uniformity,
    classification,
    knn_predict,
    per_class_recall,
    uniformity,
)
from ltjax.metrics.column import Column
from ltjax.metrics.streaming import ClassificationState
from ltjax.options import Component, option

# Calibration bins are those of confidences, which votes are not.
_OF_VOTES = ("ece", "mce")


@dataclasses.dataclass(frozen=True)
class FeatureOptions:
    """Shared by all that look at features."""

    features: str = option(
        "features", "output of the network that is looked at, such as 'projection'"
    )


def feature_function(
    caller: str, options: FeatureOptions, setting: EvaluatorSetting
) -> Callable[[Any, Mapping], jax.Array]:
    """(state, batch) -> features [B, D] of the network "main", in evaluation mode."""
    network = setting.networks["main"]

    def features_of(state, batch):
        params, model_state = averaged(state, ema=setting.evaluate_ema)
        outputs, _ = network.forward(params, model_state, batch["inputs"], train=False)
        if options.features not in outputs:
            raise ValueError(
                f"{caller}: the network has no output {options.features!r}, expected"
                f" one of {', '.join(sorted(outputs))}"
            )
        return outputs[options.features]

    return features_of


def gathered(features_of: Callable) -> Sweep:
    """A pass that keeps (features, true labels) of every example."""

    def gather(state, batch, extra):
        return features_of(state, batch), batch.get("truth", batch["label"])

    return Sweep(gather)


def judged_by(
    prefix: str,
    title: str,
    meaning: str,
    brief: str,
    logits_of: Callable[[Any, Mapping, Any], jax.Array],
    setting: EvaluatorSetting,
    **more: Any,
) -> Evaluator:
    """An evaluator of recalls by class and group, their names led by `prefix`.

    `logits_of` is (state, batch, extra) -> [B, K], whose largest entry is the class.
    """
    counts = np.asarray(setting.class_counts)

    def judge(state, sums, batch, extra):
        return sums.update(
            logits_of(state, batch, extra), batch["label"], batch["mask"]
        )

    def arrays(found, extra, about):
        return {f"{prefix}{name}": x for name, x in found.arrays().items()}

    def summarize(arrays):
        own = {
            name.removeprefix(prefix): x
            for name, x in arrays.items()
            if name.startswith(prefix)
        }
        values = classification.summarize(own, counts, groups=setting.groups)
        values = {n: v for n, v in values.items() if not n.startswith(_OF_VOTES)}
        even = balancedness(per_class_recall(own), setting.groups)
        lost = np.isnan(values["accuracy"])
        for name in ("group_std", "class_std"):
            values[name] = np.where(lost, np.nan, getattr(even, name))
        return {f"{prefix}{name}": value for name, value in values.items()}

    names = {"balanced_accuracy": "All", "many": "Many", "medium": "Medium"}
    columns = tuple(
        Column(
            f"{prefix}{key}",
            f"{title} {name}",
            "max",
            f"mean recall of {meaning}, {name.lower()} classes",
            brief={"All": brief, "Few": f"{brief} few"}.get(name, ""),
        )
        for key, name in {**names, "few": "Few", "worst": "Worst"}.items()
    )
    std = Column(
        f"{prefix}group_std",
        f"{title} Std",
        "min",
        f"sample standard deviation of the group means of {meaning}",
    )
    return Evaluator(
        judge=Sweep(judge, ClassificationState.empty(len(counts))),
        arrays=arrays,
        summarize=summarize,
        columns=(*columns, std),
        judged=f"{prefix}balanced_accuracy",
        **more,
    )


@dataclasses.dataclass(frozen=True)
class KNNOptions(FeatureOptions):
    """Of the k-nearest-neighbor vote."""

    k: int = option(10, "neighbours that vote", low=1)
    temperature: float = option(
        0.0, "a cosine s votes with exp(s / temperature); 0 = one vote each", low=0
    )
    block: int = option(4096, "training examples at a time", low=1)


def knn(options: KNNOptions, setting: EvaluatorSetting) -> Evaluator:
    """Accuracy of the k-NN vote, by class group.

    Args:
        options: see `KNNOptions`.
        setting: the network "main".

    Returns:
        `Evaluator` with the metrics "knn_balanced_accuracy", "knn_many", ...

    Raises:
        ValueError: (when judging) if the network has no output of that name.
    """
    num_classes = len(setting.class_counts)
    k = min(options.k, setting.num_train)
    features_of = feature_function("knn", options, setting)

    def votes(state, batch, bank):
        found = knn_predict(
            features_of(state, batch),
            *bank,
            num_classes=num_classes,
            k=k,
            temperature=options.temperature or None,
            block=options.block,
        )
        return jax.nn.one_hot(found, num_classes, dtype=jnp.float32)

    return judged_by(
        "knn_",
        "k-NN",
        f"{options.k}-NN on {options.features}",
        "knn",
        votes,
        setting,
        bank=gathered(features_of),
    )


@dataclasses.dataclass(frozen=True)
class SphereOptions(FeatureOptions):
    """Of the spread of features."""

    t: float = option(2.0, "sharpness of the potential of uniformity", above=0)
    neighbors: int = option(1, "nearest class centers: 10 on CIFAR-100", low=1)
    block: int = option(1024, "examples whose distances are in memory", low=1)


def sphere(options: SphereOptions, setting: EvaluatorSetting) -> Evaluator:
    """Uniformity of unit features and of class centers, tightness of classes.

    Args:
        options: see `SphereOptions`.
        setting: the network "main".

    Returns:
        `Evaluator` with the metrics "uniformity", "class_uniformity",
        "neighborhood_uniformity" and "class_tightness" (distances within a class).
    """
    num_classes = len(setting.class_counts)
    features_of = feature_function("sphere", options, setting)

    def of_one(features, labels):
        features = features / np.maximum(
            np.linalg.norm(features, axis=1, keepdims=True), 1e-12
        )
        classes = category_uniformity(
            features,
            labels,
            num_classes=num_classes,
            neighbors=min(options.neighbors, num_classes - 1),
            block=options.block,
        )
        spread = uniformity(features, t=options.t, block=options.block)
        return {
            "uniformity": spread,
            "class_uniformity": classes.inter,
            "neighborhood_uniformity": classes.neighborhood,
            "class_tightness": classes.intra,
        }

    def arrays(found, extra, about):
        each = [of_one(*one) for one in zip(*map(np.asarray, found), strict=True)]
        return {name: np.stack([one[name] for one in each]) for name in each[0]}

    def summarize(arrays):
        return {column.key: arrays[column.key] for column in columns}

    columns = (
        Column(
            "class_uniformity",
            "Class uniformity",
            "max",
            "mean distance of the class centers on the sphere",
        ),
        Column(
            "neighborhood_uniformity",
            "Neighborhood",
            "max",
            f"mean distance of a class center to its {options.neighbors} nearest",
        ),
        Column(
            "class_tightness",
            "Tightness",
            "min",
            "mean distance of two unit features of a class",
        ),
        Column(
            "uniformity",
            "Uniformity",
            "min",
            f"log mean Gaussian potential of all pairs, t = {options.t:g}",
        ),
    )
    return Evaluator(
        judge=gathered(features_of),
        arrays=arrays,
        summarize=summarize,
        columns=columns,
    )


KNN = Component("vote of the k nearest training features (Wu 2018)", KNNOptions, knn)
SPHERE = Component(
    "uniformity of features and class centers (Wang 2020, Li 2022)",
    SphereOptions,
    sphere,
)
