r"""Several labels per example: any loss of multi-hot targets.

.. math:: \frac1B \sum_i \ell\big( f(x_i), Y_i \big), \qquad Y_i \in \{0, 1\}^K

The loss of the config takes the column "targets" [B, K]; losses that warm up are in
their first phase until `weights.start`. Samplers and gradient rules that tell classes
apart go by the rarest label of an example.

References:
    Wang et al., "Top-K Pairwise Ranking", IJCV 2024; Wu et al., "Distribution-Balanced
    Loss for Multi-Label Classification in Long-Tailed Datasets", ECCV 2020.
"""

import functools

import jax.numpy as jnp
import numpy as np

from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Setting,
    batch_pass,
    evaluated,
    even_part,
)
from ltjax.options import Component, ConfigError, NoOptions


def multi_label(options: NoOptions, setting: Setting) -> Method:
    """Training on the column "targets" [N, K].

    Args:
        options: none.
        setting: the network "main", a loss of several labels, the rule.

    Returns:
        A `Method`.

    Raises:
        ConfigError: if the targets are not one row of 0 and 1 for every example, with
            at least one 1.
    """
    rule = setting.rule
    _check_targets(setting.columns["targets"])

    def loss(params, state, batch, *, key, program):
        mask, targets = batch["mask"], batch["targets"]
        outputs, model_state = batch_pass(setting, params, state, batch, key=key)
        context = labelled.loss_context(setting, state, params, model_state, mask=mask)
        values = labelled.label_loss(setting, state, outputs, targets, context)
        first = jnp.argmax(outputs["logits"], axis=-1)
        hit = jnp.take_along_axis(targets, first[:, None], axis=1)[:, 0] > 0
        aux = {
            "model_state": model_state,
            "outputs": outputs,
            "metrics": {"precision_at_1": (jnp.sum(hit & mask), jnp.sum(mask))},
        }
        return {"label": values}, aux

    def terms(state, batch, aux, *, program):
        parts = {"label": even_part(batch, batch["label"])}
        return rule.terms(parts, state, batch, program.rule)

    return Method(
        loss=loss,
        terms=terms,
        predict=functools.partial(evaluated, setting),
        evaluators=("multilabel",),
        class_part="label",
    )


def _check_targets(targets: np.ndarray) -> None:
    if targets.ndim != 2:
        fault = f"targets of shape {targets.shape}, expected [N, K]: several labels"
    elif ((targets != 0) & (targets != 1)).any():
        fault = "targets that are neither 0 nor 1"
    elif not targets.any(axis=1).all():
        row = int(np.argmin(targets.any(axis=1)))
        fault = f"no label for example {row}, expected at least one for each"
    else:
        return
    raise ConfigError([f"method 'multi_label': the training set has {fault}"])


MULTI_LABEL = Component(
    "any loss of several labels per example",
    NoOptions,
    multi_label,
    facts=lambda options: MethodFacts(
        head="linear", reads_weights=False, multi_label=True, columns=("targets",)
    ),
)
