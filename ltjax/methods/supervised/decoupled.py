r"""Decoupled learning: the backbone is kept, the classifier is made anew.

Three of the four classifiers of Kang et al. need no method of their own:

- cRT is a config: `init_from` a finished run, `init_skip=("head",)`, the class-balanced
  sampler, `optimizer.train="head"`;
- LWS is the same with a network that has one learnable scale per class
  (`head.class_scale`), of which only the scales train;
- tau-normalization and nearest class means are other ways to predict from a finished
  run: functions `(fitted, outputs) -> logits` of the outputs of its network, made by
  `tau_normalized` and `nearest_mean`.

References:
    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
    ICLR 2020.
"""

from collections.abc import Callable

import jax

from ltjax._checks import check_choice
from ltjax.classifiers import (
    ClassMeans,
    class_mean_scores,
    tau_normalize_logits,
)


def tau_normalized(*, bias_mode: str = "drop") -> Callable[..., jax.Array]:
    """Prediction of the tau-normalized linear head.

    Args:
        bias_mode: "drop" (published) or "keep", see `tau_normalize_logits`.

    Returns:
        `logits(fitted, outputs)` with fitted = {"tau", "kernel" [D, K] and, if the head
        has one, "bias" [K]}.
    """
    check_choice("tau_normalized", "bias_mode", bias_mode, ("drop", "keep"))

    def logits(fitted: dict, outputs: dict) -> jax.Array:
        return tau_normalize_logits(
            outputs["logits"],
            fitted["kernel"],
            fitted.get("bias"),
            tau=fitted["tau"],
            bias_mode=bias_mode,
        )

    return logits


def nearest_mean(*, score: str = "euclidean") -> Callable[..., jax.Array]:
    """Prediction by the nearest class mean of the training features.

    Args:
        score: "euclidean" or "dot", see `class_mean_scores`.

    Returns:
        `logits(fitted, outputs)` with fitted the `ClassMeans`.
    """
    check_choice("nearest_mean", "score", score, ("euclidean", "dot"))

    def logits(fitted: ClassMeans, outputs: dict) -> jax.Array:
        return class_mean_scores(outputs["features"], fitted, score=score)

    return logits
