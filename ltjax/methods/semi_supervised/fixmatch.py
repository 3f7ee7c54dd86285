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
from collections.abc import Sequence
from typing import Any

import jax

from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Setting,
    even_part,
)
from ltjax.methods.semi_supervised import streams
from ltjax.methods.semi_supervised.streams import STREAM
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class ConfidenceOptions:
    """Shared by the methods that build on FixMatch."""

    threshold: float = option(
        0.95, "smallest probability of a guess that counts", low=0, high=1, sweep=True
    )
    lambda_u: float = option(1.0, "weight of the unlabelled term", low=0, sweep=True)


@dataclasses.dataclass(frozen=True)
class FixMatchOptions(ConfidenceOptions):
    """Of FixMatch."""

    guess: str = option(
        "separate",
        "guesses by a pass of their own, or by that of all views",
        choices=("separate", "joint"),
    )


def with_targets(batch: Any, **more: Any) -> dict:
    """The batch whose stream has further leaves [B, m, ...]."""
    return {**batch, STREAM: {**batch[STREAM], **more}}


def treated(
    setting: Setting, state: Any, batch: Any, guesses, threshold, *, features
) -> tuple:
    """(method_state, batch with "target" and "confident") after the treatment."""
    kept, found = setting.treatment.apply(state, guesses, batch, features=features)
    target, confident = streams.decide(found, threshold, batch[STREAM]["mask"])
    return kept, with_targets(batch, target=target, confident=confident)


def objective(
    setting: Setting,
    params: Any,
    state: Any,
    batch: Any,
    own: dict,
    logits: Sequence[jax.Array],
    model_state: Any,
    *,
    target: jax.Array,
    confident: jax.Array,
) -> tuple[dict, dict]:
    """The two losses of FixMatch, and its aux.

    Args:
        setting: of the method.
        params: of the network.
        state: train state.
        batch: with a stream.
        own: outputs of the labelled rows.
        logits: [B, m, K] of each strong view.
        model_state: of the network, after the pass.
        target: int [B, m].
        confident: bool [B, m], which of them count.

    Returns:
        {"label", "unlabelled"} and aux.
    """
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
            **streams.pseudo_label_metrics(setting, target, confident, batch[STREAM]),
            **streams.treatment_metrics(setting, state),
        },
    }
    return losses, aux


def prepared_objective(
    setting: Setting,
    params: Any,
    state: Any,
    batch: Any,
    *,
    key: Any,
    more: Sequence[str] = (),
) -> tuple[dict, dict, dict, list[dict]]:
    """One pass, and the losses of FixMatch on what `prepare` left in the stream.

    Args:
        setting: of the method.
        params: of the network.
        state: train state.
        batch: whose stream has "target" and "confident", see `treated`.
        key: of dropout.
        more: further views of the stream for the same pass.

    Returns:
        (losses, aux) of `objective`, outputs of the labelled rows, and outputs of the
        strong views, then of `more`.
    """
    stream = batch[STREAM]
    strong = streams.views_of(stream, "strong")
    (own,), views, model_state = streams.passed(
        setting, params, state, batch, [*strong, *more], key=key
    )
    losses, aux = objective(
        setting,
        params,
        state,
        batch,
        own,
        [view["logits"] for view in views[: len(strong)]],
        model_state,
        target=stream["target"],
        confident=stream["confident"],
    )
    return losses, aux, own, views


def parts_of(setting: Setting, state: Any, batch: Any, target: Any, weight) -> dict:
    """The parts of both losses; `weight` is that of the unlabelled one.

    A row's companions count as the class that the first of them is taken for.
    """
    classes, base = even_part(batch, target[:, 0])
    return {
        "label": labelled.labelled_part(setting, state, batch),
        "unlabelled": Part(classes, weight * base),
    }


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
        now = live("method", options, state.hyper)
        found, features = streams.guesses(setting, state, batch[STREAM], key=key)
        return treated(setting, state, batch, found, now.threshold, features=features)

    def loss(params, state, batch, *, key, program):
        stream = batch[STREAM]
        names = streams.views_of(stream, "strong")
        own, views, model_state = streams.passed(
            setting, params, state, batch, [*names, "weak"] if joint else names, key=key
        )
        logits = [view["logits"] for view in views]
        if joint:
            now = live("method", options, state.hyper)
            found = jax.lax.stop_gradient(jax.nn.softmax(logits.pop()))
            target, confident = streams.decide(found, now.threshold, stream["mask"])
        else:
            target, confident = stream["target"], stream["confident"]
        return objective(
            setting,
            params,
            state,
            batch,
            own[0],
            logits,
            model_state,
            target=target,
            confident=confident,
        )

    def terms(state, batch, aux, *, program):
        target = aux["rows"]["target"] if joint else batch[STREAM]["target"]
        weight = live("method", options, state.hyper).lambda_u
        parts = parts_of(setting, state, batch, target, weight)
        return rule.terms(parts, state, batch, program.rule)

    return Method(
        loss=loss,
        terms=terms,
        predict=labelled.prediction(setting),
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
