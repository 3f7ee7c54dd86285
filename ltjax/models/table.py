"""The networks that a config can name: the library's, and any that can be imported.

`config.model.name = "my_pkg.nets:make"` calls `make` of the module `my_pkg.nets`, a
function or a class. Its arguments are the options of the section; "num_classes" and
"rngs" are given to it if it takes them.
"""

import dataclasses
import functools
import importlib
import inspect
import pathlib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn

from ltjax.models.components import NetworkFacts
from ltjax.models.forward import Model
from ltjax.models.own import RETURNS, OwnNetwork, is_nnx
from ltjax.options import Component, ConfigError, nearest, option

_SIMPLE = (bool, int, float, str)
_GIVEN = ("num_classes", "rngs")
_OF_LINEN = ("parent", "name")
MEMORY = "memory"

_kept: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class OwnNetworkOptions:
    """Shared by networks from outside."""

    returns: str = option(
        "auto",
        "what a bare array is; auto = logits if num_classes is taken",
        choices=RETURNS,
    )
    rows_independent: bool = option(
        False, "whether no example depends on another in training"
    )


class ModelTable(Mapping[str, Component]):
    """The networks by name, and those whose names have a form ("my_pkg:make")."""

    forms = {
        "MODULE:FACTORY": "a network of your own, made by what can be imported so",
        "memory:NAME": "given to ltjax.fit in this process",
    }

    def __init__(self, components: dict[str, Component]):
        self._components = components

    def __getitem__(self, name: str) -> Component:
        """The component of a network.

        Raises:
            KeyError: if there is none.
            ConfigError: for an import path that leads nowhere.
        """
        if name in self._components:
            return self._components[name]
        module, colon, attribute = name.partition(":")
        if not colon:
            raise KeyError(name)
        if module == MEMORY:
            return _of_memory(name)
        return _imported(name, module, attribute)

    def __setitem__(self, name: str, component: Component) -> None:
        """Adds a network of a plugin."""
        self._components[name] = component

    def __iter__(self) -> Iterator[str]:
        """Names of the library; the forms with a colon cannot be listed."""
        return iter(self._components)

    def __len__(self) -> int:
        """Number of names that `iter` gives."""
        return len(self._components)


def model_name(network: Any) -> str:
    """What `config.model.name` is for a network that is given in Python.

    Args:
        network: a name already; a function or class, which is called by its import path
            if it has one; or a module or `Model`, which stays in memory.

    Returns:
        The name. One with "memory:" is known in this process only.

    Raises:
        ConfigError: for something else.

    Example:
        >>> model_name(nn.Dense)
        'flax.linen.linear:Dense'
    """
    if isinstance(network, str):
        return network
    if isinstance(network, (nn.Module, Model)) or is_nnx(network):
        return keep_network(network)
    if not callable(network):
        raise ConfigError(
            [
                f"model is a {type(network).__name__}, expected a name, a Flax module,"
                " a Model, or a function or class that makes one"
            ]
        )
    module = getattr(network, "__module__", "__main__")
    place = getattr(network, "__qualname__", "")
    try:
        found = functools.reduce(
            getattr, place.split("."), importlib.import_module(module)
        )
    except (ImportError, AttributeError, ValueError):
        found = None
    if module == "__main__" or found is not network:
        return keep_network(network)
    return f"{module}:{place}"


def keep_network(network: Any, name: str = "") -> str:
    """Makes a network known by a name in this process.

    Args:
        network: a module, a `Model`, or a function or class that makes one.
        name: "memory:NAME"; "" = made from its class.

    Returns:
        The name; another network never gets the same one by itself.
    """
    if not name:
        title = getattr(network, "__name__", type(network).__name__)
        title = "model" if isinstance(network, Model) else title
        name, number = f"{MEMORY}:{title}", 1
        while name in _kept and _kept[name] is not network:
            number += 1
            name = f"{MEMORY}:{title}-{number}"
    _kept[name] = network
    return name


def _of_memory(name: str) -> Component:
    if name not in _kept:
        raise ConfigError(
            [
                f"config.model.name is {name!r}, a network that was given to ltjax.fit"
                " in another process; expected it again, as in ltjax.load(run, model="
                "...), or a network with an import path, 'my_pkg:make'"
            ]
        )
    network = _kept[name]
    with_values = is_nnx(network)
    if callable(network) and not isinstance(network, nn.Module) and not with_values:
        if not isinstance(network, Model):
            return _component(name, network)

    def make(options: OwnNetworkOptions, setting: Mapping) -> OwnNetwork:
        return OwnNetwork(
            lambda num_classes: network,
            name,
            None,
            options.returns,
            options.rows_independent,
        )

    def facts(options: OwnNetworkOptions) -> NetworkFacts:
        declared = getattr(network, "rows_independent", False) is True
        return NetworkFacts(options.rows_independent or declared, started=with_values)

    return Component("given in Python", OwnNetworkOptions, make, facts=facts)


