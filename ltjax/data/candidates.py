r"""Candidate sets for partial-label learning: the true label, hidden among others.

A generator is a matrix: entry (i, j) is the probability that label j is a candidate of
an example of class i. `candidate_sets` draws from any such matrix, and the functions
beside it give those of the literature. All of it is numpy and a pure function of its
arguments.
"""

import math
from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_range, check_rank, shape_of
from ltjax.class_stats import count_labels

# Superclass of the 100 fine labels of CIFAR-100, both in alphabetical order (aquatic
# mammals, fish, flowers, food containers, fruit and vegetables, household electrical
# devices, household furniture, insects, large carnivores, large man-made outdoor
# things, large natural outdoor scenes, large omnivores and herbivores, medium-sized
# mammals, non-insect invertebrates, people, reptiles, small mammals, trees, vehicles 1,
# vehicles 2).
# fmt: off
CIFAR100_SUPERCLASSES = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11,
    6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5,
    5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17,
    10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13,
    16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)
# fmt: on

# Random numbers drawn at a time, so that N x K of them are never in memory.
_BLOCK = 1 << 22


def uniform_ambiguity(num_classes: int, ambiguity: float) -> np.ndarray:
    r"""Every wrong label is a candidate with the same probability q.

    Args:
        num_classes: K.
        ambiguity: q in [0, 1].

    Returns:
        [K, K] float64 with ones on the diagonal. Sets have
        :math:`1 + q (K - 1)` labels on average.

    Raises:
        ValueError: if q is out of range.

    Example:
        >>> uniform_ambiguity(3, 0.5).sum(axis=1).tolist()
        [2.0, 2.0, 2.0]

    References:
        Lv et al., "Progressive Identification of True Labels for Partial-Label
        Learning", ICML 2020 (there with at least two candidates); Wang et al., "SoLar",
        NeurIPS 2022; Hong et al., "RECORDS", ICLR 2023.
    """
    caller = "uniform_ambiguity"
    check_range(caller, "num_classes", num_classes, low=1)
    check_range(caller, "ambiguity", ambiguity, low=0, high=1)
    matrix = np.full((num_classes, num_classes), float(ambiguity))
    np.fill_diagonal(matrix, 1.0)
    return matrix


def hierarchical_ambiguity(
    superclasses: ArrayLike, *, within: float, across: float = 0.0
) -> np.ndarray:
    r"""Wrong labels of the same superclass are candidates more often than others.

    Args:
        superclasses: [K] int, the superclass of every class, such as
            `CIFAR100_SUPERCLASSES`.
        within: probability of a wrong label of the same superclass.
        across: probability of a label of another superclass.

    Returns:
        [K, K] float64 with ones on the diagonal.

    Raises:
        ValueError: if a probability is out of range or superclasses is not a vector.

    Example:
        >>> hierarchical_ambiguity([0, 0, 1], within=0.8, across=0.1).tolist()
        [[1.0, 0.8, 0.1], [0.8, 1.0, 0.1], [0.1, 0.1, 1.0]]

    References:
        Hong et al., ICLR 2023 (non-uniform CIFAR-100-LT: within 8 q, across q, so that
        sets have 1 + 32 q + 95 q labels on average); Wang et al., "PiCO", ICLR 2022,
        and "SoLar", NeurIPS 2022 (CIFAR-100-H: across 0).
    """
    caller = "hierarchical_ambiguity"
    check_rank(caller, "superclasses", superclasses, 1, "[K]")
    check_range(caller, "within", within, low=0, high=1)
    check_range(caller, "across", across, low=0, high=1)
    groups = np.asarray(superclasses)
    together = groups[:, None] == groups[None]
    matrix = np.where(together, float(within), float(across))
    np.fill_diagonal(matrix, 1.0)
    return matrix


def label_dependent_ambiguity(
    num_classes: int,
    probabilities: ArrayLike | Sequence[float] = (0.5, 0.4, 0.3, 0.2, 0.1),
) -> np.ndarray:
    r"""The next classes are candidates, the nearer the more often.

    Args:
        num_classes: K.
        probabilities: [d] in [0, 1], d < K; entry s - 1 is the probability of label
            :math:`(y + s) \bmod K`. A single one is the "pair" generator.

    Returns:
        [K, K] float64 with ones on the diagonal.

    Raises:
        ValueError: if a probability is out of range, or there are K or more.

    Example:
        >>> label_dependent_ambiguity(3, [0.5]).tolist()
        [[1.0, 0.5, 0.0], [0.0, 1.0, 0.5], [0.5, 0.0, 1.0]]

    References:
        Wang et al., "SoLar: Sinkhorn Label Refinery for Imbalanced Partial-Label
        Learning", NeurIPS 2022 (the default, CIFAR-10); Lv et al., ICML 2020 (pair).
    """
    caller = "label_dependent_ambiguity"
    check_range(caller, "num_classes", num_classes, low=1)
    check_rank(caller, "probabilities", probabilities, 1, "[d]")
    steps = np.asarray(probabilities, np.float64)
    if steps.size >= num_classes or not np.all((steps >= 0) & (steps <= 1)):
        raise ValueError(
            f"{caller}: probabilities are {steps}, expected fewer than {num_classes}"
            " numbers in [0, 1]"
        )
    matrix = np.eye(num_classes)
    classes = np.arange(num_classes)
    for step, probability in enumerate(steps, start=1):
        matrix[classes, (classes + step) % num_classes] = probability
    return matrix


