r"""Samplers: which examples make up the batch of a step.

A sampler is a pure function `(seed, step) -> (indices, mask)` on the host. Nothing is
saved and nothing advances: a run that resumes at step t asks for step t, and every
process that asks gets the same global plan. Random numbers come from a counter-based
generator keyed by (seed, step) or (seed, epoch).

Most samplers draw in two levels, a class from :math:`p \in \Delta^{K-1}` and then one
of its examples uniformly, which costs O(B log K) per step. With counts :math:`n_k`:

.. math::
    p_k \propto n_k^q \ (\text{power } q), \qquad
    p_k \propto n_k w_k \ (\text{class weights } w), \qquad
    p(e) = (1 - s)\, p^{q=1} + s\, p^{q=0}, \ s = \tfrac{e}{T-1}

An epoch is `N // B` steps for every sampler, so that budgets stay comparable.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_class_vector, check_range, check_seed
from ltjax.class_stats import count_labels, infer_num_classes, prior

Plan = tuple[np.ndarray, np.ndarray]

# Items that a visit to a class takes from its cycle (Kang et al., released code).
_ITEMS_PER_VISIT = 4


class Sampler(NamedTuple):
    """Which examples a step trains on, as a pure function of (seed, step).

    Calling the sampler calls `draw`.

    Example:
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


class _ClassIndex(NamedTuple):
    """Examples grouped by class: those of class k are order[starts[k]:][:counts[k]]."""

    order: np.ndarray
    starts: np.ndarray
    counts: np.ndarray


def _class_index(caller: str, labels: ArrayLike, num_classes: int) -> _ClassIndex:
    counts = np.asarray(count_labels(labels, num_classes))
    if counts.sum() == 0:
        raise ValueError(f"{caller}: labels are empty, expected at least one example")
    order = np.argsort(np.asarray(labels), kind="stable").astype(np.int32)
    return _ClassIndex(order, np.cumsum(counts) - counts, counts)


