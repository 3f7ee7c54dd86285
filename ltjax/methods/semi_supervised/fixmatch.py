r"""FixMatch: confident guesses on a weak view are the labels of a strong view.

.. math:: \frac1B \sum_i \ell(z_i, y_i) + \lambda_u \frac{1}{\mu B} \sum_j
          [\max_k q_{jk} \ge \theta]\; \mathrm{CE}(z_j^{strong}, \arg\max_k q_{jk}),
          \qquad q_j = \mathrm{softmax}(z_j^{weak})

The labelled term is the loss of the config with its class weights, so that logit
adjustment or LDAM take their place as published. Of several strong views the unlabelled
term is the mean. What the `pseudo_labels` section names (DARP, distribution alignment)
treats the guesses before they are compared with the threshold.

References:
    Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and
    Confidence", NeurIPS 2020. The released code takes all views through the network at
    once (`guess="joint"`); by default the guesses are made once per step by a pass of
    their own, whose batch normalization sees the weak views only, which costs a third
    less and gives every pass of a sharp gradient the same targets.
"""

import dataclasses

import jax

from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Setting,
    evaluated,
    even_part,
)
from ltjax.methods.semi_supervised import streams
from ltjax.methods.semi_supervised.streams import STREAM
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class FixMatchOptions:
    """Of FixMatch."""

    threshold: float = option(
        0.95, "smallest probability of a guess that counts", low=0, high=1, sweep=True
    )
    lambda_u: float = option(1.0, "weight of the unlabelled term", low=0, sweep=True)
    guess: str = option(
        "separate",
        "guesses by a pass of their own, or by that of all views",
        choices=("separate", "joint"),
    )


def fixmatch(options: FixMatchOptions, setting: Setting) -> Method:
    """FixMatch on the companions of each labelled row.

    Args:
        options: see `FixMatchOptions`.
        setting: with a companion "unlabelled" whose rows have the views "weak" and
            "strong".

    Returns:
        A `Method`.
    """
    rule, treatment = setting.rule, setting.treatment
    joint = options.guess == "joint"

    def init(key, params, model_state):
        return treatment.init()

    def prepare(state, batch, *, key, program):
        if joint:
            return state.method_state, batch
        stream = batch[STREAM]
        now = live("method", options, state.hyper)
        kept, found = treatment.apply(
            state, streams.guesses(setting, state, stream, key=key), batch
        )
        target, confident = streams.decide(found, now.threshold, stream["mask"])
        more = {"target": target, "confident": confident}
        return kept, {**batch, STREAM: {**stream, **more}}

    def loss(params, state, batch, *, key, program):
        stream = batch[STREAM]
        names = streams.views_of(stream, "strong")
        own, views, model_state = streams.passed(
            setting, params, state, batch, [*names, "weak"] if joint else names, key=key
        )
        own, logits = own[0], [view["logits"] for view in views]
        if joint:
            now = live("method", options, state.hyper)
            found = jax.lax.stop_gradient(jax.nn.softmax(logits.pop()))
            target, confident = streams.decide(found, now.threshold, stream["mask"])
        else:
            target, confident = stream["target"], stream["confident"]
        context = labelled.loss_context(
            setting, state, params, model_state, mask=batch["mask"]
        )
        losses = {
            "label": labelled.label_loss(setting, state, own, batch["label"], context),
            "unlabelled": streams.agreement(logits, target, confident),
        }
        aux = {
            "model_state": model_state,
            "outputs": own,
            "rows": {"target": target},
            "metrics": {
                "accuracy": labelled.accuracy(own, batch),
                **streams.pseudo_label_metrics(target, confident, stream),
                **streams.treatment_metrics(setting, state),
            },
        }
        return losses, aux

    def terms(state, batch, aux, *, program):
        part = labelled.labelled_part(setting, state, batch)
        weight = live("method", options, state.hyper).lambda_u
        # A row's companions count as the class that the first of them is taken for.
        target = aux["rows"]["target"] if joint else batch[STREAM]["target"]
        classes, base = even_part(batch, target[:, 0])
        parts = {"label": part, "unlabelled": Part(classes, weight * base)}
        return rule.terms(parts, state, batch, program.rule)

    def predict(state, inputs):
        outputs = evaluated(setting, state, inputs)
        return labelled.predicted(setting, state, outputs)

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        init=init,
        prepare=prepare,
        refreshes=treatment.refreshes,
        tables=treatment.tables,
        class_part="label",
    )


def _needs(options: FixMatchOptions, config) -> list[str]:
    faults = streams.stream_needs(config)
    split = config.optimizer.accumulate > 1 or config.gradient.facts.groups_rows
    if options.guess == "joint" and split:
        faults.append(
            "config.method.guess is 'joint', whose targets come from the pass itself,"
            " expected 'separate' with micro-batches or groups of rows"
        )
    if options.guess == "joint" and config.pseudo_labels.facts.changes:
        faults.append(
            "config.method.guess is 'joint', whose targets come from the pass itself,"
            f" expected 'separate' with pseudo_labels {config.pseudo_labels.name!r}"
        )
    return faults


FIXMATCH = Component(
    "FixMatch: confident guesses teach a strong view (Sohn 2020)",
    FixMatchOptions,
    fixmatch,
    _needs,
    lambda options: MethodFacts(companions=True, treats_guesses=True),
)
