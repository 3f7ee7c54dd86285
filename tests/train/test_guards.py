"""The watchdog: what feeds it, and what it says when nothing does."""

import pathlib
import re
import subprocess
import sys

import pytest

from ltjax.train import guards
from ltjax.train.guards import Watchdog

ROOT = pathlib.Path(__file__).resolve().parents[2]

# A process that beats `sys.argv[1]` times, a tenth of a second apart, then hangs in one
# of two ways. The limit is 1.2 s.
SCRIPT = """
import ctypes, sys, time
from ltjax.train import guards
from ltjax.train.guards import Watchdog

def hang():
    if sys.argv[2] == "with the lock":  # PyDLL keeps it while it calls
        ctypes.PyDLL(None).sleep(60)
    time.sleep(60)

watchdog = Watchdog(0.02)
time.sleep(1.5)  # nothing was done yet: it is not armed
for n in range(int(sys.argv[1])):
    watchdog.beat(f"batch {n} of test")
    time.sleep(0.1)
if sys.argv[2] == "rest":
    watchdog.rest()
    time.sleep(3)  # a program is compiled
    watchdog.beat("the first batch after it")
print("alive", flush=True)
if sys.argv[2] == "end":
    watchdog.stop()
    time.sleep(1.5)
    sys.exit()
hang()
"""


@pytest.fixture(scope="module")
def runs():
    """All of them at once: they sleep most of the time."""
    ways = {"hang": 21, "with the lock": 1, "end": 21, "rest": 2}
    started = {
        way: subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(beats), way],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for way, beats in ways.items()
    }
    return {
        way: (*process.communicate(timeout=120), process.returncode)
        for way, process in started.items()
    }


def test_what_beats_lives_and_a_stopped_one_harms_nobody(runs):
    out, error, code = runs["end"]
    assert (out, error, code) == ("alive\n", "", 0)


def test_what_hangs_is_ended_and_named(runs):
    out, error, code = runs["hang"]
    assert (out, code) == ("alive\n", 1)
    assert re.match(
        r"Timeout: nothing was done for 0\.02 minutes\. The last thing done was"
        r" batch 20 of test, at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.",
        error,
    )
    assert "in hang" in error
    assert "raise watchdog_minutes" in error


def test_resting_lasts_until_the_next_beat(runs):
    out, error, code = runs["rest"]
    assert (out, code) == ("alive\n", 1)
    assert "The last thing done was the first batch after it" in error


def test_what_hangs_with_the_interpreter_lock_is_ended_too(runs):
    out, error, code = runs["with the lock"]
    assert (out, code) == ("alive\n", 1)
    assert "Timeout" in error and "in hang" in error


def test_zero_minutes_never_end_anything():
    watchdog = Watchdog(0.0)
    for _ in range(3):
        watchdog.beat("a step")
        watchdog.rest()
    watchdog.stop()


def test_beats_in_quick_succession_arm_it_once(monkeypatch):
    """Arming starts a thread; a beat only notes the time."""
    armed = []
    monkeypatch.setattr(
        guards.faulthandler,
        "dump_traceback_later",
        lambda seconds, **options: armed.append(seconds),
    )
    watchdog = Watchdog(30.0)
    for now in (100.0, 101.0, 109.9, 110.1, 111.0):
        monkeypatch.setattr(guards.time, "monotonic", lambda now=now: now)
        watchdog.beat("a step")
    watchdog.stop()
    assert armed == [1820.0, 1820.0]  # at 100 s and at 110.1 s
