"""Samplers made of samplers: one after the other, or side by side."""

import functools

import numpy as np

from ltjax._checks import check_range
from ltjax.resampling.samplers import Plan, Sampler


def accompanied(main: Sampler, others: tuple[tuple[Sampler, int], ...]) -> Sampler:
    """Every row of `main` with m rows of each other sampler: plans [B, 1 + sum m].

    Args:
        main: B rows a step; its epochs are the epochs.
        others: (sampler of B m rows, m) each; every one has a random stream of its own.

    Returns:
        Sampler whose plans are [B, C], column 0 the rows of `main`.

    Raises:
        ValueError: if a sampler does not draw B m rows.

    Example:
        >>> from ltjax.resampling import instance
        >>> sampler = accompanied(instance(4, 2), ((instance(9, 6), 3),))
        >>> sampler(seed=0, step=0)[0].shape
        (2, 4)
    """
    for sampler, ratio in others:
        if sampler.batch_size != main.batch_size * ratio:
            raise ValueError(
                f"accompanied: a sampler draws {sampler.batch_size} rows, expected"
                f" {main.batch_size} x {ratio}"
            )
    return main._replace(draw=functools.partial(_draw_accompanied, main, others))


def _draw_accompanied(
    main: Sampler, others: tuple[tuple[Sampler, int], ...], seed: int, step: int
) -> Plan:
    drawn = [tuple(part[:, None] for part in main.draw(seed, step))]
    for number, (sampler, ratio) in enumerate(others, start=1):
        own = seed + (number << 32)  # seeds are below 2^31
        drawn.append(tuple(part.reshape(-1, ratio) for part in sampler.draw(own, step)))
    indices, mask = (np.concatenate(part, axis=1) for part in zip(*drawn, strict=True))
    return indices, mask


def deferred(first: Sampler, second: Sampler, *, switch_step: int) -> Sampler:
    """`first` before `switch_step`, `second` from then on.

    Deferred re-sampling (DRS) is `instance` followed by `class_weighted` with
    effective-number weights. The second sampler goes on counting steps, it does not
    start again at 0.

    Args:
        first: sampler of steps 0 ... switch_step - 1.
        second: sampler of the later steps.
        switch_step: in steps (160 epochs of 200 in the CIFAR-LT recipe).

    Returns:
        Sampler with the common batch size and epoch length.

    Raises:
        ValueError: if the two disagree on the batch size or on the epoch length.

    Example:
        >>> from ltjax.resampling import class_balanced, instance
        >>> head, tail = instance(8, 4), class_balanced([0] * 7 + [1], 2, 4)
        >>> sampler = deferred(head, tail, switch_step=2)
        >>> bool((sampler(0, 1)[0] == head(0, 1)[0]).all())
        True

    References:
        Cao et al., NeurIPS 2019, Algorithm 1.
    """
    check_range("deferred", "switch_step", switch_step, low=0)
    sizes = [(s.batch_size, s.steps_per_epoch) for s in (first, second)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            "deferred: the samplers have (batch_size, steps_per_epoch)"
            f" {sizes[0]} and {sizes[1]}, expected them to agree"
        )
    draw = functools.partial(_draw_deferred, first, second, switch_step)
    known = None not in (first.probabilities, second.probabilities)
    either = functools.partial(_deferred_probabilities, first, second, switch_step)
    return first._replace(draw=draw, probabilities=either if known else None)


def _draw_deferred(
    first: Sampler, second: Sampler, switch_step: int, seed: int, step: int
) -> Plan:
    return (first if step < switch_step else second).draw(seed, step)


def _deferred_probabilities(
    first: Sampler, second: Sampler, switch_step: int, step: int
) -> np.ndarray:
    return (first if step < switch_step else second).class_probabilities(step)
