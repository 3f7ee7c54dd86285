r"""How strongly each class is regularized: rare classes with many errors most (HAR)."""

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_vector,
    check_counts,
    check_integers,
    check_rank,
    check_where,
    dtype_of,
    shape_of,
)
from ltjax.class_stats import count_labels


def held_out_half(labels: ArrayLike, *, seed: int = 0) -> np.ndarray:
    """A random half of every class, to find errors on.

    Args:
        labels: [N] int; rows with a negative label are never held out.
        seed: of the choice.

    Returns:
        bool [N]; of n examples of a class, n // 2 (rounded down) are True.

    Raises:
        ValueError: if labels are not a vector.

    Example:
        >>> held_out_half([0, 0, 0, 0, 1, 2, 2]).sum()
        np.int64(3)
    """
    check_integers("held_out_half", "labels", labels)
    check_rank("held_out_half", "labels", labels, 1, "[N]")
    labels = np.asarray(labels)
    held, rng = np.zeros(labels.shape, bool), np.random.default_rng(seed)
    for k in np.unique(labels[labels >= 0]):
        members = rng.permutation(np.flatnonzero(labels == k))
        held[members[: len(members) // 2]] = True
    return held


def held_out_errors(
    predicted: ArrayLike, labels: ArrayLike, held: ArrayLike, num_classes: int
) -> np.ndarray:
    """The share of wrong predictions on the held-out examples of every class.

    Args:
        predicted: [N] int.
        labels: [N] int, the given labels.
        held: [N] bool, see `held_out_half`.
        num_classes: K.

    Returns:
        float64 [K] in [0, 1]; 1 for a class without held-out examples.

    Raises:
        ValueError: if shapes disagree or a held-out label is K or more.
        TypeError: if labels or predictions are not integers.

    Example:
        >>> held = [True, True, False]
        >>> held_out_errors([0, 1, 0], [0, 0, 0], held, 2).tolist()
        [0.5, 1.0]
    """
    caller = "held_out_errors"
    check_rank(caller, "labels", labels, 1, "[N]")
    check_integers(caller, "predicted", predicted)
    check_integers(caller, "labels", labels)
    if shape_of(predicted) != shape_of(labels):
        raise ValueError(
            f"{caller}: predicted has shape {shape_of(predicted)}, expected"
            f" {shape_of(labels)}, one per label"
        )
    dtype_of(caller, "held", held)
    check_where(caller, held, shape_of(labels), name="held")
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    held = np.asarray(held) & (labels >= 0)
    size = count_labels(labels[held], num_classes)
    hits = count_labels(labels[held & (predicted == labels)], num_classes)
    return 1 - np.asarray(hits) / np.maximum(size, 1)


def adaptive_strengths(
    errors: ArrayLike,
    class_counts: ArrayLike,
    *,
    error_power: float = 0.6,
    count_power: float = 0.4,
) -> np.ndarray:
    r"""Relative strength of a regularizer for the examples of every class.

    .. math:: r_k = \frac{\epsilon_k^{0.6}\, n_k^{-0.4}}
              {\max_j \epsilon_j^{0.6}\, n_j^{-0.4}}

    Args:
        errors: [K] in [0, 1], see `held_out_errors`.
        class_counts: [K], training examples; a class without any has strength 0.
        error_power: of the errors.
        count_power: of the counts.

    Returns:
        float64 [K] in [0, 1]; all 0 if there are no errors.

    Raises:
        ValueError: if shapes disagree or an error is outside [0, 1].

    Example:
        >>> adaptive_strengths([0.1, 0.3, 0.5], [500, 100, 20]).round(6).tolist()
        [0.105061, 0.386636, 1.0]

    References:
        Cao, Chen, Lu, Arechiga, Gaidon and Ma, "Heteroskedastic and Imbalanced Deep
        Learning with Adaptive Regularization", ICLR 2021.
    """
    caller = "adaptive_strengths"
    check_counts(caller, class_counts)
    counts = np.asarray(class_counts, np.float64)
    check_class_vector(caller, "errors", errors, len(counts))
    errors = np.asarray(errors, np.float64)
    wrong = errors[~((errors >= 0) & (errors <= 1))]
    if wrong.size:
        raise ValueError(f"{caller}: errors hold {wrong[0]}, expected [0, 1]")
    raw = errors**error_power
    raw = np.where(counts > 0, raw * np.maximum(counts, 1) ** -count_power, 0.0)
    return raw / raw.max() if raw.max() > 0 else raw
