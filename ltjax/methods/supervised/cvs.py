r"""CVS: vector scaling whose temperatures follow each class's calibration.

A bank keeps, for every class, the latest training predictions of its examples. From it
a factor kappa per class is fitted once per epoch: the inverse slope of accuracy against
confidence among the predictions *for* that class, so that an overconfident class (slope
below 1) gets kappa above 1. Phase 1 divides the multiplicative logit adjustment by it,

.. math:: \mathrm{CE}\bigl(z \odot \pi^\gamma / \kappa,\; y\bigr),

phase 2 folds it into the additive one and weights the classes,

.. math:: \pi_y^{-\nu}\; \mathrm{CE}\bigl(z + \tau \log(\pi / \kappa),\; y\bigr).

Note :math:`\pi = n / N` here where VS has n / n_max: an extra temperature common to all
classes. Everything is experimental: the published clip [.05, .2] is active whenever a
slope is below 5, which leaves kappa at .2 for all classes predicted often enough; the
default [.5, 2] here lets the fit speak.

References:
    Wang et al., journal version of "A Unified Generalization Analysis of Re-Weighting
    and Logit-Adjustment for Imbalanced Learning", TPAMI 2026; definitions from the
    published code (wang22ti/DDC), whose comments contradict it about phase 1's additive
    term: the code has none, and neither do we.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax import class_stats
from ltjax._checks import (
    check_choice,
    check_class_vector,
    check_counts,
    is_concrete,
    shape_of,
)
from ltjax._numerics import at_least_float32, host
from ltjax.losses.component import Loss, LossContext, LossFacts, Memory
from ltjax.methods.losses import affine_loss
from ltjax.methods.supervised.cvs_bank import init_cvs, update_bank, update_kappa
from ltjax.options import Component, option
from ltjax.schedules import phase


class AffineParameters(NamedTuple):
    """Class vectors [K] for `ltjax.losses.affine_softmax`."""

    weight: jax.Array
    scale: jax.Array
    shift: jax.Array


def cvs_parameters(
    kappa: ArrayLike,
    class_counts: ArrayLike,
    *,
    phase: int | ArrayLike,
    gamma: float | ArrayLike = 0.15,
    tau: float | ArrayLike = 0.9,
    nu: float | ArrayLike = 0.15,
) -> AffineParameters:
    r"""The loss of a phase as class vectors of the affine softmax.

    Phase 0: scale :math:`\pi^\gamma / \kappa`, no shift, equal weights. Phase 1: scale
    1, shift :math:`\tau\log(\pi/\kappa)`, weights :math:`\propto \pi^{-\nu}` with sum
    K (the published code then takes the mean by weights).

    Args:
        kappa: [K], the phase's row of the state; pass ones during the first warm-up
            epochs.
        class_counts: [K] positive.
        phase: 0 or 1; may be traced.
        gamma: strength of the multiplicative adjustment.
        tau: strength of the additive adjustment.
        nu: weight power.

    Returns:
        `AffineParameters` of [K] float32 arrays.

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> affine = cvs_parameters(jnp.array([1.0, 2.0]), [3, 1], phase=1, tau=1.0)
        >>> jnp.exp(affine.shift).round(4).tolist()
        [0.75, 0.125]
    """
    name = "cvs_parameters"
    check_counts(name, class_counts)
    num_classes = shape_of(class_counts)[0]
    check_class_vector(name, "kappa", kappa, num_classes)
    if is_concrete(phase):
        check_choice(name, "phase", int(host(phase)), (0, 1))
    kappa = at_least_float32(kappa)
    log_prior = jnp.asarray(class_stats.log_prior(class_counts), kappa.dtype)
    weights = class_stats.inverse_power_weights(class_counts, power=nu)
    is_late = jnp.asarray(phase) > 0
    return AffineParameters(
        weight=jnp.where(is_late, jnp.asarray(weights, kappa.dtype), 1.0),
        scale=jnp.where(is_late, 1.0, jnp.exp(gamma * log_prior) / kappa),
        shift=jnp.where(is_late, tau * (log_prior - jnp.log(kappa)), 0.0),
    )


@dataclasses.dataclass(frozen=True)
class CVSOptions:
    """Of calibrated vector scaling."""

    gamma: float = option(
        0.15, "exponent of the multiplicative adjustment", low=0, sweep=True
    )
    tau: float = option(0.9, "strength of the additive one", low=0, sweep=True)
    kappa_low: float = option(0.5, "smallest calibration factor", above=0)
    kappa_high: float = option(2.0, "largest calibration factor", above=0)
    kappa_warmup: str = option(
        "10 epochs", "the factors are fitted, but not used yet", duration=True
    )

    def __post_init__(self):
        if self.kappa_low > self.kappa_high:
            raise ValueError(
                f"kappa_low is {self.kappa_low} and kappa_high {self.kappa_high},"
                " expected low <= high"
            )


def remembered(
    class_counts: ArrayLike,
    *,
    steps_per_epoch: int,
    late_step: int,
    warmup_steps: int = 0,
    low: float = 0.5,
    high: float = 2.0,
    max_items: int = 1000,
) -> Memory:
    """The bank and its factors as the memory of a training run.

    Args:
        class_counts: [K] training counts.
        steps_per_epoch: kappa moves once in this number of steps.
        late_step: first step of phase 2.
        warmup_steps: kappa is fitted from the start, but 1 is used in its place before
            this step.
        low: see `update_kappa`.
        high: see `update_kappa`.
        max_items: see `init_cvs`.

    Returns:
        A `Memory`: {"cvs": `CVSState`, "kappa": [K], the factors in force at the next
        step}.
    """
    start = init_cvs(class_counts, max_items=max_items)

    def init(key, params, model_state):
        return {"cvs": start, "kappa": jnp.ones_like(start.kappa[0])}

    def update(memory, state, batch, aux):
        logits = aux["outputs"]["logits"]
        bank = update_bank(memory["cvs"], logits, batch["label"], where=batch["mask"])
        done = state.step  # number of steps taken
        bank = jax.lax.cond(
            done % steps_per_epoch == 0,
            lambda bank: update_kappa(
                bank, phase=phase(done - 1, (late_step,)), low=low, high=high
            ),
            lambda bank: bank,
            bank,
        )
        kappa = bank.kappa[phase(done, (late_step,))]
        return {"cvs": bank, "kappa": jnp.where(done < warmup_steps, 1.0, kappa)}

    return Memory(init, update)


def _affine(options: CVSOptions, context: LossContext):
    """Scale and shift with the factors now in force."""
    found = cvs_parameters(
        context.memory["kappa"],
        context.class_counts,
        phase=jnp.minimum(context.phase, 1),
        gamma=options.gamma,
        tau=options.tau,
    )
    return found.scale, found.shift


def _make(options: CVSOptions, setting) -> Loss:
    memory = remembered(
        setting.class_counts,
        steps_per_epoch=setting.steps_per_epoch,
        late_step=setting.late_step,
        warmup_steps=setting.steps(options.kappa_warmup),
        low=options.kappa_low,
        high=options.kappa_high,
    )
    return affine_loss(_affine)._replace(memory=memory)


CVS = Component(
    "vector scaling calibrated class by class (Wang 2026)",
    CVSOptions,
    _make,
    facts=lambda options: LossFacts(affine=True, remembers=True),
)
