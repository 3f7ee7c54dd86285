"""Fine-tuning: how much of a network whose weights are given trains, and how fast.

A route is a set of ordinary options, so that any loss, gradient rule or head goes with
it, and every choice can be changed. A number after a colon is the route's own.

=========  ======================================  ===========================
route      what trains                             number
=========  ======================================  ===========================
probe      the head                                none
last:1     the head, the last blocks               how many blocks
lora:8     the head, low-rank updates of kernels   their rank
full:1.0   all, the backbone at a tenth of the     factor of the rate for each
           rate                                    block further from the head
=========  ======================================  ===========================

References:
    A. Kumar et al., "Fine-tuning can distort pretrained features and underperform
    out-of-distribution", ICLR 2022 (probing first).
    H. Bao et al., "BEiT: BERT pre-training of image transformers", ICLR 2022 (rates
    that decay with the depth).
    J.-X. Shi et al., "Long-tail learning with foundation model: heavy fine-tuning
    hurts", ICML 2024 (few parameters, a cosine classifier and logit adjustment).
"""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ltjax.models.pretrained import describe_file
from ltjax.models.published import Published
from ltjax.options import ConfigError, nearest, read
from ltjax.train.sections import SECTIONS

_LOG = logging.getLogger(__name__)

BACKBONE_RATE = 0.1  # of the head's, where the backbone's own weights train

Stages = tuple[tuple[str, ...], ...]


class Route(NamedTuple):
    """A way to fine-tune.

    Attributes:
        about: one line.
        number: kind and default of its number; None if it has none.
        apply: (config, number, stages of the backbone) sets its options.
    """

    about: str
    number: int | float | None
    apply: Callable[[Any, Any, Stages], None]


def _probe(config: Any, number: None, stages: Stages) -> None:
    config.optimizer.train = "head"


def _last(config: Any, blocks: int, stages: Stages) -> None:
    if _blocks(stages) < blocks:
        known = f"has {_blocks(stages)}" if stages else "does not name its blocks"
        raise ConfigError(
            [
                f"finetune is 'last:{blocks}', but model {config.model.name!r} {known};"
                " expected optimizer.train with the modules, as 'head,backbone/NAME'"
            ]
        )
    # What follows the last block (a normalization) trains with it.
    first = next(k for k in range(len(stages)) if _blocks(stages[k:]) <= blocks)
    names = [f"backbone/{name}" for stage in stages[first:] for name in stage]
    config.optimizer.train = ",".join(["head", *names])
    config.optimizer.lr_factors = {"backbone": BACKBONE_RATE}
    if "norm" in config.model and config.model.norm == "batch":
        # The other blocks would see other averages, though none of them trains.
        config.model.norm = "frozen"


def _blocks(stages: Stages) -> int:
    return sum("block" in stage[0] for stage in stages)


def _lora(config: Any, rank: int, stages: Stages) -> None:
    config.adapter.choose(name="lora", rank=rank, alpha=2.0 * rank)
    config.optimizer.train = "lora,head"


def _full(config: Any, decay: float, stages: Stages) -> None:
    if decay != 1 and not stages:
        raise ConfigError(
            [
                f"finetune is 'full:{decay}', but model {config.model.name!r} does not"
                " name its blocks; expected 'full', or optimizer.lr_factors by name"
            ]
        )
    factors = {"backbone": BACKBONE_RATE}
    for depth, stage in enumerate(reversed(stages)) if decay != 1 else ():
        for name in stage:
            factors[f"backbone/{name}"] = BACKBONE_RATE * decay**depth
    config.optimizer.lr_factors = factors


ROUTES: dict[str, Route] = {
    "probe": Route("the head alone trains", None, _probe),
    "last": Route("the head and the last N blocks train", 1, _last),
    "lora": Route("the head and updates of rank N train", 8, _lora),
    "full": Route("all trains, each block further down at N of the rate", 1.0, _full),
}


def apply_finetune(config: Any, route: str) -> None:
    """Sets what trains, and how fast, in `config`.

    The network has been chosen before, and `config.init_from` names where its weights
    come from.

    Args:
        config: from `ltjax.train.config.default_config`, changed in place.
        route: "probe", "last", "lora" or "full", with a number as in "last:2".

    Raises:
        ConfigError: for an unknown route, a number out of range, or a network that does
            not name its blocks.

    Example:
        >>> from ltjax.train.config import default_config
        >>> config = default_config()
        >>> config.model.name, config.init_from = "vit_b16", "weights.safetensors"
        >>> apply_finetune(config, "last:2")
        >>> config.optimizer.train
        'head,backbone/block11,backbone/block12,backbone/norm'
    """
    name, given, text = route.partition(":")
    if name not in ROUTES:
        raise ConfigError([f"finetune is {route!r}, unknown{nearest(name, ROUTES)}"])
    chosen = ROUTES[name]
    number = chosen.number
    if given:
        number = _number(route, text, chosen)
    if not config.init_from:
        raise ConfigError(
            [
                f"finetune is {route!r}, but there are no weights to start from;"
                " expected pretrained, or init_from with a finished run"
            ]
        )
    model, faults = read("model", dict(config.model.items()), SECTIONS["model"].table)
    if model is None:
        raise ConfigError(faults)
    facts = model.facts
    chosen.apply(config, number, facts.stages if facts else ())


def _number(route: str, text: str, chosen: Route) -> int | float:
    if chosen.number is None:
        raise ConfigError([f"finetune is {route!r}, expected 'probe' without a number"])
    kind = type(chosen.number)
    try:
        number = kind(text)
    except ValueError:
        number = 0
    if not 0 < number <= (1 if kind is float else 4096):
        expected = "a number in (0, 1]" if kind is float else "a whole number >= 1"
        raise ConfigError(
            [f"finetune is {route!r}, expected {expected} after the colon"]
        )
    return number


def described(pretrained: str, finetune: str) -> Published | None:
    """What a file of weights is of; None without one, and for our own export."""
    if finetune and not pretrained:
        raise ConfigError(
            [
                f"finetune is {finetune!r}, but pretrained is empty, expected a"
                " .safetensors file of weights"
            ]
        )
    if not pretrained:
        return None
    try:
        return describe_file(pretrained)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError([f"pretrained: {error}"]) from None


def choose_published(config: Any, published: Published, channels: int) -> None:
    """Sets the options that a network has in a file, and the normalization it knows.

    Args:
        config: whose `model.name` is chosen, changed in place.
        published: from `ltjax.models.pretrained.describe_file`.
        channels: of the images. For gray ones it is the mean of the normalizations.
    """
    for name, value in published.options.items():
        if name in config.model:
            config.model[name] = value
    mean, std = published.mean, published.std
    if len(mean) != channels:
        # Gray images stand for the same values in all channels.
        mean, std = ((rounded(float(np.mean(x))),) * channels for x in (mean, std))
    config.augment.mean, config.augment.std = mean, std
    _LOG.info(
        "weights of a %s; images are normalized by mean %s and deviation %s, as they"
        " were for it",
        published.family,
        mean,
        std,
    )


def rounded(value: float) -> float:
    """Six digits, as a config shows them."""
    return float(f"{value:.6g}")
