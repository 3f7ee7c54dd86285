"""Stopping on request, and not hanging: signals, preemption notices, the watchdog."""

import contextlib
import datetime
import faulthandler
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import jax

if TYPE_CHECKING:
    from ltjax.train.checkpoint import Checkpoints


class StopRequest(contextlib.AbstractContextManager):
    """Whether the run was asked to stop, by SIGTERM or the platform.

    In a multi-process run the signal goes to JAX's coordination service, which makes
    all processes agree on the step; alone, our own handler is enough.
    """

    def __init__(self):
        self._asked = False
        self._previous = None

    def __enter__(self):
        """Installs the handler."""
        if jax.process_count() == 1:
            with contextlib.suppress(ValueError):  # not the main thread
                self._previous = signal.signal(signal.SIGTERM, self._note)
        # Within another one, as a run in a sweep: it may have been asked already.
        outer = getattr(self._previous, "__self__", None)
        self._asked = isinstance(outer, StopRequest) and outer.asked
        return self

    def __exit__(self, *exc) -> None:
        """Puts the previous handler back."""
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    @property
    def asked(self) -> bool:
        """Whether this process was asked to stop."""
        return self._asked

    def _note(self, signum, frame):
        self._asked = True

    def __call__(self, step: int, checkpoints: "Checkpoints") -> bool:
        """Whether to save and stop after `step`; the same on every process."""
        if jax.process_count() == 1:
            return self._asked
        return checkpoints.reached_preemption(step)


class Watchdog:
    """Dumps all stacks and ends the process if nothing is done for `minutes`.

    Whatever does a piece of work calls `beat` when it is done: every step, every batch
    of an evaluation, every save. A pass may take as long as it likes while its batches
    beat. The first beat arms it and `rest` disarms it until the next one, so that
    compiling takes as long as it does.

    A thread says what was done last, dumps the stacks and ends the process. It cannot
    if what hangs holds the interpreter lock; `faulthandler`, which needs no lock, then
    does the last two a little later.

    Args:
        minutes: the limit; 0 never ends anything.
    """

    def __init__(self, minutes: float):
        self._seconds = minutes * 60
        # Arming starts a thread of faulthandler's, so it is not done at every beat.
        self._every = min(10.0, self._seconds / 4)
        self._armed = 0.0
        self._last: tuple[str, float | None] = ("", None)  # what was done, and when
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def beat(self, what: str) -> None:
        """Tells that something has been done.

        Args:
            what: it was, in a few words for the message: "step 120", "batch 7 of test".
        """
        if self._seconds <= 0 or self._stopped.is_set():
            return
        now = time.monotonic()
        self._last = (what, now)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._watch, name="watchdog", daemon=True
            )
            self._thread.start()
        elif now - self._armed <= self._every:
            return
        # A notebook's sys.stderr is not a file; that of its process is.
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(
                self._seconds + 2 * self._every, exit=True, file=sys.__stderr__
            )
        self._armed = now

    def rest(self) -> None:
        """Nothing is expected until the next beat: a program is being compiled."""
        if self._thread is not None:
            self._last = (self._last[0], None)
            faulthandler.cancel_dump_traceback_later()
            self._armed = float("-inf")

    def _watch(self) -> None:
        while True:
            what, when = self._last
            since = time.monotonic() if when is None else when
            left = since + self._seconds - time.monotonic()
            if left <= 0:
                break
            if self._stopped.wait(left):
                return
        at = datetime.datetime.now() - datetime.timedelta(seconds=self._seconds - left)
        if sys.__stderr__ is not None:
            print(
                f"Timeout: nothing was done for {self._seconds / 60:g} minutes. The"
                f" last thing done was {what}, at {at:%Y-%m-%d %H:%M:%S}. The process"
                " ends; these are the stacks of its threads. If it is only slow, raise"
                " watchdog_minutes.",
                file=sys.__stderr__,
                flush=True,
            )
            faulthandler.dump_traceback(file=sys.__stderr__)
        os._exit(1)

    def stop(self) -> None:
        """Disarms; later beats do nothing."""
        self._stopped.set()
        faulthandler.cancel_dump_traceback_later()
