r"""DASO: the classifier's guess blended with that of the nearest class prototype.

.. math:: q_j = \mathrm{softmax}\Big(\frac{\cos(h_j, c_k)}{\tau}\Big), \qquad
          p'_j = (1 - v_j)\, p_j + v_j\, q_j, \qquad
          v_j = u_{\arg\max p_j}, \quad u_k \propto m_k^{1/T}

m is the distribution of recent pseudo-labels, so that guesses of the classes that it
favors listen more to the prototypes c, the mean features of the last labelled examples
of each class as the averaged network sees them. FixMatch learns from the class of the
largest p'; a further term aligns the strong view with the weak one,
:math:`\mathrm{CE}(q^{weak}, q^{strong})`. Before `start`, it is FixMatch.

References:
    Oh, Kim and Kweon, "DASO: Distribution-Aware Semantics-Oriented Pseudo-label for
    Imbalanced Semi-Supervised Learning", CVPR 2022. Published are 5,000 of 250,000
    steps before the start, T = 1.5 where labelled and unlabelled distributions agree
    and 0.3 where they do not (CIFAR-10). A class without a feature yet has the cosine
    0 with everything.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import pseudo_labels
from ltjax._numerics import l2_normalize
from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Setting,
    averaged,
    even_part,
)
from ltjax.methods.semi_supervised import fixmatch, streams
from ltjax.methods.semi_supervised.class_queues import (
    ClassQueues,
    empty_queues,
    enqueue,
    queue_needs,
)
from ltjax.methods.semi_supervised.streams import STREAM, flat
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class DASOOptions(fixmatch.ConfidenceOptions):
    """Of DASO."""

    blend: float = option(
        1.5, "T of the blend: 0.3 if the distributions differ", above=0, sweep=True
    )
    temperature: float = option(0.05, "tau of the cosines", above=0, sweep=True)
    lambda_semantic: float = option(
        1.0, "weight of the semantic alignment", low=0, sweep=True
    )
    queue: int = option(256, "features kept of each class", low=1)
    start: str = option("2%", "FixMatch alone before this step", duration=True)
    every: str = option(
        "100 steps", "between counts of the pseudo-labels", duration=True
    )


def prototypes(queues: ClassQueues) -> jax.Array:
    """[K, D], the mean feature of every class; 0 for one without features."""
    size = queues.features.shape[1]
    filled = jnp.minimum(queues.written, size)
    real = jnp.arange(size)[None] < filled[:, None]
    total = jnp.sum(queues.features * real[..., None], axis=1)
    return total / jnp.maximum(filled, 1)[:, None]


def semantic(features, centers, temperature) -> jax.Array:
    """Logits [..., K]: cosines of features with prototypes, over a temperature."""
    return l2_normalize(features) @ l2_normalize(centers).T / temperature


def daso(options: DASOOptions, setting: Setting) -> Method:
    """FixMatch with DASO's pseudo-labels.

    Args:
        options: see `DASOOptions`.
        setting: with averaged parameters.

    Returns:
        A `Method` whose state are the queues, the counts of the pseudo-labels since
        the last time, and the shares then.
    """
    network, classes = setting.networks["main"], setting.num_classes
    start, every = setting.steps(options.start), max(setting.steps(options.every), 1)

    def init(key, params, model_state):
        queues = empty_queues(classes, options.queue, network.num_features)
        shares = jnp.full(classes, 1 / classes)
        return {"queues": queues, "counts": jnp.zeros(classes), "shares": shares}

    def prepare(state, batch, *, key, program):
        kept, stream = state.method_state, batch[STREAM]
        now = live("method", options, state.hyper)
        outputs, _ = network.forward(
            *averaged(state, ema=True), batch["inputs"], train=False
        )
        queues = enqueue(
            kept["queues"], outputs["features"], batch["label"], batch["mask"]
        )
        (weak,) = streams.guessed(setting, state, stream, ("weak",), key=key)
        linear = jax.nn.softmax(weak["logits"])
        near = jax.nn.softmax(
            semantic(weak["features"], prototypes(queues), now.temperature)
        )
        blended = pseudo_labels.blend_semantic(
            linear, near, kept["shares"], temperature=now.blend
        )
        found = jnp.where(state.step >= start, blended, linear)
        target, confident = streams.decide(found, now.threshold, stream["mask"])
        counts = kept["counts"] + pseudo_labels.class_evidence(
            flat(found), hard=True, where=stream["mask"].ravel()
        )
        more = {"target": target, "confident": confident, "semantic": near}
        kept = {**kept, "queues": queues, "counts": counts}
        return kept, fixmatch.with_targets(batch, **more)

    def loss(params, state, batch, *, key, program):
        stream = batch[STREAM]
        losses, aux, own, views = fixmatch.prepared_objective(
            setting, params, state, batch, key=key
        )
        kept = state.method_state
        centers = prototypes(kept["queues"])
        warmth = live("method", options, state.hyper).temperature
        near = [semantic(view["features"], centers, warmth) for view in views]
        real = stream["mask"].astype(jnp.float32)
        losses["semantic"] = streams.agreement(near, stream["semantic"], real)
        aux["metrics"] |= streams.prior_metrics(setting, kept["shares"])
        return losses, aux

    def terms(state, batch, aux, *, program):
        now, stream = live("method", options, state.hyper), batch[STREAM]
        parts = fixmatch.parts_of(setting, state, batch, stream["target"], now.lambda_u)
        classes, base = even_part(batch, stream["target"][:, 0])
        weight = now.lambda_semantic * (state.step >= start)
        parts["semantic"] = Part(classes, weight * base)
        return setting.rule.terms(parts, state, batch, program.rule)

    def update(state, batch, aux) -> Any:
        kept = state.method_state
        counted = state.step % every == 0
        total = jnp.maximum(jnp.sum(kept["counts"]), 1)
        shares = jnp.where(counted, kept["counts"] / total, kept["shares"])
        counts = jnp.where(counted, 0, kept["counts"])
        return {**kept, "shares": shares, "counts": counts}

    return Method(
        loss=loss,
        terms=terms,
        predict=labelled.prediction(setting),
        init=init,
        prepare=prepare,
        update=update,
        class_part="label",
    )


def _needs(options: DASOOptions, config) -> list[str]:
    return streams.stream_needs(config) + queue_needs(options.queue, config)


DASO = Component(
    "DASO: guesses blended with those of class prototypes (Oh 2022)",
    DASOOptions,
    daso,
    _needs,
    lambda options: MethodFacts(companions=True),
)
