"""Samplers as components: which examples a batch holds."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from ltjax import class_stats
from ltjax.options import Component, option
from ltjax.resampling import samplers


class SamplerFacts(NamedTuple):
    """What is known of a sampler before it is made.

    Attributes:
        padded: whether its batches may hold padding rows.
        reads_labels: whether it draws by class.
    """

    padded: bool = False
    reads_labels: bool = True


@dataclasses.dataclass(frozen=True)
class InstanceOptions:
    """Of instance-balanced sampling."""

    remainder: str = option(
        "drop",
        "the last, incomplete batch of an epoch is dropped or padded",
        choices=("drop", "pad"),
    )


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
    """Shared by the samplers that can take over from instance sampling."""

    start: str = option(
        "0 steps", "instance sampling before this step (DRS: '80%')", duration=True
    )


@dataclasses.dataclass(frozen=True)
class PowerOptions(SamplerOptions):
    """Of sampling classes by a power of their counts."""

    power: float = option(1.0, "q of p_k ~ n_k^q; 0 is class-balanced, 1 instance")


@dataclasses.dataclass(frozen=True)
class EffectiveNumberOptions(SamplerOptions):
    """Of sampling by the inverse effective number."""

    beta: float = option(0.9999, "of the effective number", low=0, below=1)


def deferred(draw: Callable[..., samplers.Sampler]) -> Callable[..., samplers.Sampler]:
    """A component's `make` from (options, setting) -> Sampler, honouring `start`."""

    def make(options: Any, setting: Any) -> samplers.Sampler:
        chosen = draw(options, setting)
        start = setting.steps(options.start)
        if not start:
            return chosen
        first = samplers.instance(setting.num_examples, setting.batch_size)
        return samplers.deferred(first, chosen, switch_step=start)

    return make


def _arguments(setting) -> tuple:
    return setting.labels, setting.num_classes, setting.batch_size


def _instance(options: InstanceOptions, setting) -> samplers.Sampler:
    return samplers.instance(
        setting.num_examples, setting.batch_size, remainder=options.remainder
    )


def _progressive(options, setting) -> samplers.Sampler:
    epochs = -(-setting.total_steps // setting.steps_per_epoch)
    return samplers.progressive(*_arguments(setting), total_epochs=epochs)


def _effective_number(options, setting) -> samplers.Sampler:
    weights = class_stats.class_balanced_weights(
        setting.class_counts, beta=options.beta
    )
    return samplers.class_weighted(*_arguments(setting), weights=weights)


INSTANCE = Component(
    "every example once per epoch",
    InstanceOptions,
    _instance,
    facts=lambda options: SamplerFacts(options.remainder == "pad", reads_labels=False),
)
CLASS_BALANCED = Component(
    "classes uniformly",
    SamplerOptions,
    deferred(lambda o, setting: samplers.class_balanced(*_arguments(setting))),
)
SQUARE_ROOT = Component(
    "classes by the square root of their counts",
    SamplerOptions,
    deferred(lambda o, setting: samplers.square_root(*_arguments(setting))),
)
CLASS_POWER = Component(
    "classes by a power of their counts",
    PowerOptions,
    deferred(
        lambda o, setting: samplers.class_power(*_arguments(setting), power=o.power)
    ),
)
CLASS_AWARE = Component(
    "classes in turn, four examples at a visit",
    SamplerOptions,
    deferred(lambda o, setting: samplers.class_aware(*_arguments(setting))),
)
PROGRESSIVE = Component(
    "from instance to class-balanced over the run",
    SamplerOptions,
    deferred(_progressive),
)
EFFECTIVE_NUMBER = Component(
    "examples by the inverse effective number (DRS when deferred)",
    EffectiveNumberOptions,
    deferred(_effective_number),
)
