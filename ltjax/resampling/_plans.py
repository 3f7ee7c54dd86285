"""The plan of a batch: what a sampler is, and the draws that samplers share."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_seed
from ltjax.class_stats import count_labels, prior

Plan = tuple[np.ndarray, np.ndarray]

# Items that a visit to a class takes from its cycle (Kang et al., released code).
_ITEMS_PER_VISIT = 4


class Sampler(NamedTuple):
    """Which examples a step trains on, as a pure function of (seed, step).

    Calling the sampler calls `draw`.

    Example:
        >>> from ltjax.resampling import square_root
        >>> sampler = square_root([0, 0, 0, 0, 1], 2, 5)
        >>> sampler.class_probabilities().round(4).tolist()
        [0.6667, 0.3333]

    Attributes:
        draw: (seed, step) -> (indices int32 [B], mask bool [B]). Rows whose mask is
            False are padding, their index is 0. All built-in samplers can be pickled.
        batch_size: B.
        steps_per_epoch: number of steps that make up an epoch.
        probabilities: step -> [K] float64, how likely a row of its batch is of each
            class; None if the sampler does not know the classes.
    """

    draw: Callable[[int, int], Plan]
    batch_size: int
    steps_per_epoch: int
    probabilities: Callable[[int], np.ndarray] | None = None

    def __call__(self, seed: int, step: int) -> Plan:
        """The plan of `step`: indices int32 [B] and mask bool [B]."""
        for name, value in (("seed", seed), ("step", step)):
            check_seed("sampler", name, value, bits=64)
        return self.draw(int(seed), int(step))

    def class_probabilities(self, step: int = 0) -> np.ndarray:
        """How likely a row of the batch of `step` is of each class.

        Args:
            step: 0-based; it matters for `progressive` and `deferred`.

        Returns:
            [K] float64 that sum to 1: over many batches the share of each class among
            the rows that are not padding.

        Raises:
            ValueError: if the sampler does not know the classes (`instance` without
                labels).
        """
        check_seed("sampler", "step", step, bits=64)
        if self.probabilities is None:
            raise ValueError(
                "sampler: it does not know the classes; make it with"
                " instance(..., labels=labels, num_classes=K)"
            )
        return np.array(self.probabilities(int(step)), np.float64)


class ClassIndex(NamedTuple):
    """Examples grouped by class: those of class k are order[starts[k]:][:counts[k]]."""

    order: np.ndarray
    starts: np.ndarray
    counts: np.ndarray


def class_index(caller: str, labels: ArrayLike, num_classes: int) -> ClassIndex:
    counts = np.asarray(count_labels(labels, num_classes))
    if counts.sum() == 0:
        raise ValueError(f"{caller}: labels are empty, expected at least one example")
    order = np.argsort(np.asarray(labels), kind="stable").astype(np.int32)
    return ClassIndex(order, np.cumsum(counts) - counts, counts)


def epoch_steps(
    caller: str, num_examples: int, batch_size: int, remainder: str = "drop"
) -> int:
    if batch_size < 1 or num_examples < 1:
        raise ValueError(
            f"{caller}: {num_examples} examples and batch_size {batch_size},"
            " expected both to be at least 1"
        )
    if remainder == "pad":
        return -(-num_examples // batch_size)
    if batch_size > num_examples:
        raise ValueError(
            f"{caller}: batch_size {batch_size} exceeds the {num_examples} examples,"
            " so an epoch would have no step; expected a smaller batch"
        )
    return num_examples // batch_size


def _generator(seed: int, position: int, stream: int = 0) -> np.random.Generator:
    """An independent generator for each (seed, position, stream)."""
    counter = [0, 0, 0, stream]
    return np.random.Generator(np.random.Philox(key=[seed, position], counter=counter))


def _permutation(size: int, seed: int, position: int, stream: int = 0) -> np.ndarray:
    order = _generator(seed, position, stream).permutation(size).astype(np.int32)
    order.setflags(write=False)  # shared through the caches below
    return order


# Pure functions of their arguments, so caching is invisible. The second cache holds one
# cycle per class, small arrays in large numbers.
_epoch_order = functools.lru_cache(maxsize=32)(_permutation)
_class_cycle = functools.lru_cache(maxsize=4096)(_permutation)


def draw_instance(
    num_examples: int, batch_size: int, steps: int, seed: int, step: int
) -> Plan:
    epoch, position = divmod(step, steps)
    order = _epoch_order(num_examples, seed, epoch)
    rows = order[position * batch_size : (position + 1) * batch_size]
    indices = np.zeros(batch_size, np.int32)
    indices[: rows.size] = rows
    return indices, np.arange(batch_size) < rows.size


def draw_two_level(
    index: ClassIndex,
    probabilities: Callable[[int], np.ndarray],
    batch_size: int,
    seed: int,
    step: int,
) -> Plan:
    """A class from `probabilities(step)` [K], then one of its examples uniformly."""
    generator = _generator(seed, step)
    cumulative = np.cumsum(probabilities(step))
    uniform = generator.random(batch_size) * cumulative[-1]
    # side="right" never selects a class of probability zero.
    classes = np.searchsorted(cumulative, uniform, side="right")
    within = generator.integers(0, index.counts[classes])
    return index.order[index.starts[classes] + within], np.ones(batch_size, bool)


def always(probabilities: np.ndarray, step: int) -> np.ndarray:
    return probabilities


def power_law(counts: np.ndarray, power: float) -> np.ndarray:
    present = counts > 0
    # Relative to the class that gets the most, so that large powers do not overflow.
    most = (
        counts.max() if power >= 0 else counts.min(where=present, initial=counts.max())
    )
    relative = np.where(present, counts, most) / most
    return np.asarray(prior(np.where(present, relative**power, 0.0)))


def interpolated(
    first: np.ndarray,
    last: np.ndarray,
    steps_per_epoch: int,
    total_epochs: int,
    step: int,
) -> np.ndarray:
    if total_epochs == 1:
        return first
    progress = min(step // steps_per_epoch / (total_epochs - 1), 1.0)
    return (1 - progress) * first + progress * last


def draw_class_aware(index: ClassIndex, batch_size: int, seed: int, step: int) -> Plan:
    present = np.flatnonzero(index.counts)
    items = np.arange(step * batch_size, (step + 1) * batch_size)
    visits, offsets = np.divmod(items, _ITEMS_PER_VISIT)
    cycles, places = np.divmod(visits, present.size)
    indices = np.empty(batch_size, np.int32)
    for row in range(batch_size):
        cycle = int(cycles[row])
        # Stream 0 orders the classes, stream k + 1 the examples of class k.
        k = int(present[_class_cycle(present.size, seed, cycle)[places[row]]])
        size = int(index.counts[k])
        lap, item = divmod(cycle * _ITEMS_PER_VISIT + int(offsets[row]), size)
        shuffled = _class_cycle(size, seed, lap, k + 1)
        indices[row] = index.order[index.starts[k] + shuffled[item]]
    return indices, np.ones(batch_size, bool)
