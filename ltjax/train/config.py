"""Configs: an `ml_collections.ConfigDict` in, a checked, typed, frozen record out.

A config file (`configs/*.py`) starts from `default_config()` and changes what its
experiment needs. Every component has a section of its own, "name" and its options;
giving a section another name gives it that component's defaults. What is left are the
engine's own options, below. `ltjax.train.check.check` refuses anything that nobody
declares and touches no device. Library functions never see a ConfigDict.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections

from ltjax.options import Chosen, ConfigError, nearest, option, options_of, plain
from ltjax.train.section_dict import ReplicaDict, nested, section_dict
from ltjax.train.sections import SECTIONS


@dataclasses.dataclass(frozen=True)
class ReplicaOptions:
    """Runs trained side by side in one program: seeds x a grid of swept options."""

    seeds: tuple[int, ...] = option((0,), "one replica each", low=0, below=2**31)
    grid: Mapping = option({}, "swept option -> values, as {'loss.tau': (0.5, 1.0)}")
    layout: str = option(
        "auto",
        "vmapped, unrolled (a few on CPU), or whole replicas on each device",
        choices=("auto", "vmap", "unroll", "devices"),
    )

    def __post_init__(self):
        if not self.seeds:
            raise ValueError("seeds is empty, expected at least one seed")


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """The engine's own options, at the top level of a config."""

    label: str = option("", "name in tables; '' = made from the components")
    seed: int = option(0, "added to every replica's seed", low=0, below=2**31)
    batch_size: int = option(128, "examples of a step", low=1)
    total: str = option("3000 steps", "length of the run", duration=True)
    plugins: tuple[str, ...] = option((), "modules that register components")
    evaluators: Mapping = option(
        {}, "name -> options, as {'knn': {'k': 20}}; {} = those of the method"
    )
    judged: str = option(
        "", "metric that the best checkpoint goes by; '' = that of the first evaluator"
    )
    ema_decay: float = option(
        0.0, "of averaged parameters, after their plain mean; 0 = none", low=0, below=1
    )
    evaluate_ema: bool = option(False, "the averaged parameters predict")
    init_from: str = option(
        "", "workdir of a run, or .safetensors file, whose parameters start this one"
    )
    init_skip: tuple[str, ...] = option((), "top-level modules that start fresh")
    columns_from: Mapping = option(
        {}, "column -> outputs of earlier runs, as ltjax.train.earlier has them"
    )
    only: Mapping = option(
        {}, "column -> value: training examples with another one are left out"
    )
    cache_features: bool = option(
        True, "frozen backbone, no augmentation: compute the features once"
    )
    fsdp: int = option(1, "devices that share one copy of the parameters", low=1)
    steps_per_call: int = option(
        1, "steps of one dispatch; > 1 only pays on accelerators", low=1
    )
    log_every: str = option("100 steps", "interval of the records", duration=True)
    eval_every: str = option("100%", "interval of evaluations", duration=True)
    eval_batch_size: int = option(500, "examples at a time", low=1)
    checkpoint_every: str = option("25%", "interval of checkpoints", duration=True)
    keep_latest: int = option(3, "checkpoints that are kept", low=1)
    keep_every: str = option(
        "0 steps", "those at multiples of this stay for good; 0 = off", duration=True
    )
    keep_best: bool = option(
        False, "the best checkpoint by the judged metric stays, on val (else test)"
    )
    watchdog_minutes: float = option(
        30.0, "a run without a sign of life for so long ends; 0 = off", low=0
    )
    peer_seconds: float = option(
        60.0, "without a sign of one of its processes a run ends; 0 = off", low=0
    )
    many: int = option(100, "more training examples: a many-shot class", low=0)
    few: int = option(20, "fewer training examples: a few-shot class", low=0)
    stages: tuple[Mapping, ...] = option(
        (), "runs that follow each other, as ltjax.train.stages has them"
    )

    def __post_init__(self):
        if self.few > self.many + 1:
            raise ValueError(
                f"few is {self.few} and many {self.many}, expected few <= many + 1"
            )


