"""The processes of a run watch each other: where one has gone, all end.

A process that was killed cannot say so. The others wait for it in the next collective,
and JAX's own watch ends them with an abort after minutes. Here every process leaves a
sign of life in the key-value store of JAX's coordination service. Process 0 looks at
all of them and the others at that of process 0. Whoever misses one leaves word, and
everyone ends with exit code 1 and a message. The store lies in process 0: if that is
what has gone, JAX aborts the others at once.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
from jax._src import distributed

_SIGN, _WORD, _DONE = "ltjax/signs", "ltjax/lost", "done"
_LOOKS = 20  # in the time after which a process counts as gone


class Watch:
    """What one process knows of the others; no threads, no clock of its own.

    Args:
        store: of the run: `key_value_set`, `key_value_dir_get`, `key_value_try_get`.
        process: index of this one.
        count: of all.
        seconds: a process without a sign of life for so long has gone.
    """

    def __init__(self, store: Any, process: int, count: int, seconds: float):
        self._store, self._process, self._seconds = store, process, seconds
        self._watched = range(1, count) if process == 0 else (0,)
        self._signs = 0
        self._seen: dict[int, tuple[str, float]] = {}

    def look(self, now: float) -> int | None:
        """Gives a sign of life and returns which process has gone, if any has.

        One that has never given a sign is not missed: it may still open its data.

        Args:
            now: seconds of a clock that does not jump.
        """
        self._signs += 1
        self._say(str(self._signs))
        gone = self._word_left()
        if gone is not None:
            return gone
        found = dict(self._store.key_value_dir_get(_SIGN))
        for other in self._watched:
            sign = found.get(f"{_SIGN}/{other}", "")
            before, since = self._seen.setdefault(other, (sign, now))
            if sign != before:
                self._seen[other] = sign, now
            elif sign not in ("", _DONE) and now - since > self._seconds:
                self._store.key_value_set(_WORD, str(other), allow_overwrite=True)
                return other
        return None

    def leave(self) -> None:
        """Says that this process is done, and will give no more signs."""
        self._say(_DONE)

    def _say(self, sign: str) -> None:
        key = f"{_SIGN}/{self._process}"
        self._store.key_value_set(key, sign, allow_overwrite=True)

    def _word_left(self) -> int | None:
        try:
            return int(self._store.key_value_try_get(_WORD))
        except jax.errors.JaxRuntimeError:  # nobody has
            return None


class Peers(contextlib.AbstractContextManager):
    """While it is entered, this process ends if another one of the run has gone.

    Args:
        seconds: without a sign of life; 0 leaves the matter to JAX.
        end: called with the exit code, in a thread.
    """

    def __init__(self, seconds: float, *, end: Callable[[int], Any] = os._exit):
        self._every, self._end = seconds / _LOOKS, end
        self._stopped, self._thread, self._watch = threading.Event(), None, None
        if seconds > 0 and jax.process_count() > 1:
            self._watch = Watch(
                distributed.global_state.client,
                jax.process_index(),
                jax.process_count(),
                seconds,
            )

    def __enter__(self):
        """Starts the thread that looks."""
        if self._watch is not None:
            self._thread = threading.Thread(
                target=self._look_on, args=(self._watch,), name="peers", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(self, kind, *exc) -> None:
        """Stops looking; a process that fails gives no more signs of life."""
        self._stopped.set()
        if self._watch is not None and self._thread is not None:
            self._thread.join()
            if kind is None:
                with contextlib.suppress(jax.errors.JaxRuntimeError):
                    self._watch.leave()

    def _look_on(self, watch: Watch) -> None:
        while not self._stopped.wait(self._every):
            lost = None
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # the store is slow
                lost = watch.look(time.monotonic())
            if lost is None:
                continue
            print(
                f"error: process {lost} of this run gives no sign of life; all end."
                " Start the run again to go on from its last checkpoint.",
                file=sys.stderr,
                flush=True,
            )
            if jax.process_index() == 0:  # the store is here: the others read first
                time.sleep(4 * self._every)
            self._end(1)
