"""A meeting point for threads that save, where nobody waits for one that has failed.

The processes of a run save together: each writes its part, all meet, process 0 commits.
A process whose part cannot be written does not come to the meeting. The others would
wait for it until Orbax's timeout of 20 minutes, and it for them at the next one. Here
it leaves word, and the others, who look for it while they wait, fail as well.
"""

import itertools
import sys
import threading
from collections.abc import Callable

import jax
from jax._src import distributed

_POLL = 0.5  # seconds
_COUNT = itertools.count()


class Barrier:
    """What `AsyncOptions.barrier_sync_fn` wants: a function of a key and a timeout.

    All processes must make theirs in the same order.

    Args:
        meet: (key=, timeout_ms=) -> waits until all processes have called it.
    """

    def __init__(self, meet: Callable[..., None]):
        self._meet = meet
        self._word = f"ltjax/save_failed/{next(_COUNT)}"
        self.failed = False

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        """Waits for all processes.

        Raises:
            RuntimeError: if another one has failed.
            BaseException: what this one has failed with.
        """
        if error := self._failing():
            self.failed = True
            self._leave_word()
            raise error
        faults: list[BaseException] = []

        def meet():
            try:
                self._meet(key=key, timeout_ms=timeout_ms)
            except BaseException as error:  # noqa: BLE001  raised below
                faults.append(error)

        # A thread of its own, because waiting cannot be interrupted.
        thread = threading.Thread(target=meet, name=f"meet at {key}", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_POLL)
            if thread.is_alive() and (whose := self._word_left()):
                self.failed = True
                raise RuntimeError(f"saving failed in process {whose}")
        if faults:
            raise faults[0]

    @staticmethod
    def _failing() -> BaseException | None:
        """What ends the thread that saves while it calls this, if anything does.

        Orbax tells the other processes that it has finished, whether it has or not.
        """
        in_background = threading.current_thread() is not threading.main_thread()
        return sys.exc_info()[1] if in_background else None

    def _leave_word(self) -> None:
        client = distributed.global_state.client
        if client is not None:
            client.key_value_set(
                self._word, str(jax.process_index()), allow_overwrite=True
            )

    def _word_left(self) -> str:
        client = distributed.global_state.client
        try:
            return client.key_value_try_get(self._word) if client is not None else ""
        except jax.errors.JaxRuntimeError:  # nobody has
            return ""
