r"""Supervised learning: any loss x head x class weights x gradient rule.

The objective of a batch is

.. math:: \sum_i b_i\, \ell(f(x_i), y_i), \qquad
          b_i = \frac{w_{y_i}}{B} \ \text{ or } \ \frac{w_{y_i}}{\sum_j w_{y_j}}

(`normalize="examples"` or `"weights"`; padding has b = 0), where loss and weights may
change once, at `late_step`: the deferred re-weighting (DRW) of Cao et al. 2019 and the
two phases of TLA+ADRW (Wang et al. 2023) are arrays stacked [2, K] and indexed by the
phase of the step, inside one compiled program.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import class_stats, schedules
from ltjax._checks import check_choice
from ltjax._numerics import class_lookup
from ltjax.classifiers import adjust_logits
from ltjax.methods.entries import LOSSES as LOSSES
from ltjax.methods.entries import Context, LossEntry, Memory
from ltjax.methods.gradients import GradientRule, Part
from ltjax.methods.method import Method
from ltjax.sharpness import reduction_weights


def _stateless(key, params, model_state) -> None:
    return None


def _kept(state, batch, aux) -> Any:
    return state.method_state


class Auxiliary(NamedTuple):
    """A second loss that takes a share of the objective (CC-SAM's perturbed one).

    The objective becomes (1 - share) * loss + share * auxiliary loss. `init` and
    `update` own the method state.

    Attributes:
        loss: (params, state, batch, aux) -> [B]; `aux` is the main loss's, and may be
            added to.
        share: state -> scalar in [0, 1].
        init: (key, params, model_state) -> method_state.
        update: (state, batch, aux) -> method_state.
    """

    loss: Callable[..., jax.Array]
    share: Callable[[Any], Any]
    init: Callable[..., Any] = _stateless
    update: Callable[..., Any] = _kept


WEIGHTS = ("none", "class_balanced", "inverse_power", "batch")


def class_weight_table(name: str, class_counts, *, beta: float, power) -> jax.Array:
    """Weights [2, K] before and from `late_step` on: ones, then the named ones.

    Args:
        name: "none", "class_balanced" (uses beta), "inverse_power" (uses power), or
            "batch", which is no matter of the training counts: ones here.
        class_counts: [K].
        beta: of the effective number; a Python float, as float32 cannot hold 0.9999
            exactly enough for 1 - beta.
        power: may be traced.

    Returns:
        [2, K] float32, each row sums to K.
    """
    check_choice("class_weight_table", "name", name, WEIGHTS)
    ones = jnp.ones(len(class_counts), jnp.float32)
    if name == "class_balanced":
        late = class_stats.class_balanced_weights(class_counts, beta=beta)
    elif name == "inverse_power":
        late = class_stats.inverse_power_weights(class_counts, power=power)
    else:
        late = ones
    return jnp.stack([ones, jnp.asarray(late, jnp.float32)])


def supervised(
    forward: Callable,
    loss: LossEntry,
    class_counts,
    *,
    rule: GradientRule,
    weights: str = "none",
    beta: float = 0.9999,
    normalize: str = "examples",
    late_step: int = 0,
    mixup: Callable | None = None,
    auxiliary: Auxiliary | None = None,
    memory: Memory | None = None,
    evaluate_ema: bool = False,
    posthoc: bool = False,
    class_vectors: Callable | None = None,
    classify: Callable | None = None,
    padded: bool = True,
) -> Method:
    """The plain supervised method.

    Args:
        forward: see `ltjax.models`.
        loss: an entry of `LOSSES`, or one of yours.
        class_counts: [K] realised training counts.
        rule: how terms are made from the reduction weights (`ltjax.methods.gradients`).
        weights: name of the class weights, in force from `late_step` on; "batch" are
            those of `class_stats.batch_balanced_weights`.
        beta: see `class_weight_table`.
        normalize: "examples" or "weights".
        late_step: first step of the late phase (0 = late from the start).
        mixup: (key, inputs) -> (mixed inputs, partner [B], lam scalar), or None.
        auxiliary: a second loss that takes a share of the objective, or None.
        memory: what the loss keeps between steps (see `LossEntry.memory`), or None.
        evaluate_ema: predict with the averaged parameters.
        posthoc: subtract hyper["posthoc_tau"] times the log-prior at prediction.
        class_vectors: (params, model_state) -> [D, K] of the head, for losses that take
            them.
        classify: `forward` from the features on, for batches that hold "features" in
            place of "inputs" (see `ltjax.models.Model`).
        padded: whether batches may hold padding. If they never do, the network is not
            given their mask, which batch normalization would pay for in every layer.

    Returns:
        A `Method`.
    """
    class_counts = np.asarray(class_counts)

    def phase_of(state) -> jax.Array:
        return schedules.phase(state.step, (late_step,))

    def weight_row(state) -> jax.Array:
        table = class_weight_table(
            weights, class_counts, beta=beta, power=state.hyper.get("power", 1.0)
        )
        return table[phase_of(state)]

    def loss_fn(params, state, batch, *, key):
        extracted = "features" in batch
        inputs = batch["features" if extracted else "inputs"]
        labels, mask = batch["label"], batch["mask"]
        mix_key, model_key = jax.random.split(key)
        partner = lam = None
        if mixup is not None:
            inputs, partner, lam = mixup(mix_key, inputs)
        apply = classify if extracted else forward
        assert apply is not None  # features are extracted only by networks with a seam
        outputs, model_state = apply(
            params,
            state.model_state,
            inputs,
            train=True,
            rngs={"dropout": model_key},
            mask=mask if padded else None,
        )
        context = Context(
            class_counts,
            state.hyper,
            phase_of(state),
            params,
            model_state,
            class_vectors and class_vectors(params, model_state),
            mask,
            state.method_state,
        )
        values = {"label": loss.fn(outputs, labels, context)}
        if partner is not None:
            values["partner"] = loss.fn(outputs, labels[partner], context)
        aux = {"model_state": model_state, "outputs": outputs}
        if partner is not None:
            aux["mixup"] = (partner, lam)
        if auxiliary is not None:
            values["auxiliary"] = auxiliary.loss(params, state, batch, aux)
        return values, aux

    def terms(state, batch, aux, *, program=None):
        row, labels, mask = weight_row(state), batch["label"], batch["mask"]
        if weights == "batch":
            late = class_stats.batch_balanced_weights(
                labels, len(class_counts), where=mask
            )
            row = jnp.where(phase_of(state) > 0, late, row)
        base = reduction_weights(
            len(labels), class_lookup(row, labels), where=mask, normalize=normalize
        )
        parts = {"label": Part(labels, base)}
        if "mixup" in aux:
            partner, lam = aux["mixup"]
            parts = {
                "label": Part(labels, lam * base),
                "partner": Part(labels[partner], (1 - lam) * base[partner]),
            }
        if auxiliary is not None:
            share = auxiliary.share(state)
            parts = {
                name: Part(part.labels, (1 - share) * part.base)
                for name, part in parts.items()
            }
            parts["auxiliary"] = Part(labels, share * base)
        return rule.terms(parts, state, batch, program)

    def predict(state, inputs):
        params, model_state = state.params, state.model_state
        if evaluate_ema:
            params, model_state = state.ema["params"], state.ema["model_state"]
        outputs, _ = forward(params, model_state, inputs, train=False)
        logits = outputs["logits"]
        if loss.confidence_scale:
            logits = state.hyper[loss.confidence_scale] * logits
        if posthoc:
            logits = adjust_logits(logits, class_counts, tau=state.hyper["posthoc_tau"])
        return {**outputs, "logits": logits}

    def adjustment(affine, state):
        context = Context(
            class_counts,
            state.hyper,
            phase_of(state),
            state.params,
            state.model_state,
            memory=state.method_state,
        )
        return weight_row(state), *affine(context)

    if memory is not None and auxiliary is not None:
        raise ValueError(
            "supervised: the loss keeps a memory and an auxiliary loss another one,"
            " expected one of them"
        )
    owner = memory or auxiliary
    init, update = (owner.init, owner.update) if owner else (_stateless, _kept)
    stated = loss.affine is not None and weights != "batch" and auxiliary is None
    return Method(
        init,
        loss_fn,
        terms,
        update,
        predict,
        functools.partial(adjustment, loss.affine) if stated else None,
    )
