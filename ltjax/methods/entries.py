"""The losses the engine offers by name: one face for all of them.

An entry's `fn` takes (outputs, labels, context) and returns one value per example; the
public functions of `ltjax.losses` do the work.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import class_stats, losses
from ltjax.methods import cvs


class Context(NamedTuple):
    """What a loss may depend on besides outputs and labels."""

    class_counts: np.ndarray  # [K]
    hyper: dict[str, jax.Array]
    phase: jax.Array  # int32 scalar, 0 before `late_step`
    params: Any
    model_state: Any
    class_vectors: jax.Array | None = None  # [D, K] of the head
    mask: jax.Array | None = None  # [B] bool, False = padding
    memory: Any = None  # of a loss that keeps something between steps


class Timing(NamedTuple):
    """What a memory may know of a run's length."""

    steps_per_epoch: int
    late_step: int  # first step of the late phase
    steps: Callable[[str], int]  # a duration such as "10 epochs" in steps


class Memory(NamedTuple):
    """What a loss keeps between steps, as the method state.

    Attributes:
        init: (key, params, model_state) -> memory.
        update: (state, batch, aux) -> memory, after the optimizer; `state.step` is that
            of the next batch.
    """

    init: Callable[..., Any]
    update: Callable[..., Any]


class LossEntry(NamedTuple):
    """A loss as the engine offers it.

    Attributes:
        fn: (outputs, labels, context) -> [B].
        head: the head it is meant for: "linear", "cosine" or "etf".
        hyper: names in `hyper` that it reads.
        about: one line for listings.
        confidence_scale: hyper-parameter that the logits are multiplied by at
            prediction, so that their softmax is the probability the loss trained; ""
            for none. Never changes the predicted class.
        init_bias: what a linear head's bias starts at; "sigmoid" is -log(K - 1).
        heads: others that it may be used with.
        options: fields of a config's loss section that fn takes as keyword arguments.
        affine: for losses of the form CE(scale * z + shift, y), context -> (scale,
            shift), scalars or [K]; None for the others.
        memory: (class_counts, a config's loss section, `Timing`) -> `Memory`, for a
            loss that keeps something between steps; it finds it in `context.memory`.
    """

    fn: Callable[..., jax.Array]
    head: str
    hyper: tuple[str, ...]
    about: str
    confidence_scale: str = ""
    init_bias: str = "uniform"
    heads: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    affine: Callable[[Context], tuple[Any, Any]] | None = None
    memory: Callable[[Any, Any, Timing], Memory] | None = None

    def configured(self, section: Any) -> "LossEntry":
        """The entry with its options taken from `section`."""
        chosen = {name: getattr(section, name) for name in self.options}
        return self._replace(fn=functools.partial(self.fn, **chosen))


def _affine(gamma: str | float = 0.0, tau: str | float = 0.0):
    """(n / n_max)^gamma and tau log pi; a text names the hyper-parameter."""

    def affine(context: Context):
        counts = context.class_counts
        chosen = (context.hyper[x] if isinstance(x, str) else x for x in (gamma, tau))
        return _scale_and_shift(counts, *chosen)

    return affine


def _scale_and_shift(counts: np.ndarray, gamma, tau) -> tuple[jax.Array, jax.Array]:
    log_prior = jnp.asarray(class_stats.log_prior(counts), jnp.float32)
    return jnp.exp(gamma * (log_prior - jnp.max(log_prior))), tau * log_prior


def _tla(context: Context) -> tuple[jax.Array, jax.Array]:
    """VS first, truncated logit adjustment late (Wang et al. 2023)."""
    hyper, late = context.hyper, context.phase > 0
    gamma = jnp.where(late, 0.0, hyper["gamma"])
    tau = jnp.where(late, hyper["tau_late"], hyper["tau"])
    return _scale_and_shift(context.class_counts, gamma, tau)


def _cvs(context: Context) -> tuple[jax.Array, jax.Array]:
    """Calibrated vector scaling, with the factors now in force (Wang et al. 2026)."""
    hyper = context.hyper
    found = cvs.cvs_parameters(
        context.memory["kappa"],
        context.class_counts,
        phase=jnp.minimum(context.phase, 1),
        gamma=hyper["gamma"],
        tau=hyper["tau"],
    )
    return found.scale, found.shift


def _cvs_memory(class_counts, section: Any, timing: Timing) -> Memory:
    memory = cvs.remembered(
        class_counts,
        steps_per_epoch=timing.steps_per_epoch,
        late_step=timing.late_step,
        warmup_steps=timing.steps(section.kappa_warmup),
        low=section.kappa_low,
        high=section.kappa_high,
    )
    return Memory(*memory)


def _affine_loss(affine: Callable[[Context], tuple[Any, Any]]):
    """An entry's fn from its scale and shift."""

    def fn(outputs, labels, context: Context):
        scale, shift = affine(context)
        return losses.affine_softmax(
            outputs["logits"], labels, scale=scale, shift=shift
        )

    return fn


def _dot_regression(outputs, labels, context: Context, *, class_balance: str):
    counts = context.class_counts if class_balance == "global" else None
    if context.class_vectors is None:
        raise ValueError(
            "dot_regression: the network does not tell its class vectors, expected a"
            " head with `class_vectors`"
        )
    return losses.dot_regression(
        outputs["features"],
        labels,
        context.class_vectors,
        class_balance=class_balance,
        class_counts=counts,
        where=context.mask,
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
    if head == "linear":
        options.setdefault("heads", ("cosine", "etf"))
    return LossEntry(fn, head, hyper, about, **options)


LOSSES: dict[str, LossEntry] = {
    "ce": _entry("softmax_cross_entropy", "softmax cross-entropy", affine=_affine()),
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
    "la": _entry(
        "logit_adjusted",
        "logit adjustment (Menon 2021)",
        "tau",
        counts=True,
        affine=_affine(tau="tau"),
    ),
    "balanced_softmax": _entry(
        "balanced_softmax",
        "balanced softmax (Ren 2020)",
        counts=True,
        affine=_affine(tau=1.0),
    ),
    "cdt": _entry(
        "class_dependent_temperature",
        "class-dependent temperatures (Ye 2020)",
        "gamma",
        counts=True,
        affine=_affine(gamma="gamma"),
    ),
    "vs": _entry(
        "vector_scaling",
        "vector scaling (Kini 2021)",
        "gamma",
        "tau",
        counts=True,
        affine=_affine(gamma="gamma", tau="tau"),
    ),
    "tla_adrw": LossEntry(
        _affine_loss(_tla),
        "linear",
        ("gamma", "tau", "tau_late"),
        "VS, then truncated logit adjustment (Wang 2023)",
        heads=("cosine", "etf"),
        affine=_tla,
    ),
    "cvs": LossEntry(
        _affine_loss(_cvs),
        "linear",
        ("gamma", "tau"),
        "vector scaling calibrated class by class (Wang 2026)",
        heads=("cosine", "etf"),
        affine=_cvs,
        memory=_cvs_memory,
    ),
    "dot_regression": LossEntry(
        _dot_regression,
        "etf",
        (),
        "dot regression to a fixed frame (Yang 2022)",
        heads=("linear", "cosine"),
        options=("class_balance",),
    ),
}
