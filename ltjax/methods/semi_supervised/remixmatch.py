r"""ReMixMatch: aligned guesses of the weak view are the targets of strong ones.

.. math:: q_j = \mathrm{sharpen}(p_j\, t / m, T), \qquad
          L = L_x + r(t)\, (\lambda_u L_u + \lambda_a L_a) + \lambda_r L_r

Labelled rows, the weak view and the strong views are mixed with a permutation of
themselves; :math:`L_x` and :math:`L_u` are the cross-entropies of the labelled and of
the other mixtures. :math:`L_a` compares the first strong view, unmixed, with q, and
:math:`L_r` asks a second classifier by which quarter turn that view was rotated
(signals, which have no turns: reversed, negated, or both). t is the labelled
distribution and m the mean guess of the last batches.

With `strong="ctaugment"` the strong views are the weak one, changed by CTAugment: every
labelled row is changed by a policy of its own and classified as the run predicts, and
the probability of its label moves the rates of what was done to it.

References:
    Berthelot et al., "ReMixMatch: Semi-Supervised Learning with Distribution Alignment
    and Augmentation Anchoring", ICLR 2020. Two strong views and a ramp over the whole
    run are those of the long-tailed studies (DARP, ABC); labelled rows stay weakly
    augmented, as in DASO's code. The released code has CTAugment (sec. 3.2.2); policies
    are drawn on top of the weak view.
"""

import dataclasses
import functools
from typing import Any

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
from ltjax.methods.self_supervised.rotation import turned
from ltjax.methods.semi_supervised import streams
from ltjax.methods.semi_supervised.alignment import AlignOptions, align
from ltjax.methods.semi_supervised.mixing import MIXED, TARGET, with_mixtures
from ltjax.methods.semi_supervised.mixmatch import (
    MixOptions,
    guess_part,
    mixed_agreement,
    mixed_aux,
    ramp,
)
from ltjax.methods.semi_supervised.streams import STREAM, flat
from ltjax.options import Component, ConfigError, live, option


@dataclasses.dataclass(frozen=True)
class ReMixMatchOptions(MixOptions):
    """Of ReMixMatch."""

    lambda_u: float = option(1.5, "last weight of the mixtures", low=0, sweep=True)
    lambda_anchor: float = option(
        0.5, "last weight of the unmixed strong view", low=0, sweep=True
    )
    lambda_rotation: float = option(0.5, "weight of the turns", low=0, sweep=True)
    strong: str = option(
        "views",
        "strong views: those of augment_unlabelled, or as many by a learned policy",
        choices=("views", "ctaugment"),
    )
    depth: int = option(2, "operations of a policy of CTAugment", low=1)
    rate_threshold: float = option(
        0.8, "smallest rate of a strength, relative to the best one", low=0, high=1
    )
    rate_decay: float = option(0.99, "of the rates", low=0, high=1)