def default_config() -> Any:
    """The defaults of every section as a ConfigDict to start a config from."""
    config = typing.cast(Any, ml_collections.ConfigDict())
    for known in options_of(EngineOptions).values():
        config[known.name] = plain(known.default)
    config.replicas = ReplicaDict()
    for known in options_of(ReplicaOptions).values():
        config.replicas[known.name] = plain(known.default)
    for path, section in SECTIONS.items():
        config[path] = section_dict(path, section.default)
    config.lock()
    # A section may get options of another component; `check` names those it has not.
    for path in SECTIONS:
        config[path].unlock()
    # Mappings hold whatever their components declare.
    for name in ("evaluators", "columns_from", "only"):
        config[name].unlock()
    typing.cast(ml_collections.ConfigDict, config.replicas.grid).unlock()
    return config


def copy_config(values: Any) -> Any:
    """A config of its own from another one, or from the dict of a config.json.

    Options that the other one lacks take their defaults.
    """
    config = default_config()
    with config.ignore_type():
        for key, value in values.items():
            if key not in SECTIONS:
                config[key] = nested(dict(value)) if hasattr(value, "keys") else value
    for path in SECTIONS:
        if path in values:
            config[path].choose(**dict(values[path].items()))
    return config


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on, checked: `config.loss.tau`, `config.total`.

    Attributes:
        engine: the engine's own options.
        replicas: see `ReplicaOptions`.
        sections: name of the section -> `Chosen`.
        judges: name of an evaluator -> `Chosen`; empty for those of the method.
    """

    engine: EngineOptions
    replicas: ReplicaOptions
    sections: Mapping[str, Chosen]
    judges: Mapping[str, Chosen] = dataclasses.field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self.sections:
            return self.sections[name]
        return getattr(self.engine, name)


def to_dict(config: TrainConfig) -> dict:
    """Plain nested dict (JSON-ready) of a checked config; `check` reads it back."""

    def values(options: Any) -> dict:
        names = options_of(type(options))
        return {name: _json(getattr(options, name)) for name in names}

    return {
        **values(config.engine),
        "replicas": values(config.replicas),
        **{
            path: {"name": chosen.name, **values(chosen.options)}
            for path, chosen in config.sections.items()
        },
    }


def default_dict(config: TrainConfig) -> dict:
    """`to_dict` of the same components with every option at its default."""

    def values(options: type) -> dict:
        return {o.name: _json(o.default) for o in options_of(options).values()}

    return {
        **values(EngineOptions),
        "replicas": values(ReplicaOptions),
        **{
            path: {"name": SECTIONS[path].default, **values(type(chosen.options))}
            for path, chosen in config.sections.items()
        },
    }


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json(part) for key, part in value.items()}
    return [_json(part) for part in value] if isinstance(value, tuple) else value


def parse_arg(arg: str, **defaults):
    """Typed arguments of a config file: "loss=ldam,imf=100,smoke" over `defaults`.

    Args:
        arg: comma-separated name=value; a bare name means True.
        **defaults: every allowed name with its default, whose type the value takes.

    Returns:
        An `ml_collections.ConfigDict` with the values.

    Raises:
        ConfigError: for unknown names and values of the wrong type, all at once.

    Example:
        >>> args = parse_arg("imf=50,smoke", loss="ce", imf=100.0, smoke=False)
        >>> args.loss, args.imf, args.smoke
        ('ce', 50.0, True)
    """
    values, faults = dict(defaults), []
    for item in filter(None, (part.strip() for part in (arg or "").split(","))):
        name, _, text = item.partition("=")
        if name not in defaults:
            faults.append(
                f"config argument {name!r} is unknown{nearest(name, defaults)}"
            )
            continue
        kind = type(defaults[name])
        try:
            values[name] = _parse_bool(text) if kind is bool else kind(text)
        except ValueError:
            faults.append(
                f"config argument {name} is {text!r}, expected {kind.__name__}"
            )
    if faults:
        raise ConfigError(faults)
    return ml_collections.ConfigDict(values)


def _parse_bool(text: str) -> bool:
    table = {"": True, "1": True, "true": True, "0": False, "false": False}
    if text.lower() not in table:
        raise ValueError(text)
    return table[text.lower()]
