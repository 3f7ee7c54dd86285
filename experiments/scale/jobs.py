"""Jobs of several processes on this machine, each with a few virtual CPU devices.

Every process is a fork of this one, which has imported everything and touched no
device (see `experiments/reliability/processes.py`). They meet on the loopback, as the
hosts of a pod do on their network.
"""

import hashlib
import pathlib
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from experiments.reliability.processes import Command, start

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEVICES = 8  # of all processes together, unless a job says otherwise
PATIENCE = 600  # seconds after which a job counts as hanging


class Job(NamedTuple):
    """What is trained, and by how many processes.

    Attributes:
        config: file below `configs/` and its arguments.
        changes: fields that are set on top.
        processes: how many share the work.
        devices: of all processes together.
        pace: seconds that a step takes at least, so that there is time to interrupt.
    """

    config: str
    changes: Mapping[str, Any]
    processes: int = 1
    devices: int = DEVICES
    pace: float = 0.0

    def arguments(self) -> list[str]:
        """Of `ltjax train`, without the workdir."""
        return [
            *("--config", f"{ROOT / 'configs' / self.config}"),
            *(f"--config.{key}={value}" for key, value in self.changes.items()),
        ]

    def having(self, changes: Mapping[str, Any] = {}, **others: Any) -> "Job":
        """The job with other fields of its config, processes or devices."""
        return self._replace(changes={**self.changes, **changes}, **others)


def begin(
    job: Job, workdir: pathlib.Path, log: pathlib.Path, *, rows: pathlib.Path
) -> list[Command]:
    """Starts the processes of a job, which resume what is in `workdir`.

    Args:
        job: to be trained.
        workdir: of the run.
        log: file that takes what process p prints, `<log>.p`.
        rows: likewise for the digests of the rows it was handed.

    Returns:
        The running processes.
    """
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        place = f"localhost:{probe.getsockname()[1]}"
    return [
        start(
            partial(_member, job, workdir, place, p, numbered(rows, p)),
            numbered(log, p),
        )
        for p in range(job.processes)
    ]


def numbered(path: pathlib.Path, process: int) -> pathlib.Path:
    """The file of one process."""
    return path.with_name(f"{path.name}.{process}")


def _member(
    job: Job, workdir: pathlib.Path, place: str, process: int, rows: pathlib.Path
) -> int:
    """What one process does: `ltjax train`, noting which rows it is handed."""
    import jax

    from ltjax import cli
    from ltjax.train import stages

    jax.config.update("jax_num_cpu_devices", job.devices // job.processes)
    jax.config.update("jax_disable_most_optimizations", True)  # for a few steps
    if job.processes > 1:
        # Gloo waits 30 seconds for a process that compiles what others have cached.
        jax.config.update("jax_enable_compilation_cache", False)
    real = stages.build

    def build(*args, **options):
        run = real(*args, **options)
        return run._replace(feed=noting(run.feed, rows, job.pace))

    stages.build = build
    command = ["train", *job.arguments(), "--workdir", str(workdir), "--no-tensorboard"]
    if job.processes > 1:
        command += ["--multihost", "--coordinator", place]
        command += ["--num-processes", str(job.processes)]
        command += ["--process-id", str(process)]
    code = cli.main(command)
    if job.processes > 1:  # a fork ends without the exit handler that does this
        jax.distributed.shutdown()
    return code


def ended(team: Sequence[Command]) -> list[int]:
    """The exit codes of all processes, once the last has ended."""
    return [one.wait(PATIENCE) for one in team]


def seconds_to_end(team: Sequence[Command]) -> tuple[list[int], float]:
    """The exit codes, and how long the last process took to end from now."""
    began = time.monotonic()
    return ended(team), time.monotonic() - began


def train(job: Job, workdir: pathlib.Path, *, rows: pathlib.Path) -> None:
    """Trains a job to its end.

    Raises:
        RuntimeError: with what a process printed, if one has failed.
    """
    log = workdir.with_name(f"{workdir.name}.log")
    codes = ended(begin(job, workdir, log, rows=rows))
    if any(codes):
        told = [numbered(log, p).read_text()[-3000:] for p in range(job.processes)]
        raise RuntimeError(f"{job}: exit codes {codes}\n" + "\n".join(told))


# ------------------------------------------------------------------------- batches


def noting(feed: Any, path: pathlib.Path, pace: float) -> Any:
    """The feed, which notes a digest of every row that it hands over."""

    def iterate(plan, start, stop, *, local=slice(None)) -> Iterator[Any]:
        with path.open("ab") as file:
            for rows in feed.iterate(plan, start, stop, local=local):
                np.save(file, digests(rows))
                file.flush()
                time.sleep(pace)
                yield rows

    return feed._replace(iterate=iterate)


def digests(rows: Mapping[str, Any]) -> np.ndarray:
    """[R, B] digests of rows: everything that the host hands over for each of them."""
    import jax

    replicas, size = rows["index"].shape
    parts = [
        np.ascontiguousarray(leaf).reshape(replicas * size, -1)
        for leaf in jax.tree.leaves(rows)  # companions have several rows for each
    ]
    found = [
        hashlib.sha256(b"".join(part[k].tobytes() for part in parts)).digest()
        for k in range(replicas * size)
    ]
    return np.array([d.hex() for d in found]).reshape(replicas, size)


def batches(rows: pathlib.Path, job: Job) -> list[str]:
    """A hash of the global batch of every step: what all processes had together."""
    own = [_noted(numbered(rows, p)) for p in range(job.processes)]
    axis = 0 if job.changes.get("replicas.layout") == "devices" else 1
    return [
        hashlib.sha256("".join(np.concatenate(step, axis).ravel()).encode()).hexdigest()
        for step in zip(*own, strict=True)
    ]


def _noted(path: pathlib.Path) -> list[np.ndarray]:
    steps = []
    with path.open("rb") as file:
        while file.peek(1):
            steps.append(np.load(file))
    return steps
