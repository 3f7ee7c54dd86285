"""Grids as the command line has them: `loss.tau=0.5,1,1.5`, once for each key.

Values stay texts, as they would be written behind `--config.KEY=`, but numbers are
written in one way only, so that 0.50 and 0.5 are one point.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping

from ltjax.config_file import UsageError

Grid = Mapping[str, tuple[str, ...]]
Point = frozenset[tuple[str, str]]  # of (key, value)

SEED = "seed"


def read_grid(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The grid that several `KEY=VALUE,VALUE,...` describe.

    Args:
        texts: one for each key; commas inside of brackets and quotes separate nothing.

    Returns:
        Key -> values, in the order given.

    Raises:
        UsageError: for a text that is none, or a key or value that comes twice.

    Example:
        >>> read_grid(["loss.tau=0.50,1", "model.hidden=(16,16),(64,)"])
        {'loss.tau': ('0.5', '1'), 'model.hidden': ('(16,16)', '(64,)')}
    """
    grid: dict[str, tuple[str, ...]] = {}
    for text in texts:
        key, given, rest = text.partition("=")
        key = key.strip().removeprefix("--").removeprefix("config.")
        values = tuple(map(canonical, _split(rest)))
        if not given or not key or "" in values:
            raise _fault(text, "expected KEY=VALUE,VALUE,... such as loss.tau=0.5,1")
        if key in grid:
            raise _fault(text, f"but {key} has values already; expected one for a key")
        twice = next((v for v in values if values.count(v) > 1), None)
        if twice is not None:
            raise _fault(text, f"which has the value {twice} twice")
        if key == SEED and not all(v.isdecimal() and int(v) < 2**31 for v in values):
            raise _fault(text, "expected whole numbers from 0 to 2^31 - 1")
        grid[key] = values
    return grid


def _fault(text: str, what: str) -> UsageError:
    return UsageError(f"ltjax sweep: --grid is {text!r}, {what}")


def canonical(text: str) -> str:
    """A value with one spelling for each number.

    Example:
        >>> canonical("1e-3"), canonical(" 1.0"), canonical("la")
        ('0.001', '1', 'la')
    """
    text = text.strip()
    try:
        return repr(float(text)).removesuffix(".0")
    except ValueError:
        return text


def is_number(text: str) -> bool:
    """Whether a value is one."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _split(text: str) -> list[str]:
    """What commas separate that are not inside of brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and not depth:
            parts.append("")
            continue
        parts[-1] += character
    return parts


def points_of(grid: Grid) -> Iterator[Point]:
    """Every point, the last key's values varying fastest."""
    for values in itertools.product(*grid.values()):
        yield frozenset(zip(grid, values, strict=True))


def told(grid: Grid) -> str:
    """A grid in one line.

    Example:
        >>> told({"loss.tau": ("0.5", "1"), "seed": ("0",)})
        'loss.tau=0.5,1 seed=0'
    """
    return " ".join(f"{key}={','.join(values)}" for key, values in grid.items())
