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
    faults += _grid(record) + _engine_needs(record) + _durations(record)
    if faults:
        raise ConfigError(faults)
    return record


def load_plugins(names: Any) -> None:
    """Imports the modules that register components from outside.

    Raises:
        ConfigError: naming the module that cannot be imported, and why.
    """
    names = (names,) if isinstance(names, str) else names
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


def _engine_needs(c: TrainConfig) -> list[str]:
    """What the engine itself asks of a combination of components, by their facts."""
    method, rule, loss = c.method.facts, c.gradient.facts, c.loss.facts
    accumulates = c.optimizer.accumulate > 1
    faults = []
    coupled = method.couples_batch or (method.reads_loss and loss.couples_batch)
    what = f"loss {c.loss.name!r}" if loss.couples_batch else f"{c.method.name!r}"
    if rule.couples_batch:
        coupled, what = True, f"gradient {c.gradient.name!r}"
    if coupled and (accumulates or rule.groups_rows or rule.compacts):
        faults.append(
            f"{what} couples the rows of the batch: on micro-batches, groups of rows or"
            " some rows only it would be another loss; expected optimizer.accumulate ="
            " 1, gradient.scope = 'global' and no compaction"
        )
    if accumulates and (rule.groups_rows or rule.compacts):
        faults.append(
            "config.optimizer.accumulate > 1 splits the batch by itself, expected"
            " gradient.scope = 'global' and no compaction"
        )
    if c.batch_size % c.optimizer.accumulate:
        faults.append(
            f"config.batch_size is {c.batch_size}, expected a multiple of"
            f" optimizer.accumulate = {c.optimizer.accumulate}"
        )
    if rule.has_auxiliary and not method.takes_auxiliary:
        faults.append(
            f"config.gradient.name is {c.gradient.name!r}, which adds a second loss,"
            f" but method {c.method.name!r} has no place for it"
        )
    if method.reads_loss and loss.remembers and not method.takes_memory:
        faults.append(
            f"config.loss.name is {c.loss.name!r}, which keeps something between steps,"
            f" but method {c.method.name!r} has no place for it"
        )
    if c.evaluate_ema and not c.ema_decay:
        faults.append("config.evaluate_ema is set, but ema_decay is 0")
    if c.init_skip and not c.init_from:
        faults.append("config.init_skip is set, but init_from is empty")
    return faults + _head_needs(c) + _supervision_needs(c)


def _head_needs(c: TrainConfig) -> list[str]:
    method, loss = c.method.facts, c.loss.facts
    if method.head:
        allowed, owner = (method.head,), f"method {c.method.name!r}"
    elif method.reads_loss:
        allowed, owner = (loss.head, *loss.heads), f"loss {c.loss.name!r}"
    else:
        return []
    if c.head.name in allowed:
        return []
    return [
        f"config.head.name is {c.head.name!r}, but {owner} needs"
        f" {' or '.join(map(repr, allowed))} (or 'auto')"
    ]


def _supervision_needs(c: TrainConfig) -> list[str]:
    """Streams, columns and views that the method needs and the data do not have."""
    method, faults = c.method.facts, []
    streams = c.unlabelled.facts.names
    if method.companions and not streams:
        faults.append(
            f"method {c.method.name!r} needs a second, unlabelled stream, but"
            f" config.unlabelled.name is {c.unlabelled.name!r}"
        )
    if streams and not method.companions:
        faults.append(
            f"config.unlabelled.name is {c.unlabelled.name!r}, but method"
            f" {c.method.name!r} does not read a second stream, expected 'none'"
        )
    if c.labels.facts.hidden:
        for path in ("method", "sampler", "weights", "gradient"):
            chosen = c.sections[path]
            if chosen.facts.reads_labels:
                faults.append(
                    f"config.{path}.name is {chosen.name!r}, which needs the class of"
                    f" each example, but config.labels.name {c.labels.name!r} hides it"
                )
    known = {*c.labels.facts.columns, *c.data.facts.columns}
    for column in method.columns:
        if column not in known:
            faults.append(
                f"method {c.method.name!r} needs the column {column!r}, which neither"
                f" data {c.data.name!r} nor labels {c.labels.name!r} has"
            )
    views = c.augment.facts.views
    for view in method.views:
        if view not in views:
            faults.append(
                f"method {c.method.name!r} needs the view {view!r}, but"
                f" config.augment.name {c.augment.name!r} makes {', '.join(views)}"
            )
    if not method.views and "inputs" not in views:
        faults.append(
            f"config.augment.name is {c.augment.name!r}, which makes"
            f" {', '.join(views)}, but method {c.method.name!r} reads 'inputs'"
        )
    return faults
