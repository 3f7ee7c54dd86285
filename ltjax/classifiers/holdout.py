"""Held-out examples of a long-tailed training set, for choosing what comes after it.

A class with n examples can spare a fifth of them only if n >= 5; below that every
example must serve twice, in cross-fitting.
"""

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_range, check_rank
from ltjax._numerics import host
from ltjax.class_stats import count_labels


def holdout_indices(
    labels: ArrayLike, num_classes: int, *, fraction: float = 0.2, seed: int = 0
) -> np.ndarray:
    r"""Indices to hold out for `select_tau`: a fixed share of every class.

    Args:
        labels: [N] int class indices.
        num_classes: K.
        fraction: share of each class, rounded down.
        seed: of the draw.

    Returns:
        [M] int64 sorted indices; :math:`\lfloor f n_k \rfloor \ge 1` of class k.

    Raises:
        ValueError: if some class would have none (fewer than 5 examples for 0.2); says
            which fraction is enough. `crossfit_folds` is for tiny classes.

    Example:
        >>> holdout_indices(np.array([0] * 10 + [1] * 5), 2).size
        3
    """
    check_range(
        "holdout_indices",
        "fraction",
        fraction,
        low=0.0,
        high=1.0,
        open_low=True,
        open_high=True,
    )
    check_rank("holdout_indices", "labels", labels, 1, "[N]")
    known = host(labels)
    counts = count_labels(known, num_classes)
    # 1e-9: a product such as 0.29 * 100 must not fall below the integer it stands for.
    take = np.floor(fraction * counts + 1e-9).astype(np.int64)
    if np.any(take < 1):
        short = int(np.flatnonzero(take < 1)[0])
        smallest = int(counts.min())
        # Rounded up, so that the number shown is enough.
        remedy = (
            f"expected at least {np.ceil(1e4 / smallest) / 1e4:g}"
            if smallest > 1
            else "and no other would: every class needs 2"
        )
        raise ValueError(
            f"holdout_indices: class {short} has {counts[short]} example(s), so"
            f" fraction={fraction} holds out none; {remedy}. Drop the class, or let"
            " every example serve twice (crossfit_folds, in Python)"
        )
    shuffled = _shuffled_by_class(known, seed)
    starts = np.cumsum(counts) - counts
    rank = np.arange(known.size) - np.repeat(starts, counts)
    return np.sort(shuffled[rank < np.repeat(take, counts)])


def crossfit_folds(
    labels: ArrayLike, num_classes: int, *, num_folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Fold of every example, for cross-fitting the head when classes are tiny.

    Train the head on frozen features without fold f, take the logits of fold f, pool
    them over the folds, and give them to `select_tau`. Every class is dealt in turn,
    starting where the last one stopped. Drop classes with one example from the pool:
    the fold that holds it was trained without the class.

    Args:
        labels: [N] int class indices.
        num_classes: K.
        num_folds: number of folds, at least 2.
        seed: of the deal.

    Returns:
        [N] int64 in [0, num_folds).

    Raises:
        ValueError: if num_folds < 2 or a label lies outside [0, K).

    Example:
        >>> np.bincount(crossfit_folds(np.array([0] * 7 + [1] * 3), 2)).tolist()
        [2, 2, 2, 2, 2]
    """
    check_range("crossfit_folds", "num_folds", num_folds, low=2)
    check_rank("crossfit_folds", "labels", labels, 1, "[N]")
    known = host(labels)
    count_labels(known, num_classes)
    folds = np.empty(known.size, np.int64)
    folds[_shuffled_by_class(known, seed)] = np.arange(known.size) % num_folds
    return folds


def _shuffled_by_class(labels, seed):
    """Example indices in blocks of ascending class, in random order within each."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    order = rng.permutation(labels.size)
    return order[np.argsort(labels[order], kind="stable")]
