"""`sweep.json`: which runs a sweep consists of, and what became of each."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from ltjax.sweeps.grid import Grid, Point, points_of
from ltjax.sweeps.plan import Block
from ltjax.train.config import to_dict
from ltjax.train.workdir import read_json, write_json

NAME = "sweep.json"
NEW, DONE, FAILED, DIVERGED = "new", "done", "failed", "diverged"


@dataclasses.dataclass
class Entry:
    """One run of a sweep.

    Attributes:
        folder: its workdir, within the sweep's.
        fixed: see `ltjax.sweeps.plan.Block`.
        varied: likewise.
        configs: of its stages, as config.json has them.
        last: folder of the last stage, "" for a run without stages.
        state: "new" (or stopped), "done", "failed", or "diverged": all of it.
        reason: why, of the last two.
        lost: points of replicas that diverged, key -> value.
    """

    folder: str
    fixed: dict[str, str]
    varied: dict[str, list[str]]
    configs: list[dict[str, Any]]
    last: str = ""
    state: str = NEW
    reason: str = ""
    lost: list[dict[str, str]] = dataclasses.field(default_factory=list)

    @property
    def grid(self) -> Grid:
        """All keys -> values."""
        fixed = {key: (value,) for key, value in self.fixed.items()}
        return fixed | {key: tuple(values) for key, values in self.varied.items()}

    @property
    def points(self) -> set[Point]:
        """Those that it holds."""
        return set(points_of(self.grid))


def entry_of(block: Block, number: int) -> Entry:
    """The entry of a run that is not begun."""
    return Entry(
        folder=f"{number:02d}{block.folder}",
        fixed=dict(block.fixed),
        varied={key: list(values) for key, values in block.varied.items()},
        configs=[to_dict(stage.config) for stage in block.stages],
        last=block.stages[-1].folder,
    )


def read_manifest(workdir: pathlib.Path) -> list[Entry]:
    """The runs of a sweep; none if it is not begun.

    Raises:
        ConfigError: if the file is damaged.
    """
    path = workdir / NAME
    if not path.exists():
        return []
    return [Entry(**values) for values in read_json(path)["runs"]]


def write_manifest(workdir: pathlib.Path, entries: list[Entry]) -> None:
    """Writes it under its final name only when it is complete."""
    runs: list[Mapping] = [dataclasses.asdict(entry) for entry in entries]
    write_json(workdir / NAME, {"runs": runs})
