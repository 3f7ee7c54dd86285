r"""Random over- and under-sampling of a data set: index arrays, never copies.

The cheapest baseline, and what SMOTE is compared and combined with. For resampling in
the stream of training batches use the samplers of `ltjax.resampling.samplers`.

A model trained on resampled data answers for the resampled class prior. Correct its
probabilities with `ltjax.classifiers.prior_correction` before they are read as such.
"""

import jax
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_counts, check_range, check_rank, check_whole, shape_of
from ltjax.class_stats import count_labels
from ltjax.resampling._random import host_generator
from ltjax.resampling._smote_plan import (
    SmotePlan,
    classes_to_enlarge,
    new_points,
)
from ltjax.resampling.neighbors import check_features, check_labels
from ltjax.resampling.smote import Synthetic


def random_oversample(
    key: jax.Array, labels: ArrayLike, *, targets: ArrayLike | None = None
) -> np.ndarray:
    """Rows of an over-sampled data set: all originals once, then random repetitions.

    Args:
        key: random key; the draws of a class depend on it and on the class only.
        labels: [N] int class indices.
        targets: [K] int, size of each class afterwards, at least its present size;
            default the size of the largest class for every class that has an example.

    Returns:
        [sum of targets] int32 rows: 0 ... N - 1, then the repetitions class by class in
        label order.

    Raises:
        TypeError: for traced or non-integer labels, or a wrong key.
        ValueError: if a target lies below the present size, or for an empty class.

    Example:
        >>> random_oversample(jax.random.key(0), [0, 0, 0, 1]).tolist()
        [0, 1, 2, 3, 3, 3]

    References:
        Zhou, Liu, "Training Cost-Sensitive Neural Networks with Methods Addressing the
        Class Imbalance Problem", TKDE 2006, for targets from costs
        (`ltjax.classifiers.cost_sampling_targets`).
    """
    caller = "random_oversample"
    labels, counts, targets = _targets(caller, labels, targets, "max")
    short = np.flatnonzero(targets < counts)
    if short.size:
        raise ValueError(
            f"{caller}: targets[{short[0]}] is {targets[short[0]]}, but that class has"
            f" {counts[short[0]]} examples already (use random_undersample)"
        )
    empty = np.flatnonzero((counts == 0) & (targets > 0))
    if empty.size:
        raise ValueError(
            f"{caller}: targets[{empty[0]}] is {targets[empty[0]]}, but that class has"
            " no example to repeat"
        )
    drawn = [np.arange(len(labels), dtype=np.int32)]
    for label, rows, amount in classes_to_enlarge(labels, targets - counts):
        generator = host_generator(caller, key, label)
        drawn.append(rows[generator.integers(0, len(rows), amount)])
    return np.concatenate(drawn)


def random_undersample(
    key: jax.Array, labels: ArrayLike, *, targets: ArrayLike | None = None
) -> np.ndarray:
    """Rows of an under-sampled data set, drawn without replacement.

    Args:
        key: see `random_oversample`.
        labels: [N] int class indices.
        targets: [K] int, size of each class afterwards, at most its present size;
            default the size of the smallest class that has an example.

    Returns:
        [sum of targets] int32 rows, class by class in label order, each ascending.

    Raises:
        TypeError: for traced or non-integer labels, or a wrong key.
        ValueError: if a target exceeds the present size.

    Example:
        >>> random_undersample(jax.random.key(0), [0, 1, 0, 0]).shape
        (2,)

    References:
        Chawla et al., "SMOTE", JAIR 2002, sec. 4.3, for its use with SMOTE
        (`percent_kept`).
    """
    caller = "random_undersample"
    labels, counts, targets = _targets(caller, labels, targets, "min")
    large = np.flatnonzero(targets > counts)
    if large.size:
        raise ValueError(
            f"{caller}: targets[{large[0]}] is {targets[large[0]]}, but that class has"
            f" only {counts[large[0]]} examples (use random_oversample)"
        )
    kept = [np.zeros(0, np.int32)]
    for label, rows, amount in classes_to_enlarge(labels, targets):
        generator = host_generator(caller, key, label)
        kept.append(np.sort(generator.choice(rows, amount, replace=False)))
    return np.concatenate(kept)


