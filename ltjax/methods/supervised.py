r"""Supervised learning: any loss x head x class weights x gradient rule.

The objective of a batch is

.. math:: \sum_i b_i\, \ell(f(x_i), y_i), \qquad
          b_i = \frac{w_{y_i}}{B} \ \text{ or } \ \frac{w_{y_i}}{\sum_j w_{y_j}}

(`normalize="examples"` or `"weights"`; padding has b = 0), where loss and weights may
change once, at `late_step`: the deferred re-weighting (DRW) of Cao et al. 2019 and the
two phases of TLA+ADRW (Wang et al. 2023) are arrays stacked [2, K] and indexed by the
phase of the step, inside one compiled program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import class_stats, losses, schedules
from ltjax._checks import check_choice
from ltjax._numerics import class_lookup
from ltjax.classifiers import adjust_logits
from ltjax.methods.gradients import GradientRule, Part
from ltjax.methods.method import Method
from ltjax.sharpness import reduction_weights


class Context(NamedTuple):
    """What a loss may depend on besides outputs and labels."""

    class_counts: np.ndarray  # [K]
    hyper: dict[str, jax.Array]
    phase: jax.Array  # int32 scalar, 0 before `late_step`
    model_state: Any


class LossEntry(NamedTuple):
    """A loss as the engine offers it.

    Attributes:
        fn: (outputs, labels, context) -> [B].
        head: the head it needs: "linear", "cosine" or "etf".
        hyper: names in `hyper` that it reads.
        about: one line for listings.
        init_bias: what a linear head's bias starts at; "sigmoid" is -log(K - 1).
    """

    fn: Callable[..., jax.Array]
    head: str
    hyper: tuple[str, ...]
    about: str
    init_bias: str = "uniform"


def _tla_adrw(outputs, labels, context: Context):
    """VS first, truncated logit adjustment late (methods card 15)."""
    counts, hyper, late = context.class_counts, context.hyper, context.phase > 0
    relative = np.log(counts / counts.max())
    gamma = jnp.where(late, 0.0, hyper["gamma"])
    tau = jnp.where(late, hyper["tau_late"], hyper["tau"])
    return losses.affine_softmax(
        outputs["logits"],
        labels,
        weight=1.0,
        scale=jnp.exp(gamma * jnp.asarray(relative, jnp.float32)),
        shift=tau * jnp.asarray(class_stats.log_prior(counts), jnp.float32),
        temperature=1.0,
    )


def _on_logits(name: str, *hyper: str, counts: bool = False):
    """An entry's fn from a public loss of (logits, labels[, class_counts])."""
    loss = getattr(losses, name)

    def fn(outputs, labels, context: Context):
        stats = (context.class_counts,) if counts else ()
        chosen = {key: context.hyper[key] for key in hyper}
        return loss(outputs["logits"], labels, *stats, **chosen)

    return fn


def _entry(name, about, *hyper, counts=False, **options) -> LossEntry:
    head = options.pop("head", "linear")
    fn = _on_logits(name, *hyper, counts=counts)
    return LossEntry(fn, head, hyper, about, **options)


