"""What may be added to any learner from two views, by options of its own."""

import dataclasses
from typing import Any

from ltjax.methods.method import Method, MethodFacts, Setting
from ltjax.methods.self_supervised import pairs
from ltjax.methods.self_supervised.boosting import BoostOptions, boosted
from ltjax.methods.self_supervised.harmonizing import HarmonyOptions, harmonized


@dataclasses.dataclass(frozen=True)
class ExtensionOptions(HarmonyOptions, BoostOptions):
    """Of boosted contrastive learning and geometric harmonization."""


def extended(method: Method, options: Any, setting: Setting) -> Method:
    """A method with the extensions that its options ask for.

    Args:
        method: from `pairs.pair_method`.
        options: with those of `BoostOptions`, and of `HarmonyOptions` where both views
            are projected by the trained network.
        setting: of the method.

    Returns:
        A `Method`.
    """
    if options.boost:
        shape = getattr(options, "temperature_shape", pairs.CONSTANT)
        standardize = shape != pairs.CONSTANT
        method = boosted(method, options, setting, standardize=standardize)
    if getattr(options, "harmony", 0.0):
        method = harmonized(method, options, setting)
    return method


def extended_facts(
    options: Any, *, couples_batch: bool = False, **more: Any
) -> MethodFacts:
    """Facts of an extended method: the transport of harmonization couples rows."""
    coupled = couples_batch or getattr(options, "harmony", 0.0) > 0
    return pairs.pair_facts(couples_batch=coupled, **more)


def extension_needs(options: Any, config: Any) -> list[str]:
    """Faults of a config whose learner has extensions."""
    faults, wanted = [], options.boost or getattr(options, "harmony", 0.0) > 0
    if wanted and config.sampler.facts.reads_labels:
        faults.append(
            f"config.sampler.name is {config.sampler.name!r}, which may draw an example"
            " twice in a batch, but method.boost and method.harmony keep one row for"
            " each; expected 'instance'"
        )
    if options.boost and "strength" not in config.augment.facts.hints:
        faults.append(
            f"config.augment.name is {config.augment.name!r}, which cannot vary its"
            " strength by example, but method.boost is set; expected 'two_views'"
        )
    return faults


def contrast_extension_needs(options: Any, config: Any) -> list[str]:
    """Faults of one that contrasts the images of a batch with each other, too."""
    return [
        *pairs.contrast_needs(options, config),
        *extension_needs(options, config),
    ]
