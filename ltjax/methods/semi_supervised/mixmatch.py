r"""MixMatch: sharpened mean guesses over weak views, and mixtures of everything.

.. math:: q_j = \mathrm{sharpen}\Big(\frac1U \sum_u p_{ju}, T\Big), \qquad
          L = \frac1B \sum_i \mathrm{CE}(\tilde z_i, \tilde y_i)
            + w(t) \frac{1}{\mu B U K} \sum_{j,u} \|\tilde p_{ju} - \tilde q_{ju}\|^2

Labelled rows and all weak views, with one-hot labels and guesses for targets, are mixed
with a random permutation of themselves: :math:`\tilde x = \lambda x + (1 - \lambda) x'`
and :math:`\lambda = \max(l, 1 - l)`, l from Beta(alpha, alpha). w rises linearly to its
last value.

References:
    Berthelot et al., "MixMatch: A Holistic Approach to Semi-Supervised Learning",
    NeurIPS 2019: one l for each row, as in the released code; DARP, ABC and DASO draw
    one for the batch (`share="batch"`). Weight 75 and a ramp over the whole run are
    those of DARP's long-tailed setting. The guesses' pass does not move the batch
    statistics.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from ltjax import losses as loss_functions
from ltjax import pseudo_labels, schedules
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
from ltjax.methods.semi_supervised.mixing import MIXED, TARGET, with_mixtures
from ltjax.methods.semi_supervised.streams import STREAM
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class MixOptions:
    """Shared by methods that mix labelled and unlabelled rows."""

    temperature: float = option(0.5, "T of the guesses", low=0, sweep=True)
    alpha: float = option(0.75, "of the shares' distribution", above=0, sweep=True)
    share: str = option(
        "row", "what draws a share of its own", choices=("row", "batch")
    )
    ramp: str = option("100%", "the unlabelled weight rises till then", duration=True)
    rise: str = option("linear", "shape of the rise", choices=("linear", "sigmoid"))


@dataclasses.dataclass(frozen=True)
class MixMatchOptions(MixOptions):
    """Of MixMatch."""

    lambda_u: float = option(75.0, "last unlabelled weight", low=0, sweep=True)


def mixmatch(options: MixMatchOptions, setting: Setting) -> Method:
    """MixMatch on the weak views of the stream.

    Args:
        options: see `MixMatchOptions`.
        setting: with a companion whose rows have the views "weak" and "weak2".

    Returns:
        A `Method`.
    """
    treatment = setting.treatment

    def init(key, params, model_state):
        return treatment.init()

    def prepare(state, batch, *, key, program):
        guess_key, mix_key = jax.random.split(key)
        now = live("method", options, state.hyper)
        views = streams.views_of(batch[STREAM], "weak")
        each = streams.guessed(setting, state, batch[STREAM], views, key=guess_key)
        mean = sum(jax.nn.softmax(view["logits"]) for view in each) / len(each)
        sharp = pseudo_labels.sharpen(mean, temperature=now.temperature)
        features = sum(view["features"] for view in each) / len(each)
        kept, guess = treatment.apply(state, sharp, batch, features=features)
        batch = with_mixtures(
            mix_key,
            batch,
            guess,
            views,
            alpha=now.alpha,
            per_row=options.share == "row",
        )
        return kept, {**batch, STREAM: {**batch[STREAM], "guess": guess}}

    def loss(params, state, batch, *, key, program):
        stream = batch[STREAM]
        names = streams.views_of(stream, "weak")
        own, views, model_state = streams.passed(
            setting,
            params,
            state,
            batch,
            [MIXED + name for name in names],
            key=key,
            labelled=(MIXED + "inputs",),
        )
        losses = {
            "label": loss_functions.softmax_cross_entropy(
                own[0]["logits"], batch[TARGET + "inputs"]
            ),
            "unlabelled": mixed_agreement(
                stream, names, views, distance="squared_error"
            ),
        }
        return losses, mixed_aux(setting, state, batch, own[0], model_state)

    def terms(state, batch, aux, *, program):
        now = live("method", options, state.hyper)
        weight = now.lambda_u * ramp(options, setting, state)
        classes, base = guess_part(batch)
        parts = {
            "label": even_part(batch, batch["label"]),
            "unlabelled": Part(classes, weight * base),
        }
        return setting.rule.terms(parts, state, batch, program.rule)

    return Method(
        loss=loss,
        terms=terms,
        predict=functools.partial(evaluated, setting),
        init=init,
        prepare=prepare,
        refreshes=treatment.refreshes,
        tables=treatment.tables,
        class_part="label",
    )


def ramp(options: MixOptions, setting: Setting, state) -> jax.Array:
    """In [0, 1], rising over `options.ramp`."""
    length = setting.steps(options.ramp)
    return schedules.ramp_up(state.step, steps=length, shape=options.rise)


def mixed_agreement(stream, names, views, **options) -> jax.Array:
    """[B], the mean over mixed views of their distances from their targets."""
    real = stream["mask"].astype(jnp.float32)
    each = [
        streams.agreement([view["logits"]], stream[TARGET + name], real, **options)
        for name, view in zip(names, views, strict=True)
    ]
    return jnp.mean(jnp.stack(each), axis=0)


def guess_part(batch) -> Part:
    """All rows alike, each as the class of its first companion's guess."""
    return even_part(batch, jnp.argmax(batch[STREAM]["guess"][:, 0], axis=-1))


def mixed_aux(setting: Setting, state, batch, outputs, model_state) -> dict:
    """The aux of a pass over mixtures; a row counts as its larger share's class."""
    stream = batch[STREAM]
    target, real = streams.decide(stream["guess"], 0.0, stream["mask"])
    measured = streams.pseudo_label_metrics(setting, target, real, stream)
    del measured["mask_rate"]  # every guess counts
    return {
        "model_state": model_state,
        "outputs": outputs,
        "metrics": {
            "accuracy": labelled.accuracy(outputs, batch),
            **measured,
            **streams.treatment_metrics(setting, state),
        },
    }


def _needs(options: MixMatchOptions, config) -> list[str]:
    return streams.stream_needs(config, ("weak", "weak2"))


MIXMATCH = Component(
    "MixMatch: mean guesses over views, and mixtures of everything (Berthelot 2019)",
    MixMatchOptions,
    mixmatch,
    _needs,
    lambda options: MethodFacts(
        head="linear",
        reads_loss=False,
        reads_weights=False,
        mixes=True,
        companions=True,
        treats_guesses=True,
    ),
)
