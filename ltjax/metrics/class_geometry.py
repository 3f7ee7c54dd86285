"""Geometry of one vector per class: how far from a simplex, how merged the tail is.

The rows are centered class means or the rows of a head.
"""

import numpy as np
from jax.typing import ArrayLike


def class_cosines(rows: ArrayLike) -> np.ndarray:
    """Cosine of every pair of rows.

    Args:
        rows: [..., K, D], centered class means or head rows.

    Returns:
        [..., K, K] float64; -1 / (K - 1) off the diagonal in a simplex, NaN for a zero
        row.

    Example:
        >>> print(class_cosines([[1.0, 0.0], [3.0, 4.0]]))
        [[1.  0.6]
         [0.6 1. ]]
    """
    rows = np.asarray(rows, np.float64)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit = rows / np.where(norms > 0, norms, np.nan)
    return unit @ np.swapaxes(unit, -1, -2)


def _pair_mean(values: np.ndarray) -> np.ndarray:
    """Mean over ordered pairs of different classes; NaN for fewer than two."""
    num = values.shape[-1]
    if num < 2:
        return np.full(values.shape[:-2], np.nan)
    diagonal = np.diagonal(values, axis1=-2, axis2=-1).sum(-1)
    return (values.sum(axis=(-2, -1)) - diagonal) / (num * (num - 1))


def equinorm_deviation(rows: ArrayLike) -> np.ndarray:
    """Coefficient of variation of the norms of the rows (ddof = 1), NC2.

    Args:
        rows: [..., K, D], centered class means or head rows, K >= 2.

    Returns:
        [...] float64, 0 for equal norms.

    Example:
        >>> print(equinorm_deviation([[3.0, 4.0], [0.0, 5.0]]))
        0.0
    """
    norms = np.linalg.norm(np.asarray(rows, np.float64), axis=-1)
    return norms.std(axis=-1, ddof=1) / norms.mean(axis=-1)


def equiangle_deviation(rows: ArrayLike) -> np.ndarray:
    r"""Mean over pairs of :math:`|\cos(r_k, r_j) + 1/(K-1)|`, NC2.

    Args:
        rows: [..., K, D], centered class means or head rows, K >= 2.

    Returns:
        [...] float64, 0 for a simplex.

    Example:
        >>> print(equiangle_deviation([[1.0, 0.0], [-1.0, 0.0]]))
        0.0
    """
    rows = np.asarray(rows, np.float64)
    return _pair_mean(np.abs(class_cosines(rows) + 1 / (rows.shape[-2] - 1)))


def minority_collapse(weights: ArrayLike, few: ArrayLike) -> np.ndarray:
    """Mean cosine among the head rows of the few-shot classes.

    Args:
        weights: [..., K, D] head rows.
        few: [K] bool, the classes to compare.

    Returns:
        [...] float64; 1 when the rows have merged, -1 / (K - 1) in a simplex, NaN for
        fewer than two classes.

    Raises:
        ValueError: if `few` is not a bool vector over the rows.

    Example:
        >>> weights = [[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]
        >>> print(minority_collapse(weights, [False, True, True]))
        1.0

    References:
        Fang, He, Long, Su, PNAS 2021 (the angle between minority classifiers).
    """
    weights, few = np.asarray(weights, np.float64), np.asarray(few)
    if few.shape != weights.shape[-2:-1] or few.dtype != bool:
        raise ValueError(
            f"minority_collapse: few is {few.dtype} {few.shape}, expected bool"
            f" {weights.shape[-2:-1]}"
        )
    return _pair_mean(class_cosines(weights[..., few, :]))
