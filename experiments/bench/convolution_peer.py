"""A process that runs convolutions on request, under its own library and flags.

`Peer` starts this file with an interpreter that has jax or torch, in an environment of
its own, and asks it for one call at a time. So a single run can compare versions and
flags that exclude each other.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
PASSES = ("forward", "input_gradient", "weight_gradient")


class Job(NamedTuple):
    """What is computed."""

    what: str  # one of PASSES, or "step": ResNet-32, forward, backward and SGD
    way: str  # a key of `WAYS`, or a memory format of PyTorch
    batch: int
    channels: int = 0  # of the layer; of a step neither
    size: int = 0


class Peer:
    """Calling `run` computes one job in the other process and waits for it.

    Args:
        python: its interpreter.
        library: "jax" or "torch", which it must be able to import.
        environment: variables added to those of this process.

    Raises:
        RuntimeError: if the process does not start; `run` raises it if a job fails.
    """

    def __init__(
        self, python: str, library: str, environment: Mapping[str, str] | None = None
    ):
        self._process = subprocess.Popen(
            [python, "-m", "experiments.bench.convolution_peer", library],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Threads that wait actively stall for seconds where cores are shared.
            env={
                "OMP_WAIT_POLICY": "PASSIVE",
                "JAX_PLATFORMS": "cpu",
                **os.environ,
                **(environment or {}),
            },
        )
        try:
            self.version = self._answer()
        except RuntimeError:
            self.close()
            raise

    def run(self, job: Job) -> float:
        """Processor seconds that the process spent, all its threads together."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        status, _, text = line.strip().partition(" ")
        if status != "ok":
            raise RuntimeError(text or "the process stopped")
        return text

    def close(self) -> None:
        """Ends the process."""
        with self._process:
            self._process.terminate()


def jax_job(job: Job) -> Callable[[], Any]:
    """A call that computes the job with jax and waits for the result."""
    import jax
    import numpy as np

    from experiments.bench.convolution_ways import WAYS

    rng = np.random.default_rng(0)
    if job.what == "step":
        from experiments.bench.convolution_network import make_step

        step, state = make_step(job.batch, rng)

        def train():
            nonlocal state
            state, loss = step(state)
            return float(loss)

        return train
    way = WAYS[job.way]
    shape = {"N": job.batch, "H": job.size, "W": job.size, "C": job.channels}
    data = [shape[axis] for axis in way.layout]
    x, g = rng.normal(size=(2, *data)).astype(np.float32)
    w = rng.normal(size=(3, 3, job.channels, job.channels)).astype(np.float32)
    arguments = {
        "forward": (x, w),
        "input_gradient": (w, g),
        "weight_gradient": (x, g),
    }[job.what]
    call, arguments = jax.jit(getattr(way, job.what)), jax.device_put(arguments)
    return lambda: jax.block_until_ready(call(*arguments))


def torch_job(job: Job) -> Callable[[], Any]:
    """A call that computes the job with PyTorch; the only way is its memory format."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    memory = {
        "contiguous": torch.contiguous_format,
        "channels last": torch.channels_last,
    }[job.way]
    if job.what == "step":
        from experiments.bench.torch_networks import resnet_cifar

        net = resnet_cifar(32).to(memory_format=memory)
        optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9)
        images = torch.randn(job.batch, 3, 32, 32).to(memory_format=memory)
        labels = torch.arange(job.batch) % 10

        def train():
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        return train
    shape = (job.batch, job.channels, job.size, job.size)
    x, g = (torch.randn(shape).to(memory_format=memory) for _ in range(2))
    w = torch.randn(job.channels, job.channels, 3, 3).to(memory_format=memory)
    if job.what == "forward":
        return lambda: F.conv2d(x, w, padding=1)
    mask = [job.what == "input_gradient", job.what == "weight_gradient", False]
    backward = torch.ops.aten.convolution_backward
    ones, zeros = [1, 1], [0, 0]
    return lambda: backward(g, x, w, None, ones, ones, ones, False, zeros, 1, mask)


def main(library: str) -> None:
    """Runs each job that standard input names, once per line."""
    make = functools.cache({"jax": jax_job, "torch": torch_job}[library])
    print("ok", __import__(library).__version__, flush=True)
    for line in sys.stdin:
        try:
            call = make(Job(*json.loads(line)))
            start = time.process_time()
            call()
            print("ok", time.process_time() - start, flush=True)
        except Exception as error:
            print("failed", " ".join(str(error).split())[:300], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
