"""One process per workdir: refusals, races, and what a killed process leaves."""

import errno
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys

import pytest

from ltjax.train import lock
from ltjax.train.lock import WorkdirInUse, workdir_lock
from ltjax.train.stages import Stage, train_stages

PATIENCE = 60

# Loads the file alone, without the package and what that imports.
LOADED = f"""
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("lock", {lock.__file__!r})
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
"""


@pytest.fixture
def start():
    """`start(code, *arguments) -> Popen` with `lock` loaded, talking by lines."""
    started = []

    def go(code, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", LOADED + code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE)


HOLD = """
with lock.workdir_lock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.readline()
"""


def test_the_second_is_refused_with_the_name_of_the_first(tmp_path, start):
    first = start(HOLD, tmp_path / "run")
    assert first.stdout.readline() == "locked\n"
    with pytest.raises(WorkdirInUse) as refused, workdir_lock(tmp_path / "run"):
        pass
    since = json.loads((tmp_path / "run" / ".lock").read_text())["since"]
    assert (
        f"{tmp_path / 'run'} is in use by process {first.pid} on {platform.node()}"
        f" (since {since})" in str(refused.value)
    )
    first.communicate("\n", timeout=PATIENCE)
    with workdir_lock(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_a_folder_made_for_it_goes_unless_it_is_used(tmp_path):
    (tmp_path / "kept").mkdir()
    for name in ("kept/a/b", "used/run"):
        with workdir_lock(tmp_path / name):
            if name == "used/run":
                (tmp_path / name / "config.json").touch()
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"kept", "used", "used/run", "used/run/config.json"}


@pytest.mark.parametrize("folders", [[""], ["0_first", "1_second"]])
def test_the_second_run_is_refused_before_anything_is_read(tmp_path, folders):
    runs = [Stage(folder, None) for folder in folders]  # there is nothing to build
    with workdir_lock(tmp_path / "run"), pytest.raises(WorkdirInUse):
        train_stages(runs, tmp_path / "run")


def test_what_cannot_be_built_leaves_no_folder(tiny, tmp_path):
    config = tiny({"batch_size": 160})
    with pytest.raises(ValueError, match="exceeds the 159 examples"):
        train_stages([Stage("0_only", config)], tmp_path / "new" / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_in_this_process_is_one_too(tmp_path):
    with workdir_lock(tmp_path):
        with pytest.raises(WorkdirInUse, match=f"process {os.getpid()} "):
            with workdir_lock(tmp_path):
                pass
        with workdir_lock(tmp_path, primary=False), workdir_lock(tmp_path / "other"):
            pass
    with pytest.raises(ZeroDivisionError), workdir_lock(tmp_path):
        _ = 1 / 0
    with workdir_lock(tmp_path):  # whatever ended the last one
        pass


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, start, caplog):
    first = start(HOLD, tmp_path)
    assert first.stdout.readline() == "locked\n"
    first.send_signal(signal.SIGKILL)
    first.wait(PATIENCE)
    assert (tmp_path / ".lock").exists()
    with caplog.at_level("INFO", "ltjax"), workdir_lock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert f"from process {first.pid} on" in caplog.text


def test_a_child_that_outlives_its_parent_does_not_keep_it(tmp_path, start):
    parent = start(
        """
with lock.workdir_lock(sys.argv[1]):
    if os.fork() == 0:  # speaks itself: the parent may be ahead of it
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    sys.stdin.readline()
""",
        tmp_path,
    )
    child = int(parent.stdout.readline())
    try:
        with pytest.raises(WorkdirInUse), workdir_lock(tmp_path):
            pass
        parent.send_signal(signal.SIGKILL)
        parent.wait(PATIENCE)
        with workdir_lock(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


RACE = """
print("ready", flush=True)
sys.stdin.readline()
for workdir in sys.argv[2:]:
    try:
        with lock.workdir_lock(workdir):
            alone = os.open(workdir + "/alone", os.O_CREAT | os.O_EXCL)
            print("has it", flush=True)
            if sys.argv[1] == "wait":
                sys.stdin.readline()
            os.unlink(workdir + "/alone")
    except lock.WorkdirInUse as refusal:
        print(refusal, flush=True)
"""


def test_of_two_that_start_at_once_one_gets_it(tmp_path, start):
    gone = start("")
    gone.wait(PATIENCE)
    left = json.dumps({"pid": gone.pid, "host": platform.node(), "since": "2026"})
    for n in range(10):
        if n % 2:  # with or without what a killed process has left
            (tmp_path / f"run{n}").mkdir()
            (tmp_path / f"run{n}" / ".lock").write_text(left)
    pairs = [
        [start(RACE, "wait", tmp_path / f"run{n}") for _ in range(2)] for n in range(10)
    ]
    for pair in pairs:
        for process in pair:
            assert process.stdout.readline() == "ready\n"
    for pair in pairs:
        for process in pair:
            process.stdin.write("go\n")
            process.stdin.flush()
    for n, pair in enumerate(pairs):
        said = [process.stdout.readline() for process in pair]
        winner, loser = (0, 1) if said[0] == "has it\n" else (1, 0)
        assert said[winner] == "has it\n"
        assert f"run{n} is in use by process {pair[winner].pid} on" in said[loser]
        for process in pair:
            process.communicate("end\n", timeout=PATIENCE)
            assert process.returncode == 0


def test_no_two_have_it_while_it_is_taken_and_given_up(tmp_path, start):
    """Held for no time at all: opening, locking and removing fall into each other."""
    both = [start(RACE, "", *[tmp_path] * 300) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        said = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 0  # "alone" existed already if they were two
        assert said.count("has it") + said.count("is in use by") == 300


def test_without_locks_it_is_said_and_goes_on(tmp_path, monkeypatch, caplog):
    def flock(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with workdir_lock(tmp_path), workdir_lock(tmp_path):
        pass
    assert "cannot be locked" in caplog.text and "No locks available" in caplog.text


def test_a_lock_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "gone" / "lock")
    with pytest.raises(OSError, match=r"\.lock"), workdir_lock(tmp_path):
        pass


def test_a_workdir_that_cannot_be_made_is_named(tmp_path):
    pathlib.Path(tmp_path, "file").touch()
    with pytest.raises(OSError, match="file"), workdir_lock(tmp_path / "file" / "run"):
        pass
