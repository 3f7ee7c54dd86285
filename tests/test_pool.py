"""A grid as a pool of processes: every point once, whatever the others do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A process with a backend must not fork: the pool gets one of its own.
POOL = """
import pathlib, sys, time
from experiments import pool
from experiments.grid import Point

def measure(point):
    name = point.key["name"]
    if name == "bad":
        print("what went wrong")
        raise RuntimeError("no luck")
    if name == "slow":
        time.sleep(600)
    return [{"name": name, "seed": str(seed)} for seed in (0, 1)]

folder, *names = sys.argv[1:]
points = [Point({"name": name}, None, "") for name in names]
path = pathlib.Path(folder, "rows.csv")
failures = pool.run_pool(points, path, measure, jobs=2, seconds=2, grace=1)
pool.report(failures, pathlib.Path(folder, "failures.txt"))
"""


def run_pool(folder, *names):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", POOL, str(folder), *names]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout


@pytest.fixture(scope="module")
def pooled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    return folder, run_pool(folder, "one", "bad", "slow", "two")


def test_a_failure_or_a_hang_costs_nobody_else_the_rows(pooled):
    folder, _ = pooled
    lines = (folder / "rows.csv").read_text().splitlines()
    assert lines[0] == "name,seed"
    assert sorted(lines[1:]) == ["one,0", "one,1", "two,0", "two,1"]


def test_failures_are_told_with_their_logs(pooled):
    folder, output = pooled
    assert "FAILED (70) bad: RuntimeError: no luck" in output
    assert "FAILED (-9) slow: stopped: out of time" in output
    assert "what went wrong" in (folder / "failures.txt").read_text()


def test_what_is_done_is_not_run_again(pooled):
    folder, _ = pooled
    before = (folder / "rows.csv").read_text()
    assert "0 of 2 points to run" in run_pool(folder, "two", "one")
    assert (folder / "rows.csv").read_text() == before


def test_cores_are_dealt_out(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from experiments.pool import places

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4})
    assert [p.cores for p in places(2)] == [(0, 2, 4), (1, 3)]
    assert [p.cores for p in places(6, 1)][4:] == [(4,), (0,), ()]
