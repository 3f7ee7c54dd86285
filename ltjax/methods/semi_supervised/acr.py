r"""ACR: guesses adjusted as strongly as the estimated unlabelled distribution asks for.

.. math:: \hat q_j = \mathrm{softmax}(z_j - \tau \log \pi), \qquad
          \tau = 2 \cdot \mathrm{softmax}(d_{con}, d_{uni}, d_{rev})_1

d are the divergences of the estimated unlabelled distribution from the labelled one,
:math:`\pi`, from a uniform and from a reversed one: the farther from :math:`\pi`, the
larger tau. The first classifier learns from the labels and from the classes of the
largest adjusted guess; the second one from :math:`\mathrm{CE}(z^b + 2 \log \pi, y)` and
from the guesses of the first at tau = 2, and predicts. A guess counts where the
adjusted or the plain one (of the first, or of the second classifier) reaches the
threshold.

References:
    Wei and Gan, "Towards Realistic Long-Tailed Semi-Supervised Learning: Consistency Is
    All You Need", CVPR 2023: tau is 2 at first and set anew every 500 steps after 5
    such epochs; the estimate is a moving average (0.99) of the shares of the second
    classifier's confident guesses. The released code records whether a class occurs
    among them, because its addition in place does not accumulate duplicates; here they
    are counted.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltjax import losses as loss_functions
from ltjax import pseudo_labels
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
class ACROptions(fixmatch.ConfidenceOptions):
    """Of ACR."""

    scale: float = option(2.0, "largest strength of an adjustment", low=0, sweep=True)
    decay: float = option(
        0.99, "of the estimated distribution", low=0, high=1, sweep=True
    )
    start: str = option("1%", "the strength adapts from here on", duration=True)
    every: str = option("500 steps", "between its changes", duration=True)


def acr(options: ACROptions, setting: Setting) -> Method:
    """FixMatch with adaptive adjustments and a balanced classifier.

    Args:
        options: see `ACROptions`.
        setting: the network "main" has the output "branch".

    Returns:
        A `Method` whose state is the estimated distribution "prior", the sum of its
        divergences since the last change, and "strength", tau over its largest value.
    """
    start, every = setting.steps(options.start), max(setting.steps(options.every), 1)
    counts = jnp.asarray(setting.class_counts, jnp.float32)
    labelled_prior = counts / jnp.sum(counts)

    def init(key, params, model_state):
        classes = setting.num_classes
        return {
            "prior": jnp.full(classes, 1 / classes),
            "divergences": jnp.zeros(3),
            "strength": jnp.ones(()),
        }

    def prepare(state, batch, *, key, program):
        kept, stream = state.method_state, batch[STREAM]
        now = live("method", options, state.hyper)
        (weak,) = streams.guessed(setting, state, stream, ("weak",), key=key)

        def decide(tau):
            adjusted = pseudo_labels.debias(weak["logits"], labelled_prior, tau=tau)
            return streams.decide(
                jax.nn.softmax(adjusted), now.threshold, stream["mask"]
            )

        def sure(logits):
            return streams.decide(jax.nn.softmax(logits), now.threshold, stream["mask"])

        target, confident = decide(now.scale * kept["strength"])
        balanced, certain = decide(now.scale)
        evidence = pseudo_labels.class_evidence(
            jax.nn.softmax(flat(weak["branch"])),
            threshold=now.threshold,
            hard=True,
            where=stream["mask"].ravel(),
        )
        prior = pseudo_labels.update_prior(kept["prior"], evidence, decay=now.decay)
        apart = pseudo_labels.acr_divergences(prior, labelled_prior)
        kept = {**kept, "prior": prior, "divergences": kept["divergences"] + apart}
        batch = fixmatch.with_targets(
            batch,
            target=target,
            confident=confident | sure(weak["logits"])[1],
            balanced=balanced,
            certain=certain | sure(weak["branch"])[1],
        )
        return kept, batch

    def loss(params, state, batch, *, key, program):
        stream = batch[STREAM]
        losses, aux, own, views = fixmatch.prepared_objective(
            setting, params, state, batch, key=key
        )
        now = live("method", options, state.hyper)
        losses["balanced_label"] = loss_functions.logit_adjusted(
            own["branch"],
            batch["label"],
            setting.class_counts,
            tau=now.scale,
        )
        losses["balanced_unlabelled"] = streams.agreement(
            [view["branch"] for view in views], stream["balanced"], stream["certain"]
        )
        kept = state.method_state
        aux["metrics"] |= {
            "tau": (now.scale * kept["strength"], 1.0),
            **streams.prior_metrics(setting, kept["prior"]),
        }
        return losses, aux

    def terms(state, batch, aux, *, program):
        weight, stream = live("method", options, state.hyper).lambda_u, batch[STREAM]
        parts = fixmatch.parts_of(setting, state, batch, stream["target"], weight)
        classes, base = even_part(batch, stream["balanced"][:, 0])
        parts["balanced_label"] = even_part(batch, batch["label"])
        parts["balanced_unlabelled"] = Part(classes, weight * base)
        return setting.rule.terms(parts, state, batch, program.rule)

    def update(state, batch, aux):
        kept = state.method_state
        ends = state.step % every == 0
        mean = kept["divergences"] / every
        adapted = pseudo_labels.acr_strength(mean, scale=1.0)
        return {
            **kept,
            "divergences": jnp.where(ends, 0.0, kept["divergences"]),
            "strength": jnp.where(
                ends & (state.step > start), adapted, kept["strength"]
            ),
        }

    def predict(state, inputs):
        outputs = evaluated(setting, state, inputs)
        return {**outputs, "logits": outputs["branch"]}

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        init=init,
        prepare=prepare,
        update=update,
        class_part="label",
    )


def _needs(options: ACROptions, config) -> list[str]:
    return streams.stream_needs(config) + streams.linear_needs(config)


ACR = Component(
    "ACR: guesses adjusted by the estimated unlabelled distribution (Wei 2023)",
    ACROptions,
    acr,
    _needs,
    lambda options: MethodFacts(head="two_linear", companions=True),
)
