"""Streams of examples that accompany the training batches (unlabelled data).

The plan of such a feed is [..., B, C] with C = 1 + the sum of all m: column 0 is the
row of the main stream, then m columns of each companion, in order. The batch is the
main stream's, and under each companion's name that stream's with axes [B, m, ...]; so
every leaf keeps the leading axis B, and whatever splits a batch by rows keeps a row and
its companions together.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax.data.feed import Batch, Feed, Planner
from ltjax.resampling.samplers import Plan

_ALL = slice(None)


class Stream(NamedTuple):
    """A companion: its feed, and m, the number of its rows for every row."""

    feed: Feed
    ratio: int


def accompanied(main: Feed, others: Mapping[str, Stream]) -> Feed:
    """A feed whose every row comes with rows of other feeds.

    Args:
        main: what a row is.
        others: name -> `Stream`.

    Returns:
        Feed; `hints` of `batch` are those of the main stream.
    """
    names = tuple(others)
    ratios = tuple(stream.ratio for stream in others.values())
    feeds = (main, *(stream.feed for stream in others.values()))
    take = [functools.partial(part_of, ratios, k) for k in range(len(feeds))]

    def rows(indices: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        first, *rest = (
            feed.rows(*pick((indices, mask)))
            for feed, pick in zip(feeds, take, strict=True)
        )
        return {**first, **dict(zip(names, rest, strict=True))}

    def batch(arrays, rows, key, *, train: bool, **hints) -> Batch:
        own = {k: v for k, v in rows.items() if k not in others}
        found = dict(main.batch(arrays["main"], own, key, train=train, **hints))
        for number, (name, stream) in enumerate(others.items(), start=1):
            stream_key = None if key is None else jax.random.fold_in(key, number)
            part = stream.feed.batch(arrays[name], rows[name], stream_key, train=train)
            found[name] = jax.tree.map(
                lambda x, m=stream.ratio: x.reshape(-1, m, *x.shape[1:]), part
            )
        return found

    def iterate(
        plan: Planner, start: int, stop: int, *, local: slice = _ALL
    ) -> Iterator[dict[str, Any]]:
        streams, joint = [], _Once(plan)
        for feed, pick, m in zip(feeds, take, (1, *ratios), strict=True):
            bounds = (local.start, local.stop)
            own = slice(*(None if end is None else end * m for end in bounds))
            streams.append(feed.iterate(_Part(joint, pick), start, stop, local=own))
        for first, *rest in zip(*streams, strict=True):
            yield {**first, **dict(zip(names, rest, strict=True))}

    def close() -> None:
        for feed in feeds:
            feed.close()

    arrays: dict[str, Any] = {"main": main.arrays}
    arrays |= {name: stream.feed.arrays for name, stream in others.items()}
    return Feed(arrays, rows, batch, iterate, close)


class _Once:
    """A plan that all streams of a step ask for, drawn for the first of them."""

    def __init__(self, plan: Planner):
        self._plan = plan
        self._last: tuple[int, Plan] | None = None

    def __call__(self, step: int) -> Plan:
        last = self._last
        if last is None or last[0] != step:
            last = self._last = step, self._plan(step)
        return last[1]


class _Part:
    """The plan of one stream of a joint plan; can be pickled."""

    def __init__(self, plan: Planner, pick: Callable[[Plan], Plan]):
        self._plan, self._pick = plan, pick

    def __call__(self, step: int) -> Plan:
        return self._pick(self._plan(step))


def part_of(ratios: tuple[int, ...], number: int, plan: Plan) -> Plan:
    """The plan of stream `number` (0 = main): [..., B, C] -> [..., B m].

    Example:
        >>> plan = np.array([[7, 1, 2], [8, 3, 4]]), np.ones((2, 3), bool)
        >>> part_of((2,), 1, plan)[0].tolist()
        [1, 2, 3, 4]
    """
    widths = (1, *ratios)
    begin = sum(widths[:number])
    columns = slice(begin, begin + widths[number])
    indices, mask = (part[..., columns].reshape(*part.shape[:-2], -1) for part in plan)
    return indices, mask
