r"""Label noise on a long-tailed training set: given labels, some of them wrong.

A kind of noise is its transition matrix, :math:`T_{ij} = P(\tilde y = j \mid y = i)`;
`corrupt_labels` applies any of them. Subsample to the long tail first, then corrupt:
methods see the noisy labels and their counts, never the clean ones. All of it is numpy
and a pure function of its arguments.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_counts, check_range
from ltjax.class_stats import count_labels

# Truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog.
CIFAR10_CONFUSIONS = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}

# The classes that are confused with each other in heteroskedastic noise.
CIFAR10_CONFUSED_GROUPS = ((1, 9), (3, 5))
CIFAR100_CONFUSED_GROUPS = ((8, 13, 58, 90, 48), (41, 69, 81, 85, 89))


def symmetric_noise(num_classes: int, rate: float) -> np.ndarray:
    r"""A wrong label is any other, all equally likely.

    On a long tail this swamps the small classes: in CIFAR-10-LT with an imbalance
    factor of 100 and rate 0.4, the last class grows from 50 to 579 expected examples.

    Args:
        num_classes: K >= 2.
        rate: in [0, 1].

    Returns:
        [K, K] float64; rows sum to 1.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> symmetric_noise(3, 0.5).tolist()
        [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]
    """
    caller = "symmetric_noise"
    check_range(caller, "num_classes", num_classes, low=2)
    check_range(caller, "rate", rate, low=0, high=1)
    matrix = np.full((num_classes, num_classes), rate / (num_classes - 1))
    np.fill_diagonal(matrix, 1.0 - rate)
    return matrix


def imbalanced_noise(class_counts: ArrayLike, rate: float) -> np.ndarray:
    r"""A wrong label is any other, in proportion to the size of its class.

    .. math:: T_{ii} = 1 - \rho, \qquad T_{ij} = \rho\, \frac{n_j}{N - n_i}

    Args:
        class_counts: [K] >= 0, of the clean long-tailed set; two or more are positive.
        rate: rho in [0, 1].

    Returns:
        [K, K] float64; rows sum to 1.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> imbalanced_noise([50, 30, 20], 0.4)[0].round(2).tolist()
        [0.6, 0.24, 0.16]

    References:
        Wei et al., "Robust Long-Tailed Learning under Label Noise", 2021 (RoLT); also
        the noise of RCAL, ICCV 2023.
    """
    caller = "imbalanced_noise"
    check_range(caller, "rate", rate, low=0, high=1)
    counts = _two_classes(caller, class_counts)
    matrix = rate * counts[None] / (counts.sum() - counts)[:, None]
    np.fill_diagonal(matrix, 1.0 - rate)
    return matrix


def proportional_noise(class_counts: ArrayLike, rate: float) -> np.ndarray:
    r"""Labels drawn anew from the class prior: the counts stay as they are.

    .. math:: T = (1 - \rho')\, I + \rho'\, 1 \pi^\top, \qquad
              \rho' = \rho \Big/ \Big(1 - \sum_k \pi_k^2\Big)

    so that :math:`\pi^\top T = \pi^\top` and a fraction rho of all labels is wrong.

    Args:
        class_counts: [K] >= 0, two or more positive.
        rate: rho in [0, 1 - sum of squared priors].

    Returns:
        [K, K] float64; rows sum to 1.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> proportional_noise([30, 10], 0.3).round(3).tolist()
        [[0.8, 0.2], [0.6, 0.4]]

    References:
        Wei et al., 2021 (RoLT), released code, the kind "new".
    """
    caller = "proportional_noise"
    counts = _two_classes(caller, class_counts)
    prior = counts / counts.sum()
    most = 1.0 - np.sum(prior**2)
    check_range(caller, "rate", rate, low=0, high=float(most))
    drawn = rate / most
    return (1.0 - drawn) * np.eye(prior.size) + drawn * prior[None]


def asymmetric_noise(
    num_classes: int, rate: float, confusions: Mapping[int, int] | None = None
) -> np.ndarray:
    """Every class is mistaken for one other class, or for none.

    Args:
        num_classes: K >= 2.
        rate: in [0, 1], of the confused classes.
        confusions: class -> the class it is mistaken for, such as
            `CIFAR10_CONFUSIONS`; None for the next class, k -> k + 1 mod K ("pair").

    Returns:
        [K, K] float64; rows sum to 1.

    Raises:
        ValueError: if an argument is out of range, or a class is mistaken for itself.

    Example:
        >>> asymmetric_noise(3, 0.25, {0: 2}).tolist()
        [[0.75, 0.0, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    References:
        Patrini et al., "Making Deep Neural Networks Robust to Label Noise", CVPR 2017
        (CIFAR-10); Han et al., "Co-teaching", NeurIPS 2018 (pair).
    """
    caller = "asymmetric_noise"
    check_range(caller, "num_classes", num_classes, low=2)
    check_range(caller, "rate", rate, low=0, high=1)
    if confusions is None:
        confusions = {k: (k + 1) % num_classes for k in range(num_classes)}
    matrix = np.eye(num_classes)
    for source, target in confusions.items():
        inside = 0 <= source < num_classes and 0 <= target < num_classes
        if not inside or source == target:
            raise ValueError(
                f"{caller}: confusions has {source} -> {target}, expected two different"
                f" classes in [0, {num_classes})"
            )
        matrix[source, source] = 1.0 - rate
        matrix[source, target] = rate
    return matrix


def group_noise(
    num_classes: int, rate: float, groups: Sequence[Sequence[int]]
) -> np.ndarray:
    """Classes of a group are confused with each other, all others are clean.

    Args:
        num_classes: K.
        rate: in [0, 1], of the classes in groups, shared by the others of the group.
        groups: disjoint, of two classes or more each, such as
            `CIFAR10_CONFUSED_GROUPS` or `CIFAR100_CONFUSED_GROUPS`.

    Returns:
        [K, K] float64; rows sum to 1.

    Raises:
        ValueError: if the rate is out of range or the groups are not as expected.

    Example:
        >>> group_noise(3, 0.4, [(0, 2)]).tolist()
        [[0.6, 0.0, 0.4], [0.0, 1.0, 0.0], [0.4, 0.0, 0.6]]

    References:
        Cao et al., "Heteroskedastic and Imbalanced Deep Learning with Adaptive
        Regularization", ICLR 2021 (rate 0.4). There labels are corrupted first and the
        long tail is taken by noisy labels.
    """
    caller = "group_noise"
    check_range(caller, "rate", rate, low=0, high=1)
    members = [k for group in groups for k in group]
    inside = all(0 <= k < num_classes for k in members)
    if not inside or len(set(members)) < len(members) or min(map(len, groups)) < 2:
        raise ValueError(
            f"{caller}: groups are {groups}, expected disjoint groups of two or more"
            f" classes in [0, {num_classes})"
        )
    matrix = np.eye(num_classes)
    for group in groups:
        rows = np.asarray(group)
        matrix[np.ix_(rows, rows)] = rate / (rows.size - 1)
        matrix[rows, rows] = 1.0 - rate
    return matrix


def corrupt_labels(
    labels: ArrayLike,
    transition: ArrayLike,
    *,
    selection: str = "exact",
    seed: int = 0,
) -> np.ndarray:
    r"""Replaces labels by noisy ones.

    Args:
        labels: [N] int, clean labels.
        transition: [K, K] >= 0, rows sum to 1.
        selection: "exact" corrupts :math:`\lfloor \rho N \rfloor` examples, chosen over
            the whole set, which needs one rate :math:`\rho = 1 - T_{ii}` for all
            classes; their new labels differ from the old. "independent" draws every
            label from its row.
        seed: the same seed gives the same labels on every machine.

    Returns:
        [N] noisy labels in the dtype of `labels`.

    Raises:
        ValueError: if a label lies outside [0, K), the matrix is no transition matrix,
            or an exact selection is asked of rates that differ.

    Example:
        >>> noisy = corrupt_labels([0] * 5 + [1] * 5, symmetric_noise(2, 0.4))
        >>> int((noisy != np.array([0] * 5 + [1] * 5)).sum())
        4

    References:
        Exact: Wei et al., 2021 (RoLT). Independent: Han et al., "Co-teaching", NeurIPS
        2018, and most codes since.
    """
    caller = "corrupt_labels"
    check_choice(caller, "selection", selection, ("exact", "independent"))
    matrix = np.asarray(transition, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"{caller}: transition has shape {matrix.shape}, expected [K, K]"
        )
    if not (np.all(matrix >= 0) and np.allclose(matrix.sum(axis=1), 1, atol=1e-9)):
        off = np.abs(matrix.sum(axis=1) - 1)
        row = int(np.argmax(np.where((matrix < 0).any(axis=1), np.inf, off)))
        raise ValueError(
            f"{caller}: row {row} of transition is {matrix[row].tolist()}, of sum"
            f" {matrix[row].sum():.6g}; transition needs entries >= 0 and rows of sum 1"
        )
    count_labels(labels, matrix.shape[0])
    noisy = np.array(labels)
    generator = np.random.Generator(np.random.PCG64(seed))
    if selection == "exact":
        rates = 1.0 - np.diagonal(matrix)
        if np.ptp(rates) > 1e-9:
            raise ValueError(
                f"{caller}: an exact selection needs one rate, but classes have rates"
                f" from {rates.min():.6g} to {rates.max():.6g}; use"
                ' selection="independent"'
            )
        # 1 - 0.7 in float64 is a little less than 0.3.
        size = int(np.floor(rates[0] * noisy.size + 1e-9 * noisy.size))
        chosen = np.sort(generator.permutation(noisy.size)[:size])
        matrix = matrix * (1.0 - np.eye(len(matrix)))
    else:
        chosen = np.arange(noisy.size)
    drawn, clean = generator.random(chosen.size), noisy[chosen]
    for k in np.unique(clean):
        at = clean == k
        steps = np.cumsum(matrix[k])
        # The first class whose cumulated probability exceeds the draw; scaled, the
        # last one does so for every draw below 1.
        noisy[chosen[at]] = np.searchsorted(steps / steps[-1], drawn[at], side="right")
    return noisy


def _two_classes(caller, class_counts) -> np.ndarray:
    check_counts(caller, class_counts)
    counts = np.asarray(class_counts, np.float64)
    if np.count_nonzero(counts) < 2:
        raise ValueError(
            f"{caller}: class_counts are {counts}, expected two positive ones or more"
        )
    return counts
