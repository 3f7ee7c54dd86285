"""Runs as processes of their own: told to stop, stuck, several of them together.

That killed ones end at the same bits is tested in tests/faults.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from ltjax.train.restore import restore_run

PATIENCE = 240  # seconds; only a hanging test waits that long
ROOT = pathlib.Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.multihost

# About a second of steps, so that there is something to interrupt.
LONG = {
    "total": "600 steps",
    "log_every": "10 steps",
    "eval_every": "200 steps",
    "checkpoint_every": "50 steps",
    "optimizer.lr": 0.01,
    "schedule.name": "cosine",
}


def environment(devices: int) -> dict[str, str]:
    """The environment of a process that sees this many CPU devices."""
    return os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}


@pytest.fixture
def launch(tiny_config, tmp_path):
    """`launch(changes, workdir, devices=1, flags=()) -> Popen` of `ltjax train`."""
    started = []

    def go(changes, workdir, *, devices=1, flags=()):
        config = f"{tiny_config}:{json.dumps(changes)}"
        command = [sys.executable, "-m", "ltjax", "train", "--config", config]
        command += ["--workdir", str(workdir), "--no-tensorboard", *flags]
        log = tmp_path / f"process{len(started)}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                env=environment(devices),
                cwd=ROOT,
            )
        process.log = log
        started.append(process)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)


def finish(process) -> str:
    """Exit code 0, or the process's own words in the failure."""
    code = process.wait(PATIENCE)
    text = process.log.read_text()
    assert code == 0, text
    return text


def logged_step(workdir) -> int:
    """The last step of metrics.jsonl, 0 if there is none yet."""
    try:
        lines = pathlib.Path(workdir, "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])["step"]
    except (FileNotFoundError, IndexError, ValueError):
        return 0


def wait_for(condition, process) -> None:
    """Polls until `condition()`; fails if the process ends or time runs out."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.log.read_text()
        assert time.monotonic() < deadline, process.log.read_text()
        time.sleep(0.002)


@pytest.fixture(scope="module")
def uninterrupted(tiny_config, tmp_path_factory):
    """Workdir of the long run that nobody disturbs."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    command = [sys.executable, "-m", "ltjax", "train", "--no-tensorboard"]
    command += ["--config", f"{tiny_config}:{json.dumps(LONG)}"]
    done = subprocess.run(
        [*command, "--workdir", str(workdir)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(1),
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.slow
def test_sigterm_saves_and_asks_to_be_started_again(
    uninterrupted, launch, tmp_path, assert_same
):
    workdir = tmp_path / "run"
    process = launch(LONG, workdir)
    wait_for(lambda: logged_step(workdir) >= 120, process)
    process.terminate()
    assert process.wait(PATIENCE) == 75, process.log.read_text()
    stopped = process.log.read_text().splitlines()[-1]
    assert stopped.startswith("stopped at step ")
    step = int(stopped.split()[3])
    assert 120 <= step < 600
    assert max(int(p.name) for p in (workdir / "checkpoints").glob("[0-9]*")) == step
    assert f"resumed from the checkpoint of step {step}" in finish(
        launch(LONG, workdir)
    )
    ours, theirs = (restore_run(place)[1] for place in (workdir, uninterrupted))
    assert_same(ours, theirs)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


# The rate is constant, so that the first N steps do not depend on the total.
SHARED = {
    "total": "400 steps",
    "log_every": "1 steps",
    "eval_every": "12 steps",
    "checkpoint_every": "0 steps",
    "optimizer.lr": 0.01,
}


@pytest.fixture
def launch_pair(launch):
    """`launch_pair(changes, workdir) -> [Popen, Popen]`: one run on 2 x 2 devices."""

    def go(changes, workdir):
        flags = ["--multihost", "--coordinator", f"localhost:{free_port()}"]
        flags += ["--num-processes", "2", "--process-id"]
        return [
            launch(changes, workdir, devices=2, flags=[*flags, str(i)]) for i in (0, 1)
        ]

    return go


def test_two_processes_train_as_one_and_stop_together(
    launch_pair, train, tmp_path, assert_same, records
):
    workdir = tmp_path / "run"
    pair = launch_pair(SHARED | {"data.feed": "streaming"}, workdir)
    wait_for(lambda: logged_step(workdir) >= 13, pair[0])
    pair[1].send_signal(signal.SIGTERM)
    for process in pair:
        assert process.wait(PATIENCE) == 75, process.log.read_text()
    lines = [process.log.read_text().splitlines()[-1] for process in pair]
    assert lines[0] == lines[1]
    assert lines[0].startswith("stopped at step ")
    step = int(lines[0].split()[3])
    assert 13 <= step < 400

    # Four devices of one process: the same steps, up to the order of summation.
    one = train(SHARED | {"total": f"{step} steps"}, count=4, workdir=tmp_path / "one")
    saved = restore_run(workdir)[1]
    assert int(saved.step[0]) == step
    assert_same(saved.params, one.state.params, rtol=1e-3, atol=2e-5)
    ours, theirs = records(workdir), records(tmp_path / "one")
    for a, b in zip(ours[:13], theirs[:13], strict=True):
        assert a["step"] == b["step"]
        for key in b.keys() & {"train/loss", "train/grad_norm", "eval/test/ece"}:
            assert a[key] == pytest.approx(b[key], rel=1e-4)
        for key in b.keys() & {"train/accuracy", "eval/test/balanced_accuracy"}:
            assert a[key] == b[key]

    # One process goes on where the two stopped, with the other feed.
    resumed = train(SHARED, count=4, workdir=workdir)
    assert resumed.start_step == step
    assert int(resumed.state.step[0]) == 400
    assert {line["step"] for line in records(workdir)} == set(range(1, 401))


@pytest.mark.slow
def test_where_one_process_is_killed_all_end_and_the_run_goes_on(
    launch_pair, train, tmp_path, assert_same
):
    own = {"replicas.layout": "devices", "replicas.seeds": [0, 1, 2, 3]}
    changes = SHARED | own | {"peer_seconds": 4.0, "checkpoint_every": "20 steps"}
    workdir = tmp_path / "run"
    pair = launch_pair(changes, workdir)
    wait_for((workdir / "checkpoints" / "20").is_dir, pair[0])
    pair[1].kill()
    assert pair[0].wait(PATIENCE) == 1, pair[0].log.read_text()
    assert "process 1 of this run gives no sign of life" in pair[0].log.read_text()
    # Its replicas were on the devices of both; here they are on those of one.
    resumed = train(changes, count=4, workdir=workdir)
    assert 20 <= resumed.start_step < 400
    whole = train(changes, count=4, workdir=tmp_path / "whole")
    assert_same(resumed.state.params, whole.state.params, rtol=1e-3, atol=2e-5)


STUCK = """
import sys, time
from ltjax.config_file import load_config
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.check import check

run = build(check(load_config(["--config", sys.argv[1]])))


def plan(step):
    if step == 5:
        time.sleep(600)
    return run.plan(step)


loop.run(run._replace(plan=plan), sys.argv[2], tensorboard=False)
"""


@pytest.mark.slow
def test_a_stuck_run_shows_its_stacks_and_ends(tiny_config, tmp_path):
    config = f"{tiny_config}:{json.dumps({'watchdog_minutes': 0.02})}"
    done = subprocess.run(
        [sys.executable, "-c", STUCK, config, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(1),
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert 'File "<string>"' in done.stderr and "in plan" in done.stderr
