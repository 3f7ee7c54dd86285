r"""FixMatch: confident guesses on a weak view are the labels of a strong view.

.. math:: \frac1B \sum_i \ell(z_i, y_i) + \lambda_u \frac{1}{\mu B} \sum_j
          [\max_k q_{jk} \ge \theta]\; \mathrm{CE}(z_j^{strong}, \arg\max_k q_{jk}),
          \qquad q_j = \mathrm{softmax}(z_j^{weak})

The labelled term is the loss of the config with its class weights, so that logit
adjustment or LDAM take their place as published.

References:
    Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and
    Confidence", NeurIPS 2020. The released code takes all views through the network at
    once (`guess="joint"`); by default the guesses are made once per step by a pass of
    their own, whose batch normalization sees the weak views only, which costs a third
    less and gives every pass of a sharp gradient the same targets.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.losses import consistency
from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Setting,
    evaluated,
    even_part,
)
from ltjax.options import Component, live, option

STREAM = "unlabelled"


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


def flat(x: jax.Array) -> jax.Array:
    """[B, m, ...] -> [B m, ...]."""
    return x.reshape(-1, *x.shape[2:])


def guesses(setting: Setting, state: Any, stream: Any, *, key: Any) -> jax.Array:
    """Probabilities [B, m, K] of the weak views of a stream, in training mode.

    The pass does not move the batch statistics and has no gradient.
    """
    network = setting.networks["main"]
    outputs, _ = network.forward(
        state.params,
        state.model_state,
        flat(stream["weak"]),
        train=True,
        rngs={"dropout": key},
        mask=flat(stream["mask"]) if setting.padded else None,
    )
    probabilities = jax.nn.softmax(outputs["logits"])
    return probabilities.reshape(*stream["mask"].shape, -1)


def fixmatch(options: FixMatchOptions, setting: Setting) -> Method:
    """FixMatch on the companions of each labelled row.

    Args:
        options: see `FixMatchOptions`.
        setting: with a companion "unlabelled" whose rows have the views "weak" and
            "strong".

    Returns:
        A `Method`.
    """
    network, rule = setting.networks["main"], setting.rule
    joint = options.guess == "joint"

    def prepare(state, batch, *, key, program):
        if joint:
            return state.method_state, batch
        stream = batch[STREAM]
        now = live("method", options, state.hyper)
        target, confident = decide(
            guesses(setting, state, stream, key=key),
            now.threshold,
            stream["mask"],
        )
        more = {"target": target, "confident": confident}
        return state.method_state, {**batch, STREAM: {**stream, **more}}

    def loss(params, state, batch, *, key, program):
        stream, inputs = batch[STREAM], batch["inputs"]
        rows, ratio = stream["mask"].shape
        names = ("strong", "weak") if joint else ("strong",)
        views = [inputs, *(flat(stream[name]) for name in names)]
        real = [batch["mask"], *[flat(stream["mask"])] * len(names)]
        outputs, model_state = network.forward(
            params,
            state.model_state,
            jnp.concatenate(views),
            train=True,
            rngs={"dropout": key},
            mask=jnp.concatenate(real) if setting.padded else None,
        )
        own = {name: x[:rows] for name, x in outputs.items()}
        logits = outputs["logits"][rows:].reshape(len(names), rows, ratio, -1)
        if joint:
            now = live("method", options, state.hyper)
            found = jax.lax.stop_gradient(jax.nn.softmax(logits[1]))
            target, confident = decide(found, now.threshold, stream["mask"])
        else:
            target, confident = stream["target"], stream["confident"]
        agree = consistency(flat(logits[0]), target.ravel(), weights=confident.ravel())
        context = labelled.loss_context(
            setting, state, params, model_state, mask=batch["mask"]
        )
        losses = {
            "label": labelled.label_loss(setting, state, own, batch["label"], context),
            "unlabelled": jnp.mean(agree.reshape(rows, ratio), axis=1),
        }
        aux = {
            "model_state": model_state,
            "outputs": own,
            "rows": {"target": target},
            "metrics": {
                "accuracy": labelled.accuracy(own, batch),
                **pseudo_label_metrics(target, confident, stream),
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
        loss=loss, terms=terms, predict=predict, prepare=prepare, class_part="label"
    )


def decide(probabilities, threshold, mask) -> tuple[jax.Array, jax.Array]:
    """(guessed classes int32, whether they count), of [..., K] probabilities."""
    target = jnp.argmax(probabilities, axis=-1).astype(jnp.int32)
    return target, (jnp.max(probabilities, axis=-1) >= threshold) & mask


def pseudo_label_metrics(target, confident, stream) -> dict[str, tuple]:
    """Share of the guesses that count, and how many of these are right."""
    metrics = {"mask_rate": (jnp.sum(confident), jnp.sum(stream["mask"]))}
    if "truth" in stream:
        right = confident & (target == stream["truth"])
        metrics["pseudo_accuracy"] = (jnp.sum(right), jnp.sum(confident))
    return metrics


def _needs(options: FixMatchOptions, config) -> list[str]:
    faults = stream_needs(config)
    split = config.optimizer.accumulate > 1 or config.gradient.facts.groups_rows
    if options.guess == "joint" and split:
        faults.append(
            "config.method.guess is 'joint', whose targets come from the pass itself,"
            " expected 'separate' with micro-batches or groups of rows"
        )
    return faults


def stream_needs(config) -> list[str]:
    """Faults of a config whose method reads weak and strong views of a stream."""
    views = config.augment_unlabelled.facts.views
    return [
        f"method {config.method.name!r} needs the view {view!r} of the unlabelled"
        f" stream, but config.augment_unlabelled.name"
        f" {config.augment_unlabelled.name!r} makes {', '.join(views)}"
        for view in ("weak", "strong")
        if view not in views
    ]


FIXMATCH = Component(
    "FixMatch: confident guesses teach a strong view (Sohn 2020)",
    FixMatchOptions,
    fixmatch,
    _needs,
    lambda options: MethodFacts(companions=True),
)
