"""The config file of the command line: `get_config(arg)`, and what is set on top of it.

--config FILE:args --config.loss.name=la --config.optimizer.lr=0.1

FILE is a path, or the name of a config that comes with the library (`ltjax configs`).
"""

import pathlib
import re

from ltjax.shipped_configs import find_config, known_configs


class UsageError(ValueError):
    """A mistake on the command line."""


def load_config(arguments: list[str], *, command: str = "train"):
    """The ConfigDict that "--config FILE:args --config.field=value ..." describe.

    Args:
        arguments: only `--config` options.
        command: for messages.

    Returns:
        The ConfigDict with its overrides.

    Raises:
        UsageError: for an argument that is none, a missing file, or a bad override.
    """
    spec, overrides = split_config(arguments)
    if not spec:
        raise UsageError(f"ltjax {command}: --config FILE (or --data PATH) is missing")
    config = _run_config_file(*split_spec(spec), command)
    return override(config, overrides, command=command)


def split_spec(spec: str) -> tuple[str, str]:
    """(FILE, args) of "FILE:args"."""
    path, _, arg = spec.partition(":")
    return path, arg


def override(config, arguments: list[str], *, command: str = "train"):
    """A config with "--config.field=value ..." set on top of it.

    Args:
        config: a ConfigDict.
        arguments: only `--config.` options.
        command: for messages.

    Returns:
        The ConfigDict with its overrides.

    Raises:
        UsageError: for an argument that is none, or a bad override.
    """
    from absl import flags
    from ml_collections import config_flags

    overrides = _choose_components(config, arguments, command)
    _check_names(config, overrides)
    values = flags.FlagValues()
    argv = ["ltjax", *overrides]
    try:
        config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, lock_config=True, sys_argv=argv
        )
        left = values(argv)[1:]
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        text = " ".join(message_of(error).replace("\\n", " ").split())
        wrong = re.match(r"flag --config\.([\w.]+)=(.*): invalid", text)
        if wrong:
            kind = type(config.get_ref(wrong[1]).get()).__name__
            text = f"--config.{wrong[1]} is {wrong[2]!r}, expected {kind}"
        raise UsageError(f"ltjax {command}: {text}") from None
    if left:
        raise UsageError(
            f"ltjax {command}: unknown argument {left[0]!r}, expected"
            " --config.FIELD=VALUE"
        )
    return values.config


def _choose_components(config, overrides: list[str], command: str) -> list[str]:
    """Applies plugins and the names of sections first: they decide what options exist.

    So it does with the grid of replicas, whose keys have dots, which flags do not take.
    Returns the overrides that are left.
    """
    import ast

    from ltjax.options import ConfigError, nearest
    from ltjax.train.check import load_plugins
    from ltjax.train.sections import AUTO, SECTIONS

    left, names = [], []
    for override in overrides:
        key, given, value = override.partition("=")
        path = key.removeprefix("--config.").split(".")
        if key == "--config.plugins" and given:
            try:
                config.plugins = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                config.plugins = (value,)
        elif key == "--config.replicas.grid" and given:
            config.replicas.grid = _grid(value, command)
        elif len(path) == 2 and path[0] in SECTIONS and path[1] == "name" and given:
            names.append((path[0], value.strip("'\"")))
        else:
            left.append(override)
    load_plugins(config.plugins)
    faults = []
    for path, name in names:
        table = SECTIONS[path].table
        if name not in table and not name == SECTIONS[path].default == AUTO:
            faults.append(
                f"config.{path}.name is {name!r}, unknown{nearest(name, table)}"
            )
        else:
            config[path].name = name
    if faults:
        raise ConfigError(faults)
    return left


def _grid(text: str, command: str) -> dict:
    """A mapping from options to values, written as in Python."""
    import ast

    try:
        return dict(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError):
        raise UsageError(
            f"ltjax {command}: --config.replicas.grid is {text!r}, expected a dict"
            " such as {'loss.tau': (0.5, 1.0)}"
        ) from None


def _check_names(config, overrides: list[str]) -> None:
    """Refuses overrides of fields that do not exist, all at once."""
    from ltjax.options import ConfigError, nearest

    faults = []
    for override in overrides:
        if not override.startswith("--config."):
            continue
        place, names = config, override.partition("=")[0].split(".")[1:]
        for k, name in enumerate(names):
            known = list(place) if hasattr(place, "keys") else []
            if name not in known:
                path = ".".join(["config", *names[: k + 1]])
                hint = _elsewhere(config, names[:k], name) or nearest(name, known)
                faults.append(f"{path} is unknown{hint}")
                break
            place = place[name]
    if faults:
        raise ConfigError(faults)


def _elsewhere(config, path: list[str], name: str) -> str:
    """Where an option is that a section (or the top level) does not have; or ""."""
    from ltjax.options import options_of
    from ltjax.train.sections import SECTIONS

    if not path:
        found = [f"config.{key}.{name}" for key in SECTIONS if name in config[key]]
        return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""
    section = SECTIONS.get(path[0]) if len(path) == 1 else None
    if section is None:
        return ""
    owners = [k for k, one in section.table.items() if name in options_of(one.options)]
    own = config[path[0]].name
    return f" to {own!r}; it is an option of {', '.join(owners)}" if owners else ""


def split_config(arguments: list[str]) -> tuple[str | None, list[str]]:
    """FILE:args of --config or None, and the other arguments."""
    rest, spec, arguments = [], None, list(arguments)
    while arguments:
        argument = arguments.pop(0)
        if argument == "--config" and arguments:
            spec = arguments.pop(0)
        elif argument.startswith("--config="):
            spec = argument.partition("=")[2]
        else:
            rest.append(argument)
    return spec, rest


def _run_config_file(name: str, arg: str, command: str):
    """`get_config(arg)` of a config file."""
    import importlib.util

    path = find_config(name)
    if path is None:
        raise UsageError(
            f"ltjax {command}: there is no config file {name!r}{_near(name)}"
        )
    spec = importlib.util.spec_from_file_location("ltjax_config_file", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"ltjax {command}: {name!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise UsageError(
                f"ltjax {command}: config file {name!r} has no function get_config"
            )
        return module.get_config(arg)
    except ValueError:  # has a message of its own
        raise
    except Exception as error:
        raise UsageError(
            f"ltjax {command}: config file {name!r} failed:"
            f" {type(error).__name__}: {error}"
        ) from error


def _near(name: str) -> str:
    from ltjax.options import nearest

    known = known_configs(name)
    stem = pathlib.PurePath(name).stem
    return nearest(stem if stem in known else name, known)


def message_of(error: Exception) -> str:
    """What to tell of an error, without the quotes of a KeyError."""
    if isinstance(error, ModuleNotFoundError) and "pip install" not in str(error):
        return f"{error}; install it with pip install 'ltjax[all]'"
    # str() of a KeyError is the repr of its message.
    repeated = isinstance(error, (KeyError, AttributeError)) and error.args
    text = str(error.args[0]) if repeated else str(error)
    return text or type(error).__name__
