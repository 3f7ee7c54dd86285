"""Steps of FixMatch against a hand-written jitted loop of the same method.

    python -m experiments.bench.fixmatch            # appends to results/fixmatch.csv
    python -m experiments.bench.fixmatch --quick    # tiny, prints only

Both train `configs/semi_lt.py:method=fixmatch`: weak and strong views, a pass for the
guesses, one for labelled rows and strong views, SGD with Nesterov momentum, averaged
parameters. Views are made by the pipelines of the config on both sides; everything else
of the hand-written loop is plain JAX, and its batches are slices of two permutations of
an epoch.

The networks are conv1d on MNIST-1D, with 32 labelled rows and three times as many
unlabelled ones, then with 128, where the fixed cost of a step is felt less; and the
WRN-28-2 of the paper on random images of CIFAR's shape, with 8 labelled rows and 16
unlabelled ones, a third of a second a step on two cores.

`ratio` is our time over the loop's; 1 / 0.95 = 1.053 is the target. Beside it stands
the ratio of processor times, which the load of other programs touches less.
"""

import functools
import tempfile
import time
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import common
from experiments.bench.engine import MEAN, STD, Ours, permutations
from experiments.grid import ROOT
from ltjax.config_file import load_config
from ltjax.train.build import build
from ltjax.train.check import check
from ltjax.train.run import Run
from ltjax.train.state import step_key


def fixmatch_run(batch: int | None = None, *, small: bool) -> Run:
    """The shipped config, at a constant rate; `batch` labelled rows."""
    changes = [] if batch is None else [f"--config.batch_size={batch}"]
    return _shipped("method=fixmatch" + ",smoke" * small, *changes)


def image_run(*, small: bool) -> Run:
    """The shipped config of CIFAR-10-LT on 1000 random images, 8 labelled rows."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1000, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(len(images)) % 10
    with tempfile.TemporaryDirectory() as folder:
        for split in ("train", "test"):
            np.savez(f"{folder}/{split}.npz", inputs=images, labels=labels)
        return _shipped(
            "method=fixmatch,data=cifar10" + ",smoke" * small,
            f"--config.data.name=npz:{folder}/{{split}}.npz",
            *("--config.data.profile=exp", "--config.data.max_count=30"),
            "--config.unlabelled.max_count=60",
            *(f"--config.{x}.imbalance_factor=10" for x in ("data", "unlabelled")),
            "--config.batch_size=8",
            *(
                f"--config.{views}.{name}={value}"
                for views in ("augment", "augment_unlabelled")
                for name, value in {"mean": MEAN, "std": STD}.items()
            ),
        )


def _shipped(arg: str, *changes: str) -> Run:
    arguments = ["--config", f"{ROOT}/configs/semi_lt.py:{arg}", *changes]
    arguments += ["--config.schedule.name=constant", "--config.optimizer.decay=all"]
    return build(check(load_config(arguments)))


class HandWritten:
    """Calling it trains `steps` steps of FixMatch with the least code.

    Args:
        run: its network, data, views and hyperparameters.
        steps: per call.
        rows: step -> rows of the feed; default those of permutations.
    """

    def __init__(self, run: Run, steps: int, rows: Callable[[int], Any] | None = None):
        self._rows, self._steps = rows or _permuted(run), steps
        self._arrays = jax.device_put(run.feed.arrays)
        (replica,) = run.info.replicas
        fresh = jax.jit(run.init)(replica["seed"], replica["hyper"])
        self._rng, self._step = fresh.rng, 0
        velocity = jax.tree.map(jnp.zeros_like, fresh.params)
        kept = fresh.params, fresh.model_state
        average = jax.tree.map(jnp.array, kept)
        self._state = *jax.tree.map(jnp.array, kept), velocity, average
        self._compiled = _step_of(run)

    def __call__(self) -> Any:
        loss = None
        for _ in range(self._steps):
            at = self._rows(self._step), self._rng, np.int32(self._step)
            self._state, loss = self._compiled(self._state, self._arrays, *at)
            self._step += 1
        return jax.device_get(loss)

    @property
    def params(self) -> Any:
        return self._state[0]


def _permuted(run: Run) -> Callable[[int], Any]:
    """Rows of a step: of both streams every example once in its epoch."""
    size = run.config.batch_size
    (rows,) = run.feed.iterate(run.plan, 0, 1)
    others = rows["unlabelled"]["index"].shape[-1]
    unlabelled = len(run.feed.arrays["unlabelled"]["label"])
    first = permutations(run.info.num_train, size)
    second = permutations(unlabelled, others)
    every, all_others = np.ones(size, bool), np.ones(others, bool)

    def rows_of(step: int) -> dict[str, Any]:
        beside = {"index": second(1, step), "mask": all_others}
        return {"index": first(0, step), "mask": every, "unlabelled": beside}

    return rows_of


def _step_of(run: Run):
    options, optimizer = run.config.method, run.config.optimizer
    forward, decay = run.model.forward, run.config.ema_decay

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, arrays, rows, rng, count):
        params, stats, velocity, average = state
        key = step_key(types.SimpleNamespace(rng=rng, step=count), "augment")
        batch = run.feed.batch(arrays, rows, key, train=True)
        stream = batch["unlabelled"]
        weak, strong = (
            stream[name].reshape(-1, *batch["inputs"].shape[1:])
            for name in ("weak", "strong")
        )
        guesses = forward(params, stats, weak, train=True)[0]["logits"]
        guesses = jax.nn.softmax(guesses)
        target, sure = guesses.argmax(axis=1), guesses.max(axis=1) >= options.threshold

        def loss_fn(params):
            both = jnp.concatenate([batch["inputs"], strong])
            outputs, new = forward(params, stats, both, train=True)
            labels = jnp.concatenate([batch["label"], target])
            losses = optax.softmax_cross_entropy_with_integer_labels(
                outputs["logits"], labels
            )
            size = len(batch["label"])
            unlabelled = jnp.mean(losses[size:] * sure)
            return losses[:size].mean() + options.lambda_u * unlabelled, new

        (loss, new), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        m, rate = optimizer.momentum, optimizer.lr
        grads = jax.tree.map(lambda g, p: g + optimizer.weight_decay * p, grads, params)
        velocity = jax.tree.map(lambda v, g: m * v + g, velocity, grads)
        params = jax.tree.map(
            lambda p, v, g: p - rate * (g + m * v), params, velocity, grads
        )
        average = jax.tree.map(
            lambda a, x: decay * a + (1 - decay) * x, average, (params, new)
        )
        return (params, new, velocity, average), loss

    return step


def measure(quick: bool, repeats: int):
    for batch, steps in ((None, 2),) if quick else ((None, 100), (128, 30)):
        yield _compared(fixmatch_run(batch, small=quick), steps, repeats)
    yield _compared(image_run(small=quick), 1, repeats)


def _compared(run: Run, steps: int, repeats: int) -> dict[str, str]:
    ours, hand = Ours(run, steps), HandWritten(run, steps)
    options = {"repeats": repeats, "least_seconds": 0.0}
    wall = common.interleaved_ratios(hand, {"step": ours}, **options)["step"]
    options["clock"] = time.process_time
    processor = common.interleaved_ratios(hand, {"step": ours}, **options)["step"]
    cells = {
        "model": run.config.model.name,
        "batch": str(run.config.batch_size),
        "steps_per_s": f"{steps / wall.seconds:.1f}",
        "ratio_processor_time": f"{processor.median:.3f}",
    }
    return common.row("fixmatch step", "hand-written loop", wall, **cells)


if __name__ == "__main__":
    common.command(__doc__, "fixmatch.csv", measure, repeats=15)
