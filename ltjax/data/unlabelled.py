r"""Long-tailed semi-supervised splits: few labels, and more examples without them.

The labelled part has counts :math:`n_k` that fall from :math:`N_1` to
:math:`N_1 / \gamma_l`; the unlabelled part has counts of its own, whose profile the
learner does not know. Everything is numpy and a pure function of its arguments.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_range, check_rank
from ltjax.class_stats import count_labels

UNLABELLED_PROFILES = (
    "consistent",
    "uniform",
    "reversed",
    "middle",
    "head_tail",
    "random",
)


class SemiSupervisedProtocol(NamedTuple):
    """Sizes of a published benchmark.

    Attributes:
        labelled: N_1, labelled examples of the largest class.
        unlabelled: M_1, unlabelled ones; None where all others are unlabelled.
        imbalance_factors: the values of gamma in use.
        shuffled: True where examples are drawn at random, False where the first of a
            class, in the order of the data set, are labelled.
    """

    labelled: int
    unlabelled: int | None
    imbalance_factors: tuple[int, ...]
    shuffled: bool


# (protocol, data set); the names are those of the papers that introduced the sizes.
SEMI_SUPERVISED_PROTOCOLS = {
    ("darp", "cifar10"): SemiSupervisedProtocol(1500, 3000, (50, 100, 150), False),
    ("darp", "cifar100"): SemiSupervisedProtocol(300, 150, (20,), False),
    ("darp", "stl10"): SemiSupervisedProtocol(450, None, (10, 20), False),
    ("abc", "cifar10"): SemiSupervisedProtocol(1000, 4000, (100,), False),
    ("abc", "svhn"): SemiSupervisedProtocol(1000, 4000, (100,), False),
    ("abc", "cifar100"): SemiSupervisedProtocol(200, 300, (20,), False),
    ("daso", "cifar10"): SemiSupervisedProtocol(500, 4000, (100, 150), True),
    ("daso", "cifar100"): SemiSupervisedProtocol(50, 400, (10, 20), True),
    ("daso", "stl10"): SemiSupervisedProtocol(150, None, (10, 20), True),
    ("daso_large", "cifar10"): SemiSupervisedProtocol(1500, 3000, (100, 150), True),
    ("daso_large", "cifar100"): SemiSupervisedProtocol(150, 300, (10, 20), True),
    ("daso_large", "stl10"): SemiSupervisedProtocol(450, None, (10, 20), True),
}


def semi_supervised_counts(
    num_classes: int,
    max_count: int,
    imbalance_factor: float,
    profile: str = "consistent",
    *,
    shape: str = "exp",
    seed: int = 0,
) -> np.ndarray:
    r"""Counts per class of the labelled or of the unlabelled part.

    With m the non-increasing list

    .. math:: m_k = \lfloor m_0\, (1/\gamma)^{k/(K-1)} \rfloor \;\; (k < K-1), \qquad
              m_{K-1} = \lfloor m_0 / \gamma \rfloor

    ("exp"), or :math:`m_0` for the first :math:`\lfloor K/2 \rfloor` classes and
    :math:`\lfloor m_0/\gamma \rfloor` for the others ("step"), the profiles are

    ============ =====================================================================
    consistent   m, as the labelled part has it
    uniform      m_0 for every class
    reversed     m backwards: the head without labels is the tail with labels
    middle       ..., m_4, m_2, m_0, m_1, m_3, ...: largest in the middle
    head_tail    m_1, m_3, ..., then ..., m_4, m_2, m_0: large at both ends
    random       m in a random order
    ============ =====================================================================

    Args:
        num_classes: K.
        max_count: m_0 >= 1, examples of the largest class.
        imbalance_factor: gamma >= 1 of this part.
        profile: one of `UNLABELLED_PROFILES`; the labelled part is "consistent".
        shape: "exp" or "step".
        seed: of the random order.

    Returns:
        [K] int64. A class may have none, if gamma exceeds max_count.

    Raises:
        ValueError: for an unknown profile or shape, or a value out of range.

    Example:
        >>> semi_supervised_counts(5, 100, 10).tolist()
        [100, 56, 31, 17, 10]
        >>> semi_supervised_counts(5, 100, 10, "middle").tolist()
        [10, 31, 100, 56, 17]

    References:
        Kim et al., "Distribution Aligning Refinery of Pseudo-label for Imbalanced
        Semi-supervised Learning", NeurIPS 2020, released code (the last class apart,
        unlike `long_tail_counts`, which follows the supervised benchmarks and may be
        off by one there); Lee, Shin and Kim, NeurIPS 2021 (step); Du, Han and Huang,
        "SimPro", ICML 2024 (middle, head and tail).
    """
    caller = "semi_supervised_counts"
    check_range(caller, "num_classes", num_classes, low=1)
    check_range(caller, "max_count", max_count, low=1, high=math.inf, open_high=True)
    check_range(
        caller, "imbalance_factor", imbalance_factor, low=1, high=np.inf, open_high=True
    )
    check_choice(caller, "profile", profile, UNLABELLED_PROFILES)
    check_choice(caller, "shape", shape, ("exp", "step"))
    k = int(num_classes)
    smallest = int(max_count / imbalance_factor)
    if profile == "uniform":
        falling = [int(max_count)] * k
    elif shape == "step":
        head = k // 2 if k > 1 else 1
        falling = [int(max_count)] * head + [smallest] * (k - head)
    elif k == 1:
        falling = [int(max_count)]
    else:
        decay = 1.0 / imbalance_factor
        falling = [int(max_count * decay ** (i / (k - 1))) for i in range(k - 1)]
        falling.append(smallest)
    counts = np.array(falling, np.int64)
    even, odd = counts[::2], counts[1::2]
    if profile == "reversed":
        return counts[::-1].copy()
    if profile == "middle":
        return np.concatenate([even[::-1], odd])
    if profile == "head_tail":
        return np.concatenate([odd, even[::-1]])
    if profile == "random":
        return np.random.Generator(np.random.PCG64(seed)).permutation(counts)
    return counts


def labelled_share(class_counts: ArrayLike, fraction: float) -> np.ndarray:
    r"""Labelled counts :math:`\lceil f\, n_k \rceil`: the same fraction of every class.

    Args:
        class_counts: [K] int >= 0, of the whole long-tailed training set.
        fraction: f in (0, 1].

    Returns:
        [K] int64; at least 1 wherever the class has an example.

    Raises:
        ValueError: if a count is negative or the fraction is out of range.

    Example:
        >>> labelled_share([5000, 300, 25], 0.1).tolist()
        [500, 30, 3]

    References:
        Wei et al., "CReST: A Class-Rebalancing Self-Training Framework for Imbalanced
        Semi-Supervised Learning", CVPR 2021, whose unlabelled pool is the whole
        training set (`unlabelled_includes_labelled`).
    """
    caller = "labelled_share"
    check_range(caller, "fraction", fraction, low=0, high=1, open_low=True)
    counts = _integer_counts(caller, "class_counts", class_counts)
    # 0.1 * 30 is a little more than 3 in float64 and must not become 4.
    return np.ceil(fraction * counts - 1e-9).astype(np.int64)


class SemiSupervisedSplit(NamedTuple):
    """Positions in a training set.

    Attributes:
        labelled: [N] int64, class by class.
        unlabelled: [M] int64, class by class; shuffle before showing it to a learner.
    """

    labelled: np.ndarray
    unlabelled: np.ndarray


def semi_supervised_split(
    labels: ArrayLike,
    labelled_counts: ArrayLike,
    unlabelled_counts: ArrayLike | None = None,
    *,
    seed: int | None = None,
    unlabelled_includes_labelled: bool = False,
) -> SemiSupervisedSplit:
    """Takes `labelled_counts[k]` examples of every class, and then unlabelled ones.

    Args:
        labels: [N_full] int.
        labelled_counts: [K] int >= 0.
        unlabelled_counts: [K] int >= 0; None for all that remain.
        seed: None takes the examples of a class in the order of the data set; a seed
            shuffles every class first.
        unlabelled_includes_labelled: whether the unlabelled part also holds the
            labelled examples, in front of its own of the class.

    Returns:
        SemiSupervisedSplit; the parts are disjoint unless one is to include the other.

    Raises:
        ValueError: if a label lies outside [0, K), a count is negative, or the two
            counts differ in length.

    Warns:
        UserWarning: if a class has fewer examples than both parts together ask for; the
            unlabelled part is shortened first.

    Example:
        >>> split = semi_supervised_split([0, 1, 0, 1, 0, 0], [2, 1], [1, 1])
        >>> split.labelled.tolist(), split.unlabelled.tolist()
        ([0, 2, 1], [4, 3])

    References:
        In the order of the data set: DARP (NeurIPS 2020), ABC (NeurIPS 2021), CoSSL
        (CVPR 2022). Shuffled: DASO (CVPR 2022), ACR (CVPR 2023). The labelled images
        are in the pool in DARP's FixMatch runs and in CReST.
    """
    caller = "semi_supervised_split"
    first = _integer_counts(caller, "labelled_counts", labelled_counts)
    available = np.asarray(count_labels(labels, first.size))
    if unlabelled_counts is None:
        second = np.maximum(available - first, 0)
    else:
        second = _integer_counts(caller, "unlabelled_counts", unlabelled_counts)
    if second.shape != first.shape:
        raise ValueError(
            f"{caller}: unlabelled_counts has shape {second.shape}, expected"
            f" {first.shape} as labelled_counts"
        )
    short = np.flatnonzero(available < first + second)
    if short.size:
        k = short[0]
        warnings.warn(
            f"{caller}: {short.size} class(es) are smaller than requested, e.g. class"
            f" {k} has {available[k]} of {first[k]} + {second[k]} examples; class"
            " statistics must use the realized counts",
            stacklevel=2,
        )
    generator = None if seed is None else np.random.Generator(np.random.PCG64(seed))
    labels = np.asarray(labels)
    labelled, unlabelled = [], []
    for k, (n, m) in enumerate(zip(first, second, strict=True)):
        members = np.flatnonzero(labels == k)
        if generator is not None:
            generator.shuffle(members)
        labelled.append(members[:n])
        start = 0 if unlabelled_includes_labelled else n
        unlabelled.append(members[start : n + m])
    return SemiSupervisedSplit(np.concatenate(labelled), np.concatenate(unlabelled))


def _integer_counts(caller, name, counts) -> np.ndarray:
    check_rank(caller, name, counts, 1, "[K]")
    counts = np.asarray(counts)
    if not np.issubdtype(counts.dtype, np.integer) or np.any(counts < 0):
        raise ValueError(f"{caller}: {name} are {counts}, expected integers >= 0")
    return counts.astype(np.int64)
