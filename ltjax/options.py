"""Options: the type, default, range and meaning of an option, said once.

A component (a loss, a gradient rule, a sampler, a method, a network) is a frozen
dataclass of options and a function that makes it. Config sections, checks, listings and
the scalars that replicas may vary are all read off the dataclass:

    >>> @dataclasses.dataclass(frozen=True)
    ... class PolyOptions:
    ...     epsilon: float = option(1.0, "of the first term", above=-1, sweep=True)
    >>> POLY = Component("poly loss", PolyOptions, lambda options, setting: None)
    >>> read("loss", {"name": "poly", "epsilon": -2}, {"poly": POLY}).faults
    ['config.loss.epsilon is -2, expected a number > -1']
"""

import dataclasses
import difflib
import functools
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ltjax.durations import duration_steps


class ConfigError(ValueError):
    """A config that cannot run; its message lists every fault found."""

    def __init__(self, faults: Iterable[str] | str):
        # ml_collections raises errors of a config file again, by type and message.
        if isinstance(faults, str):
            self.faults = [faults]
            super().__init__(faults)
            return
        self.faults = list(faults)
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        super().__init__(f"invalid config, {len(self.faults)} fault(s):{lines}")


class Rule(NamedTuple):
    """What an option promises besides its type and default."""

    about: str
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    choices: tuple = ()
    sweep: bool = False
    duration: bool = False
    file: bool = False


class Option(NamedTuple):
    """An option as listings and checks see it."""

    name: str
    kind: Any
    default: Any
    rule: Rule


def option(
    default: Any,
    about: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    choices: Iterable[Any] = (),
    sweep: bool = False,
    duration: bool = False,
    file: bool = False,
) -> Any:
    """A field of a dataclass of options.

    Args:
        default: its value. Tuples and mappings hold their type in the annotation.
        about: one line, with the unit.
        low: closed lower bound of a number (of every number of a tuple).
        high: closed upper bound.
        above: open lower bound.
        below: open upper bound.
        choices: valid values of a text.
        sweep: whether replicas may differ in it: a float that becomes a traced scalar.
        duration: a text such as "200 epochs" or "80%", see `ltjax.durations`.
        file: the path of a file that must exist unless it is empty.

    Returns:
        A `dataclasses.field`.
    """
    rule = Rule(about, low, high, above, below, tuple(choices), sweep, duration, file)
    if isinstance(default, Mapping):
        fixed = types.MappingProxyType(dict(default))
        return dataclasses.field(
            default_factory=lambda: fixed, metadata={"option": rule}
        )
    return dataclasses.field(default=default, metadata={"option": rule})


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """The options of a component that has none."""


def _no_needs(options: Any, config: Any) -> list[str]:
    return []


