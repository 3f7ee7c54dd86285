"""Processes that save together: none waits for one that has failed."""

import pathlib
import socket
import subprocess
import sys
import threading
import time
import types

import jax
import pytest

from ltjax.train import barrier
from ltjax.train.barrier import Barrier

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Words(dict):
    """The store that JAX's processes share."""

    def key_value_set(self, key, value, allow_overwrite=False):
        self[key] = value

    def key_value_try_get(self, key):
        if key not in self:
            raise jax.errors.JaxRuntimeError("NOT_FOUND")
        return self[key]


@pytest.fixture
def words(monkeypatch):
    jax.devices()  # are made with the real one
    shared = types.SimpleNamespace(client=Words())
    monkeypatch.setattr(barrier.distributed, "global_state", shared)
    monkeypatch.setattr(barrier, "_POLL", 0.01)
    return shared.client


def in_background(fn):
    """What `fn` raised in a thread, or None."""
    caught = []

    def run():
        try:
            fn()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return caught[0] if caught else None


def test_it_meets_as_it_is_told_to(words):
    calls = []
    meet = Barrier(lambda **options: calls.append(options))
    meet(key="a", timeout_ms=5)
    assert in_background(lambda: meet(key="b", timeout_ms=6)) is None
    assert calls == [{"key": "a", "timeout_ms": 5}, {"key": "b", "timeout_ms": 6}]
    assert not meet.failed and not words


def test_what_the_meeting_raises_is_raised(words):
    def late(**options):
        raise TimeoutError("DEADLINE_EXCEEDED")

    with pytest.raises(TimeoutError, match="DEADLINE"):
        Barrier(late)(key="a", timeout_ms=5)


def test_who_fails_does_not_wait_and_says_so(words):
    meet = Barrier(lambda **options: time.sleep(60))

    def save():
        try:
            raise OSError("no space")
        finally:
            meet(key="finished", timeout_ms=10**6)

    error = in_background(save)
    assert isinstance(error, OSError) and str(error) == "no space"
    assert meet.failed and list(words.values()) == ["0"]


def test_who_waits_for_one_that_failed_fails_too(words):
    never = threading.Event()
    meet = Barrier(lambda **options: never.wait(60))
    words[meet._word] = "3"
    with pytest.raises(RuntimeError, match="saving failed in process 3"):
        meet(key="written", timeout_ms=10**6)
    never.set()
    assert meet.failed


def test_a_save_while_an_error_is_handled_is_an_ordinary_one(words):
    """As when a run is asked to stop; only threads that save end by an exception."""
    calls = []
    meet = Barrier(lambda **options: calls.append(options))
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        meet(key="a", timeout_ms=5)
    assert len(calls) == 1 and not meet.failed


TOGETHER = """
import resource, sys, time
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec

jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from ltjax.train.checkpoint import Checkpoints, SaveFailed

mesh = jax.make_mesh((2,), ("data",))
noise = np.random.default_rng(0).normal(size=(2, 50_000)).astype("f")
rows = NamedSharding(mesh, PartitionSpec("data"))
state = {"table": jax.make_array_from_callback(noise.shape, rows, lambda i: noise[i])}
checkpoints = Checkpoints(sys.argv[3])
checkpoints.save(1, state, {})
while checkpoints._manager.is_saving_in_progress():
    time.sleep(0.05)
if jax.process_index() == 1:  # its disk is full
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
try:
    checkpoints.save(2, state, {})
    for _ in range(400):
        checkpoints.check()
        time.sleep(0.05)
except SaveFailed as failure:
    print(failure, flush=True)
checkpoints.close()
"""


@pytest.mark.multihost
def test_a_disk_that_is_full_for_one_process_ends_both(tmp_path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{found.getsockname()[1]}"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, place, str(n), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for n in range(2)
    ]
    try:
        said = [process.communicate(timeout=120) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], said
    first, second = (out.splitlines()[-1] for out, _ in said)
    assert "checkpoint 2 cannot be saved: " in first and "in process 1;" in first
    assert second == (
        "checkpoint 2 cannot be saved: File too large; the last complete one is 1"
    )
    assert (tmp_path / "checkpoints" / "1" / "checksums.json").exists()
    assert not (tmp_path / "checkpoints" / "2").exists()
