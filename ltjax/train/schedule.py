"""Schedules of the learning rate by name: factors of the base rate, by step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import schedules
from ltjax.options import Component, ConfigError, option


@dataclasses.dataclass(frozen=True)
class ScheduleOptions:
    """Shared by all schedules."""

    warmup: str = option("0 steps", "the rate climbs to its full value", duration=True)


@dataclasses.dataclass(frozen=True)
class MultistepOptions(ScheduleOptions):
    """Of a decay at milestones."""

    milestones: tuple[int, ...] = option((160, 180), "in epochs", low=0)
    factors: tuple[float, ...] = option(
        (1e-2, 1e-4), "of the base rate, from each milestone on", low=0
    )
    warmup_by: str = option(
        "epoch",
        "the rate climbs by epoch (LDAM) or step (logit adjustment)",
        choices=("epoch", "step"),
    )

    def __post_init__(self):
        if len(self.milestones) != len(self.factors):
            raise ValueError(
                f"there are {len(self.milestones)} milestones but {len(self.factors)}"
                " factors, expected as many of each"
            )


@dataclasses.dataclass(frozen=True)
class CosineOptions(ScheduleOptions):
    """Of a cosine decay, or of two that meet in the middle."""

    per_epoch: bool = option(False, "whether the rate stays the same within an epoch")
    final: float = option(0.0, "of the base rate, at the end", low=0, high=1)
    middle_at: str = option(
        "0 steps", "end of a first cosine; 0 = there is one only", duration=True
    )
    middle: float = option(0.0, "of the base rate, at middle_at", low=0)


@dataclasses.dataclass(frozen=True)
class PartialCosineOptions(ScheduleOptions):
    """Of FixMatch's cosine."""

    level: float = option(7.0, "sixteenths of a half cosine: 1 in CReST", low=0, high=8)


@dataclasses.dataclass(frozen=True)
class LinearOptions(ScheduleOptions):
    """Of a linear decay to zero."""

    start: str = option("0 steps", "of the decay", duration=True)


def _warmup(options: ScheduleOptions, setting) -> int:
    warmup = setting.steps(options.warmup)
    if warmup >= setting.total_steps and warmup:
        raise ConfigError(
            [
                f"config.schedule.warmup is {options.warmup!r} = {warmup} steps,"
                f" expected less than the run's {setting.total_steps}"
            ]
        )
    return warmup


def _constant(options: ScheduleOptions, setting) -> Callable[[Any], jax.Array]:
    return _climbing(_warmup(options, setting), schedules.constant)


def _multistep(options: MultistepOptions, setting) -> Callable[[Any], jax.Array]:
    warmup, epoch = _warmup(options, setting), setting.steps_per_epoch
    if options.warmup_by == "epoch" and warmup % epoch:
        raise ConfigError(
            [
                f"config.schedule.warmup is {options.warmup!r} = {warmup} steps, but"
                " 'warmup_multistep' raises the rate by epochs: expected a multiple of"
                f" the {epoch} steps of an epoch, or schedule.warmup_by = 'step'"
            ]
        )
    return lambda step: schedules.warmup_multistep(
        step,
        steps_per_epoch=epoch,
        warmup_epochs=warmup / epoch,
        milestones=options.milestones,
        factors=options.factors,
        warmup_by=options.warmup_by,
    )


def _cosine(options: CosineOptions, setting) -> Callable[[Any], jax.Array]:
    warmup, middle = _warmup(options, setting), setting.steps(options.middle_at)
    if middle and not warmup <= middle < setting.total_steps:
        raise ConfigError(
            [
                f"config.schedule.middle_at is {options.middle_at!r} = {middle} steps,"
                f" expected at least the {warmup} of the warm-up and less than the"
                f" run's {setting.total_steps}"
            ]
        )
    return lambda step: schedules.cosine(
        step,
        total_steps=setting.total_steps,
        warmup_steps=warmup,
        steps_per_epoch=setting.steps_per_epoch if options.per_epoch else 1,
        final=options.final,
        middle_steps=middle,
        middle=options.middle,
    )


def _climbing(warmup: int, factor: Callable[[Any], jax.Array]):
    """A schedule whose first steps are held down to the line 1/W, 2/W, ..., 1."""
    if not warmup:
        return factor
    return lambda step: (
        factor(step) * jnp.minimum((step + 1).astype(jnp.float32) / warmup, 1.0)
    )


def _partial_cosine(options: PartialCosineOptions, setting):
    return _climbing(
        _warmup(options, setting),
        lambda step: schedules.partial_cosine(
            step, total_steps=setting.total_steps, level=options.level
        ),
    )


def _linear(options: LinearOptions, setting) -> Callable[[Any], jax.Array]:
    start = setting.steps(options.start)
    if start >= setting.total_steps:
        raise ConfigError(
            [
                f"config.schedule.start is {options.start!r} = {start} steps, expected"
                f" less than the run's {setting.total_steps}"
            ]
        )
    return _climbing(
        _warmup(options, setting),
        lambda step: schedules.linear_decay(
            step, total_steps=setting.total_steps, start_step=start
        ),
    )


SCHEDULES: dict[str, Component] = {
    "constant": Component("the same rate throughout", ScheduleOptions, _constant),
    "warmup_multistep": Component(
        "warm-up, then steps down (Cao 2019)", MultistepOptions, _multistep
    ),
    "cosine": Component("cosine decay", CosineOptions, _cosine),
    "partial_cosine": Component(
        "the first 7/16 of a cosine decay (FixMatch, Sohn 2020; CReST)",
        PartialCosineOptions,
        _partial_cosine,
    ),
    "linear": Component("linear decay to zero", LinearOptions, _linear),
}
