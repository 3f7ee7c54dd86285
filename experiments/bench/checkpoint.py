"""How long a checkpoint keeps the training loop waiting, against `numpy.savez`.

    python -m experiments.bench.checkpoint          # appends to results/
    python -m experiments.bench.checkpoint --quick  # a small state, prints only

A state of float32 arrays as of a network with momentum is saved. `stall` is the time
until `Checkpoints.save` returns and the loop may go on (the arrays may be donated then;
writing and checksums follow in the background), `whole` is that until the checkpoint is
complete. The baseline writes the same arrays to one file and returns when it is there.
"""

import itertools
import pathlib
import tempfile
import time

import jax
import numpy as np

from experiments.bench import common
from ltjax.train.checkpoint import Checkpoints


def state_of(megabytes: int) -> dict[str, jax.Array]:
    """Sixteen arrays, half of them as parameters, half as momentum."""
    size = megabytes * 2**20 // 4 // 16
    keys = jax.random.split(jax.random.key(0), 16)
    return {f"leaf_{k}": jax.random.normal(key, (size,)) for k, key in enumerate(keys)}


def measure(quick: bool, repeats: int):
    for megabytes in (2,) if quick else (4, 128):
        state = state_of(megabytes)
        with tempfile.TemporaryDirectory() as folder:
            yield from _of_state(state, megabytes, pathlib.Path(folder), repeats)


def _of_state(state, megabytes: int, folder: pathlib.Path, repeats: int):
    checkpoints, numbers = Checkpoints(folder, keep_latest=1), itertools.count()
    stalls, wholes, files = [], [], []
    for _ in range(repeats + 1):  # the first sets things up
        step, begins = next(numbers), time.perf_counter()
        checkpoints.save(step, state, {"step": step})
        returned = time.perf_counter()
        while not (folder / "checkpoints" / str(step)).is_dir():  # made once complete
            time.sleep(0.001)
        wholes.append(time.perf_counter() - begins)
        stalls.append(returned - begins)
        begins = time.perf_counter()
        np.savez(folder / "state.npz", **jax.device_get(state))
        files.append(time.perf_counter() - begins)
    checkpoints.close()
    for name, times in (("stall", stalls), ("whole", wholes)):
        ratio = common.ratio_of(times[1:], files[1:])
        yield common.row(name, "numpy.savez", ratio, mib=str(megabytes))


if __name__ == "__main__":
    common.command(__doc__, "checkpoint.csv", measure, repeats=7)
