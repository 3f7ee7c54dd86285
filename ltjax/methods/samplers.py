"""Samplers as components: which examples a batch holds."""

import dataclasses

import numpy as np

from ltjax import class_stats
from ltjax.options import Component, option
from ltjax.resampling import samplers
from ltjax.resampling.component import (
    SamplerFacts,
    SamplerOptions,
    deferred,
    label_arguments,
)


@dataclasses.dataclass(frozen=True)
class InstanceOptions:
    """Of instance-balanced sampling."""

    remainder: str = option(
        "drop",
        "the last, incomplete batch of an epoch is dropped or padded",
        choices=("drop", "pad"),
    )


@dataclasses.dataclass(frozen=True)
class PowerOptions(SamplerOptions):
    """Of sampling classes by a power of their counts."""

    power: float = option(1.0, "q of p_k ~ n_k^q; 0 is class-balanced, 1 instance")


@dataclasses.dataclass(frozen=True)
class EffectiveNumberOptions(SamplerOptions):
    """Of sampling by the inverse effective number."""

    beta: float = option(0.9999, "of the effective number", low=0, below=1)


def _instance(options: InstanceOptions, setting) -> samplers.Sampler:
    labels, classes, batch_size = label_arguments(setting)
    told = {"labels": labels, "num_classes": classes} if np.min(labels) >= 0 else {}
    return samplers.instance(
        len(labels), batch_size, remainder=options.remainder, **told
    )


def _progressive(options, setting) -> samplers.Sampler:
    epochs = -(-setting.total_steps // setting.steps_per_epoch)
    return samplers.progressive(*label_arguments(setting), total_epochs=epochs)


def _effective_number(options, setting) -> samplers.Sampler:
    weights = class_stats.class_balanced_weights(
        setting.class_counts, beta=options.beta
    )
    return samplers.class_weighted(*label_arguments(setting), weights=weights)


INSTANCE = Component(
    "every example once per epoch",
    InstanceOptions,
    _instance,
    facts=lambda options: SamplerFacts(options.remainder == "pad", reads_labels=False),
)
CLASS_BALANCED = Component(
    "classes uniformly",
    SamplerOptions,
    deferred(lambda o, setting: samplers.class_balanced(*label_arguments(setting))),
)
SQUARE_ROOT = Component(
    "classes by the square root of their counts",
    SamplerOptions,
    deferred(lambda o, setting: samplers.square_root(*label_arguments(setting))),
)
CLASS_POWER = Component(
    "classes by a power of their counts",
    PowerOptions,
    deferred(
        lambda o, setting: samplers.class_power(
            *label_arguments(setting), power=o.power
        )
    ),
)
CLASS_AWARE = Component(
    "classes in turn, four examples at a visit",
    SamplerOptions,
    deferred(lambda o, setting: samplers.class_aware(*label_arguments(setting))),
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
