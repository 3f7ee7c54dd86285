"""Geometry of one vector per class: how far from a simplex, how merged the tail is.

Class vectors are columns, [..., D, K], as everywhere in the package: the kernel of a
head, a frame, the centered class means of `CollapseGeometry.directions`. For K = D a
transposed matrix cannot be told from a right one, so mind the orientation (PyTorch has
[K, D]).
"""

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import dtype_of, shape_of


def _columns(caller: str, vectors: ArrayLike, name: str = "vectors") -> np.ndarray:
    """Class vectors [..., D, K] in float64."""
    dtype_of(caller, name, vectors)
    if len(shape_of(vectors)) < 2:
        raise ValueError(
            f"{caller}: {name} have shape {shape_of(vectors)}, expected [..., D, K],"
            " one column per class"
        )
    return np.asarray(vectors, np.float64)


def _several(caller: str, vectors: ArrayLike) -> np.ndarray:
    """Class vectors [..., D, K] of at least two classes."""
    columns = _columns(caller, vectors)
    if columns.shape[-1] < 2:
        raise ValueError(
            f"{caller}: vectors have shape {columns.shape}, expected [..., D, K] with"
            " K >= 2"
        )
    return columns


def class_cosines(vectors: ArrayLike) -> np.ndarray:
    """Cosine of every pair of class vectors.

    Args:
        vectors: [..., D, K], centered class means or a head's kernel.

    Returns:
        [..., K, K] float64; -1 / (K - 1) off the diagonal in a simplex, NaN for a zero
        vector.

    Raises:
        ValueError: if vectors are not [..., D, K].

    Example:
        >>> print(class_cosines([[1.0, 3.0], [0.0, 4.0]]))
        [[1.  0.6]
         [0.6 1. ]]
    """
    vectors = _columns("class_cosines", vectors)
    norms = np.linalg.norm(vectors, axis=-2, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, np.nan)
    return np.swapaxes(unit, -1, -2) @ unit


def _pair_mean(values: np.ndarray) -> np.ndarray:
    """Mean over ordered pairs of different classes; NaN for fewer than two."""
    num = values.shape[-1]
    if num < 2:
        return np.full(values.shape[:-2], np.nan)
    diagonal = np.diagonal(values, axis1=-2, axis2=-1).sum(-1)
    return (values.sum(axis=(-2, -1)) - diagonal) / (num * (num - 1))


def equinorm_deviation(vectors: ArrayLike) -> np.ndarray:
    """Coefficient of variation of the norms of the class vectors (ddof = 1), NC2.

    Args:
        vectors: [..., D, K], centered class means or a head's kernel, K >= 2.

    Returns:
        [...] float64, 0 for equal norms.

    Raises:
        ValueError: if vectors are not [..., D, K].

    Example:
        >>> print(equinorm_deviation([[3.0, 0.0], [4.0, 5.0]]))
        0.0
    """
    norms = np.linalg.norm(_several("equinorm_deviation", vectors), axis=-2)
    return norms.std(axis=-1, ddof=1) / norms.mean(axis=-1)


def equiangle_deviation(vectors: ArrayLike) -> np.ndarray:
    r"""Mean over pairs of :math:`|\cos(v_k, v_j) + 1/(K-1)|`, NC2.

    Args:
        vectors: [..., D, K], centered class means or a head's kernel, K >= 2.

    Returns:
        [...] float64, 0 for a simplex.

    Raises:
        ValueError: if vectors are not [..., D, K].

    Example:
        >>> print(equiangle_deviation([[1.0, -1.0], [0.0, 0.0]]))
        0.0
    """
    vectors = _several("equiangle_deviation", vectors)
    return _pair_mean(np.abs(class_cosines(vectors) + 1 / (vectors.shape[-1] - 1)))


def minority_collapse(weights: ArrayLike, few: ArrayLike) -> np.ndarray:
    """Mean cosine among the class vectors of the few-shot classes.

    Args:
        weights: [..., D, K], the head's kernel, one column per class.
        few: [K] bool, the classes to compare.

    Returns:
        [...] float64; 1 when the vectors have merged, -1 / (K - 1) in a simplex, NaN
        for fewer than two classes.

    Raises:
        ValueError: if `few` is not a bool vector over the columns.

    Example:
        >>> weights = [[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]]
        >>> print(minority_collapse(weights, [False, True, True]))
        1.0

    References:
        Fang, He, Long, Su, PNAS 2021 (the angle between minority classifiers).
    """
    weights = _columns("minority_collapse", weights, "weights")
    dtype_of("minority_collapse", "few", few)
    few = np.asarray(few)
    if few.shape != weights.shape[-1:] or few.dtype != bool:
        raise ValueError(
            f"minority_collapse: few is {few.dtype} {few.shape}, expected bool"
            f" {weights.shape[-1:]}, one entry per column of weights {weights.shape}"
        )
    return _pair_mean(class_cosines(weights[..., few]))
