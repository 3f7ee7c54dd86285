"""`ltjax` commands as processes that start fast, to be killed at leisure.

Importing everything takes seconds, so this process imports it once and every command
is a fork of it. Nothing here may touch a device: a fork of a process with a backend
hangs.
"""

import contextlib
import json
import os
import pathlib
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence

PATIENCE = 900  # seconds after which a command counts as hanging


class Hangs(RuntimeError):
    """A command that neither ended nor got where it was waited for."""


class Command:
    """A started command.

    Attributes:
        pid: of the process, which leads a group of its own.
        log: what it prints.
    """

    def __init__(self, pid: int, log: pathlib.Path):
        self.pid, self.log, self._code = pid, log, None

    def poll(self) -> int | None:
        """The exit code (-n: killed by signal n), or None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, patience: float = PATIENCE) -> int:
        """The exit code, once it has ended."""
        self.wait_until(lambda: False, patience)
        return self._code

    def wait_until(
        self, condition: Callable[[], bool], patience: float = PATIENCE
    ) -> None:
        """Returns when `condition()` or when the command has ended."""
        deadline = time.monotonic() + patience
        while self.poll() is None and not condition():
            if time.monotonic() > deadline:
                self.kill()
                raise Hangs(f"{self.log}: {self.log.read_text()[-2000:]}")
            time.sleep(0.001)

    def kill(self) -> int:
        """kill -9 of the process alone: what it has started must notice by itself."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self._code = os.waitstatus_to_exitcode(status)
        return self._code


def start(work: Callable[[], int | None], log: pathlib.Path) -> Command:
    """Runs `work` in a fork of this process.

    Args:
        work: returns the exit code; None is 0.
        log: file that takes what it prints.

    Returns:
        The running `Command`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Command(pid, log)
    code = 70
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = work() or 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 70
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ltjax(arguments: Sequence[str], log: pathlib.Path) -> Command:
    """Starts `ltjax ARGUMENTS...`."""
    from ltjax import cli

    return start(lambda: cli.main(list(arguments)), log)


def preload() -> None:
    """Imports what the commands need."""
    import grain.python  # noqa: F401
    import orbax.checkpoint  # noqa: F401

    import ltjax.train.loop
    import ltjax.train.posthoc
    import ltjax.train.stages  # noqa: F401


def _places(workdir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """A run's folder and those of its stages."""
    # Not deeper: old checkpoints are removed while we look.
    return (workdir, *workdir.glob("[0-9]_*"))


def logged_step(workdir: pathlib.Path) -> int:
    """The last step of a run's metrics.jsonl, of all of its stages together."""
    reached = 0
    for place in _places(workdir):
        file = place / "metrics.jsonl"
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
            reached += json.loads(file.read_text().splitlines()[-1])["step"]
    return reached


def is_saving(workdir: pathlib.Path) -> bool:
    """Whether a checkpoint is half written."""
    return any(any(place.glob("checkpoints/*tmp*")) for place in _places(workdir))


def leaves_of(workdir: pathlib.Path) -> dict[str, tuple]:
    """Name -> (dtype, shape, bytes) of every array of a run's last state."""
    import jax
    import numpy as np

    from ltjax.train.restore import restore_run

    _, state, step = restore_run(workdir)
    found: dict[str, tuple] = {"step": (step,)}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        values = np.asarray(leaf)
        found[jax.tree_util.keystr(path)] = (
            str(values.dtype),
            values.shape,
            values.tobytes(),
        )
    return found


def records_of(workdir: pathlib.Path) -> list[dict]:
    """The lines of metrics.jsonl, without what a clock decides."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != "crc32" and "time/" not in k}
        for line in lines
    ]


def same_end(one: pathlib.Path, other: pathlib.Path) -> int:
    """0 if two runs hold the same last state, bit for bit, and the same records."""
    ours, theirs = leaves_of(one), leaves_of(other)
    faults = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    if records_of(one) != records_of(other):
        faults.append("metrics.jsonl")
    print("\n".join(faults))
    return 3 if faults else 0
