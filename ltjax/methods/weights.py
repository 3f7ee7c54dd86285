"""Class weights as components: how much the examples of a class count in the mean."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import class_stats
from ltjax.options import Component, option


class ClassWeights(NamedTuple):
    """The weights in force from the late phase on; before it all are 1.

    Attributes:
        table: options -> [K] float32, each sums to K.
        normalize: "examples" divides by the number of examples, "weights" by the sum of
            their weights.
        of_batch: (labels [B], mask [B]) -> [K], weights that come from the batch
            instead of the training counts; None for the others.
        options: as they stand in the config.
    """

    table: Callable[[Any], jax.Array]
    normalize: str = "examples"
    of_batch: Callable[..., jax.Array] | None = None
    options: Any = None


class WeightsFacts(NamedTuple):
    """What is known of class weights before they are made.

    Attributes:
        of_batch: whether they change with the batch.
        reads_labels: whether they differ by class.
    """

    of_batch: bool = False
    reads_labels: bool = True


@dataclasses.dataclass(frozen=True)
class WeightsOptions:
    """Shared by all class weights."""

    normalize: str = option(
        "examples",
        "the objective divides by the number of examples or the sum of their weights",
        choices=("examples", "weights"),
    )
    start: str = option(
        "0 steps", "first step of the late phase (DRW: '80%')", duration=True
    )


@dataclasses.dataclass(frozen=True)
class ClassBalancedOptions(WeightsOptions):
    """Of the effective number of examples."""

    # A Python float: float32 cannot hold 0.9999 exactly enough for 1 - beta.
    beta: float = option(0.9999, "of the effective number", low=0, below=1)


@dataclasses.dataclass(frozen=True)
class InversePowerOptions(WeightsOptions):
    """Of a power of the inverse frequency."""

    power: float = option(1.0, "exponent of 1 / n", low=0, sweep=True)


def _make(table: Callable) -> Callable:
    def make(options, setting) -> ClassWeights:
        counts = setting.class_counts

        def of_counts(live):
            return jnp.asarray(table(counts, live), jnp.float32)

        return ClassWeights(of_counts, options.normalize, options=options)

    return make


def _ones(counts, options) -> np.ndarray:
    return np.ones(len(counts), np.float32)


def _of_batch(options, setting) -> ClassWeights:
    def weights(labels, mask):
        return class_stats.batch_balanced_weights(
            labels, setting.num_classes, where=mask
        )

    return _make(_ones)(options, setting)._replace(of_batch=weights)


NONE = Component(
    "every example counts 1",
    WeightsOptions,
    _make(_ones),
    facts=lambda options: WeightsFacts(reads_labels=False),
)
CLASS_BALANCED = Component(
    "inverse effective number of examples (Cui 2019)",
    ClassBalancedOptions,
    _make(lambda counts, o: class_stats.class_balanced_weights(counts, beta=o.beta)),
)
INVERSE_POWER = Component(
    "a power of the inverse class frequency",
    InversePowerOptions,
    _make(lambda counts, o: class_stats.inverse_power_weights(counts, power=o.power)),
)
BATCH = Component(
    "inverse class frequency within the batch",
    WeightsOptions,
    _of_batch,
    facts=lambda options: WeightsFacts(of_batch=True),
)
