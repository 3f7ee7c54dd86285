"""Resampling: which examples are drawn, and how often."""

from ltjax.resampling.samplers import (
    Sampler,
    class_aware,
    class_balanced,
    class_power,
    class_weighted,
    deferred,
    instance,
    progressive,
    square_root,
)

__all__ = [
    "Sampler",
    "class_aware",
    "class_balanced",
    "class_power",
    "class_weighted",
    "deferred",
    "instance",
    "progressive",
    "square_root",
]
