r"""Pixel-wise supervised learning: the mean loss over the pixels that have a class.

.. math:: \ell_i = \frac{1}{|V_i|} \sum_{p \in V_i} w_{y_{ip}}\, \ell(z_{ip}, y_{ip})

Any loss of the config that takes logits and labels serves; class statistics are pixel
counts.

References:
    Cross-entropy is the baseline of Han et al., "AUCSeg: AUC-oriented Pixel-level
    Long-tail Semantic Segmentation", NeurIPS 2024.
"""

from typing import Any

import jax.numpy as jnp

from ltjax._numerics import class_lookup
from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Setting,
    batch_pass,
    even_part,
)
from ltjax.metrics.segmentation import IGNORED
from ltjax.options import Component, NoOptions


def pixelwise(options: NoOptions, setting: Setting) -> Method:
    """Pixel-wise training on the column "targets" [N, H, W].

    Args:
        options: none.
        setting: the network "main" gives logits [B, H, W, K].

    Returns:
        A `Method`.
    """
    rule = setting.rule

    def loss(params, state, batch, *, key, program):
        outputs, model_state = batch_pass(setting, params, state, batch, key=key)
        targets = batch["targets"].astype(jnp.int32)
        valid = (targets != IGNORED) & batch["mask"][:, None, None]
        known = jnp.where(valid, targets, 0)
        logits = outputs["logits"]
        flat = {"logits": logits.reshape(-1, logits.shape[-1])}
        context = labelled.loss_context(
            setting, state, params, model_state, mask=valid.reshape(-1)
        )
        values = labelled.label_loss(setting, state, flat, known.reshape(-1), context)
        weights = labelled.class_weights(setting, state, known.reshape(-1), None)
        weighted = class_lookup(weights, known) * values.reshape(targets.shape)
        count = jnp.sum(valid, axis=(1, 2))
        mean = jnp.sum(jnp.where(valid, weighted, 0), axis=(1, 2))
        hit = (jnp.argmax(logits, axis=-1) == targets) & valid
        aux = {
            "model_state": model_state,
            "outputs": {"logits": logits},
            "metrics": {"accuracy": (jnp.sum(hit), jnp.sum(valid))},
        }
        return {"label": mean / jnp.maximum(count, 1)}, aux

    def terms(state, batch, aux, *, program):
        parts = {"label": even_part(batch, batch["label"])}
        return rule.terms(parts, state, batch, program.rule)

    return Method(
        loss=loss,
        terms=terms,
        predict=labelled.prediction(setting),
        evaluators=("segmentation",),
        class_part="label",
    )


def pixel_needs(options: Any, config) -> list[str]:
    """Faults of a config whose method averages losses of single pixels."""
    faults = []
    if config.weights.facts.of_batch:
        faults.append(
            f"config.weights.name is {config.weights.name!r}, but pixels are weighted"
            " by the training counts, expected other weights"
        )
    if config.loss.facts.couples_batch:
        faults.append(
            f"config.loss.name is {config.loss.name!r}, which compares the rows of a"
            " batch with each other, expected a loss of single pixels"
        )
    return faults


PIXELWISE = Component(
    "any loss, averaged over the pixels of an image",
    NoOptions,
    pixelwise,
    pixel_needs,
    lambda options: MethodFacts(
        dense=True, columns=("targets",), pixel_columns=("targets",)
    ),
)
