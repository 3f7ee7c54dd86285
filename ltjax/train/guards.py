"""Stopping on request, and not hanging: signals, preemption notices, the watchdog."""

import contextlib
import faulthandler
import signal
import sys
import time

import jax

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

    def __call__(self, step: int, checkpoints: Checkpoints) -> bool:
        """Whether to save and stop after `step`; the same on every process."""
        if jax.process_count() == 1:
            return self._asked
        return checkpoints.reached_preemption(step)


class Watchdog:
    """Dumps all stacks and ends the process if no step ends for `minutes`."""

    def __init__(self, minutes: float):
        self._seconds = minutes * 60
        self._armed = 0.0

    def __call__(self, what: str = "") -> None:
        """Tells that a step has ended."""
        now = time.monotonic()
        if self._seconds > 0 and now - self._armed > min(10, self._seconds / 4):
            # sys.stderr of a notebook is no file, the process's own is.
            if sys.__stderr__ is not None:
                faulthandler.dump_traceback_later(
                    self._seconds, exit=True, file=sys.__stderr__
                )
            self._armed = now

    def stop(self) -> None:
        """Disarms."""
        faulthandler.cancel_dump_traceback_later()