def remixmatch(options: ReMixMatchOptions, setting: Setting) -> Method:
    """ReMixMatch on weak and strong views of the stream.

    Args:
        options: see `ReMixMatchOptions`.
        setting: the network "main" has the output "branch" of four.

    Returns:
        A `Method`.
    """
    treatment = setting.treatment
    aligned = align(AlignOptions(), setting)
    policy = made_policy(options, setting)

    def init(key, params, model_state):
        rates = {"rates": policy.init()} if policy else {}
        return {**aligned.init(), **treatment.init(), **rates}

    def prepare(state, batch, *, key, program):
        if policy:
            policy_key = jax.random.fold_in(key, 3)  # none of the three below
            state, batch = strengthened(policy, setting, state, batch, key=policy_key)
        guess_key, mix_key, turn_key = jax.random.split(key, 3)
        now, stream = live("method", options, state.hyper), batch[STREAM]
        found, features = streams.guesses(setting, state, stream, key=guess_key)
        kept, found = aligned.apply(state, found, batch, features=features)
        sharp = pseudo_labels.sharpen(found, temperature=now.temperature)
        kept, guess = treatment.apply(
            state.replace(method_state=kept), sharp, batch, features=features
        )
        batch = with_mixtures(
            mix_key,
            batch,
            guess,
            ("weak", *streams.views_of(stream, "strong")),
            alpha=now.alpha,
            per_row=options.share == "row",
        )
        shape = stream["mask"].shape
        turns = jax.random.randint(turn_key, shape, 0, 4)
        view = turned(flat(stream["strong"]), turns.ravel())
        more = {
            "guess": guess,
            "turns": turns,
            "turned": view.reshape(*shape, *view.shape[1:]),
        }
        return kept, {**batch, STREAM: {**batch[STREAM], **more}}

    def loss(params, state, batch, *, key, program):
        stream = batch[STREAM]
        names = ["weak", *streams.views_of(stream, "strong")]
        own, views, model_state = streams.passed(
            setting,
            params,
            state,
            batch,
            [*(MIXED + name for name in names), "strong", "turned"],
            key=key,
            labelled=(MIXED + "inputs",),
        )
        *mixed, strong, rotated = views
        real = stream["mask"].astype(jnp.float32)
        losses = {
            "label": loss_functions.softmax_cross_entropy(
                own[0]["logits"], batch[TARGET + "inputs"]
            ),
            "unlabelled": mixed_agreement(stream, names, mixed),
            "anchor": streams.agreement([strong["logits"]], stream["guess"], real),
            "rotation": streams.agreement([rotated["branch"]], stream["turns"], real),
        }
        aux = mixed_aux(setting, state, batch, own[0], model_state)
        right = (jnp.argmax(rotated["branch"], -1) == stream["turns"]) & stream["mask"]
        count = jnp.sum(stream["mask"])
        aux["metrics"]["rotation_accuracy"] = (jnp.sum(right), count)
        return losses, aux

    def terms(state, batch, aux, *, program):
        now = live("method", options, state.hyper)
        part, rise = guess_part(batch), ramp(options, setting, state)
        weights = {
            "unlabelled": rise * now.lambda_u,
            "anchor": rise * now.lambda_anchor,
            "rotation": now.lambda_rotation,
        }
        parts = {
            "label": even_part(batch, batch["label"]),
            **{k: Part(part.labels, w * part.base) for k, w in weights.items()},
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


def made_policy(options: ReMixMatchOptions, setting: Setting):
    """The functions of CTAugment, or None if the pipeline's own views are taken."""
    if options.strong == "views":
        return None
    if setting.learned_views is None:
        raise ConfigError(
            [
                "config.method.strong is 'ctaugment', which changes images, but the"
                " data have no mean and std of pixels, expected 'views'"
            ]
        )
    return setting.learned_views(
        depth=options.depth,
        threshold=options.rate_threshold,
        decay=options.rate_decay,
    )


def strengthened(policy, setting: Setting, state, batch, *, key) -> tuple[Any, dict]:
    """Strong views by the rates as they are, and the state with the rates moved.

    Args:
        policy: from `made_policy`.
        setting: of the method.
        state: train state, with "rates" in the method's.
        batch: with a stream that has the view "weak" and strong ones.
        key: of the policies.

    Returns:
        (state, batch).
    """
    rates, stream = state.method_state["rates"], batch[STREAM]
    names, weak = streams.views_of(stream, "strong"), stream["weak"]
    rows = len(batch["mask"])
    images = jnp.concatenate([batch["inputs"], *[flat(weak)] * len(names)])
    tested = jnp.arange(len(images)) < rows
    images, policies = policy.vary(key, images, rates, tested)
    policies = jax.tree.map(lambda x: x[:rows], policies)
    strong = images[rows:].reshape(len(names), *weak.shape)
    made = {name: strong[v] for v, name in enumerate(names)}
    found = jax.nn.softmax(evaluated(setting, state, images[:rows])["logits"])
    told = jnp.take_along_axis(found, batch["label"][:, None], axis=1)[:, 0]
    rates = policy.update(rates, policies, told, where=batch["mask"])
    state = state.replace(method_state={**state.method_state, "rates": rates})
    return state, {**batch, STREAM: {**stream, **made}}


def _needs(options: ReMixMatchOptions, config) -> list[str]:
    faults = streams.stream_needs(config)
    if options.strong == "ctaugment":
        faults += _policy_needs(config)
    if getattr(config.augment_unlabelled.options, "recipe", "") == "features":
        faults.append(
            "method 'remixmatch' turns its inputs, but config.augment_unlabelled.recipe"
            " is that of features; expected images, signals or another method"
        )
    if config.pseudo_labels.name == "align":
        faults.append(
            "config.pseudo_labels.name is 'align', but method 'remixmatch' aligns its"
            " guesses by itself, expected another treatment or 'none'"
        )
    return faults


def _policy_needs(config) -> list[str]:
    """Faults of a config whose views CTAugment cannot change."""
    pair = config.augment.options, config.augment_unlabelled.options
    given = [(getattr(o, "mean", None), getattr(o, "std", None)) for o in pair]
    faults = []
    if "signal" in [getattr(options, "recipe", "") for options in pair]:
        faults.append(
            "config.method.strong is 'ctaugment', which changes images, but the recipe"
            " of the views is 'signal', expected method.strong = 'views'"
        )
    if given[0] != given[1] or given[0][0] is None:
        faults.append(
            "config.method.strong is 'ctaugment', which goes back to pixels: expected"
            " augment and augment_unlabelled to normalize with the same mean and std"
        )
    return faults


REMIXMATCH = Component(
    "ReMixMatch: aligned guesses, strong views, mixtures, turns (Berthelot 2020)",
    ReMixMatchOptions,
    remixmatch,
    _needs,
    lambda options: MethodFacts(
        head="linear_rotation",
        reads_loss=False,
        reads_weights=False,
        mixes=True,
        companions=True,
        treats_guesses=True,
    ),
)
