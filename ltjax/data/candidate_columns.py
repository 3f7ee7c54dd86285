"""Candidate sets and clean labels as columns of a source: what they have to be."""

import numpy as np
from jax.typing import ArrayLike

from ltjax.data.readers import DataError


def check_candidates(
    caller: str, candidates: np.ndarray, num_classes: int, *known: np.ndarray
) -> None:
    """Refuses empty sets, and sets without a label that is known to be true.

    Args:
        caller: whose sets these are, for messages.
        candidates: [N, K].
        num_classes: K.
        *known: int [N] each, the true label or a negative number.

    Raises:
        DataError: for another shape or dtype, or naming the first such example.

    Example:
        >>> sets = np.array([[True, False], [False, True]])
        >>> check_candidates("x", sets, 2, np.array([0, 0]))
        Traceback (most recent call last):
        ltjax.data.readers.DataError: x: the candidates of example 1 are [1], expected \
its true label 0 among them (1 such example(s))
    """
    shape = (len(candidates), num_classes)
    if candidates.dtype != np.bool_ or candidates.shape != shape:
        raise DataError(
            f"{caller}: candidates have dtype {candidates.dtype} and shape"
            f" {candidates.shape}, expected bool {shape}"
        )
    empty = np.flatnonzero(~candidates.any(axis=1))
    if empty.size:
        raise DataError(
            f"{caller}: example {empty[0]} has an empty candidate set ({empty.size}"
            f" such example(s)), expected one candidate or more"
        )
    for labels in known:
        rows = np.flatnonzero(labels >= 0)
        lost = rows[~candidates[rows, labels[rows]]]
        if lost.size:
            raise DataError(
                f"{caller}: the candidates of example {lost[0]} are"
                f" {np.flatnonzero(candidates[lost[0]]).tolist()}, expected its true"
                f" label {labels[lost[0]]} among them ({lost.size} such example(s))"
            )


def check_truth(caller: str, truth: np.ndarray, num_classes: int) -> None:
    """Refuses clean labels that are no classes.

    Args:
        caller: whose labels these are, for messages.
        truth: [N].
        num_classes: K.

    Raises:
        DataError: for another rank or dtype, or naming the first such label.

    Example:
        >>> check_truth("x", np.array([0, -1]), 2)
        Traceback (most recent call last):
        ltjax.data.readers.DataError: x: truth[1] is -1, expected a class in [0, 2)
    """
    if truth.ndim != 1 or not np.issubdtype(truth.dtype, np.integer):
        raise DataError(
            f"{caller}: truth has dtype {truth.dtype} and shape {truth.shape}, expected"
            " integers [N]"
        )
    bad = np.flatnonzero((truth < 0) | (truth >= num_classes))
    if bad.size:
        raise DataError(
            f"{caller}: truth[{bad[0]}] is {truth[bad[0]]}, expected a class in"
            f" [0, {num_classes})"
        )


def only_candidates(candidates: ArrayLike) -> np.ndarray:
    """The label of every set of one, -1 for the others.

    Args:
        candidates: [N, K] bool.

    Returns:
        int32 [N].

    Example:
        >>> only_candidates([[False, True], [True, True]]).tolist()
        [1, -1]
    """
    sets = np.asarray(candidates)
    return np.where(sets.sum(axis=1) == 1, sets.argmax(axis=1), -1).astype(np.int32)


def expected_counts(candidates: ArrayLike) -> np.ndarray:
    """Examples of each class if all candidates of a set are equally likely, rounded up.

    Args:
        candidates: [N, K] bool, no set empty.

    Returns:
        int64 [K]; 0 for a label that is nobody's candidate.

    Example:
        >>> expected_counts([[True, True, False], [True, False, False]]).tolist()
        [2, 1, 0]
    """
    sets = np.asarray(candidates)
    shares = sets / sets.sum(axis=1, keepdims=True)
    # Thirds add up to a little more than 1.
    return np.ceil(shares.sum(axis=0) - 1e-9).astype(np.int64)
