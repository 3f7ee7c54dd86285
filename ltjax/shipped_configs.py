"""The config files that come with the library, found by name.

They live in the top-level folder `configs/`; a wheel holds a copy of it.
"""

import ast
import os
import pathlib

_PACKAGE = pathlib.Path(__file__).resolve().parent
_PLACES = (_PACKAGE / "_configs", _PACKAGE.parent / "configs")  # of a wheel, of a clone


def shipped() -> dict[str, pathlib.Path]:
    """Name -> file of every config that comes with the library."""
    for place in _PLACES:
        if place.is_dir():
            found = sorted(place.glob("*.py"))
            return {path.stem: path for path in found if path.stem != "__init__"}
    return {}


def find_config(name: str) -> pathlib.Path | None:
    """The file that --config names: a path, or the name of a shipped config.

    Args:
        name: what stands before the colon.

    Returns:
        The path, or None if there is neither.
    """
    if os.path.isfile(name):
        return pathlib.Path(name)
    return shipped().get(name.removesuffix(".py"))


def known_configs(name: str) -> list[str]:
    """What `name` may have been meant to be: shipped names, and files beside it."""
    beside = pathlib.Path(name).parent
    files = sorted(beside.glob("*.py")) if os.sep in name else []
    return [*shipped(), *(str(file) for file in files if file.is_file())]


def listing() -> str:
    """One line of "name  description" for each shipped config; imports none of them."""
    found = shipped()
    width = max(map(len, found), default=0)
    return "\n".join(f"{name:<{width}}  {_about(path)}" for name, path in found.items())


def _about(path: pathlib.Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
