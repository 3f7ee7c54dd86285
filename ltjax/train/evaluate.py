"""Passes over a split: every example once, sums on the device, ratios on the host."""

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


def make_pass(
    update: Callable[..., Any],
    split: EvalSet,
    *,
    empty: Any,
    count: int,
    layout: Layout,
    mode: str,
    batch_size: int,
    arrays: Any = None,
    on_trace: Callable[[], Any] = lambda: None,
) -> Callable[..., Any]:
    """`run(state, extra=None) -> sums` over every example of a split, once.

    Args:
        update: (state, sums, batch, extra) -> sums, of one replica.
        split: what to go over, without augmentation.
        empty: sums of one replica before the first batch.
        count: R, the replicas of the state.
        layout: of the devices.
        mode: see `over_replicas`.
        batch_size: examples at a time; rounded up to a multiple of the devices.
        arrays: the split's arrays if they are on the device already.
        on_trace: called whenever the function is traced.

    Returns:
        A function of the state and, if `update` wants it, further arrays, all with a
        leading axis R. It returns the sums on the host, likewise; every process gets
        the same.
    """
    batch_size, steps = _batches(split, batch_size, layout)
    if arrays is None:
        arrays = layout.put(split.feed.arrays, layout.replicated)
    empty = jax.tree.map(lambda x: np.stack([np.asarray(x)] * count), empty)
    sums_sharding = layout.state(empty) if mode == "devices" else layout.replicated

    def step(state, sums, arrays, rows, extra):
        on_trace()

        def one(state, sums, arrays, rows, extra):
            batch = split.feed.batch(arrays, rows, None, train=False)
            return update(state, sums, batch, extra)

        axes = (0, 0, None, None, None if extra is None else 0)
        replicated = over_replicas(one, axes, count=count, layout=layout, mode=mode)
        return replicated(state, sums, arrays, rows, extra)

    compiled = jax.jit(step, donate_argnums=1, out_shardings=sums_sharding)
    plan = eval_plan(split.size, batch_size)
    local = layout.local_rows(batch_size)

    def run(state, extra=None):
        sums = layout.put(empty, sums_sharding)
        if extra is not None:
            extra = layout.put(extra, layout.replicated)
        for rows in split.feed.iterate(plan, 0, steps, local=local):
            rows = layout.put(rows, layout.shared_rows)
            sums = compiled(state, sums, arrays, rows, extra)
        return layout.fetch(sums)

    return run


def make_collector(
    fn: Callable[[Any, dict], Any],
    split: EvalSet,
    *,
    count: int,
    layout: Layout,
    mode: str,
    batch_size: int,
) -> Callable[[Any], Any]:
    """`collect(state) -> arrays` [R, N, ...]: what `fn` says of every example.

    Args:
        fn: (state, batch) -> tree of [B, ...], of one replica.
        split: what to go over, without augmentation.
        count: R, the replicas of the state.
        layout: of the devices.
        mode: see `over_replicas`.
        batch_size: examples at a time; rounded up to a multiple of the devices.

    Returns:
        A function of the state; its result lies on the host of every process.
    """
    batch_size, steps = _batches(split, batch_size, layout)
    arrays = layout.put(split.feed.arrays, layout.replicated)

    def one(state, arrays, rows):
        return fn(state, split.feed.batch(arrays, rows, None, train=False))

    replicated = over_replicas(
        one, (0, None, None), count=count, layout=layout, mode=mode
    )
    compiled = jax.jit(replicated, out_shardings=layout.replicated)
    plan = eval_plan(split.size, batch_size)
    local = layout.local_rows(batch_size)

    def collect(state):
        parts = [
            jax.device_get(
                compiled(state, arrays, layout.put(rows, layout.shared_rows))
            )
            for rows in split.feed.iterate(plan, 0, steps, local=local)
        ]
        return jax.tree.map(
            lambda *x: np.concatenate(x, axis=1)[:, : split.size], *parts
        )

    return collect


def _batches(split: EvalSet, batch_size: int, layout: Layout) -> tuple[int, int]:
    """(batch size that the devices can share, number of batches)."""
    devices = layout.mesh.size
    batch_size = -(-min(batch_size, split.size) // devices) * devices
    return batch_size, -(-split.size // batch_size)


def make_evaluator(
    predict: Callable[[Any, jax.Array], dict],
    split: EvalSet,
    *,
    num_classes: int,
    **options,
) -> Callable[[Any], dict[str, np.ndarray]]:
    """`evaluate(state) -> arrays`, compiled once per split.

    Args:
        predict: of a method: (state, inputs) -> outputs.
        split: what to evaluate on.
        num_classes: K.
        **options: see `make_pass`.

    Returns:
        A function of the (replicated) train state that returns the accumulated sums of
        `ClassificationState` as numpy arrays with a leading axis R. Every
        process gets the same.
    """

    def update(state, sums, batch, _):
        outputs = predict(state, batch["inputs"])
        return sums.update(outputs, batch["label"], batch["mask"])

    empty = ClassificationState.empty(num_classes)
    run = make_pass(update, split, empty=empty, **options)
    return lambda state: run(state).arrays()
