"""Sweeps in one folder: resumed, extended, with points that fail."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ltjax._seal import unsealed
from ltjax.options import ConfigError
from ltjax.report.reading import read_run
from ltjax.sweeps import open_sweep, run_sweep
from ltjax.sweeps.manifest import read_manifest
from ltjax.train.checkpoint_files import restore_params
from ltjax.train.loop import Preempted

PATIENCE = 240  # seconds; only a hanging test waits that long
SHORT = {
    "loss.name": "la",
    "total": "6 steps",
    "log_every": "3 steps",
    "eval_every": "6 steps",
    "checkpoint_every": "3 steps",
    "replicas.layout": "vmap",
}
GRID = {"loss.tau": ("0.5", "1"), "seed": ("0", "1")}
QUIET = {"tensorboard": False}


@pytest.fixture(autouse=True)
def _one_device(devices):
    with devices(1):
        yield


@pytest.fixture(scope="module")
def swept(maker, devices, tmp_path_factory):
    """A finished sweep of 2 x 2 in one program: (make, workdir, outcome)."""
    make, workdir = maker(**SHORT), tmp_path_factory.mktemp("swept")
    with devices(1):
        outcome = run_sweep(open_sweep(GRID, make, workdir), **QUIET)
    return make, workdir, outcome


def test_replicas_are_the_points(swept):
    _, workdir, outcome = swept
    assert outcome.failures == {}
    (folder,) = outcome.folders
    run = read_run(folder)
    rows = [(row["hyper"]["loss.tau"], row["seed"]) for row in run.info["replicas"]]
    assert rows == [(0.5, 0), (0.5, 1), (1.0, 0), (1.0, 1)]


def test_a_larger_grid_trains_what_is_new(swept, tmp_path):
    make, workdir, _ = swept
    before = (workdir / "00" / "config.json").stat().st_mtime_ns
    grid = {"loss.tau": ("0.5", "1", "2"), "seed": ("0", "1")}
    sweep = open_sweep(grid, make, workdir)
    assert [entry.folder for entry in sweep.waiting] == ["01_tau=2"]
    assert [entry.folder for entry in sweep.asked] == ["00", "01_tau=2"]
    outcome = run_sweep(sweep, **QUIET)
    assert [folder.name for folder in outcome.folders] == ["00", "01_tau=2"]
    assert (workdir / "00" / "config.json").stat().st_mtime_ns == before
    assert open_sweep(grid, make, workdir).waiting == []
    # A smaller one asks for nothing, and forgets nothing.
    smaller = open_sweep({"loss.tau": ("2",), "seed": ("1",)}, make, workdir)
    assert smaller.waiting == [] and len(smaller.entries) == 2


def test_another_config_is_not_taken_for_the_same_sweep(swept, maker):
    _, workdir, _ = swept
    other = maker(**SHORT, **{"optimizer.momentum": 0.5})
    with pytest.raises(
        ConfigError, match="has optimizer.momentum = 0.9, but this"
    ) as e:
        open_sweep(GRID, other, workdir)
    assert "use another workdir" in str(e.value)
    # How often it is logged changes nothing.
    open_sweep(GRID, maker(**SHORT | {"log_every": "2 steps"}), workdir)


def test_a_point_that_fails_does_not_stop_the_others(swept, maker, tmp_path):
    start = next(iter(swept[2].folders))
    grid = {"init_from": ("/nowhere", str(start)), "optimizer.lr": ("0.05", "1e+30")}
    make = maker(**SHORT, **{"replicas.seeds": (0, 1)})
    outcome = run_sweep(open_sweep(grid, make, tmp_path, limit=8), **QUIET)
    first, second = read_manifest(tmp_path)
    assert (first.state, second.state) == ("failed", "done")
    assert "config.init_from: /nowhere holds no checkpoints" in first.reason
    assert (tmp_path / first.folder / "failure.txt").exists()
    # One rate diverges, with both seeds; the other goes on.
    lost = {"init_from": str(start), "optimizer.lr": "1e+30"}
    assert second.lost == [lost] * 2
    told = list(outcome.failures.items())
    assert told[0][0] == "init_from=/nowhere optimizer.lr=0.05,1e+30"
    assert told[1] == (
        f"init_from={start} optimizer.lr=1e+30",
        "diverged; the other replicas of the run went on",
    )
    # What failed is tried again, what diverged is not.
    again = open_sweep(grid, make, tmp_path)
    assert [entry.folder for entry in again.waiting] == [first.folder]


def test_a_run_that_diverges_as_a_whole_is_a_result(maker, tmp_path):
    grid = {"optimizer.lr": ("1e+30", "0.05")}
    sweep = open_sweep(grid, maker(**SHORT), tmp_path, limit=1)
    outcome = run_sweep(sweep, **QUIET)
    assert [entry.state for entry in read_manifest(tmp_path)] == ["diverged", "done"]
    assert list(outcome.failures) == ["optimizer.lr=1e+30"]
    assert "not finite at step" in outcome.failures["optimizer.lr=1e+30"]
    assert open_sweep(grid, maker(**SHORT), tmp_path).waiting == []


class Terminated:
    """A sink that has the process asked to stop, at the first record."""

    def write(self, line):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_request_to_stop_saves_and_goes_on_later(maker, tmp_path, swept):
    make = maker(**SHORT)
    with pytest.raises(Preempted):
        run_sweep(open_sweep(GRID, make, tmp_path), **QUIET, writers=[Terminated()])
    assert [entry.state for entry in read_manifest(tmp_path)] == ["new"]
    run_sweep(open_sweep(GRID, make, tmp_path), **QUIET)
    assert [entry.state for entry in read_manifest(tmp_path)] == ["done"]
    assert_same_run(tmp_path / "00", swept[1] / "00")


def test_a_request_between_two_runs_is_not_lost(maker, tmp_path, monkeypatch):
    from ltjax.sweeps import run as module

    trained = []

    def asked(stages, place, **options):
        trained.append(place.name)
        os.kill(os.getpid(), signal.SIGTERM)
        raise OSError("as if it had failed at that moment")

    monkeypatch.setattr(module, "train_stages", asked)
    sweep = open_sweep(GRID, maker(**SHORT), tmp_path, limit=1)
    with pytest.raises(Preempted, match="stopped before run 2 of 4"):
        run_sweep(sweep, **QUIET)
    assert trained == ["00_tau=0.5_seed=0"]


def test_a_damaged_manifest_is_named(swept, tmp_path):
    text = (swept[1] / "sweep.json").read_text()
    (tmp_path / "sweep.json").write_text(text.replace('"done"', '"new"'))
    with pytest.raises(ConfigError, match=r"sweep\.json is damaged"):
        open_sweep(GRID, swept[0], tmp_path)


def assert_same_run(ours, theirs):
    """Parameters, evaluations and tables alike, bit for bit."""
    for a, b in zip(restore_params(ours)[:2], restore_params(theirs)[:2], strict=True):
        left, right = flat(a), flat(b)
        assert left.keys() == right.keys()
        for name in left:
            np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    files = sorted(p.name for p in (ours / "evaluation").iterdir())
    assert files == sorted(p.name for p in (theirs / "evaluation").iterdir())
    for name in files:
        with np.load(ours / "evaluation" / name) as a:
            with np.load(theirs / "evaluation" / name) as b:
                assert a.files == b.files
                for key in a.files:
                    np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def flat(tree, prefix=""):
    if not isinstance(tree, dict):
        return {prefix: np.asarray(tree)}
    return {
        key: value
        for name, sub in tree.items()
        for key, value in flat(sub, f"{prefix}/{name}").items()
    }


LONG = SHORT | {
    "total": "160 steps",
    "log_every": "20 steps",
    "eval_every": "160 steps",
    "checkpoint_every": "20 steps",
}


@pytest.fixture
def nine(tiny_config):
    """`nine(workdir) -> argv` of a sweep of 3 x 3 in three runs."""

    def words(workdir):
        config = f"{tiny_config}:{json.dumps(LONG)}"
        found = ["sweep", "--no-tensorboard", "--config", config, "--replicas", "3"]
        found += ["--grid", "loss.tau=0.5,1,1.5", "--grid", "seed=0,1,2"]
        return [*found, "--workdir", str(workdir)]

    return words


@pytest.fixture
def launch(tiny_config):
    """`launch(argv) -> Popen` of ltjax."""
    started = []

    def go(words):
        process = subprocess.Popen(
            [sys.executable, "-m", "ltjax", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tiny_config.parent.parent,
            env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        )
        started.append(process)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE)


@pytest.mark.multihost
def test_nine_points_killed_and_resumed_are_those_of_an_unkilled_sweep(
    launch, nine, ltjax, tmp_path
):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    first = launch(nine(killed))
    middle = killed / "01_tau=1" / "checkpoints"
    deadline = time.monotonic() + PATIENCE
    while not (middle.is_dir() and any(p.name.isdecimal() for p in middle.iterdir())):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    first.kill()
    first.communicate(timeout=PATIENCE)
    states = [entry.state for entry in read_manifest(killed)]
    assert states[0] == "done" and "new" in states

    for workdir in (killed, whole):
        code, _, error = ltjax(*nine(workdir))
        assert code == 0, error
    assert unsealed((killed / "sweep.json").read_text()) == unsealed(
        (whole / "sweep.json").read_text()
    )
    folders = ["00_tau=0.5", "01_tau=1", "02_tau=1.5"]
    for folder in folders:
        assert_same_run(killed / folder, whole / folder)
    tables = [(w / "report" / "table.md").read_text() for w in (killed, whole)]
    assert tables[0] == tables[1]
    assert all(folder in tables[0] for folder in folders)
