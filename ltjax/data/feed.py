"""Feeds: from the plan of a step to its batch.

The plan of a step, indices and mask, is made on the host. A feed adds what the compiled
step needs to turn it into a batch: nothing, if the data live on the device (`resident`:
the step gathers), or the inputs themselves (`streaming`: Grain reads them ahead, in
threads or worker processes). Either way position is a function of the step, so there is
no iterator state to save, and both feeds make the same batch from the same plan.
"""

import functools
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data.augment import Pipeline
from ltjax.data.modalities import each_modality
from ltjax.data.source import Source
from ltjax.resampling.samplers import Plan, Sampler

Rows = dict[str, Any]
Batch = dict[str, jax.Array]
Planner = Callable[[int], Plan]

_ALL = slice(None)


class Feed(NamedTuple):
    """How plans become batches.

    Attributes:
        arrays: pytree of numpy arrays; put it on the device once and pass it to the
            compiled step. {"inputs" [N, ...], "label" int32 [N] and the source's
            columns} if resident, else {}. Inputs of several modalities are a dict.
        rows: (indices, mask), both [..., B] -> what the host hands over for one step, a
            dict of arrays with the same leading axes: "index" int32 and "mask" bool,
            and if streaming "inputs", "label" int32 and the source's columns.
        batch: (arrays, rows, key, *, train, **hints) -> batch, traced. `rows` is of one
            replica, [B, ...]. The batch has "inputs" float32 [B, ...] (or views by
            name, as the pipeline makes them), "label" int32 [B], "index" int32 [B],
            "mask" bool [B] and the columns. Evaluation (train=False) ignores the key.
            `hints` are per-example arrays for the pipeline.
        iterate: (plan, start, stop, *, local=slice(None)) -> iterator over the rows of
            the steps start, ..., stop - 1, in order. `plan` maps a step to (indices,
            mask); `local` selects this process's part of their last axis.
        close: ends the threads and processes of iterators that are still running.
    """

    arrays: dict[str, Any]
    rows: Callable[[np.ndarray, np.ndarray], Rows]
    batch: Callable[..., Batch]
    iterate: Callable[..., Iterator[Rows]]
    close: Callable[[], None]


def resident(source: Source, pipeline: Pipeline) -> Feed:
    """A feed whose data live on the device; for data that fit there.

    Args:
        source: read completely, now.
        pipeline: what happens to a batch, see `ltjax.data.augment`.

    Returns:
        Feed whose rows are indices and masks, a few hundred bytes per step.

    Example:
        >>> from ltjax.data import array_source, augment
        >>> source = array_source([[0.5], [1.5]], [0, 1])
        >>> feed = resident(source, augment.build("none"))
        >>> rows = feed.rows(np.array([1, 0]), np.array([True, True]))
        >>> feed.batch(feed.arrays, rows, None, train=False)["inputs"].tolist()
        [[1.5], [0.5]]
    """
    rows = functools.partial(index_rows, len(source))
    return Feed(
        arrays={
            "inputs": source.read(np.arange(len(source))),
            "label": source.labels,
            **source.columns,
        },
        rows=rows,
        batch=functools.partial(_resident_batch, pipeline),
        iterate=functools.partial(iterate_resident, rows),
        close=lambda: None,
    )


def index_rows(num_examples: int, indices: np.ndarray, mask: np.ndarray) -> Rows:
    """Checks a plan: on the device an index out of range would be clamped silently."""
    indices, mask = np.asarray(indices), np.asarray(mask)
    if indices.shape != mask.shape or mask.dtype != np.bool_:
        raise ValueError(
            f"feed: the plan has indices {indices.shape} and a mask of dtype"
            f" {mask.dtype} and shape {mask.shape}, expected bool of the same shape"
        )
    if indices.size and (indices.min() < 0 or indices.max() >= num_examples):
        outside = indices[(indices < 0) | (indices >= num_examples)]
        raise IndexError(
            f"feed: the plan contains index {outside[0]}, expected [0, {num_examples})"
        )
    return {"index": indices.astype(np.int32, copy=False), "mask": mask}


def _resident_batch(pipeline, arrays, rows, key, *, train: bool, **hints) -> Batch:
    index = jnp.asarray(rows["index"])
    stored = jax.tree.map(lambda array: jnp.asarray(array)[index], dict(arrays))
    batch = {**stored, "index": index, "mask": jnp.asarray(rows["mask"])}
    return pipeline.train(key, batch, **hints) if train else pipeline.eval(batch)


def _local_plan(plan: Planner, step: int, local) -> Plan:
    indices, mask = plan(step)
    return indices[..., local], mask[..., local]


def iterate_resident(
    rows: Callable[..., Rows], plan: Planner, start: int, stop: int, *, local=_ALL
) -> Iterator[Rows]:
    """The rows of the steps start, ..., stop - 1; see `Feed.iterate`."""
    for step in range(start, stop):
        yield rows(*_local_plan(plan, step, local))


