"""A peer in a process of its own, whose interpreter needs nothing but the peer.

The module that it runs prints "ready" and what there is to tell, and then answers every
line of its standard input by "done" and a result.
"""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


class PeerProcess:
    """A running module of `experiments.bench`.

    Args:
        python: an interpreter that can import the peer.
        module: its name.
        *arguments: of its command line.

    Attributes:
        told: the words after "ready".

    Raises:
        RuntimeError: if the process does not start, or stops.
    """

    def __init__(self, python: str, module: str, *arguments: object):
        self._module = module
        self._process = subprocess.Popen(
            [python, "-m", f"experiments.bench.{module}", *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Threads that wait actively stall for seconds where cores are shared.
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        )
        try:
            self.told = self._answer("ready")
        except RuntimeError:
            self.close()
            raise

    def ask(self, line: object = "") -> float:
        """The number that the process answers to a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        (number,) = self._answer("done")
        return float(number)

    def _answer(self, expected: str) -> list[str]:
        assert self._process.stdout is not None
        first, *rest = self._process.stdout.readline().split() or [""]
        if first != expected:
            raise RuntimeError(
                f"the process of {self._module} said {first!r}, not {expected!r}"
            )
        return rest

    def close(self) -> None:
        """Ends the process."""
        with self._process:
            self._process.terminate()
