"""Schedules: pure functions from a (possibly traced) step to a scalar.

Learning-rate schedules return a *factor* of the base rate, so that the base rate stays
a traced hyper-parameter that a sweep may vary.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_range


def phase(step: ArrayLike, boundaries: tuple[int, ...]) -> jax.Array:
    """Index of the phase that `step` lies in: the number of boundaries <= step.

    Indexing arrays stacked as [phases, K] with it switches a loss inside one compiled
    program (deferred re-weighting and the like).

    Args:
        step: int scalar, 0-based.
        boundaries: increasing steps at which a new phase starts.

    Returns:
        int32 scalar in [0, len(boundaries)].

    Example:
        >>> [int(phase(s, (160,))) for s in (159, 160)]
        [0, 1]
    """
    starts = jnp.asarray(np.asarray(boundaries, np.int32).reshape(-1))
    return jnp.sum(jnp.asarray(step, jnp.int32) >= starts, dtype=jnp.int32)


def constant(step: ArrayLike) -> jax.Array:
    """Factor 1 at every step."""
    return jnp.ones_like(jnp.asarray(step, jnp.float32))


def warmup_multistep(
    step: ArrayLike,
    *,
    steps_per_epoch: int,
    warmup_epochs: float = 5,
    milestones: tuple[int, ...] = (160, 180),
    factors: tuple[float, ...] = (1e-2, 1e-4),
    warmup_by: str = "epoch",
) -> jax.Array:
    r"""Warm-up, then constant pieces: the CIFAR-LT recipes.

    With S = `steps_per_epoch` and :math:`e = \lfloor step / S \rfloor` the factor is

    .. math:: \text{by epoch: } \frac{e + 1}{W} \;\; (e < W), \qquad
              \text{by step: } \frac{step}{W S} \;\; (step < W S)

    then 1, then `factors[j]` from epoch `milestones[j]` on.

    Args:
        step: int scalar, 0-based.
        steps_per_epoch: steps.
        warmup_epochs: W, in epochs; 0 for none. A fraction is good by step only.
        milestones: epochs at which the factor changes.
        factors: absolute factors of the base rate (not cumulative).
        warmup_by: "epoch" holds the factor within an epoch, as LDAM and its followers
            do; "step" raises it in every step, from 0, as the class-balanced loss and
            logit adjustment do.

    Returns:
        float32 scalar factor of the base learning rate.

    Raises:
        ValueError: if milestones and factors differ in length, `warmup_by` is unknown,
            or W is no whole number of epochs.

    Example:
        >>> f = lambda e: warmup_multistep(e, steps_per_epoch=1)
        >>> [round(0.1 * float(f(e)), 6) for e in (0, 4, 5, 159, 160, 180)]
        [0.02, 0.1, 0.1, 0.1, 0.001, 1e-05]

    References:
        Cao et al., NeurIPS 2019, released code (by epoch); Cui et al., CVPR 2019, and
        Menon et al., ICLR 2021, released code (by step).
    """
    check_choice("warmup_multistep", "warmup_by", warmup_by, ("epoch", "step"))
    if warmup_by == "epoch" and warmup_epochs != int(warmup_epochs):
        raise ValueError(
            f"warmup_multistep: warmup_epochs is {warmup_epochs}, expected whole epochs"
            " with warmup_by='epoch'"
        )
    if len(milestones) != len(factors):
        raise ValueError(
            f"warmup_multistep: {len(milestones)} milestones but {len(factors)} factors"
        )
    step = jnp.asarray(step, jnp.int32)
    epoch = step // steps_per_epoch
    table = jnp.asarray(np.asarray((1.0, *factors), np.float32))
    factor = table[phase(epoch, milestones)]
    if warmup_epochs and warmup_by == "epoch":
        warm = (epoch + 1).astype(jnp.float32) / warmup_epochs
        factor = jnp.where(epoch < warmup_epochs, warm, factor)
    elif warmup_epochs:
        warm = step.astype(jnp.float32) / (warmup_epochs * steps_per_epoch)
        factor = jnp.where(warm < 1, warm, factor)
    return factor


def cosine(
    step: ArrayLike,
    *,
    total_steps: int,
    warmup_steps: int = 0,
    steps_per_epoch: int = 1,
    final: float = 0.0,
    middle_steps: int = 0,
    middle: float = 0.0,
) -> jax.Array:
    r"""Linear warm-up, then half a cosine down to `final`.

    .. math:: f = p / W \;\; (p < W), \qquad f_\infty + (1 - f_\infty)\,
              \tfrac12 \Big(1 + \cos\Big(\pi\, \frac{p - W}{T - W}\Big)\Big)
              \;\; (p \ge W)

    After a warm-up of W steps p is the number of the step from 1 on, as in the papers:
    step W has the full rate, the next one is on the cosine, and the last one is at its
    end. Without a warm-up p counts from 0: the first step has the full rate, and the
    last one is not at the end. `steps_per_epoch` S > 1 holds the factor within an
    epoch, at the p of its last step (its first one without a warm-up).

    With `middle_steps` M there are two halves of cosines, from 1 to `middle` at p = M
    and from there to `final`.

    Args:
        step: int scalar, 0-based.
        total_steps: T, warm-up included.
        warmup_steps: W, linear from 1/W to 1; 0 for none.
        steps_per_epoch: granularity in steps; 1 changes the factor every step.
        final: factor at the end.
        middle_steps: M, at least W and less than T; 0 for one cosine.
        middle: factor at M.

    Returns:
        float32 scalar factor of the base learning rate.

    Raises:
        ValueError: if total_steps does not exceed warmup_steps, or middle_steps is not
            between them.

    Example:
        >>> [round(float(cosine(s, total_steps=4)), 4) for s in range(4)]
        [1.0, 0.8536, 0.5, 0.1464]
        >>> f = lambda s: cosine(s, total_steps=6, warmup_steps=2)
        >>> [round(float(f(s)), 4) for s in range(6)]
        [0.5, 1.0, 0.8536, 0.5, 0.1464, 0.0]

    References:
        Without a warm-up: Kang et al., ICLR 2020, by epoch. With one: Jiang et al.,
        "Self-Damaging Contrastive Learning", ICML 2021, released code, by step. In two
        parts: Zhou et al., "Combating Representation Learning Disparity with Geometric
        Harmonization", NeurIPS 2023, released code, by epoch.
    """
    check_range("cosine", "total_steps", total_steps, low=warmup_steps, open_low=True)
    if middle_steps and not warmup_steps <= middle_steps < total_steps:
        raise ValueError(
            f"cosine: middle_steps is {middle_steps}, expected at least warmup_steps ="
            f" {warmup_steps} and less than total_steps = {total_steps}"
        )
    epoch = jnp.asarray(step, jnp.int32) // steps_per_epoch
    # Counted from 1 after a warm-up: its last step is where the cosine begins.
    position = (epoch + 1 if warmup_steps else epoch) * steps_per_epoch

    def half(start: int, stop: int, high: float, low: float) -> jax.Array:
        done = (position - start).astype(jnp.float32) / max(stop - start, 1)
        fall = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0.0, 1.0)))
        return low + (high - low) * fall

    if middle_steps:
        early = half(warmup_steps, middle_steps, 1.0, middle)
        late = half(middle_steps, total_steps, middle, final)
        factor = jnp.where(position < middle_steps, early, late)
    else:
        factor = half(warmup_steps, total_steps, 1.0, final)
    if warmup_steps:
        warm = position.astype(jnp.float32) / warmup_steps
        factor = jnp.where(position < warmup_steps, warm, factor)
    return factor


def partial_cosine(
    step: ArrayLike, *, total_steps: int, level: float | ArrayLike = 7.0
) -> jax.Array:
    r"""FixMatch's decay: the first sixteenths of a half cosine.

    .. math:: f = \cos\Big(\frac{\ell \pi}{16} \frac{k}{K}\Big)

    Args:
        step: k, int scalar, 0-based.
        total_steps: K.
        level: :math:`\ell` in [0, 8], sixteenths that are run through: 7 ends at 0.195,
            1 (CReST) is nearly constant.

    Returns:
        float32 scalar factor of the base learning rate.

    Raises:
        ValueError: if the level or the number of steps is out of range.

    Example:
        >>> f = lambda k: partial_cosine(k, total_steps=100)
        >>> [round(0.03 * float(f(k)), 7) for k in (0, 50, 100)]
        [0.03, 0.0231903, 0.0058527]

    References:
        Sohn et al., "FixMatch", NeurIPS 2020; Wei et al., "CReST", CVPR 2021, released
        code.
    """
    check_range("partial_cosine", "level", level, low=0.0, high=8.0)
    check_range("partial_cosine", "total_steps", total_steps, low=0, open_low=True)
    done = jnp.asarray(step, jnp.int32).astype(jnp.float32) / total_steps
    return jnp.cos(jnp.asarray(level) * jnp.pi / 16 * jnp.clip(done, 0.0, 1.0))


def linear_decay(
    step: ArrayLike, *, total_steps: int, start_step: int = 0
) -> jax.Array:
    r"""Factor 1 until `start_step`, then straight down to 0 at the end.

    Args:
        step: int scalar, 0-based.
        total_steps: T, where the factor would be 0: no step has it.
        start_step: first step of the decay, the last one with factor 1.

    Returns:
        float32 scalar factor of the base learning rate.

    Raises:
        ValueError: if total_steps does not exceed start_step.

    Example:
        >>> f = lambda s: linear_decay(s, total_steps=6, start_step=2)
        >>> [float(f(s)) for s in range(6)]
        [1.0, 1.0, 1.0, 0.75, 0.5, 0.25]

    References:
        Han et al., "Co-teaching", NeurIPS 2018: by epoch, from the 80th of 200 on.
    """
    check_range(
        "linear_decay", "total_steps", total_steps, low=start_step, open_low=True
    )
    done = jnp.asarray(step, jnp.int32) - start_step
    done = done.astype(jnp.float32) / (total_steps - start_step)
    return 1 - jnp.clip(done, 0.0, 1.0)


def ramp_up(step: ArrayLike, *, steps: int, shape: str = "linear") -> jax.Array:
    r"""Weight of an unlabelled loss, which rises to 1.

    .. math:: \text{linear: } t, \qquad \text{sigmoid: } e^{-5 (1 - t)^2}, \qquad
              t = \min(k / K, 1)

    Args:
        step: k, int scalar, 0-based.
        steps: K; 0 for no ramp.
        shape: "linear" or "sigmoid", which begins at 0.0067.

    Returns:
        float32 scalar in [0, 1].

    Raises:
        ValueError: if the shape is unknown.

    Example:
        >>> half = [ramp_up(5, steps=10, shape=s) for s in ("linear", "sigmoid")]
        >>> [round(float(value), 6) for value in half]
        [0.5, 0.286505]

    References:
        Berthelot et al., "MixMatch", NeurIPS 2019 (linear); Laine and Aila, "Temporal
        Ensembling for Semi-Supervised Learning", ICLR 2017 (sigmoid).
    """
    check_choice("ramp_up", "shape", shape, ("linear", "sigmoid"))
    done = jnp.clip(jnp.asarray(step) / max(steps, 1), 0.0, 1.0)
    return done if shape == "linear" else jnp.exp(-5 * (1 - done) ** 2)


def temperature_schedule(
    step: ArrayLike,
    *,
    steps_per_epoch: int,
    period: float | ArrayLike = 400,
    low: float | ArrayLike = 0.1,
    high: float | ArrayLike = 1.0,
    shape: str = "cosine",
) -> jax.Array:
    r"""Oscillating temperature of a contrastive loss (TS), constant within an epoch.

    .. math:: \tau(t) = (\tau_+ - \tau_-)\, \tfrac12 (1 + \cos(2 \pi t / T)) + \tau_-

    with the 1-based epoch t. A high temperature separates groups, which suits the head;
    a low one separates instances, which suits the tail. The gradient of the loss goes
    as 1 / temperature, so the schedule moves the effective learning rate too.

    Args:
        step: int scalar, 0-based.
        steps_per_epoch: steps.
        period: T, in *epochs*. The released code counts half periods (t_max = 200).
        low: :math:`\tau_-`.
        high: :math:`\tau_+`, about where training starts, and where it ends after
            whole periods.
        shape: "cosine", or "step": high in the first half of each period (up to and
            including epoch T / 2), then low.

    Returns:
        float32 scalar temperature.

    Raises:
        ValueError: if a temperature or the period is not positive or the shape is
            unknown.

    Example:
        >>> tau = lambda epoch: temperature_schedule(epoch - 1, steps_per_epoch=1)
        >>> [round(float(tau(e)), 3) for e in (1, 100, 200, 400)]
        [1.0, 0.55, 0.1, 1.0]

    References:
        Kukleva, Boehle, Schiele, Kuehne, Rupprecht, "Temperature Schedules for
        Self-Supervised Contrastive Methods on Long-Tail Data", ICLR 2023, eq. 6.
    """
    name = "temperature_schedule"
    check_choice(name, "shape", shape, ("cosine", "step"))
    for argument, value in (("period", period), ("low", low), ("high", high)):
        check_range(name, argument, value, low=0.0, open_low=True)
    epoch = jnp.asarray(step, jnp.int32) // steps_per_epoch + 1
    # Reduced to one period first: float32 has no digits to spare for a long run.
    turn = jnp.mod(epoch.astype(jnp.float32), period) / jnp.asarray(period)
    if shape == "cosine":
        share = 0.5 * (1 + jnp.cos(2 * jnp.pi * turn))
    else:
        share = jnp.where((turn > 0) & (turn <= 0.5), 1.0, 0.0)
    top, bottom = jnp.asarray(high), jnp.asarray(low)
    return (top - bottom) * share + bottom


def target_decay(
    step: ArrayLike, *, total_steps: int, base: float | ArrayLike = 0.996
) -> jax.Array:
    r"""Decay of a momentum network that stands still at the end of training (BYOL).

    .. math:: 1 - (1 - \tau_0)\, \tfrac12 (\cos(\pi k / K) + 1)

    Args:
        step: k, int scalar, 0-based.
        total_steps: K.
        base: :math:`\tau_0`, the decay at the start: 0.996 for 1000 epochs of ImageNet,
            0.99 for 100 to 300, 0.97 for 40.

    Returns:
        float32 scalar m of :math:`\theta' \leftarrow m \theta' + (1 - m) \theta`.

    Raises:
        ValueError: if the base is not in [0, 1].

    Example:
        >>> decay = lambda k: target_decay(k, total_steps=200, base=0.99)
        >>> [round(float(decay(k)), 5) for k in (0, 100, 200)]
        [0.99, 0.995, 1.0]

    References:
        Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, section 3.2.
    """
    check_range("target_decay", "base", base, low=0.0, high=1.0)
    done = jnp.asarray(step, jnp.int32).astype(jnp.float32) / total_steps
    share = 0.5 * (jnp.cos(jnp.pi * jnp.clip(done, 0.0, 1.0)) + 1)
    return 1 - (1 - jnp.asarray(base)) * share
