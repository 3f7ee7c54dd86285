r"""Sel-CL+: a new classifier on what Sel-CL has learned, with its own second opinion.

Before the first step, near neighbors in the features that the run starts from select
the examples that it trains on (`confident_examples`). From `bootstrap` on, the target
of a row is

.. math:: 0.8\, e_{\tilde y} + 0.2\, e_{\hat y}, \qquad
          \hat y = \arg\max f(x) \text{ in evaluation mode}

on mixed inputs, with the loss and class weights of the config.

References:
    Li, Xia, Ge, Liu, "Selective-Supervised Contrastive Learning with Noisy Labels",
    CVPR 2022: 70 epochs at a learning rate of 0.001, bootstrapping after 30. There the
    examples are those of Sel-CL's last epoch, selected by projections; here the pass is
    made anew, by the features. The opinion is that on the batch's own view.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Refresh,
    Setting,
    batch_pass,
    evaluated,
)
from ltjax.methods.noisy_label.kept import believed_aux
from ltjax.methods.noisy_label.sel_cl import SelectionOptions, mixed_parts, selected
from ltjax.methods.supervised.supervised import SUPERVISED
from ltjax.options import Component, live, option
from ltjax.resampling.mixup import mixup


@dataclasses.dataclass(frozen=True)
class SelCLTuneOptions(SelectionOptions):
    """Of the second stage of Sel-CL+."""

    mixup: float = option(1.0, "alpha of Beta(alpha, alpha)", above=0)
    bootstrap: str = option("43%", "start of bootstrapping", duration=True)
    opinion: float = option(
        0.2, "share of the own prediction in a target", low=0, high=1, sweep=True
    )


def sel_cl_tune(options: SelCLTuneOptions, setting: Setting) -> Method:
    """Bootstrapped training on the selected examples.

    Args:
        options: see `SelCLTuneOptions`.
        setting: the network "main", `loss`, `weights`, the rule and the given labels.

    Returns:
        A `Method` with the table "selected".
    """
    labels, num_classes = np.asarray(setting.labels), setting.num_classes
    start, rule = setting.steps(options.bootstrap), setting.rule

    predict = labelled.prediction(setting)

    def init(key, params, model_state):
        return {"selected": jnp.zeros(setting.table_size, bool)}

    def gather(state, batch):
        return evaluated(setting, state, batch["inputs"])["features"]

    def select(kept, features, *, step):
        table = np.array(kept["selected"])
        table[: len(labels)] = selected(options, features, labels, num_classes)
        return {"selected": table}

    def prepare(state, batch, *, key, program):
        kept = state.method_state
        opinion = jnp.argmax(predict(state, batch["inputs"])["logits"], axis=1)
        mixed = mixup(key, batch["inputs"], alpha=options.mixup)
        more = {
            "inputs": mixed.inputs,
            "believed": kept["selected"][batch["index"]],
            "partner": batch["label"][mixed.partner],
            "partner_row": mixed.partner,
            "lam": jnp.broadcast_to(mixed.lam, batch["label"].shape),
            "opinion": opinion.astype(jnp.int32),
        }
        return kept, {**batch, **more}

    def loss(params, state, batch, *, key, program):
        outputs, model_state = batch_pass(setting, params, state, batch, key=key)
        context = labelled.loss_context(
            setting, state, params, model_state, mask=batch["mask"]
        )
        own = {"label": batch["opinion"]}
        own["partner"] = batch["opinion"][batch["partner_row"]]
        made = {}
        for name, opinion in own.items():
            made[name] = labelled.label_loss(
                setting, state, outputs, batch[name], context
            )
            made[f"{name}_opinion"] = labelled.label_loss(
                setting, state, outputs, opinion, context
            )
        return made, believed_aux(model_state, outputs, batch)

    def terms(state, batch, aux, *, program):
        share = live("method", options, state.hyper).opinion
        share = jnp.where(state.step >= start, share, 0.0)
        parts = {}
        for name, part in mixed_parts(setting, state, batch).items():
            parts[name] = Part(part.labels, (1 - share) * part.base)
            parts[f"{name}_opinion"] = Part(part.labels, share * part.base)
        return rule.terms(parts, state, batch, program.rule)

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        init=init,
        prepare=prepare,
        refreshes=(Refresh(lambda step: step == 0, select, gather),),
        tables=("selected",),
        class_part="label",
    )


SEL_CL_TUNE = Component(
    "Sel-CL+: a new classifier on Sel-CL's features, bootstrapped (Li 2022)",
    SelCLTuneOptions,
    sel_cl_tune,
    SUPERVISED.needs,
    facts=lambda options: MethodFacts(mixes=True),
)
