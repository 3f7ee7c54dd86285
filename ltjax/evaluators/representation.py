"""How good features are: the vote of the nearest training examples.

The training set's features are gathered first, without augmentation; every test feature
is then classified by its neighbours among them, in blocks.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.methods.method import averaged
from ltjax.metrics import classification, knn_predict
from ltjax.metrics.column import Column
from ltjax.metrics.streaming import ClassificationState
from ltjax.options import Component, option

_PREFIX = "knn_"
# Calibration bins are those of confidences, which votes are not.
_OF_VOTES = ("ece", "mce")


@dataclasses.dataclass(frozen=True)
class KNNOptions:
    """Of the k-nearest-neighbour vote."""

    k: int = option(10, "neighbours that vote", low=1)
    temperature: float = option(
        0.0, "a cosine s votes with exp(s / temperature); 0 = one vote each", low=0
    )
    features: str = option(
        "features", "output of the network that is compared, such as 'projection'"
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
    network, counts = setting.networks["main"], np.asarray(setting.class_counts)
    num_classes, k = len(counts), min(options.k, setting.num_train)

    def features_of(state, batch):
        params, model_state = averaged(state, ema=setting.evaluate_ema)
        outputs, _ = network.forward(params, model_state, batch["inputs"], train=False)
        if options.features not in outputs:
            raise ValueError(
                f"knn: the network has no output {options.features!r}, expected one of"
                f" {', '.join(sorted(outputs))}"
            )
        return outputs[options.features]

    def gather(state, batch, extra):
        return features_of(state, batch), batch.get("truth", batch["label"])

    def judge(state, sums, batch, bank):
        rows, labels = bank
        found = knn_predict(
            features_of(state, batch),
            rows,
            labels,
            num_classes=num_classes,
            k=k,
            temperature=options.temperature or None,
            block=options.block,
        )
        votes = jax.nn.one_hot(found, num_classes, dtype=jnp.float32)
        return sums.update(votes, batch["label"], batch["mask"])

    def arrays(found, extra, about):
        return {f"{_PREFIX}{name}": x for name, x in found.arrays().items()}

    def summarize(arrays):
        own = {
            name.removeprefix(_PREFIX): x
            for name, x in arrays.items()
            if name.startswith(_PREFIX)
        }
        values = classification.summarize(own, counts, groups=setting.groups)
        return {
            f"{_PREFIX}{name}": value
            for name, value in values.items()
            if not name.startswith(_OF_VOTES)
        }

    means = {"balanced_accuracy": "All", "many": "Many", "medium": "Medium"}
    columns = tuple(
        Column(
            f"{_PREFIX}{key}",
            f"k-NN {title}",
            "max",
            f"mean recall of {options.k}-NN on {options.features},"
            f" {title.lower()} classes",
            brief={"All": "knn", "Few": "knn few"}.get(title, ""),
        )
        for key, title in {**means, "few": "Few", "worst": "Worst"}.items()
    )
    return Evaluator(
        judge=Sweep(judge, ClassificationState.empty(num_classes)),
        arrays=arrays,
        summarize=summarize,
        columns=columns,
        bank=Sweep(gather),
        judged="knn_balanced_accuracy",
    )


KNN = Component("vote of the k nearest training features (Wu 2018)", KNNOptions, knn)