class Component(NamedTuple):
    """Something that a config can name.

    Attributes:
        about: one line for listings and tables, with the paper.
        options: frozen dataclass of `option` fields.
        make: (options, setting) -> the loss, rule, sampler, network or method itself.
        needs: (options, config) -> faults, the combinations with other sections that
            it refuses. `config` is a `ltjax.train.config.TrainConfig`.
        facts: options -> what the engine and other components may ask before anything
            is made; each kind has a NamedTuple of its own.
    """

    about: str
    options: type
    make: Callable[..., Any]
    needs: Callable[[Any, Any], list[str]] = _no_needs
    facts: Callable[[Any], Any] = lambda options: None


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A section of a checked config: a component's name and its options.

    Options can be read from it directly: `config.loss.tau`.
    """

    name: str
    options: Any
    # Name and options say it all; tables may make their components when asked.
    component: Component = dataclasses.field(repr=False, compare=False)
    usual: Any = dataclasses.field(default=None, repr=False, compare=False)  # facts

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.options, name)

    @property
    def facts(self) -> Any:
        """See `Component`; those that are usual for the kind if it states none."""
        found = self.component.facts(self.options)
        return self.usual if found is None else found

    def make(self, setting: Any) -> Any:
        """See `Component`."""
        return self.component.make(self.options, setting)


class Read(NamedTuple):
    """What `read` found: the section, or None if there are faults."""

    chosen: Chosen | None
    faults: list[str]


@functools.cache
def options_of(cls: type) -> dict[str, Option]:
    """The options of a dataclass by name; other fields are none."""
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        rule = field.metadata.get("option")
        if rule is None:
            continue
        default = field.default
        if default is dataclasses.MISSING:
            factory = typing.cast(Callable, field.default_factory)
            default = factory()
        found[field.name] = Option(field.name, hints[field.name], default, rule)
    return found


def defaults(component: Component) -> dict[str, Any]:
    """The default of every option of a component, by name."""
    return {o.name: plain(o.default) for o in options_of(component.options).values()}


def plain(value: Any) -> Any:
    """`value` with mappings as dicts, for config files and JSON."""
    return {k: plain(v) for k, v in value.items()} if _is_map(value) else value


def read(
    path: str, values: Mapping, table: Mapping[str, Component], *, usual: Any = None
) -> Read:
    """A config section, checked.

    Args:
        path: of the section, for messages.
        values: "name" and options; those that are missing take their defaults.
        table: of the kind's components.
        usual: facts of a component that states none.

    Returns:
        `Read`: every unknown name, wrong type and value out of range is a fault.
    """
    values = dict(values)
    name = values.pop("name", None)
    if not isinstance(name, str) or name not in table:
        return Read(
            None, [f"config.{path}.name is {name!r}, unknown{nearest(name, table)}"]
        )
    component = table[name]
    options, faults = read_options(component.options, values, path, owner=name)
    chosen = None if faults else Chosen(name, options, component, usual)
    return Read(chosen, faults)


def read_options(
    cls: type, values: Mapping, path: str = "", *, owner: str = ""
) -> tuple[Any, list[str]]:
    """(options of class `cls`, faults) from plain values; see `read`."""
    known, faults, chosen = options_of(cls), [], {}
    place = f"config.{path}." if path else "config."
    for key, value in values.items():
        if key not in known:
            hint = nearest(key, known) if known else "; it has no options"
            faults.append(
                f"{place}{key} is unknown{f' to {owner!r}' if owner else ''}{hint}"
            )
            continue
        fault, checked = check_value(known[key], value)
        if fault:
            faults.append(f"{place}{key} is {value!r}, {fault}")
        else:
            chosen[key] = checked
    try:
        # Classes may check what is true of several options together.
        return (None, faults) if faults else (cls(**chosen), [])
    except (ValueError, TypeError) as error:
        return None, [f"{place.removesuffix('.')}: {error}"]


def check_value(known: Option, value: Any) -> tuple[str, Any]:
    """(what is wrong with a value of an option, or ""; the value with its type)."""
    rule = known.rule
    checked: Any = value
    try:
        value = checked = _typed(known.kind, value)
    except ValueError:
        return f"expected {_kind_name(known.kind)}", None
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, (int, float)) and not isinstance(part, bool):
            if isinstance(part, float) and not math.isfinite(part):
                return "expected a finite number", None
            if not (rule.low <= part <= rule.high and rule.above < part < rule.below):
                return f"expected {_interval(rule)}", None
        if rule.choices and part not in rule.choices:
            return f"unknown{nearest(part, rule.choices)}", None
    if rule.duration:
        try:
            duration_steps(checked, steps_per_epoch=1, batch_size=1, total_steps=100)
        except ValueError as error:
            return str(error).replace(repr(checked), "which", 1), None
    if rule.file and value and not os.path.isfile(checked):
        return "but there is no such file", None
    return "", value


def _is_map(value) -> bool:
    # A ConfigDict is no Mapping, but has its methods.
    return hasattr(value, "keys") and hasattr(value, "__getitem__")


def _typed(kind: Any, value: Any) -> Any:
    """`value` as `kind`, or ValueError; ints pass as floats, nothing else converts."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        items = value if isinstance(value, (list, tuple)) else (value,)
        return tuple(_typed(arguments[0], item) for item in items)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        for one in arguments:
            try:
                return _typed(one, value)
            except ValueError:
                continue
    elif kind is Mapping or typing.get_origin(kind) is not None:
        if _is_map(value):
            items = ((str(key), value[key]) for key in value.keys())  # noqa: SIM118
            return types.MappingProxyType({k: plain(v) for k, v in items})
    elif kind is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                raise ValueError(value) from None
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(value, kind):
        return value
    raise ValueError(value)


def _kind_name(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return f"a tuple of {_kind_name(arguments[0])}"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(_kind_name, arguments))
    if kind is Mapping or origin is not None:
        return "a dict"
    return getattr(kind, "__name__", str(kind))


def _interval(rule: Rule) -> str:
    parts = [f">= {rule.low:.16g}"] if rule.low > -math.inf else []
    parts += [f"> {rule.above:.16g}"] if rule.above > -math.inf else []
    parts += [f"<= {rule.high:.16g}"] if rule.high < math.inf else []
    parts += [f"< {rule.below:.16g}"] if rule.below < math.inf else []
    return "a number " + " and ".join(parts)


def sweepable(path: str, options: Any) -> dict[str, float]:
    """The scalars of a section that replicas may vary: "loss.tau" -> value."""
    return {
        f"{path}.{o.name}": float(getattr(options, o.name))
        for o in options_of(type(options)).values()
        if o.rule.sweep
    }


def live(path: str, options: Any, hyper: Mapping[str, Any]) -> Any:
    """The options of a section as a step sees them: swept ones are traced scalars.

    Args:
        path: of the section.
        options: as they stand in the config.
        hyper: of the train state, {"loss.tau": scalar, ...}.

    Returns:
        Options of the same class.
    """
    traced = {
        o.name: hyper[f"{path}.{o.name}"]
        for o in options_of(type(options)).values()
        if o.rule.sweep and f"{path}.{o.name}" in hyper
    }
    return dataclasses.replace(options, **traced) if traced else options


def describe(known: Option) -> str:
    """One line for listings: default, meaning, range, whether sweeps may vary it."""
    rule = known.rule
    default = plain(known.default)
    told = f"{known.name} = {default!r}  {rule.about}"
    if rule.choices:
        told += f" [{', '.join(map(str, rule.choices))}]"
    elif (rule.low, rule.above) != (-math.inf,) * 2 or rule.high < math.inf:
        told += f" [{_interval(rule).removeprefix('a number ')}]"
    elif rule.below < math.inf:
        told += f" [{_interval(rule).removeprefix('a number ')}]"
    if rule.duration:
        told += " [a duration]"
    return told + (" (sweepable)" if rule.sweep else "")


def nearest(name: Any, choices: Iterable[Any]) -> str:
    """A hint: the nearest valid name if one is near, and all of them.

    Example:
        >>> nearest("ladm", ["ldam", "la"])
        "; did you mean 'ldam'? (valid: la, ldam)"
    """
    choices = sorted(map(str, choices))
    close = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}? (valid: {', '.join(choices)})"
    return f"; valid: {', '.join(choices)}"
