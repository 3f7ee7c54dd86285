"""Sinks of records beside metrics.jsonl: Weights & Biases, MLflow, or one of your own.

A sink has `write(record)`, with records as `ltjax.train.writers.record` makes them,
and, where it needs them, `open(opening)` before the first record of a run and `close()`
after the last. Stages and sweeps open the same sinks again for each of their runs.

What a tracker calls a run is kept in `<workdir>/trackers.json`, so that a resumed run
continues there what it had begun.
"""

import importlib
import logging
import os
import pathlib
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ltjax.options import nearest
from ltjax.train.identity import flatten
from ltjax.train.workdir import read_json, write_json
from ltjax.train.writers import scalars

_LOG = logging.getLogger(__name__)
PROJECT = "ltjax"  # what a tracker files runs under, if nobody says otherwise
_BATCH = 100  # parameters that MLflow takes at once


class Opening(NamedTuple):
    """What a sink is told of the run that begins.

    Attributes:
        workdir: of the run.
        name: of the run.
        config: nested, JSON-ready.
        total: steps of the whole run.
    """

    workdir: pathlib.Path
    name: str
    config: Mapping[str, Any]
    total: int


class Guarded:
    """A sink whose failures never end a run: the first is told, then it is left alone.

    Args:
        sink: anything with `write`, and perhaps `open` and `close`.
    """

    def __init__(self, sink: Any):
        self._sink, self._failed = sink, False

    def open(self, opening: Opening) -> None:
        """Says that a run begins."""
        self._call("open", opening)

    def write(self, line: dict) -> None:
        """Hands over one record."""
        self._call("write", line)

    def close(self) -> None:
        """Says that the run has ended, or stops."""
        self._call("close")

    def _call(self, name: str, *arguments: Any) -> None:
        method = getattr(self._sink, name, None)
        if self._failed or method is None:
            return
        try:
            method(*arguments)
        except Exception as error:
            self._failed = True
            _LOG.warning(
                "%s failed (%s: %s): it gets no more records of this run, which goes on"
                " (metrics.jsonl has them all)",
                type(self._sink).__name__,
                type(error).__name__,
                error,
            )


class WandB:
    """Weights & Biases; offline with WANDB_MODE=offline.

    Args:
        **init: of `wandb.init`, such as project, entity, group or tags.

    Raises:
        ImportError: if wandb is not installed.
    """

    def __init__(self, **init: Any):
        self._wandb = _package("wandb", extra="wandb")
        self._init = init
        self._run: Any = None

    def open(self, opening: Opening) -> None:
        """Begins a run there, or continues the one that this workdir has begun."""
        known = _known(opening.workdir, "wandb") or {"id": uuid.uuid4().hex}
        _keep(opening.workdir, "wandb", known)  # first: a kill comes at any moment
        given = {
            "project": os.environ.get("WANDB_PROJECT", PROJECT),
            "name": opening.name,
            "dir": str(opening.workdir),
            **self._init,
        }
        self._run = self._wandb.init(
            id=known["id"], resume="allow", config=dict(opening.config), **given
        )
        # W&B's own step only grows; a resumed run repeats the steps it had lost.
        self._run.define_metric("*", step_metric="step")

    def write(self, line: dict) -> None:
        """Logs means, and standard deviations under `<key>_std`."""
        self._run.log({"step": line["step"], **scalars(line)})

    def close(self) -> None:
        """Ends it; what is not sent yet is sent."""
        self._run.finish()


class MLflow:
    """MLflow, at MLFLOW_TRACKING_URI or where its library keeps runs by default.

    Args:
        uri: of the tracking server or store; "" = as the environment says.
        experiment: "" = MLFLOW_EXPERIMENT_NAME, or "ltjax".

    Raises:
        ImportError: if mlflow is not installed.
    """

    def __init__(self, *, uri: str = "", experiment: str = ""):
        self._mlflow = _package("mlflow", extra="mlflow")
        self._entities = importlib.import_module("mlflow.entities")
        self._uri = uri
        self._experiment = experiment or os.environ.get(
            "MLFLOW_EXPERIMENT_NAME", PROJECT
        )
        self._client: Any = None
        self._id, self._total, self._step = "", 0, 0

    def open(self, opening: Opening) -> None:
        """Begins a run there, or continues the one that this workdir has begun."""
        known = _known(opening.workdir, "mlflow")
        uri = self._uri or known.get("uri") or self._mlflow.get_tracking_uri()
        self._client = self._mlflow.MlflowClient(tracking_uri=uri)
        self._total, self._step = opening.total, 0
        if known.get("uri") == uri:
            self._id = known["run_id"]
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._begin(opening)
            _keep(opening.workdir, "mlflow", {"uri": uri, "run_id": self._id})

    def _begin(self, opening: Opening) -> None:
        client = self._client
        found = client.get_experiment_by_name(self._experiment)
        place = (
            found.experiment_id if found else client.create_experiment(self._experiment)
        )
        self._id = client.create_run(place, run_name=opening.name).info.run_id
        told = [
            self._entities.Param(key, str(value)[:500])
            for key, value in flatten(dict(opening.config)).items()
        ]
        for k in range(0, len(told), _BATCH):
            client.log_batch(self._id, params=told[k : k + _BATCH])

    def write(self, line: dict) -> None:
        """Logs means, and standard deviations under `<key>_std`."""
        self._step, now = line["step"], int(1000 * time.time())
        metrics = [
            self._entities.Metric(key, value, now, self._step)
            for key, value in scalars(line).items()
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        """Says whether the run is finished, or was stopped."""
        done = self._step >= self._total
        self._client.set_terminated(self._id, status="FINISHED" if done else "KILLED")


TRACKERS: dict[str, Callable[[], Any]] = {"wandb": WandB, "mlflow": MLflow}
TENSORBOARD = "tensorboard"  # files in the workdir, which the engine writes itself


def make_writers(writers: Iterable[Any]) -> Sequence[Any]:
    """Sinks, with names of trackers made into them.

    Args:
        writers: sinks, or keys of `TRACKERS`.

    Returns:
        Sinks.

    Raises:
        ValueError: for an unknown name, or something that cannot be written to.
        ImportError: if a tracker's package is not installed.
    """
    made = []
    for one in writers:
        if isinstance(one, str):
            if one not in TRACKERS:
                raise ValueError(f"tracker is {one!r}, unknown{nearest(one, TRACKERS)}")
            made.append(TRACKERS[one]())
        elif callable(getattr(one, "write", None)):
            made.append(one)
        else:
            raise ValueError(
                f"writers has a {type(one).__name__}, expected a sink with"
                f" write(record), or a name{nearest('', TRACKERS)}"
            )
    return made


def _package(name: str, *, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"the tracker {name} needs its package: pip install 'ltjax[{extra}]'"
        ) from None


def _known(workdir: pathlib.Path, tracker: str) -> dict[str, str]:
    """What a tracker calls the run of a workdir; empty if it does not know it."""
    path = workdir / "trackers.json"
    return read_json(path).get(tracker, {}) if path.exists() else {}


def _keep(workdir: pathlib.Path, tracker: str, known: Mapping[str, str]) -> None:
    path = workdir / "trackers.json"
    others = read_json(path) if path.exists() else {}
    write_json(path, {**others, tracker: dict(known)})
