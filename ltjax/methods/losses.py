"""The components of the supervised losses; the functions are those of `ltjax.losses`.

A loss of a new file can bring its component along (`ltjax.losses.component`); then all
that is missing is its line in `ltjax.methods.registry`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import class_stats, losses
from ltjax.losses.component import Loss, LossContext, LossFacts, loss_component
from ltjax.losses.dot_regression import CLASS_BALANCE
from ltjax.options import Component, option

_GAMMA = "exponent of the class-dependent temperature (n / n_max)^gamma"
_TAU = "strength of the logit adjustment"


@dataclasses.dataclass(frozen=True)
class FocalOptions:
    """Of the focal losses."""

    gamma: float = option(2.0, "focusing exponent", low=0, sweep=True)


@dataclasses.dataclass(frozen=True)
class LDAMHingeOptions:
    """Of LDAM with the hinge loss."""

    max_margin: float = option(0.5, "margin of the rarest class", low=0, sweep=True)


@dataclasses.dataclass(frozen=True)
class LDAMOptions(LDAMHingeOptions):
    """Of LDAM."""

    scale: float = option(30.0, "factor of the cosines", above=0, sweep=True)


@dataclasses.dataclass(frozen=True)
class TauOptions:
    """Of logit adjustment."""

    tau: float = option(1.0, _TAU, low=0, sweep=True)


@dataclasses.dataclass(frozen=True)
class CDTOptions:
    """Of class-dependent temperatures."""

    gamma: float = option(0.2, _GAMMA, low=0, sweep=True)


@dataclasses.dataclass(frozen=True)
class VSOptions:
    """Of vector scaling: the published CIFAR-10-LT setting."""

    gamma: float = option(0.2, _GAMMA, low=0, sweep=True)
    tau: float = option(1.2, _TAU, low=0, sweep=True)


@dataclasses.dataclass(frozen=True)
class TLAOptions:
    """Of truncated logit adjustment: VS first, logit adjustment in the late phase."""

    gamma: float = option(0.05, _GAMMA + ", first phase", low=0, sweep=True)
    tau: float = option(1.0, _TAU + ", first phase", low=0, sweep=True)
    tau_late: float = option(1.0, _TAU + ", late phase", low=0, sweep=True)


@dataclasses.dataclass(frozen=True)
class DotRegressionOptions:
    """Of dot regression."""

    class_balance: str = option(
        "none", "which class weights are inside of the loss", choices=CLASS_BALANCE
    )


def _affine(options, context: LossContext) -> tuple[jax.Array, jax.Array]:
    """(n / n_max)^gamma and tau log pi, of whichever of the two the options have."""
    gamma, tau = getattr(options, "gamma", 0.0), getattr(options, "tau", 0.0)
    return scale_and_shift(context.class_counts, gamma, tau)


def _balanced(options, context: LossContext) -> tuple[jax.Array, jax.Array]:
    return scale_and_shift(context.class_counts, 0.0, 1.0)


def _tla(options: TLAOptions, context: LossContext) -> tuple[jax.Array, jax.Array]:
    """VS first, truncated logit adjustment late (Wang et al. 2023)."""
    late = context.phase > 0
    gamma = jnp.where(late, 0.0, options.gamma)
    tau = jnp.where(late, options.tau_late, options.tau)
    return scale_and_shift(context.class_counts, gamma, tau)


def scale_and_shift(counts: np.ndarray, gamma, tau) -> tuple[jax.Array, jax.Array]:
    """(n / n_max)^gamma and tau log pi, [K] each."""
    log_prior = jnp.asarray(class_stats.log_prior(counts), jnp.float32)
    return jnp.exp(gamma * (log_prior - jnp.max(log_prior))), tau * log_prior


def affine_loss(affine) -> Loss:
    """The loss CE(scale * z + shift, y) of a function (options, context)."""

    def fn(outputs, labels, options, context: LossContext):
        scale, shift = affine(options, context)
        return losses.affine_softmax(
            outputs["logits"], labels, scale=scale, shift=shift
        )

    return Loss(fn, affine)


def _dot_regression(outputs, labels, options, context: LossContext):
    if context.class_vectors is None:
        raise ValueError(
            "dot_regression: the network does not expose its class vectors, expected a"
            " head with `class_vectors`"
        )
    balance = options.class_balance
    return losses.dot_regression(
        outputs["features"],
        labels,
        context.class_vectors,
        class_balance=balance,
        class_counts=context.class_counts if balance == "global" else None,
        where=context.mask,
    )


def _couples(options: DotRegressionOptions) -> bool:
    """Weights by the batch's class sizes depend on the other rows."""
    return options.class_balance in ("batch", "sqrt_batch")


_SCALED = {"head": "cosine", "heads": ()}

CE = loss_component(
    "softmax cross-entropy", losses.softmax_cross_entropy, affine=_affine
)
FOCAL = loss_component(
    "focal loss, softmax form (Lin 2017)", losses.focal, FocalOptions
)
SIGMOID = loss_component(
    "one-vs-rest cross-entropy", losses.sigmoid_cross_entropy, init_bias="sigmoid"
)
SIGMOID_FOCAL = loss_component(
    "focal loss, sigmoid form (Lin 2017)",
    losses.sigmoid_focal,
    FocalOptions,
    init_bias="sigmoid",
)
LDAM = loss_component(
    "label-distribution-aware margins (Cao 2019)",
    losses.ldam,
    LDAMOptions,
    counts=True,
    confidence=lambda options: options.scale,
    **_SCALED,
)
LDAM_HINGE = loss_component(
    "LDAM with the hinge loss (Cao 2019)",
    losses.ldam_hinge,
    LDAMHingeOptions,
    counts=True,
    **_SCALED,
)
LA = loss_component(
    "logit adjustment (Menon 2021)",
    losses.logit_adjusted,
    TauOptions,
    counts=True,
    affine=_affine,
)
BALANCED_SOFTMAX = loss_component(
    "balanced softmax (Ren 2020)",
    losses.balanced_softmax,
    counts=True,
    affine=_balanced,
)
CDT = loss_component(
    "class-dependent temperatures (Ye 2020)",
    losses.class_dependent_temperature,
    CDTOptions,
    counts=True,
    affine=_affine,
)
VS = loss_component(
    "vector scaling (Kini 2021)",
    losses.vector_scaling,
    VSOptions,
    counts=True,
    affine=_affine,
)
TLA_ADRW = Component(
    "VS, then truncated logit adjustment (Wang 2023)",
    TLAOptions,
    lambda options, setting: affine_loss(_tla),
    facts=lambda options: LossFacts(affine=True),
)
DOT_REGRESSION = Component(
    "dot regression to a fixed frame (Yang 2022)",
    DotRegressionOptions,
    lambda options, setting: Loss(_dot_regression),
    facts=lambda options: LossFacts(
        "etf", ("linear", "cosine"), couples_batch=_couples(options)
    ),
)
