"""Seconds to trace and compile a training step, without and with JAX's cache on disk.

    python -m experiments.bench.compiling            # appends to results/compiling.csv
    python -m experiments.bench.compiling --quick    # the small network, prints only

Every measurement is a process of its own that compiles the step of `engine.py`, ours
and the hand-written one, in alternating order. "cold" starts from an empty cache of
compiled programs, "cached" from what the cold one has left there, which is what a
resumed run finds with JAX_COMPILATION_CACHE_DIR set.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

from experiments.bench import common
from experiments.grid import ROOT

MODELS = {"conv1d": (40, 1), "resnet32": (32, 32, 3)}


def measure(quick: bool, repeats: int):
    for model in tuple(MODELS)[: 1 if quick else None]:
        times: dict[str, list] = {"cold": [], "cached": []}
        for repeat in range(repeats):
            with tempfile.TemporaryDirectory() as cache:
                for found in times.values():
                    found.append(_in_process(model, cache, repeat % 2))
        for state, pairs in times.items():
            ratio = common.ratio_of(*zip(*pairs, strict=True))
            yield common.row(
                f"compile {state}", "hand-written loop", ratio, model=model
            )


def _in_process(model: str, cache: str, order: int) -> tuple[float, float]:
    """Seconds of both steps in a new process."""
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    said = subprocess.run(
        [
            sys.executable,
            "-m",
            "experiments.bench.compiling",
            "child",
            model,
            str(order),
        ],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    ours, hand = json.loads(said.stdout.splitlines()[-1])
    return ours, hand


def child(model: str, order: int) -> None:
    """Compiles both steps, the hand-written one first if `order` is 1."""
    from experiments.bench import engine
    from ltjax.train.build import build

    case = engine.Case(model, MODELS[model], batch=128, replicas=1, steps=1)
    with tempfile.TemporaryDirectory() as folder:
        run = build(engine.config_of(case, folder))
    loops = [engine.Ours(run, 1), engine.HandWritten(run, 1)]
    seconds = [0.0, 0.0]
    for which in (order, 1 - order):
        begins = time.perf_counter()
        loops[which].lower().compile()
        seconds[which] = time.perf_counter() - begins
    print(json.dumps(seconds))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        common.command(__doc__, "compiling.csv", measure, repeats=4, quick_repeats=1)
