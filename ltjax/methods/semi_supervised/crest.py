r"""CReST: generations of FixMatch, each with labels that the one before was sure of.

After every generation the unlabelled examples are predicted. Of those predicted as
class k, the most confident share

.. math:: \mu_k = (N_{(K+1-k)} / N_{(1)})^{a}

joins the labelled set with that class (k by size, so that the rarest class keeps all of
them), and the network starts afresh. The selection is made anew each time. CReST+
aligns the guesses with the labelled distribution to the power
:math:`t_g = 1 - \frac{g}{G-1} (1 - t_{min})` before the threshold.

With S examples adopted of M, the labelled term of the enlarged set is

.. math:: \frac{N}{N+S} \frac1B \sum_i \ell(z_i, y_i)
          + \frac{M}{N+S} \frac{1}{\mu B} \sum_j [j \text{ adopted}]\,
            \mathrm{CE}(z_j^{weak}, \hat y_j)

over the batch of labelled rows and the stream, which has the expectation of batches
drawn from both, with shapes that do not depend on S.

References:
    Wei et al., "CReST: A Class-Rebalancing Self-Training Framework for Imbalanced
    Semi-Supervised Learning", CVPR 2021: a = 1/3, t_min = 0.5; the released code
    divides by G - 1. Six generations with 10 % of labels, five in DASO's code. There
    every generation is a training of its own and the stream holds the labelled examples
    too; here they are equal parts of one run, and the stream is what has no label.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import pseudo_labels
from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Refresh,
    Setting,
    even_part,
    padded_size,
)
from ltjax.methods.semi_supervised import fixmatch, streams
from ltjax.methods.semi_supervised.alignment import toward
from ltjax.methods.semi_supervised.streams import STREAM
from ltjax.options import Component, live, option

NOBODY = -1  # the label of an example that is not adopted


@dataclasses.dataclass(frozen=True)
class CReSTOptions(fixmatch.ConfidenceOptions):
    """Of CReST and CReST+."""

    generations: int = option(6, "G, equal parts of the run", low=1)
    power: float = option(1 / 3, "a, of the shares that are adopted", low=0)
    align: bool = option(False, "whether guesses are aligned: CReST+")
    last_power: float = option(
        0.5, "t_min, of the labelled distribution in the end", low=0, high=1
    )


def adopted(probabilities, class_counts, *, power: float) -> np.ndarray:
    """int32 [M], the classes that rows of [M, K] are adopted with, -1 for none.

    Example:
        >>> rows = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]]
        >>> adopted(rows, [8, 1], power=1 / 3).tolist()
        [0, -1, -1, 1]
    """
    rows = np.asarray(probabilities)
    classes = rows.argmax(axis=1).astype(np.int32)
    predicted = np.bincount(classes, minlength=rows.shape[1])
    rates = pseudo_labels.crest_rates(class_counts, power=power)
    kept = pseudo_labels.keep_best_of_class(
        rows.max(axis=1), classes, pseudo_labels.crest_sizes(predicted, rates)
    )
    return np.where(np.asarray(kept), classes, NOBODY).astype(np.int32)


def crest(options: CReSTOptions, setting: Setting) -> Method:
    """Generations of FixMatch on a labelled set that grows.

    Args:
        options: see `CReSTOptions`.
        setting: with a companion of the views "weak" and "strong".

    Returns:
        A `Method` with the table "adopted", the number of adopted examples "count",
        and for CReST+ the buffer "guessed".
    """
    size, count = setting.companions[STREAM].size, setting.num_examples
    length = max(setting.total_steps // options.generations, 1)
    last = options.generations - 1
    counts = np.asarray(setting.class_counts, np.float64)
    prior = jnp.asarray(counts / counts.sum(), jnp.float32)

    predict = labelled.prediction(setting)

    def begins(step):
        """Whether a generation but the first begins with a step."""
        return (step > 0) & (step % length == 0) & (step <= last * length)

    def buffer():
        return pseudo_labels.init_distribution_buffer(setting.num_classes)

    def init(key, params, model_state):
        table = jnp.full(padded_size(size), NOBODY, jnp.int32)
        kept = {"adopted": table, "count": jnp.zeros(())}
        return {**kept, "guessed": buffer()} if options.align else kept

    def prepare(state, batch, *, key, program):
        kept, stream = state.method_state, batch[STREAM]
        now = live("method", options, state.hyper)
        guesses, _ = streams.guesses(setting, state, stream, key=key)
        if options.align:
            fresh = begins(state.step)
            old = jax.tree.map(
                lambda new, old: jnp.where(fresh, new, old), buffer(), kept["guessed"]
            )
            generation = jnp.minimum(state.step // length, last)
            power = 1 - generation / max(last, 1) * (1 - options.last_power)
            target = pseudo_labels.temper(prior, power)
            new, guesses = toward(old, guesses, stream["mask"], target)
            kept = {**kept, "guessed": new}
        target, confident = streams.decide(guesses, now.threshold, stream["mask"])
        joined = kept["adopted"][stream["index"]]
        more = {"target": target, "confident": confident, "joined": joined}
        return kept, fixmatch.with_targets(batch, **more)

    def loss(params, state, batch, *, key, program):
        stream, grown = batch[STREAM], program.stage
        more = ("weak",) if grown else ()
        losses, aux, _, views = fixmatch.prepared_objective(
            setting, params, state, batch, key=key, more=more
        )
        member = (stream["joined"] != NOBODY) & stream["mask"]
        if grown:
            label = jnp.maximum(stream["joined"], 0)
            weak = views[-1]["logits"]
            losses["adopted"] = streams.agreement([weak], label, member)
        aux["metrics"]["adopted"] = (jnp.sum(member), jnp.sum(stream["mask"]))
        if "truth" in stream:
            right = member & (stream["joined"] == stream["truth"])
            aux["metrics"]["adopted_accuracy"] = (jnp.sum(right), jnp.sum(member))
        return losses, aux

    def terms(state, batch, aux, *, program):
        stream = batch[STREAM]
        weight = live("method", options, state.hyper).lambda_u
        parts = fixmatch.parts_of(setting, state, batch, stream["target"], weight)
        if program.stage:
            own, everything = parts["label"], count + state.method_state["count"]
            parts["label"] = own._replace(base=count / everything * own.base)
            classes, base = even_part(batch, jnp.maximum(stream["joined"][:, 0], 0))
            parts["adopted"] = Part(classes, size / everything * base)
        return setting.rule.terms(parts, state, batch, program.rule)

    def gather(state, batch):
        return jax.nn.softmax(predict(state, batch["inputs"])["logits"])

    def adopt(kept, gathered, *, step):
        table = np.array(kept["adopted"])
        table[:size] = adopted(gathered, setting.class_counts, power=options.power)
        return {**kept, "adopted": table, "count": np.sum(table != NOBODY)}

    refresh = Refresh(
        due=lambda step: bool(begins(step)), fn=adopt, gather=gather, pool=STREAM
    )
    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        init=init,
        prepare=prepare,
        program=lambda step: step >= length and last > 0,
        programs=(False, True) if last else (False,),
        redraws=begins if last else None,
        refreshes=(refresh,),
        tables=("adopted",),
        class_part="label",
    )


def _needs(options: CReSTOptions, config) -> list[str]:
    faults = streams.stream_needs(config)
    stream = config.unlabelled
    if "include_labelled" in vars(stream.options) and stream.include_labelled:
        faults.append(
            "config.unlabelled.include_labelled is set, but method 'crest' would adopt"
            " the labelled examples once more, expected False"
        )
    return faults


CREST = Component(
    "CReST, CReST+: generations that adopt confident guesses (Wei 2021)",
    CReSTOptions,
    crest,
    _needs,
    lambda options: MethodFacts(companions=True),
)
