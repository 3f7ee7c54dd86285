"""Pipelines of several views as components: contrastive pairs, weak and strong."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from ltjax.data.augment import (
    NormalizeOptions,
    Pipeline,
    PipelineFacts,
    PipelineSetting,
    normalizer,
)
from ltjax.data.image_views import CONSISTENCY, CONTRASTIVE
from ltjax.data.views import Boost, two_views, weak_strong
from ltjax.options import Component, option

SIGNAL = "signal"
FEATURES = "features"


_MIRROR = option(
    True, "whether half of the images are mirrored; not of digits, nor of signals"
)


@dataclasses.dataclass(frozen=True)
class TwoViewsOptions(NormalizeOptions):
    """Of contrastive pairs."""

    recipe: str = option(
        "simclr",
        "of the transforms; signal for 1-D data",
        choices=(*CONTRASTIVE, SIGNAL),
    )
    size: int = option(0, "side of the crops in pixels; 0 = that of the inputs", low=0)
    mirror: bool = _MIRROR
    boost_layers: int = option(
        1, "RandAugment operations on images of a boosted method", low=1
    )
    boost_lowest: float = option(
        10.0, "their strength at score 0, of 30; 5 with two layers", low=0, high=30
    )
    boost_highest: float = option(30.0, "their strength at score 1", low=0, high=30)
    boost_random: bool = option(
        False, "whether the strength is random below that; so with two layers"
    )


@dataclasses.dataclass(frozen=True)
class WeakStrongOptions(NormalizeOptions):
    """Of a weak and strong views."""

    recipe: str = option(
        "fixmatch",
        "of the transforms; signal for 1-D data, features for tables",
        choices=(*CONSISTENCY, SIGNAL, FEATURES),
    )
    mirror: bool = _MIRROR
    num_strong: int = option(1, "strong views: strong, strong2, ...", low=1)
    num_weak: int = option(1, "weak views: weak, weak2, ...", low=1)


@dataclasses.dataclass(frozen=True)
class WeakOptions(NormalizeOptions):
    """Of the weak view alone."""

    recipe: str = option(
        "fixmatch",
        "of the transforms; signal for 1-D data, features for tables",
        choices=(*CONSISTENCY, SIGNAL, FEATURES),
    )
    mirror: bool = _MIRROR


def _of_views(
    options: Any, setting: PipelineSetting, make_views: Callable[..., dict]
) -> Pipeline:
    """A pipeline whose views take the place of the inputs."""
    if options.recipe == SIGNAL:
        statistics: dict[str, Any] = {}

        def finish(inputs):
            return jnp.asarray(inputs, jnp.float32)
    else:
        finish = normalizer(options, setting)
        statistics = {
            "mean": options.mean or setting.mean,
            "std": options.std or setting.std,
        }

    def train(key, batch, **hints):
        rest = {name: x for name, x in batch.items() if name != "inputs"}
        return {**rest, **make_views(key, batch["inputs"], **statistics, **hints)}

    def evaluate(batch):
        return {**batch, "inputs": finish(batch["inputs"])}

    return Pipeline(train, evaluate, views=_facts(options).views)


def _two_views(options: TwoViewsOptions, setting: PipelineSetting) -> Pipeline:
    more: dict[str, Any] = {"size": options.size} if options.size else {}
    if options.recipe != SIGNAL:
        more["mirror"] = options.mirror
    boost = Boost(
        options.boost_layers,
        options.boost_lowest,
        options.boost_highest,
        options.boost_random,
    )

    def views(key, inputs, **hints):
        return two_views(
            key, inputs, recipe=options.recipe, boost=boost, **more, **hints
        )

    return _of_views(options, setting, views)


def _unmirrored(options: WeakStrongOptions | WeakOptions) -> dict[str, Any]:
    """Arguments of `weak_strong` that keep images the right way round."""
    if options.mirror or options.recipe not in CONSISTENCY:
        return {}
    return {name: {"mirror": False} for name in ("weak", "strong")}


def _weak_strong(options: WeakStrongOptions, setting: PipelineSetting) -> Pipeline:
    def views(key, inputs, **more):
        return weak_strong(
            key,
            inputs,
            recipe=options.recipe,
            num_strong=options.num_strong,
            num_weak=options.num_weak,
            **_unmirrored(options),
            **more,
        )

    return _of_views(options, setting, views)


def _weak(options: WeakOptions, setting: PipelineSetting) -> Pipeline:
    def views(key, inputs, **more):
        made = weak_strong(
            key, inputs, recipe=options.recipe, **_unmirrored(options), **more
        )
        return {"inputs": made["weak"]}  # the strong view is never computed

    return _of_views(options, setting, views)


def _facts(options: Any) -> PipelineFacts:
    if isinstance(options, TwoViewsOptions):
        return PipelineFacts(("view1", "view2"), ("strength",))
    if isinstance(options, WeakOptions):
        return PipelineFacts()
    strong = (f"strong{i}" for i in range(2, options.num_strong + 1))
    weak = (f"weak{i}" for i in range(2, options.num_weak + 1))
    return PipelineFacts(("weak", "strong", *strong, *weak))


TWO_VIEWS = Component(
    "two random views: SimCLR, MoCo v2, BYOL, 1-D signals",
    TwoViewsOptions,
    _two_views,
    facts=_facts,
)
WEAK_STRONG = Component(
    "weak and strong views (FixMatch, DARP, SoLar, RECORDS)",
    WeakStrongOptions,
    _weak_strong,
    facts=_facts,
)
WEAK = Component(
    "the weak view of these alone, for labelled streams",
    WeakOptions,
    _weak,
    facts=_facts,
)
