"""Runs that follow each other: each starts from named parts of an earlier one.

A config with `stages` is several runs. Each entry has a name and says what is different
in that run, by dotted option or by section::

    stages = (
        {"name": "first"},
        {"name": "crt", "sampler": {"name": "class_balanced"}, "total": "10 epochs",
         "optimizer.train": "head", "init_skip": ("head",)},
    )

A stage may also take columns of its training set from what earlier ones say of the
examples, and keep some of the examples only, see `ltjax.train.earlier`.

Every stage lies in `<workdir>/<k>_<name>` and reads like any other run; a stage that is
finished is not trained again. From the second on, a stage starts from the one before,
unless its `init_from` says "stage:NAME".
"""

import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ltjax.methods.presets import apply_changes
from ltjax.options import ConfigError
from ltjax.train.build import build
from ltjax.train.check import check
from ltjax.train.config import TrainConfig, copy_config
from ltjax.train.earlier import outputs_of
from ltjax.train.loop import Result, run
from ltjax.train.restore import earlier_columns
from ltjax.train.run import Run
from ltjax.train.workdir import STAGE, held_workdir

_LOG = logging.getLogger(__name__)


class Stage(NamedTuple):
    """One run of several: its folder's name and its config."""

    folder: str
    config: TrainConfig


def check_stages(config: Any) -> list[Stage]:
    """The runs of a config, checked; one run in the workdir itself without stages.

    Args:
        config: a ConfigDict.

    Returns:
        Stages in order.

    Raises:
        ConfigError: with every fault of every stage.
    """
    entries = list(config.get("stages", ()))
    if not all(hasattr(entry, "keys") for entry in entries) or not entries:
        return [Stage("", check(config))]
    faults, stages = _names(entries), []
    for k, entry in enumerate(entries):
        own = copy_config(config)
        own.stages = ()
        if k and "init_from" not in entry:
            own.init_from = f"{STAGE}{entries[k - 1].get('name', '')}"
        try:
            changes = {key: value for key, value in entry.items() if key != "name"}
            apply_changes(own, changes)
            stages.append(Stage(f"{k}_{entry.get('name', '')}", check(own)))
        except (ConfigError, AttributeError, KeyError, TypeError) as error:
            told = error.faults if isinstance(error, ConfigError) else [str(error)]
            faults += [
                f"stages[{k}] {entry.get('name', '')}: {fault}" for fault in told
            ]
    if faults:
        raise ConfigError(faults)
    return stages


def _names(entries: list[Mapping]) -> list[str]:
    """Faults of the names: each is needed once, and has to make a folder."""
    faults, seen = [], set()
    for k, entry in enumerate(entries):
        name = entry.get("name", "")
        if not isinstance(name, str) or not name or os.sep in name or ":" in name:
            faults.append(
                f"config.stages[{k}] has the name {name!r}, expected a word that can be"
                " part of a folder's name"
            )
        elif name in seen:
            faults.append(f"config.stages[{k}] is a second stage {name!r}")
        seen.add(name)
        for start in _runs_of(entry):
            if not start.startswith(STAGE):
                continue
            if start.removeprefix(STAGE) not in seen - {name}:
                faults.append(
                    f"config.stages[{k}] starts from {start!r}, which is not an"
                    f" earlier stage; expected one of {sorted(seen - {name})}"
                )
    return faults


def _runs_of(entry: Mapping) -> list[str]:
    """The earlier runs that an entry names; a malformed one is told by `check`."""
    named = [str(entry.get("init_from", ""))]
    for text in dict(entry.get("columns_from", {})).values():
        try:
            named += [run for run, _ in outputs_of(text)]
        except ValueError:
            continue
    return named


def train_stages(
    stages: list[Stage], workdir: str | os.PathLike, **options: Any
) -> Result:
    """Trains stage after stage, resuming where an earlier attempt was stopped.

    Args:
        stages: from `check_stages`.
        workdir: of a single run, or the folder of the stages' workdirs.
        **options: of `ltjax.train.loop.run`.

    Returns:
        `Result` of the last stage.
    """

    def train(stage: Stage, place: pathlib.Path) -> Result:
        def built() -> Run:
            return build(stage.config, said=earlier_columns(stage.config, place))

        return run(built, place, **options)

    if not stages[0].folder:
        return train(stages[0], pathlib.Path(workdir))
    with held_workdir(workdir) as folder:
        for stage in stages:
            _LOG.info("stage %s", stage.folder)
            result = train(stage, folder / stage.folder)
        return result
