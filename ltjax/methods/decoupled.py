r"""Decoupled learning: the backbone is kept, the classifier is made anew.

Three of the four classifiers of Kang et al. need no method of their own:

- cRT is a config: `init_from` a finished run, `init_skip=("head",)`, the class-balanced
  sampler, `optimizer.train="head"`;
- LWS is the same with a network that has one learnable scale per class
  (`learnable_scaling`), of which only the scales train;
- tau-normalization and nearest class means are other ways to predict from a finished
  run: functions `(fitted, outputs) -> logits` of the outputs of its network, made by
  `tau_normalized` and `nearest_mean`.

References:
    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
    ICLR 2020.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ltjax._checks import check_choice
from ltjax.classifiers import (
    ClassMeans,
    class_mean_scores,
    init_weight_scaling,
    learnable_weight_scaling,
    tau_normalize_logits,
)

SCALE = "class_scale"  # its name among the parameters


def learnable_scaling(model: Any, num_classes: int, *, power: float = 0.0) -> Any:
    r"""A model whose logits are :math:`f \odot z`, with f [K] a parameter (LWS).

    The head below may be any; its bias is scaled too. f lies at the top level of the
    parameters under "class_scale", so that `optimizer.train="class_scale"` trains it
    alone.

    Args:
        model: an `ltjax.models.Model`.
        num_classes: K.
        power: f starts at :math:`\|w_k\|^{-p}`, from the norms of a linear head's
            columns; 0 starts at ones (published), 0.5 converges sooner.

    Returns:
        A `Model`.

    References:
        Kang et al., ICLR 2020, section 4.4 and published code.
    """

    def start(params):
        if power == 0:
            return jnp.ones(num_classes, jnp.float32)
        return init_weight_scaling(params["head"]["kernel"], tau=power)

    def below(params):
        return {name: value for name, value in params.items() if name != SCALE}

    def init(key, sample_inputs):
        params, model_state = model.init(key, sample_inputs)
        return {**params, SCALE: start(params)}, model_state

    def scaled(call: Callable | None):
        if call is None:
            return None

        def forward(params, model_state, inputs, **options):
            outputs, model_state = call(below(params), model_state, inputs, **options)
            logits = learnable_weight_scaling(outputs["logits"], params[SCALE])
            return {**outputs, "logits": logits}, model_state

        return forward

    def class_vectors(params, model_state):
        return params[SCALE][None, :] * model.class_vectors(below(params), model_state)

    def embed(params, model_state, inputs):
        return model.embed(below(params), model_state, inputs)

    def adopt(params, fresh):
        adopted = model.adopt(below(params), fresh)
        scale = start(adopted) if SCALE in fresh else params[SCALE]
        return {**adopted, SCALE: scale}

    return model._replace(
        init=init,
        forward=scaled(model.forward),
        classify=scaled(model.classify),
        embed=model.embed and embed,
        class_vectors=model.class_vectors and class_vectors,
        adopt=adopt,
        describe=f"{model.describe}, learnable class scale",
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