LOSSES: dict[str, LossEntry] = {
    "ce": _entry("softmax_cross_entropy", "softmax cross-entropy"),
    "focal": _entry("focal", "focal loss, softmax form (Lin 2017)", "gamma"),
    "sigmoid": _entry(
        "sigmoid_cross_entropy", "one-vs-rest cross-entropy", init_bias="sigmoid"
    ),
    "sigmoid_focal": _entry(
        "sigmoid_focal", "focal loss, sigmoid form", "gamma", init_bias="sigmoid"
    ),
    "ldam": _entry(
        "ldam",
        "label-distribution-aware margins (Cao 2019)",
        "max_margin",
        "scale",
        counts=True,
        head="cosine",
    ),
    "ldam_hinge": _entry(
        "ldam_hinge",
        "LDAM with the hinge loss",
        "max_margin",
        counts=True,
        head="cosine",
    ),
    "la": _entry("logit_adjusted", "logit adjustment (Menon 2021)", "tau", counts=True),
    "balanced_softmax": _entry(
        "balanced_softmax", "balanced softmax (Ren 2020)", counts=True
    ),
    "cdt": _entry(
        "class_dependent_temperature",
        "class-dependent temperatures (Ye 2020)",
        "gamma",
        counts=True,
    ),
    "vs": _entry(
        "vector_scaling",
        "vector scaling (Kini 2021)",
        "gamma",
        "tau",
        counts=True,
    ),
    "tla_adrw": LossEntry(
        _tla_adrw,
        "linear",
        ("gamma", "tau", "tau_late"),
        "VS, then truncated logit adjustment (Wang 2023)",
    ),
}

WEIGHTS = ("none", "class_balanced", "inverse_power")


def class_weight_table(name: str, class_counts, *, beta: float, power) -> jax.Array:
    """Weights [2, K] before and from `late_step` on: ones, then the named ones.

    Args:
        name: "none", "class_balanced" (uses beta) or "inverse_power" (uses power).
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
    evaluate_ema: bool = False,
    posthoc: bool = False,
) -> Method:
    """The plain supervised method.

    Args:
        forward: see `ltjax.models`.
        loss: an entry of `LOSSES`, or one of yours.
        class_counts: [K] realised training counts.
        rule: how terms are made from the reduction weights (`ltjax.methods.gradients`).
        weights: name of the class weights, in force from `late_step` on.
        beta: see `class_weight_table`.
        normalize: "examples" or "weights".
        late_step: first step of the late phase (0 = late from the start).
        mixup: (key, inputs) -> (mixed inputs, partner [B], lam scalar), or None.
        evaluate_ema: predict with the averaged parameters.
        posthoc: subtract hyper["posthoc_tau"] times the log-prior at prediction.

    Returns:
        A `Method`.
    """
    class_counts = np.asarray(class_counts)

    def phase_of(state) -> jax.Array:
        return schedules.phase(state.step, (late_step,))

    def loss_fn(params, state, batch, *, key):
        inputs, labels, mask = batch["inputs"], batch["label"], batch["mask"]
        mix_key, model_key = jax.random.split(key)
        partner = lam = None
        if mixup is not None:
            inputs, partner, lam = mixup(mix_key, inputs)
        outputs, model_state = forward(
            params,
            state.model_state,
            inputs,
            train=True,
            rngs={"dropout": model_key},
            mask=mask,
        )
        context = Context(class_counts, state.hyper, phase_of(state), model_state)
        values = {"label": loss.fn(outputs, labels, context)}
        if partner is not None:
            values["partner"] = loss.fn(outputs, labels[partner], context)
        aux = {"model_state": model_state, "outputs": outputs}
        return values, aux | ({} if partner is None else {"mixup": (partner, lam)})

    def terms(state, batch, aux, *, program=None):
        table = class_weight_table(
            weights, class_counts, beta=beta, power=state.hyper.get("power", 1.0)
        )
        row = table[phase_of(state)]
        labels, mask = batch["label"], batch["mask"]
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
        return rule.terms(parts, state, batch, program)

    def predict(state, inputs):
        params, model_state = state.params, state.model_state
        if evaluate_ema:
            params, model_state = state.ema["params"], state.ema["model_state"]
        outputs, _ = forward(params, model_state, inputs, train=False)
        if posthoc:
            logits = adjust_logits(
                outputs["logits"], class_counts, tau=state.hyper["posthoc_tau"]
            )
            outputs = {**outputs, "logits": logits}
        return outputs

    return Method(
        init=lambda key, params, model_state: None,
        loss=loss_fn,
        terms=terms,
        update=lambda state, batch, aux: state.method_state,
        predict=predict,
    )
