"""Names and options from a config, with messages that help to correct them."""

import dataclasses
import difflib
from collections.abc import Mapping


def _hint(given: str, known) -> str:
    close = difflib.get_close_matches(str(given), known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def lookup_name(caller: str, kind: str, name: str, table: Mapping):
    """`table[name]`, or a ValueError with the sorted names and the nearest one."""
    if name not in table:
        raise ValueError(
            f"{caller}: {kind} is {name!r}, expected one of"
            f" {', '.join(sorted(table))}{_hint(name, table)}"
        )
    return table[name]


def options_of(module_class) -> list[str]:
    """Attributes of a Linen module class that a caller may set."""
    fields = dataclasses.fields(module_class)
    return sorted(f.name for f in fields if f.name not in ("parent", "name"))


def build_module(caller: str, module_class, **options):
    """Builds a Linen module; a ValueError names the options there are."""
    known = options_of(module_class)
    for option in options:
        if option not in known:
            raise ValueError(
                f"{caller}: {module_class.__name__} has no option {option!r},"
                f" expected some of {', '.join(known)}{_hint(option, known)}"
            )
    return module_class(**options)