def smoothed_bootstrap(
    key: jax.Array,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_new: ArrayLike | None = None,
    shrinkage: float = 1.0,
) -> Synthetic:
    r"""Random over-sampling with Gaussian noise around every repetition (ROSE).

    .. math::
        x_{\mathrm{new}} = x_i + s\, h\, \sigma_{y_i} \odot \varepsilon, \quad
        h = \Bigl(\frac{4}{(D + 2) N}\Bigr)^{1/(D + 4)}, \quad
        \varepsilon \sim \mathcal N(0, I)

    with :math:`\sigma_k` the (population) standard deviations of class k.

    Args:
        key: see `random_oversample`.
        features: [N, D] real.
        labels: [N] int.
        num_new: [K] int, new points per class; default balances the classes.
        shrinkage: s >= 0; 0 is plain random over-sampling.

    Returns:
        The new points, class by class, in float64 for float64 features, else float32.
        The plan has each base as its own neighbor.

    Raises:
        TypeError: for traced arrays, non-integer labels or a wrong key.
        ValueError: for wrong shapes, NaN, or negative shrinkage.

    Example:
        >>> x, y = [[1.0], [1.0], [2.0]], [0, 0, 1]
        >>> new = smoothed_bootstrap(jax.random.key(0), x, y)
        >>> new.features.tolist(), new.labels.tolist()
        ([[2.0]], [1])

    References:
        Menardi, Torelli, "Training and assessing classification rules with imbalanced
        data", Data Mining and Knowledge Discovery 2014. N in the bandwidth is the size
        of the whole data set, as in imbalanced-learn.
    """
    caller = "smoothed_bootstrap"
    check_range(caller, "shrinkage", shrinkage, low=0.0)
    features = check_features(caller, "features", features)
    labels = check_labels(caller, labels, len(features))
    amounts = new_points(caller, labels, num_new)
    dtype = np.float64 if features.dtype == np.float64 else np.float32
    width = shrinkage * rose_bandwidth(max(len(features), 1), features.shape[1])
    base, new = [np.zeros(0, np.int32)], [np.zeros((0, features.shape[1]), dtype)]
    for label, rows, amount in classes_to_enlarge(labels, amounts):
        generator = host_generator(caller, key, label)
        base.append(rows[generator.integers(0, len(rows), amount)])
        spread = features[rows].astype(np.float64).std(axis=0)
        noise = generator.standard_normal((amount, features.shape[1]))
        new.append((features[base[-1]] + width * spread * noise).astype(dtype))
    base = np.concatenate(base)
    classes = np.repeat(np.arange(len(amounts), dtype=np.int32), amounts)
    plan = SmotePlan(base, base, np.zeros(len(base), np.float32), classes)
    return Synthetic(np.concatenate(new), classes, plan)


def rose_bandwidth(num_examples: int, num_features: int) -> float:
    r"""Gaussian-optimal bandwidth :math:`h = (4 / ((D + 2) N))^{1 / (D + 4)}`.

    Args:
        num_examples: N >= 1, size of the whole data set.
        num_features: D >= 1.

    Returns:
        h, in units of the features' standard deviations.

    Raises:
        ValueError: if an argument is below 1.

    Example:
        >>> round(rose_bandwidth(100, 2), 8)
        0.46415888

    References:
        Bowman, Azzalini, "Applied Smoothing Techniques for Data Analysis", 1997.
    """
    check_range("rose_bandwidth", "num_examples", num_examples, low=1)
    check_range("rose_bandwidth", "num_features", num_features, low=1)
    exponent = 1 / (num_features + 4)
    return float((4 / ((num_features + 2) * num_examples)) ** exponent)


def percent_new(class_counts: ArrayLike, percent: ArrayLike) -> np.ndarray:
    r"""New points of SMOTE "at N %": :math:`\lfloor n_k N / 100 \rfloor`.

    With the "stratified" bases of `smote`, 300 % makes three points of every example,
    and 50 % one point of a random half of them.

    Args:
        class_counts: [K] int.
        percent: N >= 0, scalar or [K]; 0 leaves a class alone.

    Returns:
        [K] int64, `num_new` of `smote`.

    Raises:
        ValueError: if a percentage is negative.

    Example:
        >>> percent_new([200, 30], [0, 300]).tolist()
        [0, 90]

    References:
        Chawla et al., JAIR 2002, sec. 4.2, where amounts above 100 are multiples of it.
    """
    percent = np.asarray(percent, np.float64)
    if np.any(~(percent >= 0)):
        raise ValueError(f"percent_new: percent is {percent.tolist()}, expected >= 0")
    check_counts("percent_new", class_counts)
    return _floor(np.asarray(class_counts) * percent / 100)


def percent_kept(majority_count: int, minority_count: int, *, percent: float) -> int:
    r"""Majority examples left by under-sampling "at U %".

    .. math:: \min(n_{\mathrm{maj}}, \lfloor 100\, n_{\min} / U \rfloor)

    so that 50 % leaves twice as many majority as (original) minority examples.

    Args:
        majority_count: size of the majority class.
        minority_count: size of the minority class *before* it is over-sampled.
        percent: U > 0.

    Returns:
        Number of majority examples to keep.

    Raises:
        ValueError: if percent is not positive.

    Example:
        >>> percent_kept(200, 50, percent=200)
        25

    References:
        Chawla et al., JAIR 2002, sec. 4.3.
    """
    check_range("percent_kept", "percent", percent, low=0.0, open_low=True)
    check_whole("percent_kept", "majority_count", majority_count)
    check_whole("percent_kept", "minority_count", minority_count)
    return min(int(majority_count), int(_floor(100 * minority_count / percent)))


def _floor(x) -> np.ndarray:
    """Floor that forgives the rounding error of a quotient just below an integer."""
    return np.floor(np.asarray(x) * (1 + 1e-12)).astype(np.int64)


def _targets(caller: str, labels: ArrayLike, targets, default: str):
    check_rank(caller, "labels", labels, 1, "[N]")
    labels = check_labels(caller, labels, shape_of(labels)[0])
    size = len(targets) if targets is not None else int(labels.max(initial=-1)) + 1
    counts = np.asarray(count_labels(labels, size))
    if targets is None:
        present = counts[counts > 0]
        target = getattr(present, default)() if present.size else 0
        return labels, counts, np.where(counts > 0, target, 0)
    targets = np.asarray(targets)
    if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
        raise TypeError(
            f"{caller}: targets have dtype {targets.dtype} and shape {targets.shape},"
            " expected one integer per class"
        )
    if np.any(targets < 0):
        raise ValueError(f"{caller}: targets are {targets.tolist()}, expected >= 0")
    return labels, counts, targets.astype(np.int64)