@functools.cache
def _imported(name: str, module: str, attribute: str) -> Component:
    """The component of an import path."""
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        hint = ""
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            beside = pathlib.Path(*module.split(".")).with_suffix(".py")
            if beside.is_file():
                hint = f"; {beside} is there, but not on PYTHONPATH: set PYTHONPATH=."
        raise ConfigError(
            [f"config.model.name is {name!r}: {type(error).__name__}: {error}{hint}"]
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [key for key in vars(found) if not key.startswith("_")]
            raise ConfigError(
                [
                    f"config.model.name is {name!r}, but {module} has no"
                    f" {attribute!r}{nearest(part, known)}"
                ]
            )
        found = getattr(found, part)
    made = isinstance(found, (nn.Module, Model)) or is_nnx(found)
    if made or not callable(found):
        raise ConfigError(
            [
                f"config.model.name is {name!r}, a {type(found).__name__}, expected a"
                " function or class that makes a network"
            ]
        )
    return _component(name, found)


def _component(name: str, factory: Callable[..., Any]) -> Component:
    """The component of a function or class: its arguments are the options."""
    arguments = _arguments(factory)
    declared, needed = [], []
    for key, parameter in arguments.items():
        if key in _GIVEN:
            continue
        kind = _kind(parameter)
        if kind is None:
            continue  # a function, say: it keeps its default
        default = parameter.default
        if default is parameter.empty:
            needed.append(key)
            kind, default = typing.Optional[kind], None  # noqa: UP045, of a value
        about = f"argument of {name}"
        declared.append((key, kind, option(default, about)))

    def check(options: Any) -> None:
        missing = [key for key in needed if getattr(options, key) is None]
        if missing:
            raise ValueError(f"{', '.join(missing)} must be given: {name} needs it")

    cls = dataclasses.make_dataclass(
        "ImportedOptions",
        declared,
        bases=(OwnNetworkOptions,),
        namespace={"__post_init__": check, "__doc__": f"Of {name}."},
        frozen=True,
    )
    names = [key for key, _, _ in declared]

    def make(options: Any, setting: Mapping) -> OwnNetwork:
        values = {key: getattr(options, key) for key in names}

        def build(num_classes: int) -> Any:
            more = {"num_classes": num_classes} if "num_classes" in arguments else {}
            try:
                if "rngs" in arguments:
                    return _Seeded(functools.partial(factory, **values, **more))
                return factory(**values, **more)
            except Exception as error:
                raise ConfigError(
                    [f"config.model.name: {name}: {type(error).__name__}: {error}"]
                ) from error

        return OwnNetwork(
            build,
            name,
            "num_classes" in arguments,
            options.returns,
            options.rows_independent,
        )

    def facts(options: Any) -> NetworkFacts:
        declared = getattr(factory, "rows_independent", False) is True
        return NetworkFacts(options.rows_independent or declared)

    return Component("a network of your own", cls, make, facts=facts)


@dataclasses.dataclass(frozen=True)
class _Seeded:
    """A factory that is waiting for its random streams."""

    factory: Callable[..., Any]

    def __call__(self, rngs):
        return self.factory(rngs=rngs)


def _arguments(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a factory takes by name, with resolved annotations."""
    # The metaclass of NNX modules hides the signature of the class itself.
    is_class = isinstance(factory, type)
    called = factory.__init__ if is_class else factory
    try:
        hints = typing.get_type_hints(called)
    except (NameError, TypeError, AttributeError):
        hints = {}
    skipped = ("self", *_OF_LINEN) if is_class else ()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        key: parameter.replace(annotation=hints.get(key, parameter.annotation))
        for key, parameter in inspect.signature(called).parameters.items()
        if parameter.kind not in variable and key not in skipped
    }


def _kind(parameter: inspect.Parameter) -> Any:
    """The type of an option; None for an argument that a config cannot give."""
    kind, default = parameter.annotation, parameter.default
    if _is_simple(kind):
        return kind
    if default is parameter.empty:
        return object
    if isinstance(default, _SIMPLE):
        return type(default)
    if isinstance(default, tuple) and default and isinstance(default[0], _SIMPLE):
        return tuple[type(default[0]), ...]
    return None


def _is_simple(kind: Any) -> bool:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return all(one is type(None) or _is_simple(one) for one in arguments)
    if origin is tuple:
        return len(arguments) == 2 and arguments[1] is ... and _is_simple(arguments[0])
    return kind in _SIMPLE
