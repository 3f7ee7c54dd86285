r"""SimPro: the unlabelled distribution by expectation maximization during training.

.. math:: q_j = \mathrm{softmax}(z_j^{weak} + \tau \log \pi_u), \qquad
          L = \frac{\mu N}{M}\, \mathrm{CE}(z_i + \tau \log \pi_a, y_i)
            + [\max q_j \ge \theta]\, \mathrm{CE}(z_j^{strong} + \tau \log \pi_a, q_j)

:math:`\pi_u` is the estimated distribution of the unlabelled examples,
:math:`\pi_a` that of all. Both move once per pass over the unlabelled examples, by a
tenth, towards the guesses of that pass that counted. The labelled term is the mean over
a weak and a strong view. The network's own logits are balanced and predict.

References:
    Du, Han and Huang, "SimPro: A Simple Probabilistic Framework Towards Realistic
    Long-Tailed Semi-Supervised Learning", ICML 2024: tau 2 and threshold 0.95 on
    CIFAR-10, 1 and 0.2 on CIFAR-100 and ImageNet. As in the code, the evidence of the
    unlabelled distribution has one example added to its sum, so that it sums to less
    than 1 by as much.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from ltjax import losses as loss_functions
from ltjax import pseudo_labels
from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Setting,
    evaluated,
    even_part,
)
from ltjax.methods.semi_supervised import fixmatch, streams
from ltjax.methods.semi_supervised.streams import STREAM, flat
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class SimProOptions(fixmatch.ConfidenceOptions):
    """Of SimPro."""

    tau: float = option(
        2.0, "strength of both priors: 1 with 100 classes", low=0, sweep=True
    )
    decay: float = option(0.9, "of the priors", low=0, high=1, sweep=True)


def simpro(options: SimProOptions, setting: Setting) -> Method:
    """SimPro on views of the labelled and of the unlabelled examples.

    Args:
        options: see `SimProOptions`.
        setting: with a companion; both streams have the views "weak" and "strong".

    Returns:
        A `Method` whose state are the priors "unlabelled" and "all", and the evidence
        of this pass, "guessed" and "labelled".
    """
    stream = setting.companions[STREAM]
    rows = setting.batch_size * stream.ratio
    every = max(stream.size // rows, 1)  # steps of a pass
    labelled_share = stream.ratio * setting.num_examples / stream.size
    classes = setting.num_classes
    counts = jnp.asarray(setting.class_counts, jnp.float32)

    def init(key, params, model_state):
        return {
            "unlabelled": jnp.full(classes, 1 / classes),
            "all": counts / jnp.sum(counts),
            "guessed": jnp.zeros(classes),
            "labelled": jnp.zeros(classes),
        }

    def prepare(state, batch, *, key, program):
        kept, now = state.method_state, live("method", options, state.hyper)
        (weak,) = streams.guessed(setting, state, batch[STREAM], ("weak",), key=key)
        guess = pseudo_labels.prior_posterior(
            weak["logits"], kept["unlabelled"], tau=now.tau
        )
        mask = batch[STREAM]["mask"]
        target, confident = streams.decide(guess, now.threshold, mask)
        more = pseudo_labels.class_evidence(
            flat(guess), threshold=now.threshold, where=mask.ravel()
        )
        seen = jax.nn.one_hot(batch["label"], classes) * batch["mask"][:, None]
        kept = {
            **kept,
            "guessed": kept["guessed"] + more,
            "labelled": kept["labelled"] + jnp.sum(seen, axis=0),
        }
        found = {"target": target, "confident": confident, "guess": guess}
        return kept, fixmatch.with_targets(batch, **found)

    def loss(params, state, batch, *, key, program):
        stream, kept = batch[STREAM], state.method_state
        tau = live("method", options, state.hyper).tau
        own, views, model_state = streams.passed(
            setting,
            params,
            state,
            batch,
            streams.views_of(stream, "strong"),
            key=key,
            labelled=("weak", "strong"),
        )

        def with_prior(logits):
            """The logits under the distribution of all examples."""
            return pseudo_labels.debias(logits, kept["all"], tau=-tau)

        each = [
            loss_functions.softmax_cross_entropy(
                with_prior(one["logits"]), batch["label"]
            )
            for one in own
        ]
        losses = {
            "label": sum(each) / len(each),
            "unlabelled": streams.agreement(
                [with_prior(view["logits"]) for view in views],
                stream["guess"],
                stream["confident"].astype(jnp.float32),
            ),
        }
        aux = {
            "model_state": model_state,
            "outputs": own[0],
            "metrics": {
                "accuracy": labelled.accuracy(own[0], batch),
                **streams.pseudo_label_metrics(
                    setting, stream["target"], stream["confident"], stream
                ),
                **streams.prior_metrics(setting, kept["unlabelled"]),
            },
        }
        return losses, aux

    def terms(state, batch, aux, *, program):
        weight = live("method", options, state.hyper).lambda_u
        classes, base = even_part(batch, batch[STREAM]["target"][:, 0])
        label = even_part(batch, batch["label"])
        parts = {
            "label": label._replace(base=labelled_share * label.base),
            "unlabelled": Part(classes, weight * base),
        }
        return setting.rule.terms(parts, state, batch, program.rule)

    def update(state, batch, aux):
        kept = state.method_state
        decay = live("method", options, state.hyper).decay
        guessed = kept["guessed"]
        moved = {
            "unlabelled": pseudo_labels.update_prior(
                kept["unlabelled"], guessed, decay=decay, pseudo_count=1.0
            ),
            "all": pseudo_labels.update_prior(
                kept["all"], guessed + kept["labelled"], decay=decay
            ),
            "guessed": jnp.zeros_like(guessed),
            "labelled": jnp.zeros_like(guessed),
        }
        ends = state.step % every == 0
        return {name: jnp.where(ends, moved[name], kept[name]) for name in kept}

    return Method(
        loss=loss,
        terms=terms,
        predict=functools.partial(evaluated, setting),
        init=init,
        prepare=prepare,
        update=update,
        class_part="label",
    )


def _needs(options: SimProOptions, config) -> list[str]:
    return streams.stream_needs(config)


SIMPRO = Component(
    "SimPro: the unlabelled distribution by expectation maximization (Du 2024)",
    SimProOptions,
    simpro,
    _needs,
    lambda options: MethodFacts(
        head="linear",
        reads_loss=False,
        reads_weights=False,
        companions=True,
        views=("weak", "strong"),
    ),
)