def candidate_sets(
    labels: ArrayLike, probabilities: ArrayLike, *, seed: int = 0, at_least: int = 1
) -> np.ndarray:
    r"""Draws a candidate set for every example; the true label is always in it.

    .. math:: S_{ij} = [U_{ij} < P_{y_i j}] \;\lor\; [j = y_i], \qquad
              U_{ij} \sim \mathrm{Uniform}[0, 1)

    Full sets and sets of the true label alone are kept.

    Args:
        labels: [N] int, the true labels.
        probabilities: [K, K] in [0, 1], P; the diagonal is not read.
        seed: of the uniform numbers, one per example and label, drawn in this order;
            one seed gives nested sets for growing P.
        at_least: 1, or 2 to add one random wrong label to every set of one.

    Returns:
        [N, K] bool.

    Raises:
        ValueError: if a label lies outside [0, K), P is not a [K, K] matrix
            of probabilities, or at_least is neither 1 nor 2 (or 2 for a single class).

    Example:
        >>> sets = candidate_sets([2, 0], uniform_ambiguity(3, 0.0))
        >>> sets.astype(int).tolist()
        [[0, 0, 1], [1, 0, 0]]

    References:
        See `uniform_ambiguity`, `hierarchical_ambiguity` and
        `label_dependent_ambiguity`; at_least = 2 is the "binomial" generator of Lv et
        al., ICML 2020.
    """
    caller = "candidate_sets"
    matrix = np.asarray(probabilities, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"{caller}: probabilities has shape {matrix.shape}, expected [K, K]"
        )
    k = matrix.shape[0]
    if not np.all((matrix >= 0) & (matrix <= 1)):
        raise ValueError(f"{caller}: probabilities must lie in [0, 1]")
    check_range(caller, "at_least", at_least, low=1, high=min(2, k))
    count_labels(labels, k)
    labels = np.asarray(labels)
    generator = np.random.Generator(np.random.PCG64(seed))
    sets = np.empty((labels.size, k), bool)
    rows = max(1, _BLOCK // k)
    for start in range(0, labels.size, rows):
        y = labels[start : start + rows]
        drawn = generator.random((y.size, k)) < matrix[y]
        drawn[np.arange(y.size), y] = True
        sets[start : start + rows] = drawn
    if at_least == 2:
        alone = np.flatnonzero(sets.sum(axis=1) == 1)
        step = generator.integers(1, k, size=alone.size)
        sets[alone, (labels[alone] + step) % k] = True
    return sets


def candidate_subsets(
    labels: ArrayLike, num_classes: int, *, seed: int = 0
) -> np.ndarray:
    r"""Candidate sets of the size of a random subset of the labels.

    The size is drawn as that of a uniform subset, neither empty nor full,

    .. math:: P(|S| = s) = \binom{K}{s} / (2^K - 2), \qquad s = 1, \dots, K - 1

    and the true label is joined by s - 1 random wrong ones. The mean size is K/2; sets
    that are uniform among those with the true label would be larger, but are not what
    the published codes draw.

    Args:
        labels: [N] int, the true labels.
        num_classes: K >= 2.
        seed: of the draws.

    Returns:
        [N, K] bool.

    Raises:
        ValueError: if a label lies outside [0, K) or K < 2.

    Example:
        >>> candidate_subsets([1, 0, 1], 2).astype(int).tolist()
        [[0, 1], [1, 0], [0, 1]]

    References:
        Feng et al., "Provably Consistent Partial-Label Learning", NeurIPS 2020; used
        by Zhang et al. (CAVL), ICLR 2022.
    """
    caller = "candidate_subsets"
    check_range(caller, "num_classes", num_classes, low=2)
    count_labels(labels, num_classes)
    labels, k = np.asarray(labels), int(num_classes)
    generator = np.random.Generator(np.random.PCG64(seed))
    # Python's integers: the binomials of a thousand classes overflow a float.
    ways = [math.comb(k, size) for size in range(1, k)]
    chances = np.array([way / (2**k - 2) for way in ways])
    sizes = generator.choice(np.arange(1, k), size=labels.size, p=chances)
    sets = np.zeros((labels.size, k), bool)
    rows = max(1, _BLOCK // k)
    for start in range(0, labels.size, rows):
        y = labels[start : start + rows]
        order = generator.random((y.size, k))
        order[np.arange(y.size), y] = -1.0  # the true label comes first
        rank = np.argsort(np.argsort(order, axis=1), axis=1)
        sets[start : start + rows] = rank < sizes[start : start + rows, None]
    return sets


def mean_candidates(candidates: ArrayLike) -> float:
    """Mean number of candidates of an example.

    Args:
        candidates: [N, K] bool or 0/1.

    Returns:
        In [1, K] for sets that hold the true label.

    Raises:
        ValueError: if candidates is not a matrix.

    Example:
        >>> mean_candidates([[1, 0, 1], [1, 1, 1]])
        2.5
    """
    if len(shape_of(candidates)) != 2:
        raise ValueError(
            f"mean_candidates: candidates has shape {shape_of(candidates)},"
            " expected [N, K]"
        )
    return float(np.mean(np.sum(np.asarray(candidates) != 0, axis=1)))
