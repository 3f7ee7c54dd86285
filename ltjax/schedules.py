"""Schedules: pure functions from a (possibly traced) step to a scalar.

Learning-rate schedules return a *factor* of the base rate, so that the base rate stays
a traced hyper-parameter that a sweep may vary.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_range


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
    warmup_epochs: int = 5,
    milestones: tuple[int, ...] = (160, 180),
    factors: tuple[float, ...] = (1e-2, 1e-4),
) -> jax.Array:
    r"""Epoch-wise warm-up, then constant pieces: the CIFAR-LT recipe.

    With :math:`e = \lfloor step / steps\_per\_epoch \rfloor`: :math:`(e+1)/W` for
    :math:`e < W`, then 1, then `factors[j]` from epoch `milestones[j]` on.

    Args:
        step: int scalar, 0-based.
        steps_per_epoch: steps.
        warmup_epochs: W, in epochs; 0 for none.
        milestones: epochs at which the factor changes.
        factors: absolute factors of the base rate (not cumulative).

    Returns:
        float32 scalar factor of the base learning rate.

    Raises:
        ValueError: if milestones and factors differ in length.

    Example:
        >>> f = lambda e: warmup_multistep(e, steps_per_epoch=1)
        >>> [round(0.1 * float(f(e)), 6) for e in (0, 4, 5, 159, 160, 180)]
        [0.02, 0.1, 0.1, 0.1, 0.001, 1e-05]

    References:
        Cao et al., NeurIPS 2019, released code.
    """
    if len(milestones) != len(factors):
        raise ValueError(
            f"warmup_multistep: {len(milestones)} milestones but {len(factors)} factors"
        )
    epoch = jnp.asarray(step, jnp.int32) // steps_per_epoch
    table = jnp.asarray(np.asarray((1.0, *factors), np.float32))
    factor = table[phase(epoch, milestones)]
    if warmup_epochs:
        warm = (epoch + 1).astype(jnp.float32) / warmup_epochs
        factor = jnp.where(epoch < warmup_epochs, warm, factor)
    return factor


def cosine(
    step: ArrayLike,
    *,
    total_steps: int,
    warmup_steps: int = 0,
    steps_per_epoch: int = 1,
    final: float = 0.0,
) -> jax.Array:
    r"""Linear warm-up, then half a cosine down to `final`.

    .. math:: f(t) = f_\infty + (1 - f_\infty)\,\tfrac12 (1 + \cos(\pi\, t / T))

    with t, T counted after the warm-up. `steps_per_epoch` > 1 holds the factor constant
    within an epoch, :math:`t = S\lfloor step/S \rfloor`: the first epoch trains at the
    full rate and the last one not at zero.

    Args:
        step: int scalar, 0-based.
        total_steps: warm-up included.
        warmup_steps: linear from 1/warmup_steps to 1.
        steps_per_epoch: granularity in steps; 1 changes the factor every step.
        final: factor at the end.

    Returns:
        float32 scalar factor of the base learning rate.

    Raises:
        ValueError: if total_steps does not exceed warmup_steps.

    Example:
        >>> [round(float(cosine(s, total_steps=4)), 4) for s in range(4)]
        [1.0, 0.8536, 0.5, 0.1464]
    """
    check_range("cosine", "total_steps", total_steps, low=warmup_steps, open_low=True)
    step = jnp.asarray(step, jnp.int32)
    held = (step // steps_per_epoch) * steps_per_epoch
    done = (held - warmup_steps).astype(jnp.float32) / (total_steps - warmup_steps)
    factor = final + (1 - final) * 0.5 * (
        1 + jnp.cos(jnp.pi * jnp.clip(done, 0.0, 1.0))
    )
    if warmup_steps:
        warm = (step + 1).astype(jnp.float32) / warmup_steps
        factor = jnp.where(step < warmup_steps, jnp.minimum(warm, 1.0), factor)
    return factor
