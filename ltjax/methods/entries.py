"""The losses the engine offers by name: one face for all of them.

An entry's `fn` takes (outputs, labels, context) and returns one value per example; the
public functions of `ltjax.losses` do the work.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import class_stats, losses


class Context(NamedTuple):
    """What a loss may depend on besides outputs and labels."""

    class_counts: np.ndarray  # [K]
    hyper: dict[str, jax.Array]
    phase: jax.Array  # int32 scalar, 0 before `late_step`
    params: Any
    model_state: Any


class LossEntry(NamedTuple):
    """A loss as the engine offers it.

    Attributes:
        fn: (outputs, labels, context) -> [B].
        head: the head it needs: "linear", "cosine" or "etf".
        hyper: names in `hyper` that it reads.
        about: one line for listings.
        confidence_scale: hyper-parameter that the logits are multiplied by at
            prediction, so that their softmax is the probability the loss trained; ""
            for none. Never changes the predicted class.
        init_bias: what a linear head's bias starts at; "sigmoid" is -log(K - 1).
    """

    fn: Callable[..., jax.Array]
    head: str
    hyper: tuple[str, ...]
    about: str
    confidence_scale: str = ""
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
        confidence_scale="scale",
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
