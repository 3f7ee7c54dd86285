"""Which points of a grid are replicas of one run, and which are runs of their own.

What a step sees as a traced scalar (options marked `sweep=True`) and seeds can differ
within one compiled program. Everything else makes another program.
"""

import contextlib
import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ltjax.config_file import UsageError
from ltjax.options import ConfigError
from ltjax.sweeps.grid import SEED, Grid, Point, is_number, points_of
from ltjax.train.check import swept
from ltjax.train.stages import Stage, check_stages

# From what a grid fixes ("optimizer.name" -> "adamw") to a ConfigDict.
Maker = Callable[[Mapping[str, str]], Any]


@dataclasses.dataclass(frozen=True)
class Block:
    """The points that one run holds.

    Attributes:
        fixed: key -> value that its config has.
        varied: key -> values that its replicas have.
        stages: the run's checked config, or several.
    """

    fixed: Mapping[str, str]
    varied: Grid
    stages: Sequence[Stage] = dataclasses.field(repr=False)

    @property
    def grid(self) -> Grid:
        """All keys -> values."""
        return {key: (value,) for key, value in self.fixed.items()} | dict(self.varied)

    @property
    def folder(self) -> str:
        """What sets it apart, as part of a folder's name."""
        parts = []
        for key, values in self.grid.items():
            if len(values) == 1:
                section, _, name = key.rpartition(".")
                short = section if name == "name" else name
                parts.append(f"_{short}={values[0]}")
        return re.sub(r"[^\w.=+-]+", "-", "".join(parts))[:80].rstrip("-.")


def plan(
    grid: Grid, make: Maker, *, limit: int = 8, skip: Collection[Point] = ()
) -> list[Block]:
    """The runs that hold the points of a grid.

    Args:
        grid: key -> values; keys are options of the config, or what else `make` knows.
        make: from what is fixed to a ConfigDict.
        limit: most replicas of a run.
        skip: points to leave out.

    Returns:
        Runs whose points are those of the grid, each once.

    Raises:
        ConfigError: with the faults of the first config that has any, naming the key.
        UsageError: likewise.
    """
    perhaps = [k for k, values in grid.items() if _may_vary(k, values)]
    blocks = []
    for fixed in _products(grid, [key for key in grid if key not in perhaps]):
        vary = _varying(make, fixed, grid, perhaps)
        more = [key for key in perhaps if key not in vary]
        for rest in _products(grid, more):
            blocks += _blocks(make, {**fixed, **rest}, grid, vary, limit, skip)
    return blocks


def block(make: Maker, fixed: Mapping[str, str], varied: Grid) -> Block:
    """The run of those points, its configs checked."""
    with _naming(set(fixed) | set(varied)):
        config = make({**fixed, **({SEED: "0"} if SEED in varied else {})})
        values = {k: tuple(map(float, v)) for k, v in varied.items() if k != SEED}
        if values:
            config.replicas.grid = {**dict(config.replicas.grid), **values}
        if SEED in varied:
            config.replicas.seeds = tuple(map(int, varied[SEED]))
        return Block(dict(fixed), dict(varied), check_stages(config))


def _may_vary(key: str, values: Sequence[str]) -> bool:
    """Whether values could be those of replicas, as far as they tell."""
    return key == SEED or ("." in key and all(map(is_number, values)))


def _products(grid: Grid, keys: Sequence[str]) -> Iterator[dict[str, str]]:
    for values in itertools.product(*(grid[key] for key in keys)):
        yield dict(zip(keys, values, strict=True))


def _varying(
    make: Maker, fixed: Mapping[str, str], grid: Grid, perhaps: Sequence[str]
) -> list[str]:
    """The keys whose values replicas of such a run can have, in all of its stages."""
    first = {key: grid[key][0] for key in perhaps if key != SEED}
    with _naming(grid):  # a key that nobody knows is told here
        stages = check_stages(make({**fixed, **first}))
    known = set.intersection(*(set(swept(stage.config)) for stage in stages))
    return [key for key in perhaps if key == SEED or key in known]


def _blocks(
    make: Maker,
    fixed: Mapping[str, str],
    grid: Grid,
    vary: Sequence[str],
    limit: int,
    skip: Collection[Point],
) -> list[Block]:
    whole = {key: grid[key] for key in vary}
    rest = frozenset(fixed.items())
    wanted = [point for point in points_of(whole) if rest | point not in skip]
    if not wanted:
        return []
    one = block(make, fixed, {key: values[:1] for key, values in whole.items()})
    configs = [stage.config for stage in one.stages]
    own = max(_replicas(config) for config in configs)
    if any(config.columns_from for config in configs):
        limit = own  # what a run says of examples is read from one replica
    room = max(1, limit // own)
    rows = [tuple(dict(point)[key] for key in vary) for point in wanted]
    parts = [part for box in _boxes(rows) for part in _split(box, room)]
    return [block(make, fixed, dict(zip(vary, part, strict=True))) for part in parts]


def _replicas(config: Any) -> int:
    grid = config.replicas.grid.values()
    return len(config.replicas.seeds) * math.prod(
        len(v) if isinstance(v, (tuple, list)) else 1 for v in grid
    )


def _boxes(rows: Sequence[tuple[str, ...]]) -> list[tuple[tuple[str, ...], ...]]:
    """Rows as products of values that cover each once, few of them.

    Example:
        >>> _boxes([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "y")])
        [(('a', 'b'), ('x', 'y')), (('c',), ('y',))]
    """
    if not rows[0]:
        return [()]
    tails: dict[str, list[tuple[str, ...]]] = {}
    for head, *tail in rows:
        tails.setdefault(head, []).append(tuple(tail))
    alike: dict[tuple, list[str]] = {}
    for head, tail in tails.items():
        alike.setdefault(tuple(tail), []).append(head)
    return [
        (tuple(heads), *box) for tail, heads in alike.items() for box in _boxes(tail)
    ]


def _split(
    box: tuple[tuple[str, ...], ...], room: int
) -> list[tuple[tuple[str, ...], ...]]:
    """A box as several of at most `room` points; what varies fastest stays together.

    Example:
        >>> _split((("a", "b", "c"), ("0", "1")), 4)
        [(('a', 'b'), ('0', '1')), (('c',), ('0', '1'))]
    """
    if math.prod(map(len, box)) <= room:
        return [box]
    heads, *tail = box
    size = max(1, room // math.prod(map(len, tail)))
    return [
        (tuple(heads[k : k + size]), *rest)
        for k in range(0, len(heads), size)
        for rest in _split(tuple(tail), room)
    ]


@contextlib.contextmanager
def _naming(keys: Collection[str]) -> Iterator[None]:
    """Puts the key of the grid in front of what is wrong with it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError([_named(fault, keys) for fault in error.faults]) from None
    except UsageError as error:
        text = str(error).removeprefix("ltjax sweep: ")
        raise UsageError(f"ltjax sweep: {_named(text, keys)}") from None


def _named(fault: str, keys: Collection[str]) -> str:
    for key in keys:
        names = key.split(".")
        starts = [".".join(names[: k + 1]) for k in range(len(names))]
        about = [f"config.{start} is" for start in starts]
        about += [f"config.{key}", f"[{key!r}]", f"argument {key}", f"argument {key!r}"]
        if fault.startswith(f"{key} is ") or any(words in fault for words in about):
            return f"--grid {key}: {fault}"
    return fault
