"""Passes over a split: every example once, sums on the device, ratios on the host."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax.data.feed import Feed
from ltjax.evaluators.evaluator import Evaluator, Sweep
from ltjax.options import ConfigError, nearest
from ltjax.train.lanes import Lanes
from ltjax.train.programs import compiled


class EvalSet(NamedTuple):
    """A split to go over.

    Attributes:
        name: of the split, as in metric keys.
        feed: how its rows are read.
        size: number of examples.
    """

    name: str
    feed: Feed
    size: int


class Judgement(NamedTuple):
    """What an evaluation found.

    Attributes:
        values: "eval/<split>/<metric>" -> [R].
        arrays: split -> name -> [R, ...], what an evaluation file keeps.
    """

    values: dict[str, np.ndarray]
    arrays: dict[str, dict[str, np.ndarray]]


def without_lost(judgement: Judgement, lost: np.ndarray) -> Judgement:
    """The judgement with NaN for the replicas of `lost` [R], those that diverged."""
    if not lost.any():
        return judgement

    def blank(value):
        value = np.asarray(value, np.float64).copy()
        value[lost] = np.nan
        return value

    values = {key: blank(value) for key, value in judgement.values.items()}
    arrays = {
        split: {
            name: blank(x) if name.startswith("summary/") else x
            for name, x in found.items()
        }
        for split, found in judgement.arrays.items()
    }
    return Judgement(values, arrays)


def nobody_listens(what: str) -> None:
    """A sign of life that nobody waits for."""


def eval_plan(size: int, batch_size: int) -> Callable[[int], tuple]:
    """A function step -> (indices, mask): every example once, the last batch padded."""

    def plan(step: int):
        indices = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int32)
        mask = indices < size
        return np.where(mask, indices, 0).astype(np.int32), mask

    return plan


# Batches of a pass that may wait for the device. Without a bound the host would send
# all of them ahead, and whoever watches would see nothing happen for the rest of it.
IN_FLIGHT = 16


def make_pass(
    update: Callable[..., Any],
    split: EvalSet,
    lanes: Lanes,
    *,
    empty: Any,
    arrays: Any = None,
    on_trace: Callable[[], Any] = lambda: None,
    beat: Callable[[str], Any] = nobody_listens,
) -> Callable[..., Any]:
    """`run(state, extra=None) -> sums` over every example of a split, once.

    Args:
        update: (state, sums, batch, extra) -> sums, of one replica.
        split: what to go over, without augmentation.
        lanes: the replicas of the state.
        empty: sums of one replica before the first batch.
        arrays: the split's arrays if they are on the device already.
        on_trace: called whenever the function is traced.
        beat: called with the name of the split before each batch.

    Returns:
        A function of the state and, if `update` wants it, further arrays, all with a
        leading axis R. It returns the sums on the host, likewise; every process gets
        the same.
    """
    layout = lanes.layout
    batch_size, steps = _batches(split, lanes)
    if arrays is None:
        arrays = layout.put(split.feed.arrays, layout.replicated)
    empty = jax.tree.map(lambda x: np.stack([np.asarray(x)] * lanes.count), empty)
    sums_sharding = lanes.sums_sharding(empty)

    def step(state, sums, arrays, rows, extra):
        on_trace()

        def one(state, sums, arrays, rows, extra):
            batch = split.feed.batch(arrays, rows, None, train=False)
            return update(state, sums, batch, extra)

        axes = (0, 0, None, None, None if extra is None else 0)
        return lanes.each(one, axes)(state, sums, arrays, rows, extra)

    advance = compiled(step, donate_argnums=1, out_shardings=sums_sharding)
    plan = eval_plan(split.size, batch_size)
    local = layout.local_rows(batch_size)

    def run(state, extra=None):
        sums = layout.place(empty, sums_sharding)
        if extra is not None:
            extra = _placed(extra, lanes)
        for done, rows in enumerate(split.feed.iterate(plan, 0, steps, local=local)):
            if done % IN_FLIGHT == 0:
                jax.block_until_ready(sums)
            beat(f"the pass over {split.name!r}")
            with layout.sent(rows, layout.shared_rows) as rows:
                sums = advance(state, sums, arrays, rows, extra)
        return layout.fetch(sums)

    return run


def make_collector(
    fn: Callable[..., Any],
    split: EvalSet,
    lanes: Lanes,
    *,
    on_trace: Callable[[], Any] = lambda: None,
    beat: Callable[[str], Any] = nobody_listens,
) -> Callable[..., Any]:
    """`collect(state, extra=None) -> arrays` [R, N, ...]: what `fn` says of each row.

    Args:
        fn: (state, batch, extra) -> tree of [B, ...], of one replica.
        split: what to go over, without augmentation.
        lanes: the replicas of the state.
        on_trace: called whenever the function is traced.
        beat: called with the name of the split before each batch.

    Returns:
        A function of the state; its result lies on the host of every process.
    """
    layout = lanes.layout
    batch_size, steps = _batches(split, lanes)
    arrays = layout.put(split.feed.arrays, layout.replicated)

    def step(state, arrays, rows, extra):
        on_trace()

        def one(state, arrays, rows, extra):
            batch = split.feed.batch(arrays, rows, None, train=False)
            return fn(state, batch, extra)

        axes = (0, None, None, None if extra is None else 0)
        return lanes.each(one, axes)(state, arrays, rows, extra)

    said = compiled(step, out_shardings=layout.replicated)
    plan = eval_plan(split.size, batch_size)
    local = layout.local_rows(batch_size)

    def collect(state, extra=None):
        if extra is not None:
            extra = _placed(extra, lanes)
        parts = []
        for rows in split.feed.iterate(plan, 0, steps, local=local):
            beat(f"the pass over {split.name!r}")
            with layout.sent(rows, layout.shared_rows) as rows:
                parts.append(jax.device_get(said(state, arrays, rows, extra)))
        return jax.tree.map(
            lambda *x: np.concatenate(x, axis=1)[:, : split.size], *parts
        )

    return collect


def _placed(extra: Any, lanes: Lanes) -> Any:
    """Whole host arrays [R, ...] on every device (or each replica's on its own)."""
    return lanes.layout.place(extra, lanes.sums_sharding(extra))


def _batches(split: EvalSet, lanes: Lanes) -> tuple[int, int]:
    """(batch size that the devices can share, number of batches)."""
    devices = lanes.layout.mesh.size
    batch_size = -(-min(lanes.eval_batch_size, split.size) // devices) * devices
    return batch_size, -(-split.size // batch_size)


def make_sweep(sweep: Sweep, split: EvalSet, lanes: Lanes, **options: Any) -> Callable:
    """The pass of an evaluator over a split: (state, extra) -> what it found."""
    if sweep.empty is None:
        options.pop("arrays", None)
        return make_collector(sweep.fn, split, lanes, **options)
    return make_pass(sweep.fn, split, lanes, empty=sweep.empty, **options)


def make_judge(
    evaluators: Mapping[str, Evaluator],
    splits: tuple[EvalSet, ...],
    train_set: EvalSet,
    lanes: Lanes,
    pool_set: EvalSet | None = None,
    **options: Any,
) -> Callable[[Any], Judgement]:
    """`judge(state) -> Judgement`: every evaluator on its splits, compiled once.

    Args:
        evaluators: name -> `Evaluator`.
        splits: what is evaluated.
        train_set: the training examples, without augmentation.
        lanes: the replicas of the state.
        pool_set: all stored training examples, for evaluators with `on_pool`.
        **options: `on_trace` and `beat` of `make_pass`.

    Returns:
        A function of the (replicated) train state. Every process gets the same.
    """
    work = []
    for evaluator in evaluators.values():
        bank_set = train_set
        if evaluator.on_pool:
            assert pool_set is not None  # a run has it if an evaluator asks for it
            bank_set = pool_set
        bank = evaluator.bank and make_sweep(evaluator.bank, bank_set, lanes, **options)
        about = evaluator.about and jax.jit(
            lanes.each(evaluator.about, (0,)), out_shardings=lanes.layout.replicated
        )
        judged = (train_set,) if evaluator.on_train else splits
        passes = {
            split.name: make_sweep(evaluator.judge, split, lanes, **options)
            for split in judged
        }
        work.append((evaluator, bank, about, passes))

    def judge(state: Any) -> Judgement:
        values: dict[str, np.ndarray] = {}
        kept: dict[str, dict[str, np.ndarray]] = {}
        for evaluator, bank, about, passes in work:
            extra = None
            if bank is not None:
                with jax.transfer_guard("allow"):  # solvers on the host
                    extra = evaluator.digest(bank(state))
            told = None if about is None else jax.device_get(about(state))
            for name, run in passes.items():
                found = run(state, extra)
                with jax.transfer_guard("allow"):
                    arrays = evaluator.arrays(found, extra, told)
                    summary = evaluator.summarize(arrays)
                summary = {k: np.atleast_1d(v) for k, v in summary.items()}
                values |= {f"eval/{name}/{key}": v for key, v in summary.items()}
                kept.setdefault(name, {}).update(arrays)
                kept[name] |= {f"summary/{key}": v for key, v in summary.items()}
        return Judgement(values, kept)

    return judge


def judged_metric(
    evaluators: Mapping[str, Evaluator],
    splits: tuple[EvalSet, ...],
    *,
    metric: str = "",
) -> tuple[str, str] | None:
    """(key, "max" or "min") of the metric that "best" goes by; None if there is none.

    The "val" split decides where there is one, otherwise the first split.

    Args:
        evaluators: of the run.
        splits: that they judge.
        metric: one of their columns; "" for that of the first evaluator with one.

    Raises:
        ConfigError: if no evaluator has a column of that name.
    """
    names = [split.name for split in splits]
    split = "val" if "val" in names else next(iter(names), "")
    judges = [e for e in evaluators.values() if not e.on_train]
    ends = {column.key: column.best for e in judges for column in e.columns}
    if metric and metric not in ends:
        raise ConfigError(
            [f"config.judged is {metric!r}, unknown{nearest(metric, ends)}"]
        )
    for name in (metric, *(e.judged for e in judges)):
        if name:
            return f"eval/{split}/{name}", ends.get(name, "max")
    return None