def streaming(
    source: Source,
    pipeline: Pipeline,
    *,
    num_workers: int = 0,
    prefetch: int = 4,
) -> Feed:
    """A feed that reads every batch from the source, ahead of its use.

    With worker processes, source and plan are sent to each of them: both must be
    picklable (sources that `load_source` opens, samplers and `replica_plan` are), and a
    script must start under `if __name__ == "__main__":`, because workers import it.

    Args:
        source: random access to the inputs.
        pipeline: what happens to a batch, see `ltjax.data.augment`.
        num_workers: worker processes; 0 reads in threads of this process, which is
            enough while decoding releases the interpreter lock.
        prefetch: steps read ahead, over all workers; 0 reads a step when it is asked
            for (without workers only).

    Returns:
        Feed whose rows contain the inputs as they are stored.

    Raises:
        ValueError: if num_workers or prefetch is negative, or prefetch is 0 with
            workers.

    Example:
        >>> from ltjax.data import array_source, augment
        >>> source = array_source([[0.5], [1.5]], [0, 1])
        >>> feed = streaming(source, augment.build("none"), prefetch=0)
        >>> plan = lambda step: (np.array([step % 2]), np.array([True]))
        >>> [rows["inputs"].tolist() for rows in feed.iterate(plan, 1, 3)]
        [[[1.5]], [[0.5]]]
    """
    if num_workers < 0 or prefetch < (1 if num_workers else 0):
        raise ValueError(
            f"streaming: num_workers is {num_workers} and prefetch {prefetch}, expected"
            " num_workers >= 0 and prefetch >= 1 (or 0 and 0)"
        )
    rows = functools.partial(_read_rows, source)
    running = _Running()
    return Feed(
        arrays={},
        rows=rows,
        batch=functools.partial(_streaming_batch, pipeline),
        iterate=functools.partial(
            _iterate_streaming, rows, running, num_workers, prefetch
        ),
        close=running.close,
    )


def _read_rows(source: Source, indices: np.ndarray, mask: np.ndarray) -> Rows:
    """Inputs, labels and columns of a plan of any leading shape, read in one go."""
    rows = index_rows(len(source), indices, mask)
    index = rows["index"]
    inputs = each_modality(
        lambda x: x.reshape(*index.shape, *x.shape[1:]), source.read(index.reshape(-1))
    )
    columns = {name: column[index] for name, column in source.columns.items()}
    return {"inputs": inputs, "label": source.labels[index], **columns, **rows}


def _streaming_batch(pipeline, arrays, rows, key, *, train: bool, **hints) -> Batch:
    batch = jax.tree.map(jnp.asarray, dict(rows))
    return pipeline.train(key, batch, **hints) if train else pipeline.eval(batch)


class _Running:
    """The iterators of a feed that are still running.

    They belong to this process. A copy that is sent to another one has none, so that a
    plan may refer to the feed, or to a run that has it, and still travel to workers.
    """

    def __init__(self):
        self.iterators: list[Any] = []

    def __reduce__(self):
        return _Running, ()

    def close(self) -> None:
        while self.iterators:
            self.iterators.pop().close()


class _Steps:
    """The steps of a run as a random-access sequence, which is what Grain reads."""

    def __init__(self, rows: Callable[..., Rows], plan: Planner, steps: range, local):
        self._rows, self._plan, self._steps, self._local = rows, plan, steps, local

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> Rows:
        step = self._steps[index]
        return self._rows(*_local_plan(self._plan, step, self._local))

    def __repr__(self) -> str:
        return f"steps {self._steps}"


def _iterate_streaming(
    rows: Callable[..., Rows],
    running: _Running,
    num_workers: int,
    prefetch: int,
    plan: Planner,
    start: int,
    stop: int,
    *,
    local=_ALL,
) -> Iterator[Rows]:
    import grain

    if stop <= start:
        return
    _parse_flags()
    steps = _Steps(rows, plan, range(start, stop), local)
    if num_workers:
        _check_picklable(steps)
    each = -(-prefetch // max(num_workers, 1))
    dataset = grain.MapDataset.source(steps).to_iter_dataset(
        grain.ReadOptions(num_threads=each, prefetch_buffer_size=each)
    )
    if num_workers:
        dataset = dataset.mp_prefetch(
            grain.multiprocessing.MultiprocessingOptions(
                num_workers=min(num_workers, len(steps)), per_worker_buffer_size=each
            ),
            worker_init_fn=_end_with_parent,
        )
    iterator = iter(dataset)
    running.iterators.append(iterator)
    try:
        yield from iterator
    finally:
        if iterator in running.iterators:
            running.iterators.remove(iterator)
        iterator.close()


def _end_with_parent(index: int, count: int) -> None:
    """Makes a worker process end when the one that started it has, however it ended.

    A killed process cannot stop its workers. They would fill their queues and wait, and
    the shared memory in the queues is only given back when the last of them is gone.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch():
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


def _parse_flags() -> None:
    """Grain's workers read absl flags, which only absl.app parses."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _check_picklable(steps: _Steps) -> None:
    import cloudpickle

    try:
        cloudpickle.dumps(steps)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise TypeError(
            "streaming: with num_workers > 0 the source and the plan are sent to worker"
            f" processes, but they cannot be pickled ({error}); use `replica_plan`, or"
            " num_workers=0"
        ) from error


def replica_plan(sampler: Sampler, seeds: Sequence[int]) -> Planner:
    """The plan of several replicas; can be pickled.

    Args:
        sampler: makes the plan of one replica and one step.
        seeds: R sampler seeds.

    Returns:
        A function step -> (indices int32, mask bool), both [R, B] (or [R, B, C] with
        companions).

    Raises:
        ValueError: if there is no seed.

    Example:
        >>> from ltjax.resampling import instance
        >>> plan = replica_plan(instance(8, 4), seeds=[0, 1, 2])
        >>> plan(0)[0].shape
        (3, 4)
    """
    if len(seeds) == 0:
        raise ValueError("replica_plan: seeds are empty, expected at least one")
    return functools.partial(_replica_plan, sampler, tuple(int(seed) for seed in seeds))


def _replica_plan(sampler: Sampler, seeds: tuple[int, ...], step: int) -> Plan:
    drawn = [sampler(seed, step) for seed in seeds]
    indices, mask = (np.array(part) for part in zip(*drawn, strict=True))
    return indices, mask