def _steps_per_epoch(
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


def instance(
    num_examples: int,
    batch_size: int,
    *,
    remainder: str = "drop",
    labels: ArrayLike | None = None,
    num_classes: int | None = None,
) -> Sampler:
    """Instance-balanced sampling: every example once per epoch, in a new random order.

    Args:
        num_examples: N.
        batch_size: B.
        remainder: what happens to the N mod B examples left at the end of an epoch:
            "drop" leaves them out (other ones in every epoch), "pad" adds a last batch
            that is filled up with masked rows.
        labels: optional [N] int; only `Sampler.class_probabilities` needs them.
        num_classes: K, or None for the largest label + 1.

    Returns:
        Sampler with N // B steps per epoch ("pad": rounded up).

    Raises:
        ValueError: if B > N with remainder="drop", for an unknown remainder, or if
            there are not N labels in [0, K).

    Example:
        >>> indices, mask = instance(5, 3, remainder="pad")(seed=0, step=1)
        >>> indices.shape, mask.tolist()
        ((3,), [True, True, False])
    """
    check_choice("instance", "remainder", remainder, ("drop", "pad"))
    steps = _steps_per_epoch("instance", num_examples, batch_size, remainder)
    draw = functools.partial(_draw_instance, num_examples, batch_size, steps)
    if labels is None:
        return Sampler(draw, batch_size, steps)
    if num_classes is None:
        num_classes = infer_num_classes("instance", labels)
    counts = np.asarray(count_labels(labels, num_classes))
    if counts.sum() != num_examples:
        raise ValueError(
            f"instance: there are {counts.sum()} labels, but num_examples is"
            f" {num_examples}"
        )
    probabilities = functools.partial(_always, np.asarray(prior(counts)))
    return Sampler(draw, batch_size, steps, probabilities)


def _draw_instance(
    num_examples: int, batch_size: int, steps: int, seed: int, step: int
) -> Plan:
    epoch, position = divmod(step, steps)
    order = _epoch_order(num_examples, seed, epoch)
    rows = order[position * batch_size : (position + 1) * batch_size]
    indices = np.zeros(batch_size, np.int32)
    indices[: rows.size] = rows
    return indices, np.arange(batch_size) < rows.size


def _draw_two_level(
    index: _ClassIndex,
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


def _always(probabilities: np.ndarray, step: int) -> np.ndarray:
    return probabilities


def class_power(
    labels: ArrayLike, num_classes: int, batch_size: int, *, power: float
) -> Sampler:
    r"""Draws classes with probability :math:`p_k \propto n_k^q`, with replacement.

    Args:
        labels: [N] int, the labels of the training set.
        num_classes: K; classes without examples are never drawn.
        batch_size: B.
        power: q; 1 is instance-balanced, 0 class-balanced, 1/2 square-root sampling.

    Returns:
        Sampler with N // B steps per epoch.

    Raises:
        ValueError: if a label lies outside [0, K) or B > N.

    Example:
        >>> sampler = class_power([0, 0, 0, 1], 2, 4, power=0.5)
        >>> sampler(seed=0, step=0)[0].shape, sampler.steps_per_epoch
        ((4,), 1)

    References:
        Kang et al., "Decoupling Representation and Classifier for Long-Tailed
        Recognition", ICLR 2020, eq. 1.
    """
    check_range("class_power", "power", power)
    index = _class_index("class_power", labels, num_classes)
    steps = _steps_per_epoch("class_power", len(index.order), batch_size)
    probabilities = functools.partial(_always, _power_law(index.counts, power))
    draw = functools.partial(_draw_two_level, index, probabilities, batch_size)
    return Sampler(draw, batch_size, steps, probabilities)


def _power_law(counts: np.ndarray, power: float) -> np.ndarray:
    present = counts > 0
    # Relative to the largest class, so that large powers do not overflow.
    relative = np.where(present, counts, 1) / counts.max()
    return np.asarray(prior(np.where(present, relative**power, 0.0)))


def class_balanced(labels: ArrayLike, num_classes: int, batch_size: int) -> Sampler:
    """Every class with the same probability: `class_power` with power 0.

    Args:
        labels: [N] int.
        num_classes: K.
        batch_size: B.

    Returns:
        Sampler with N // B steps per epoch.

    Raises:
        ValueError: if a label lies outside [0, K) or B > N.

    Example:
        >>> class_balanced([0, 0, 0, 1], 2, 2).steps_per_epoch
        2

    References:
        Kang et al., ICLR 2020, eq. 1 with q = 0.
    """
    return class_power(labels, num_classes, batch_size, power=0.0)


def square_root(labels: ArrayLike, num_classes: int, batch_size: int) -> Sampler:
    """Square-root sampling: `class_power` with power 1/2.

    Args:
        labels: [N] int.
        num_classes: K.
        batch_size: B.

    Returns:
        Sampler with N // B steps per epoch.

    Raises:
        ValueError: if a label lies outside [0, K) or B > N.

    Example:
        >>> square_root([0, 0, 0, 1], 2, 2).steps_per_epoch
        2

    References:
        Kang et al., ICLR 2020, eq. 1 with q = 1/2.
    """
    return class_power(labels, num_classes, batch_size, power=0.5)


def class_weighted(
    labels: ArrayLike, num_classes: int, batch_size: int, *, weights: ArrayLike
) -> Sampler:
    r"""Draws examples with probability proportional to the weight of their class.

    The class has probability :math:`p_k \propto n_k w_k`. With
    `class_balanced_weights(class_counts, beta=0.9999)` this is the second phase of
    deferred re-sampling (DRS), :math:`p_k \propto n_k / E_{n_k}`.

    Args:
        labels: [N] int.
        num_classes: K.
        batch_size: B.
        weights: [K] non-negative, per *example* of the class; the scale is irrelevant.

    Returns:
        Sampler with N // B steps per epoch, drawing with replacement.

    Raises:
        ValueError: if a label lies outside [0, K), B > N, or the weights are not K
            finite non-negative numbers of which one belongs to a non-empty class.

    Example:
        >>> sampler = class_weighted([0, 0, 0, 1], 2, 4, weights=[0.0, 1.0])
        >>> sampler(seed=0, step=0)[0]
        array([3, 3, 3, 3], dtype=int32)

    References:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin
        Loss", NeurIPS 2019, sec. 4 (DRS). The released code builds this sampler but
        never attaches it to the loader.
    """
    check_class_vector("class_weighted", "weights", weights, num_classes)
    index = _class_index("class_weighted", labels, num_classes)
    steps = _steps_per_epoch("class_weighted", len(index.order), batch_size)
    mass = index.counts * np.asarray(weights, np.float64)
    if not (np.all(np.isfinite(mass)) and np.all(mass >= 0) and mass.sum() > 0):
        raise ValueError(
            "class_weighted: weights must be finite and >= 0, with one > 0 for a class"
            f" that has examples, but weights * class_counts are {mass}"
        )
    probabilities = functools.partial(_always, np.asarray(prior(mass)))
    draw = functools.partial(_draw_two_level, index, probabilities, batch_size)
    return Sampler(draw, batch_size, steps, probabilities)


def progressive(
    labels: ArrayLike, num_classes: int, batch_size: int, *, total_epochs: int
) -> Sampler:
    r"""Progressively balanced sampling: instance-balanced first, class-balanced last.

    .. math:: p(e) = \Big(1 - \frac{e}{T-1}\Big) p^{q=1} + \frac{e}{T-1}\, p^{q=0}

    with the 0-based epoch e = step // (N // B); from epoch T - 1 on it stays balanced.

    Args:
        labels: [N] int.
        num_classes: K.
        batch_size: B.
        total_epochs: T >= 1, in epochs; T = 1 is instance-balanced.

    Returns:
        Sampler with N // B steps per epoch, drawing with replacement.

    Raises:
        ValueError: if a label lies outside [0, K), B > N or T < 1.

    Example:
        >>> progressive([0, 0, 0, 1], 2, 2, total_epochs=90).steps_per_epoch
        2

    References:
        Kang et al., ICLR 2020, eq. 2. The paper divides by T, the released code by
        T - 1; we follow the code.
    """
    check_range("progressive", "total_epochs", total_epochs, low=1)
    index = _class_index("progressive", labels, num_classes)
    steps = _steps_per_epoch("progressive", len(index.order), batch_size)
    ends = _power_law(index.counts, 1), _power_law(index.counts, 0)
    probabilities = functools.partial(_interpolated, *ends, steps, int(total_epochs))
    draw = functools.partial(_draw_two_level, index, probabilities, batch_size)
    return Sampler(draw, batch_size, steps, probabilities)


def _interpolated(
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


def class_aware(labels: ArrayLike, num_classes: int, batch_size: int) -> Sampler:
    """Class-balanced sampling without replacement: cycles of classes and of examples.

    Classes are visited in random order, each once per cycle. A visit takes the next 4
    items of the class's own shuffled cycle, which is reshuffled when it wraps around.
    Same expectation as `class_balanced`, lower variance. Visits run on across batches
    and epochs.

    Args:
        labels: [N] int.
        num_classes: K; classes without examples are not visited.
        batch_size: B.

    Returns:
        Sampler with N // B steps per epoch.

    Raises:
        ValueError: if a label lies outside [0, K) or B > N.

    Example:
        >>> indices, _ = class_aware([0] * 8 + [1], 2, 8)(seed=0, step=0)
        >>> int((indices == 8).sum())
        4

    References:
        Kang et al., ICLR 2020, released code (class-aware sampler, 4 items per visit).
        We do not offer its in-batch shuffle.
    """
    index = _class_index("class_aware", labels, num_classes)
    steps = _steps_per_epoch("class_aware", len(index.order), batch_size)
    draw = functools.partial(_draw_class_aware, index, batch_size)
    # Exact over a cycle of visits; within a batch the shares only fluctuate less.
    probabilities = functools.partial(_always, _power_law(index.counts, 0))
    return Sampler(draw, batch_size, steps, probabilities)


def _draw_class_aware(
    index: _ClassIndex, batch_size: int, seed: int, step: int
) -> Plan:
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
