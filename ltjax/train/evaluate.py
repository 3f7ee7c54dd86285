"""Evaluation: every example once, sums on the device, ratios on the host."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax.data.feed import Feed
from ltjax.metrics.streaming import ClassificationState
from ltjax.train.mesh import Layout
from ltjax.train.step import over_replicas


class EvalSet(NamedTuple):
    """A split to evaluate on.

    Attributes:
        name: of the split, as in metric keys.
        feed: how its rows are read.
        size: number of examples.
    """

    name: str
    feed: Feed
    size: int


def eval_plan(size: int, batch_size: int) -> Callable[[int], tuple]:
    """A function step -> (indices, mask): every example once, the last batch padded."""

    def plan(step: int):
        indices = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int32)
        mask = indices < size
        return np.where(mask, indices, 0).astype(np.int32), mask

    return plan


def make_evaluator(
    predict: Callable[[Any, jax.Array], dict],
    split: EvalSet,
    *,
    num_classes: int,
    count: int,
    layout: Layout,
    mode: str,
    batch_size: int,
    on_trace: Callable[[], Any] = lambda: None,
) -> Callable[[Any], dict[str, np.ndarray]]:
    """`evaluate(state) -> arrays`, compiled once per split.

    Args:
        predict: of a method: (state, inputs) -> outputs.
        split: what to evaluate on.
        num_classes: K.
        count: R, the replicas of the state.
        layout: of the devices.
        mode: see `over_replicas`.
        batch_size: examples at a time; rounded up to a multiple of the devices.
        on_trace: called whenever the function is traced.

    Returns:
        A function of the (replicated) train state that returns the accumulated sums of
        `ClassificationState` as numpy arrays with a leading axis R. Every
        process gets the same.
    """
    devices = layout.mesh.size
    batch_size = -(-min(batch_size, split.size) // devices) * devices
    steps = -(-split.size // batch_size)
    arrays = layout.put(split.feed.arrays, layout.replicated)
    empty = ClassificationState.empty(num_classes)
    empty = jax.tree.map(lambda x: np.stack([np.asarray(x)] * count), empty)
    sums_sharding = layout.state(empty) if mode == "devices" else layout.replicated

    def update(state, sums, arrays, rows):
        on_trace()

        def one(state, sums, arrays, rows):
            batch = split.feed.batch(arrays, rows, None, train=False)
            outputs = predict(state, batch["inputs"])
            return sums.update(outputs, batch["label"], batch["mask"])

        replicated = over_replicas(
            one, (0, 0, None, None), count=count, layout=layout, mode=mode
        )
        return replicated(state, sums, arrays, rows)

    compiled = jax.jit(update, donate_argnums=1, out_shardings=sums_sharding)
    plan = eval_plan(split.size, batch_size)
    local = layout.local_rows(batch_size)

    def evaluate(state) -> dict[str, np.ndarray]:
        sums = layout.put(empty, sums_sharding)
        for rows in split.feed.iterate(plan, 0, steps, local=local):
            sums = compiled(state, sums, arrays, layout.put(rows, layout.shared_rows))
        return jax.device_put(sums, layout.replicated).arrays()

    return evaluate
