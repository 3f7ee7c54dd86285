"""Named methods of weak supervision, as combinations of components.

A name stands for a method, and what its paper changes of views and optimizer. Data of
your own bring their labels and take names as they are (`ltjax train --data ...
--method fixmatch`); `configs/semi_lt.py` adds the recipes of benchmarks.
"""

from collections.abc import Mapping
from typing import Any

from ltjax.methods.presets import apply_changes
from ltjax.options import ConfigError, nearest

_TWO = {"augment_unlabelled.num_strong": 2}
_ADAM = {
    "optimizer": {"name": "adamw", "lr": 0.002, "weight_decay": 0.02},
    "schedule.name": "constant",
}

# Of labelled and unlabelled examples. Without a method of its own it treats the guesses
# of another one.
SEMI_SUPERVISED: dict[str, dict[str, Any]] = {
    "fixmatch": {"method": {"name": "fixmatch"}},
    "mixmatch": {
        "method": {"name": "mixmatch"},
        "augment_unlabelled.num_weak": 2,
        **_ADAM,
    },
    "remixmatch": {"method": {"name": "remixmatch"}, **_TWO, **_ADAM},
    "darp": {"pseudo_labels": {"name": "darp"}},
    "dynamic_prior": {"pseudo_labels": {"name": "dynamic_prior"}},
    "abc": {"method": {"name": "abc"}, **_TWO},
    "daso": {"method": {"name": "daso"}},
    "acr": {"method": {"name": "acr"}, **_TWO},
    "simpro": {
        "method": {"name": "simpro"},
        "augment": {"name": "weak_strong"},
        **_TWO,
    },
    "crest": {"method": {"name": "crest"}, "schedule.name": "constant"},
    "crest_plus": {
        "method": {"name": "crest", "align": True},
        "schedule.name": "constant",
    },
    "cossl": {"method": {"name": "cossl"}, **_TWO},
}

# Of candidate sets. RECORDS: all but the last with config.method.records.
_VIEWS = {"augment": {"name": "weak_strong"}}
PARTIAL_LABEL: dict[str, dict[str, Any]] = {
    "proden": {"method": {"name": "proden"}},
    "lw": {"method": {"name": "lw"}},
    "cavl": {"method": {"name": "cavl"}},
    "corr": {"method": {"name": "corr"}, **_VIEWS},
    "solar": {"method": {"name": "solar", "queue": 16, "ramp": "30%"}, **_VIEWS},
}

# Of labels some of which are wrong, in one stage.
NOISY_LABEL: dict[str, dict[str, Any]] = {
    "coteaching": {"method": {"name": "coteaching"}},
    "cdr": {"method": {"name": "cdr"}},
    "har": {"method": {"name": "har"}, "model.norm": "batch"},
    "rolt": {"method": {"name": "rolt"}},
}

WEAK = SEMI_SUPERVISED | PARTIAL_LABEL | NOISY_LABEL


def recipe_of(shape: tuple[int, ...]) -> str:
    """The recipe of weak and strong views for inputs of a shape.

    Example:
        >>> recipe_of((32, 32, 3)), recipe_of((40, 1)), recipe_of((8,))
        ('fixmatch', 'signal', 'features')
    """
    return {1: "features", 2: "signal"}.get(len(shape), "fixmatch")


def apply_weak(
    config: Any, name: str, *, shape: tuple[int, ...], unlabelled: int = 0
) -> None:
    """Sets method, views, companion and label of a weakly supervised run in `config`.

    Args:
        config: changed in place; its batch size and the statistics of its augmentation
            are those of the run.
        name: a key of `WEAK`.
        shape: of one input.
        unlabelled: M, examples without a label, of a semi-supervised method.

    Raises:
        ConfigError: for an unknown name, with the nearest one.
    """
    if name not in WEAK:
        raise ConfigError([f"method is {name!r}, unknown{nearest(name, WEAK)}"])
    changes = WEAK[name]
    views: dict[str, Any] = {"recipe": recipe_of(shape)}
    if views["recipe"] != "signal":  # signals are not normalized
        views |= {key: tuple(config.augment[key]) for key in ("mean", "std")}
    if name in SEMI_SUPERVISED:
        ratio = max(min(unlabelled // config.batch_size, 7), 1)
        config.unlabelled.choose("stored", ratio=ratio)
        config.augment.choose("weak", **views)
        config.augment_unlabelled.choose("weak_strong", **views)
        config.ema_decay, config.evaluate_ema = 0.999, True
        if config.optimizer.name == "sgd":
            config.optimizer.nesterov = True
    if name in SEMI_SUPERVISED and "method" not in changes:
        apply_changes(config, SEMI_SUPERVISED["fixmatch"])
    apply_changes(config, changes)
    if _names(changes, "augment"):  # a section made anew
        apply_changes(config, {f"augment.{key}": value for key, value in views.items()})
    config.label = name


def _names(changes: Mapping[str, Any], section: str) -> bool:
    return isinstance(changes.get(section), Mapping)
