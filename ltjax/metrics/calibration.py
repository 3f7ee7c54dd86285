r"""Calibration errors from sums over confidence bins.

Bins are right-closed, :math:`b_j = ((j-1)/J, j/J]`, and are kept per *true class*: the
over-confidence of a network on its tail classes is invisible in the total. The
confidence is the largest softmax probability. For a network trained with logit
adjustment (or VS, or the balanced softmax) the balanced posterior is the softmax of the
*raw* logits; for post-hoc adjustment it is that of the adjusted ones. Hand over the
logits that the prediction is made from, and say which.

.. math:: \mathrm{ECE} = \sum_j \frac{n_j}{N} |acc_j - conf_j|, \qquad
          \mathrm{MCE} = \max_{j: n_j > 0} |acc_j - conf_j|
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_classes_last,
    check_floating,
    dtype_of,
    shape_of,
)
from ltjax._numerics import at_least_float32, namespace

# Units in the last place by which a sum or mean of probabilities may exceed 1.
_ROUNDING = 16


class BinSums(NamedTuple):
    """Sums over the examples of each confidence bin, all [..., bins] float64."""

    count: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray


class ReliabilityCurve(NamedTuple):
    """Mean confidence and accuracy per bin (NaN if empty) and the bins, [..., bins]."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def top_confidence(logits: ArrayLike) -> jax.Array:
    r"""Largest softmax probability, :math:`1 / \sum_k e^{z_k - \max z}`.

    Args:
        logits: [..., K] float.

    Returns:
        [...] float32 (float64 for float64 logits) in [1/K, 1]; NaN if the logits hold
        NaN or +inf.

    Raises:
        TypeError: if logits are not floating point.
        ValueError: if they are a scalar.

    Example:
        >>> print(top_confidence(jnp.array([0.0, 0.0])))
        0.5
    """
    check_classes_last("top_confidence", "logits", logits)
    logits = at_least_float32(logits)
    top = jnp.max(logits, axis=-1, keepdims=True)
    return 1 / jnp.sum(jnp.exp(logits - top), axis=-1)


def bin_index(confidence: ArrayLike, *, bins: int = 15) -> np.ndarray | jax.Array:
    """Index of the right-closed bin, 0 for (0, 1/bins] to bins - 1.

    Args:
        confidence: [...] float in [0, 1].
        bins: number of equal bins.

    Returns:
        [...] int32; numpy for readable confidences, jax for traced ones. The edges are
        j / bins rounded to the dtype of `confidence`, so 0.2 lies in the first of five
        bins in every precision.

    Raises:
        TypeError: if the confidence is not floating point.
        ValueError: if bins < 1.

    Example:
        >>> bin_index([0.0, 0.2, 0.21, 1.0], bins=5)
        array([0, 0, 1, 4], dtype=int32)
    """
    if bins < 1:
        raise ValueError(f"bin_index: bins is {bins}, expected at least 1")
    check_floating("bin_index", "confidence", confidence)
    xp = namespace(confidence)
    values = xp.asarray(confidence)
    inner = xp.asarray(np.arange(1, bins) / bins, values.dtype)
    inner = inner.reshape((1,) * values.ndim + (-1,))
    above = xp.sum(values[..., None] > inner, axis=-1, dtype=xp.int32)
    return xp.asarray(above)


def bin_sums(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15) -> BinSums:
    """Bin sums of given predictions, on the host in float64.

    Args:
        confidence: [N] float in [0, 1], probability of the predicted class. What
            exceeds 1 by the rounding of its dtype, as a mean of probabilities may,
            counts as 1.
        correct: [N] bool (or 0/1), whether the prediction was right.
        bins: number of equal, right-closed bins.

    Returns:
        BinSums of [bins] arrays.

    Raises:
        ValueError: if the shapes disagree or a confidence lies outside [0, 1].

    Example:
        >>> bin_sums([0.9, 0.6, 0.7], [1, 0, 1], bins=2).count
        array([0., 3.])
    """
    dtype = dtype_of("bin_sums", "confidence", confidence)
    dtype_of("bin_sums", "correct", correct)
    given = np.asarray(confidence)
    confidence = given.astype(np.float64)
    correct = np.asarray(correct, np.float64)
    if confidence.ndim != 1 or correct.shape != confidence.shape:
        raise ValueError(
            f"bin_sums: confidence has shape {confidence.shape} and correct"
            f" {correct.shape}, expected twice [N]"
        )
    # A list holds Python's doubles, though JAX would give them 32 bits.
    dtype = given.dtype if given.dtype == np.float64 else dtype
    slack = 0.0
    if jnp.issubdtype(dtype, jnp.floating):
        slack = min(_ROUNDING * float(jnp.finfo(dtype).eps), 0.01)
    outside = np.flatnonzero(~((confidence >= 0) & (confidence <= 1 + slack)))
    if outside.size:
        raise ValueError(
            f"bin_sums: confidence[{outside[0]}] is {confidence[outside[0]]}, expected"
            " a probability in [0, 1]"
        )
    confidence = np.minimum(confidence, 1.0)
    index = bin_index(confidence, bins=bins)
    values = (np.ones_like(confidence), confidence, correct)
    return BinSums(*(np.bincount(index, weights=v, minlength=bins) for v in values))


