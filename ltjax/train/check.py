"""Checks a config against everything that components declare, before a device is used.

The walk is generic: each section is read by its table, then each component says which
combinations it refuses. Whatever passes can be built.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from ltjax.durations import duration_steps
from ltjax.options import (
    Chosen,
    ConfigError,
    check_value,
    nearest,
    options_of,
    read,
    read_options,
    sweepable,
)
from ltjax.train.config import EngineOptions, ReplicaOptions, TrainConfig
from ltjax.train.needs import combination_faults
from ltjax.train.sections import AUTO, OTHER_KINDS, SECTIONS


def check(config: Any) -> TrainConfig:
    """A checked, typed, frozen `TrainConfig` from a ConfigDict or dict.

    Args:
        config: as made by `default_config()` or a config file's `get_config`, or read
            back from a run's config.json. What it leaves out takes its default.

    Returns:
        The typed record.

    Raises:
        ConfigError: listing every fault, what was expected and the nearest valid name.
    """
    values = dict(config.items())
    load_plugins(values.get("plugins", ()))
    faults: list[str] = []
    engine = _engine(values, faults)
    replicas = _nested("replicas", ReplicaOptions, values.get("replicas", {}), faults)
    sections = _sections(values, faults)
    judges = _evaluators(engine, faults)
    if faults:
        raise ConfigError(faults)
    record = TrainConfig(engine, replicas, sections, judges)
    for chosen in (*sections.values(), *judges.values()):
        faults += chosen.component.needs(chosen.options, record)
    faults += _grid(record) + combination_faults(record) + _durations(record)
    if faults:
        raise ConfigError(faults)
    return record


def load_plugins(names: Any) -> None:
    """Imports the modules that register components from outside.

    Raises:
        ConfigError: naming the module that cannot be imported, and why.
    """
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, (tuple, list)):
        raise ConfigError([f"config.plugins is {names!r}, expected names of modules"])
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(
                [f"config.plugins has {name!r}: {type(error).__name__}: {error}"]
            ) from error


def _engine(values: Mapping, faults: list[str]) -> Any:
    """The engine's options, and faults of every key that nobody knows."""
    known = options_of(EngineOptions)
    own = {key: value for key, value in values.items() if key in known}
    for key in values.keys() - known.keys() - SECTIONS.keys() - {"replicas"}:
        hint = nearest(key, [*known, *SECTIONS, "replicas"])
        faults.append(f"config.{key} is unknown{hint}")
    return _nested("", EngineOptions, own, faults)


def _nested(path: str, cls: type, values: Any, faults: list[str]) -> Any:
    if not hasattr(values, "items"):
        faults.append(f"config.{path} is {values!r}, expected a section")
        return None
    options, found = read_options(cls, dict(values.items()), path)
    faults += found
    return options


def _sections(values: Mapping, faults: list[str]) -> dict[str, Chosen]:
    given = {}
    for path, section in SECTIONS.items():
        found = values.get(path, {})
        if hasattr(found, "items"):
            given[path] = {"name": section.default, **dict(found.items())}
        else:
            faults.append(f"config.{path} is {found!r}, expected a section")
    chosen: dict[str, Chosen] = {}

    def read_section(path: str, values: Mapping) -> None:
        section = SECTIONS[path]
        found, wrong = read(path, values, section.table, usual=section.usual)
        faults.extend(wrong)
        if found:
            chosen[path] = found

    for path in given:
        if given[path]["name"] != AUTO:
            read_section(path, given[path])
    # A head that method or loss decide, once they are known.
    for path in given.keys() - chosen.keys():
        if given[path]["name"] == AUTO and {"method", "loss"} <= chosen.keys():
            wanted = chosen["method"].facts.head or chosen["loss"].facts.head
            read_section(path, {**given[path], "name": wanted})
    return chosen


def _evaluators(engine: Any, faults: list[str]) -> dict[str, Chosen]:
    found = {}
    for name, options in (engine.evaluators if engine else {}).items():
        if not hasattr(options, "items"):
            faults.append(
                f"config.evaluators.{name} is {options!r}, expected a dict of options"
            )
            continue
        chosen, wrong = read(
            f"evaluators.{name}",
            {**dict(options.items()), "name": name},
            OTHER_KINDS["evaluators"],
        )
        faults += wrong
        if chosen:
            found[name] = chosen
    return found


def swept(config: TrainConfig) -> dict[str, float]:
    """Every scalar that replicas may vary: "loss.tau" -> its value in the config."""
    return {
        key: value
        for path, chosen in config.sections.items()
        for key, value in sweepable(path, chosen.options).items()
    }


def _grid(c: TrainConfig) -> list[str]:
    faults, known = [], swept(c)
    for key, values in c.replicas.grid.items():
        if key not in known:
            faults.append(
                f"config.replicas.grid has {key!r}, unknown{nearest(key, known)}"
            )
            continue
        path, _, name = key.partition(".")
        declared = options_of(type(c.sections[path].options))[name]
        values = values if isinstance(values, (tuple, list)) else (values,)
        if not values:
            faults.append(f"config.replicas.grid[{key!r}] is empty, expected values")
        for value in values:
            fault, _ = check_value(declared, value)
            if fault:
                faults.append(
                    f"config.replicas.grid[{key!r}] holds {value!r}, {fault}"
                    f" (config.{key})"
                )
    seeds = [c.seed + seed for seed in c.replicas.seeds]
    if max(seeds) >= 2**31:
        faults.append(
            f"config.seed + config.replicas.seeds reaches {max(seeds)}, expected less"
            " than 2^31"
        )
    return faults


def _durations(c: TrainConfig) -> list[str]:
    faults = []
    for name in ("total", "log_every"):
        text = getattr(c, name)
        total = None if name == "total" else 100
        try:
            if not duration_steps(
                text, steps_per_epoch=1, batch_size=1, total_steps=total
            ):
                faults.append(f"config.{name} is {text!r}, expected more than 0")
        except ValueError as error:  # a percentage of itself
            faults.append(f"config.{name}: {error}")
    return faults
