"""The labelled part of an objective, as every method with labels has it.

Loss, class weights and their late phase come from the config's sections; a method adds
what is its own.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import schedules
from ltjax._numerics import class_lookup
from ltjax.classifiers import adjust_logits
from ltjax.losses.component import LossContext
from ltjax.methods.method import Part, Setting, evaluated
from ltjax.options import live
from ltjax.sharpness import reduction_weights


def phase_of(setting: Setting, state: Any) -> jax.Array:
    """0 before `weights.start`, 1 from then on."""
    return schedules.phase(state.step, (setting.late_step,))


def class_weights(setting: Setting, state: Any, labels: Any, mask: Any) -> jax.Array:
    """[K]: 1 before the late phase, then the weights of the config."""
    weights = setting.weights
    ones = jnp.ones(setting.num_classes, jnp.float32)
    if weights.of_batch is not None:
        late = weights.of_batch(labels, mask)
    else:
        late = weights.table(live("weights", weights.options, state.hyper))
    return jnp.where(phase_of(setting, state) > 0, late, ones)


def base_weights(setting: Setting, state: Any, labels: Any, mask: Any) -> jax.Array:
    """[B] weights of the examples in the objective; padding has 0."""
    row = class_weights(setting, state, labels, mask)
    return reduction_weights(
        len(labels),
        class_lookup(row, labels),
        where=mask,
        normalize=setting.weights.normalize,
    )


def labelled_part(setting: Setting, state: Any, batch: Any) -> Part:
    """The part of the objective that the labelled rows of a batch make."""
    labels, mask = batch["label"], batch["mask"]
    return Part(labels, base_weights(setting, state, labels, mask))


def loss_options(setting: Setting, state: Any) -> Any:
    """The options of the loss, swept ones traced."""
    return live("loss", setting.loss_options, state.hyper)


def loss_context(
    setting: Setting,
    state: Any,
    params: Any,
    model_state: Any,
    *,
    mask: Any = None,
    memory: Any = None,
    role: str = "main",
) -> LossContext:
    """What the loss may depend on besides the outputs of a network and labels."""
    vectors = setting.networks[role].class_vectors
    return LossContext(
        np.asarray(setting.class_counts),
        phase_of(setting, state),
        params,
        model_state,
        vectors and vectors(params, model_state),
        mask,
        memory,
    )


def label_loss(
    setting: Setting, state: Any, outputs: Any, labels: Any, context: LossContext
) -> jax.Array:
    """[B], the loss of the config on outputs and labels."""
    return setting.loss.fn(outputs, labels, loss_options(setting, state), context)


def accuracy(outputs: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
    """(number of hits, number of examples) of a batch with labels."""
    hit = jnp.argmax(outputs["logits"], axis=-1) == batch["label"]
    mask = batch["mask"]
    return jnp.sum(hit & mask), jnp.sum(mask)


def prediction(
    setting: Setting, tau: Callable[[Any], Any] = lambda state: 0.0
) -> Callable[[Any, jax.Array], dict[str, jax.Array]]:
    """How a method predicts that learns by the loss of its config.

    Args:
        setting: of the method.
        tau: state -> strength of the post-hoc logit adjustment.

    Returns:
        `predict(state, inputs)`: the network's outputs, their "logits" scaled to the
        loss's probabilities and adjusted.
    """

    def predict(state, inputs):
        outputs = evaluated(setting, state, inputs)
        logits = outputs["logits"]
        if setting.loss.confidence is not None:
            logits = setting.loss.confidence(loss_options(setting, state)) * logits
        logits = adjust_logits(logits, setting.class_counts, tau=tau(state))
        return {**outputs, "logits": logits}

    return predict
