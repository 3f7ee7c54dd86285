r"""Long-tail profiles and subsets: which part of a balanced training set is kept.

A profile gives the number of examples of class k from the largest count :math:`n_{max}`
and the imbalance factor :math:`\rho = n_{max} / n_{min} \ge 1`; class 0 is the largest.
The test split is never touched. Everything is numpy and a pure function of its
arguments; random choices come from a private generator.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_range, check_rank, check_seed
from ltjax.class_stats import count_labels

PROFILES = ("exp", "step", "pareto", "balanced")

# Keeps floor() from dropping the last class of a Pareto profile below n_max / rho.
_PARETO_ROUNDING = 1e-9


def long_tail_counts(
    num_classes: int,
    max_count: float,
    imbalance_factor: float,
    profile: str = "exp",
    *,
    pareto_power: float = 6.0,
) -> np.ndarray:
    r"""Number of training examples per class of a long-tail profile.

    With :math:`t_k = k / (K-1)`, in float64 and truncated, never rounded:

    .. math::
        \text{exp:}\quad & \lfloor n_{max}\, \rho^{-t_k} \rfloor \\
        \text{step:}\quad & n_{max} \text{ for the first } \lfloor K/2 \rfloor
            \text{ classes, } \lfloor n_{max} / \rho \rfloor \text{ for the others} \\
        \text{pareto:}\quad & \lfloor n_{max}\, (1 + c\, t_k)^{-a} + 10^{-9} \rfloor,
            \quad c = \rho^{1/a} - 1

    and "balanced" is :math:`\lfloor n_{max} \rfloor` for all, whatever rho. The Pareto
    profile tends to the exponential one for large a.

    Args:
        num_classes: K.
        max_count: n_max, in examples; may be fractional, as 73257 / 10 for SVHN.
        imbalance_factor: rho >= 1.
        profile: "exp", "step", "pareto" or "balanced".
        pareto_power: a > 0.

    Returns:
        [K] int64, non-increasing.

    Raises:
        ValueError: for an unknown profile, a value out of range, or a profile that
            leaves a class without an example.

    Example:
        >>> long_tail_counts(3, 90, 9).tolist()
        [90, 30, 10]
        >>> long_tail_counts(3, 90, 9, "step").tolist()
        [90, 10, 10]

    References:
        Cui et al., CVPR 2019, sec. 5.1 (exponential); Buda et al. 2018 and Cao et al.,
        NeurIPS 2019, sec. 4 (step). Papers write :math:`n_k \mu^k`; we follow the
        released code, whose exponent is divided by K - 1. For odd K the code's step
        profile misses a class, ours has ceil(K/2) tail classes. Liu et al., CVPR 2019,
        describe ImageNet-LT as Pareto with power 6 without giving the generator: the
        Pareto formula is our choice and not comparable with published numbers.
    """
    caller = "long_tail_counts"
    check_range(caller, "num_classes", num_classes, low=1)
    check_range(caller, "max_count", max_count, low=1, high=np.inf, open_high=True)
    check_range(
        caller, "imbalance_factor", imbalance_factor, low=1, high=np.inf, open_high=True
    )
    check_choice(caller, "profile", profile, PROFILES)
    check_range(
        caller, "pareto_power", pareto_power, low=0, open_low=True, open_high=True
    )
    max_count, decay = float(max_count), 1.0 / imbalance_factor
    # Python's floats, not numpy's vectorized power: bit-exact with the published lists.
    positions = [k / max(num_classes - 1, 1) for k in range(num_classes)]
    if profile == "exp":
        counts = [max_count * decay**t for t in positions]
    elif profile == "step":
        head = num_classes // 2 if num_classes > 1 else 1
        counts = [max_count] * head + [max_count * decay] * (num_classes - head)
    elif profile == "pareto":
        # expm1 and log1p keep the end point for large powers, where c is tiny.
        c = math.expm1(math.log(imbalance_factor) / pareto_power)
        counts = [
            max_count * math.exp(-pareto_power * math.log1p(c * t)) + _PARETO_ROUNDING
            for t in positions
        ]
    else:
        counts = [max_count] * num_classes
    counts = np.array([math.floor(n) for n in counts], np.int64)
    if np.any(counts < 1):
        raise ValueError(
            f"{caller}: max_count {max_count:g} and imbalance_factor"
            f" {imbalance_factor:g} leave class {int(np.argmax(counts < 1))} without an"
            " example; expected max_count to exceed imbalance_factor"
        )
    return counts


def long_tail_indices(
    labels: ArrayLike, counts: ArrayLike, *, seed: int = 0
) -> np.ndarray:
    """Chooses `counts[k]` random examples of every class k.

    Classes are visited in ascending order; the ascending index list of a class is
    shuffled in place and its first `counts[k]` entries are kept. For one seed, a
    smaller profile therefore selects a subset of a larger one.

    Args:
        labels: [N] int, labels of the full training set.
        counts: [K] int >= 0, from `long_tail_counts`.
        seed: in [0, 2^32); 0 gives the subsets of the published CIFAR-LT results.

    Returns:
        [sum of min(counts, available)] int64, class by class, shuffled inside a class.

    Raises:
        ValueError: if a label lies outside [0, K) or a count is negative.

    Warns:
        UserWarning: if a class has fewer examples than requested; all of them are kept.

    Example:
        >>> chosen = long_tail_indices([0, 1, 0, 1, 0, 1], [3, 1])
        >>> sorted(chosen[:3].tolist()), len(chosen)
        ([0, 2, 4], 4)

    References:
        Cao et al., NeurIPS 2019, released code (`rand_number` is our seed): the same
        stream from a private generator instead of numpy's global one.
    """
    caller = "long_tail_indices"
    check_rank(caller, "counts", counts, 1, "[K]")
    labels, counts = np.asarray(labels), np.asarray(counts)
    if not np.issubdtype(counts.dtype, np.integer) or np.any(counts < 0):
        raise ValueError(f"{caller}: counts are {counts}, expected integers >= 0")
    available = np.asarray(count_labels(labels, counts.size))
    short = np.flatnonzero(available < counts)
    if short.size:
        warnings.warn(
            f"{caller}: {short.size} class(es) are smaller than requested and kept"
            f" whole, e.g. class {short[0]} has {available[short[0]]} of"
            f" {counts[short[0]]} examples; class statistics must use the realized"
            " counts",
            stacklevel=2,
        )
    check_seed(caller, "seed", seed)
    generator = np.random.RandomState(seed)  # noqa: NPY002 - the published stream
    chosen = []
    for k, count in enumerate(counts):
        members = np.flatnonzero(labels == k)
        generator.shuffle(members)
        chosen.append(members[:count])
    return np.concatenate(chosen)


class LongTailSubset(NamedTuple):
    """A long-tailed selection from a training set.

    Attributes:
        indices: [N] int64 positions in the full training set.
        class_counts: [K] int64 realized counts; what priors, margins and weights use.
        requested: [K] int64 counts of the profile; larger where a class ran short.
    """

    indices: np.ndarray
    class_counts: np.ndarray
    requested: np.ndarray


def long_tail_subset(
    labels: ArrayLike,
    num_classes: int,
    *,
    imbalance_factor: float,
    profile: str = "exp",
    max_count: float | str = "mean_class",
    pareto_power: float = 6.0,
    seed: int = 0,
) -> LongTailSubset:
    """Long-tailed selection from the labels of a training set.

    Args:
        labels: [N_full] int.
        num_classes: K.
        imbalance_factor: rho >= 1.
        profile: see `long_tail_counts`.
        max_count: size of the largest class, in examples, or
            "mean_class": N_full / K, the convention of the CIFAR-LT benchmarks;
            "min_class": the smallest class, so that no class can run short.
        pareto_power: see `long_tail_counts`.
        seed: see `long_tail_indices`.

    Returns:
        LongTailSubset with indices, realized and requested counts.

    Raises:
        ValueError: if a class has no example at all, or an argument is out of range.

    Warns:
        UserWarning: if a class has fewer examples than the profile asks for.

    Example:
        >>> subset = long_tail_subset([0, 1] * 50, 2, imbalance_factor=5)
        >>> subset.class_counts.tolist()
        [50, 10]

    References:
        Yang et al., NeurIPS 2022, released code, subsample SVHN with the mean class
        size although digit 0 has fewer images, and misalign images and labels by that;
        we keep what is there and report it.
    """
    caller = "long_tail_subset"
    available = np.asarray(count_labels(labels, num_classes))
    empty = np.flatnonzero(available == 0)
    if empty.size:
        raise ValueError(
            f"{caller}: class {empty[0]} has no example ({empty.size} empty), expected"
            f" all of {num_classes} classes in labels"
        )
    if isinstance(max_count, str):
        check_choice(caller, "max_count", max_count, ("mean_class", "min_class"))
        smallest = max_count == "min_class"
        largest = available.min() if smallest else available.sum() / num_classes
    else:
        largest = max_count
    requested = long_tail_counts(
        num_classes, largest, imbalance_factor, profile, pareto_power=pareto_power
    )
    indices = long_tail_indices(labels, requested, seed=seed)
    return LongTailSubset(indices, np.minimum(available, requested), requested)
