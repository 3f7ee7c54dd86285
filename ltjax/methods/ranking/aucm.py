r"""AUCM: the area under the ROC curve as a min-max problem, with PESG's variables.

.. math:: \min_{w, a, b} \max_{\alpha \ge 0}\; \mathrm{mean}_P (h-a)^2
          + \mathrm{mean}_Q (h-b)^2
          + 2\alpha (m + \mathrm{mean}_Q h - \mathrm{mean}_P h) - \alpha^2

The network descends by the optimizer of the config; a, b and alpha are method state and
move after it, by their gradient at the outputs of the step's own pass. From zero they
may let the scores collapse, so a run begins with the loss of the config, during which
they are optimal for every batch. The metric "monitor" is the loss over pairs that the
saddle stands for: never negative, and comparable between steps.

References:
    Yuan et al., "Large-scale Robust Deep AUC Maximization", ICCV 2021. The released
    optimizer also pulls the network's weights to their running average of the stage
    before; here that is left to the optimizer of the config.
"""

import functools

import jax.numpy as jnp

from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Setting,
    batch_pass,
    evaluated,
    even_part,
)
from ltjax.methods.ranking import saddle
from ltjax.methods.ranking.saddle import SaddleOptions
from ltjax.options import Component, live


def aucm(options: SaddleOptions, setting: Setting) -> Method:
    """Min-max AUC, binary or one class against the rest.

    Args:
        options: see `SaddleOptions`.
        setting: the network "main", loss (of the warm-up) and rule.

    Returns:
        A `Method` whose state holds the auxiliary variables.
    """
    rule = setting.rule
    start = setting.steps(options.warmup)

    def init(key, params, model_state):
        return saddle.init_state(setting)

    def loss(params, state, batch, *, key, program):
        mask, labels = batch["mask"], batch["label"]
        outputs, model_state = batch_pass(setting, params, state, batch, key=key)
        context = labelled.loss_context(setting, state, params, model_state, mask=mask)
        first = labelled.label_loss(setting, state, outputs, labels, context)
        now = live("method", options, state.hyper)
        found = saddle.saddle_loss(
            setting, now, outputs["logits"], labels, saddle.duals_of(state), mask
        )
        aux = {
            "model_state": model_state,
            "outputs": outputs,
            "metrics": {
                "accuracy": labelled.accuracy(outputs, batch),
                "monitor": (jnp.sum(found.monitor * mask), jnp.sum(mask)),
            },
        }
        return {"label": jnp.where(state.step < start, first, found.values)}, aux

    def terms(state, batch, aux, *, program):
        parts = {"label": even_part(batch, batch["label"])}
        return rule.terms(parts, state, batch, program.rule)

    def update(state, batch, aux):
        now = live("method", options, state.hyper)
        return saddle.move_duals(
            setting,
            now,
            state.method_state,
            aux["outputs"]["logits"],
            batch["label"],
            batch["mask"],
            warm=state.step <= start,
        )

    return Method(
        loss=loss,
        terms=terms,
        predict=functools.partial(evaluated, setting),
        init=init,
        update=update,
        evaluators=("auc", "classification"),
        class_part="label",
    )


AUCM = Component(
    "min-max AUC with a, b and alpha as state (Yuan 2021)",
    SaddleOptions,
    aucm,
    facts=lambda options: MethodFacts(reads_weights=False, couples_batch=True),
)