def class_bins(arrays: Mapping[str, ArrayLike]) -> BinSums:
    """The per-class bin sums of an evaluation file.

    Args:
        arrays: holds `bin_count`, `bin_confidence` and `bin_correct`, [..., K, bins].

    Returns:
        BinSums of [..., K, bins] float64 arrays.

    Raises:
        KeyError: if one of the three is missing.
        ValueError: if their shapes disagree.

    Example:
        >>> x = np.ones((2, 3, 15))
        >>> class_bins({f"bin_{n}": x for n in BinSums._fields}).count.shape
        (2, 3, 15)
    """
    names = ("bin_count", "bin_confidence", "bin_correct")
    missing = [name for name in names if name not in arrays]
    if missing:
        raise KeyError(f"class_bins: {missing[0]} is missing, expected {list(names)}")
    sums = BinSums(*(np.asarray(arrays[name], np.float64) for name in names))
    if len({x.shape for x in sums}) > 1 or sums.count.ndim < 2:
        raise ValueError(
            f"class_bins: shapes are {[x.shape for x in sums]}, expected three equal"
            " ones [..., K, bins]"
        )
    return sums


def pool_classes(sums: BinSums, members: ArrayLike | None = None) -> BinSums:
    """Adds the bins of several true classes.

    Args:
        sums: BinSums of [..., K, bins] arrays.
        members: optional [K] bool, the classes to keep (default all).

    Returns:
        BinSums of [..., bins] arrays.

    Raises:
        ValueError: if `members` does not have one entry per class.

    Example:
        >>> pool_classes(BinSums(*np.ones((3, 4, 2))), [True, True, True, False])[0]
        array([3., 3.])
    """
    num_classes = sums.count.shape[-2]
    members = np.ones(num_classes, bool) if members is None else np.asarray(members)
    if members.shape != (num_classes,) or members.dtype != bool:
        raise ValueError(
            f"pool_classes: members are {members.dtype} {shape_of(members)}, expected"
            f" bool ({num_classes},)"
        )
    return BinSums(*(x[..., members, :].sum(axis=-2) for x in sums))


def _gaps(sums: BinSums) -> np.ndarray:
    """|acc_j - conf_j| per bin, 0 in empty bins."""
    count = np.asarray(sums.count, np.float64)
    gap = np.abs(np.asarray(sums.correct) - np.asarray(sums.confidence))
    return gap / np.where(count > 0, count, 1.0)


def ece(sums: BinSums) -> np.ndarray:
    """Expected calibration error from bin sums.

    Args:
        sums: BinSums of [..., bins] arrays; [..., K, bins] gives it per class.

    Returns:
        [...] float64 in [0, 1]; NaN where there is no example.

    Example:
        >>> print(ece(BinSums(np.array([2.0]), np.array([1.8]), np.array([1.0]))))
        0.4

    References:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3.
    """
    total = np.sum(sums.count, axis=-1)
    error = np.sum(np.abs(np.asarray(sums.correct) - sums.confidence), axis=-1)
    return np.where(total > 0, error / np.where(total > 0, total, 1.0), np.nan)


def mce(sums: BinSums) -> np.ndarray:
    """Maximum calibration error from bin sums.

    Args:
        sums: BinSums of [..., bins] arrays; [..., K, bins] gives it per class.

    Returns:
        [...] float64 in [0, 1]; NaN where there is no example.

    Example:
        >>> print(mce(BinSums(np.array([2.0]), np.array([1.8]), np.array([1.0]))))
        0.4

    References:
        Guo et al., ICML 2017, eq. 5.
    """
    return np.where(np.sum(sums.count, axis=-1) > 0, _gaps(sums).max(axis=-1), np.nan)


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15
) -> float:
    """Expected calibration error of given predictions.

    Args:
        confidence: [N] float in [0, 1], probability of the predicted class.
        correct: [N] bool, whether the prediction was right.
        bins: number of equal, right-closed bins.

    Returns:
        ECE; NaN for N = 0.

    Raises:
        ValueError: if the shapes disagree or a confidence lies outside [0, 1].

    Example:
        >>> correct = [True, True, False, True, False]
        >>> value = expected_calibration_error([0.95, 0.9, 0.62, 0.55, 0.41], correct,
        ...                                    bins=5)
        >>> round(value, 12)
        0.162
    """
    return float(ece(bin_sums(confidence, correct, bins=bins)))


def maximum_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15
) -> float:
    """Maximum calibration error of given predictions.

    Args:
        confidence: [N] float in [0, 1], probability of the predicted class.
        correct: [N] bool, whether the prediction was right.
        bins: number of equal, right-closed bins.

    Returns:
        MCE; NaN for N = 0.

    Raises:
        ValueError: if the shapes disagree or a confidence lies outside [0, 1].

    Example:
        >>> round(maximum_calibration_error([0.95, 0.62], [True, False], bins=5), 12)
        0.62
    """
    return float(mce(bin_sums(confidence, correct, bins=bins)))


def reliability_curve(sums: BinSums) -> ReliabilityCurve:
    """Accuracy against confidence, bin by bin.

    Args:
        sums: BinSums of [..., bins] arrays.

    Returns:
        ReliabilityCurve; mean confidence and accuracy are NaN in empty bins.

    Example:
        >>> curve = reliability_curve(bin_sums([0.9, 0.7], [True, False], bins=2))
        >>> [round(float(v), 2) for v in (curve.confidence[1], curve.accuracy[1])]
        [0.8, 0.5]
    """
    count = np.asarray(sums.count, np.float64)
    safe = np.where(count > 0, count, np.nan)
    edges = np.arange(count.shape[-1] + 1) / count.shape[-1]
    return ReliabilityCurve(
        confidence=np.asarray(sums.confidence) / safe,
        accuracy=np.asarray(sums.correct) / safe,
        count=count,
        lower=edges[:-1],
        upper=edges[1:],
    )
