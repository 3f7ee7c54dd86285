"""One Gaussian per class, those of the tail calibrated by near classes of the head."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_counts,
    check_integers,
    check_range,
    check_rank,
    check_where,
    shape_of,
)
from ltjax.class_stats import count_labels


class ClassGaussians(NamedTuple):
    """A Gaussian for each class.

    Attributes:
        means: [K, D] float64.
        covariances: [K, D, D] float64.
        counts: [K] int, examples that they come from.
    """

    means: np.ndarray
    covariances: np.ndarray
    counts: np.ndarray


def class_gaussians(
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    where: ArrayLike | None = None,
    ridge: float = 1e-4,
) -> ClassGaussians:
    r"""Mean and covariance of every class.

    .. math:: \Sigma_k = \mathrm{cov}_k
              + \text{ridge}\, \frac{\mathrm{tr}\, \mathrm{cov}_k}{D}\, I

    Args:
        features: [N, D] real.
        labels: [N] int.
        num_classes: K.
        where: optional [N] bool, the examples that count, from `inliers_by_class`.
        ridge: >= 0; a class of D examples or fewer has a singular covariance.

    Returns:
        ClassGaussians, on the host; the covariance of a single example is 0.

    Raises:
        ValueError: if shapes disagree, or a class has no example that counts.

    Example:
        >>> points, labels = [[0.0], [2.0], [5.0]], [0, 0, 1]
        >>> found = class_gaussians(points, labels, 2, ridge=0)
        >>> found.means.ravel().tolist(), found.covariances.ravel().tolist()
        ([1.0, 5.0], [2.0, 0.0])
    """
    caller = "class_gaussians"
    check_rank(caller, "features", features, 2, "[N, D]")
    check_range(caller, "ridge", ridge, low=0)
    check_integers(caller, "labels", labels)
    check_where(caller, where, shape_of(labels))
    points, labels = np.asarray(features, np.float64), np.asarray(labels)
    kept = np.ones(labels.shape, bool) if where is None else np.asarray(where)
    if len(points) != labels.size or kept.shape != labels.shape:
        raise ValueError(
            f"{caller}: features has shape {points.shape} and where {kept.shape},"
            f" expected ({labels.size}, D) and ({labels.size},), as labels"
        )
    counts = np.asarray(count_labels(labels[kept], num_classes))
    if not counts.all():
        raise ValueError(
            f"{caller}: class {int(np.argmin(counts))} has no example that counts,"
            " expected one or more"
        )
    dim = points.shape[1]
    means, covariances = np.zeros((num_classes, dim)), np.zeros((num_classes, dim, dim))
    for k in range(num_classes):
        own = points[kept & (labels == k)]
        means[k] = own.mean(axis=0)
        if len(own) > 1:
            away = own - means[k]
            covariances[k] = away.T @ away / (len(own) - 1)
        covariances[k] += ridge * np.trace(covariances[k]) / dim * np.eye(dim)
    return ClassGaussians(means, covariances, counts)


def calibrate_tail(
    gaussians: ClassGaussians,
    class_counts: ArrayLike,
    *,
    nearest: int = 3,
    confidence: float | None = None,
    weights: str = "distance",
) -> ClassGaussians:
    r"""Tail Gaussians, mixed with those of the nearest head classes.

    .. math:: \mu_k' = \gamma_k \mu_k + (1 - \gamma_k) \sum_{j \in C_k} w_j \mu_j

    with :math:`\Sigma_k'` likewise, and C the nearest classes of the head.

    The head are the :math:`\lceil K/2 \rceil` largest classes.

    Args:
        gaussians: from `class_gaussians`.
        class_counts: [K], of the given labels; ties go to the lower index.
        nearest: number of head classes in C, by the distance of the means.
        confidence: gamma in [0, 1] for all tail classes; None for
            0.3 + 0.4 clip((m - 2) / (2 D - 2), 0, 1) with m the class's examples.
        weights: "distance" for :math:`w_j \propto n_j \exp(-\|\mu_j - \mu_k\|^2 / s^2)`
            with s the median distance between head and tail; or "uniform".

    Returns:
        ClassGaussians with the same counts.

    Raises:
        ValueError: if shapes disagree or an argument is out of range.

    Example:
        >>> means = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
        >>> given = ClassGaussians(means, np.zeros((3, 2, 2)), np.array([9, 9, 2]))
        >>> new = calibrate_tail(
        ...     given, given.counts, nearest=1, confidence=0.75, weights="uniform"
        ... )
        >>> new.means[2].tolist()
        [1.25, 0.0]

    References:
        Zhang et al., "When Noisy Labels Meet Long Tail Dilemmas: A Representation
        Calibration Method", ICCV 2023. The nearest head classes are the paper's rule;
        weights, confidence and the size of the head are our choice.
    """
    caller = "calibrate_tail"
    check_range(caller, "nearest", nearest, low=1)
    check_choice(caller, "weights", weights, ("distance", "uniform"))
    if confidence is not None:
        check_range(caller, "confidence", confidence, low=0, high=1)
    means, covariances, kept = gaussians
    num_classes, dim = means.shape
    check_counts(caller, class_counts)
    counts = np.asarray(class_counts)
    if counts.shape != (num_classes,):
        raise ValueError(
            f"{caller}: class_counts has shape {shape_of(class_counts)}, expected"
            f" ({num_classes},), as the Gaussians"
        )
    order = np.argsort(-counts, kind="stable")
    head, tail = np.split(order, [-(-num_classes // 2)])
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)
    scale = np.median(apart[np.ix_(head, tail)]) if tail.size else 1.0
    new_means, new_covariances = means.copy(), covariances.copy()
    for k in tail:
        near = head[np.argsort(apart[k, head], kind="stable")[:nearest]]
        share = np.ones(near.size)
        if weights == "distance" and scale > 0:
            share = counts[near] * np.exp(-((apart[k, near] / scale) ** 2))
        share = share / share.sum()
        own = confidence
        if own is None:
            own = 0.3 + 0.4 * np.clip((kept[k] - 2) / max(2 * dim - 2, 1), 0, 1)
        others = np.tensordot(share, covariances[near], 1)
        new_means[k] = own * means[k] + (1 - own) * share @ means[near]
        new_covariances[k] = own * covariances[k] + (1 - own) * others
    return ClassGaussians(new_means, new_covariances, kept)
