"""How evenly accuracy is spread over groups of classes and over the classes."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import dtype_of
from ltjax.metrics.classification import group_means


class Balancedness(NamedTuple):
    """Mean and spread of per-class accuracies.

    Attributes:
        groups: name -> [...], mean accuracy of the group's classes.
        average: [...], mean over the *classes* (not over the groups).
        group_std: [...], sample standard deviation of the group means (ddof = 1).
        group_std_population: [...], the same with ddof = 0.
        class_std: [...], population standard deviation over the classes.
    """

    groups: dict[str, np.ndarray]
    average: np.ndarray
    group_std: np.ndarray
    group_std_population: np.ndarray
    class_std: np.ndarray


def balancedness(recall: ArrayLike, groups: Mapping[str, ArrayLike]) -> Balancedness:
    """Group means, and how far they and the classes lie apart.

    Args:
        recall: [..., K] accuracy of each class, NaN for absent classes.
        groups: name -> bool [K], e.g. of `class_stats.third_groups` (CIFAR) or
            `class_stats.shot_groups` (ImageNet-LT, Places-LT).

    Returns:
        Balancedness; NaN deviations where a group is empty.

    Raises:
        ValueError: if a group is not a bool vector over the classes.

    Example:
        >>> groups = {"many": np.array([1, 0], bool), "few": np.array([0, 1], bool)}
        >>> result = balancedness([0.9, 0.5], groups)
        >>> round(float(result.group_std), 4), round(float(result.average), 4)
        (0.2828, 0.7)

    References:
        Jiang et al., "Self-Damaging Contrastive Learning", ICML 2021, and its code
        (ddof = 0); Zhou et al., "Combating Representation Learning Disparity with
        Geometric Harmonization", NeurIPS 2023, whose tables have ddof = 1 though their
        code computes ddof = 0.
    """
    dtype_of("balancedness", "recall", recall)
    recall = np.asarray(recall, np.float64)
    found = group_means("balancedness", recall, groups)
    means = {name: group.accuracy for name, group in found.items()}
    stacked = np.stack([np.asarray(mean) for mean in means.values()], axis=-1)
    ddof = stacked.shape[-1] > 1
    average = _known_mean(recall)
    return Balancedness(
        groups=means,
        average=average,
        group_std=stacked.std(axis=-1, ddof=1) if ddof else np.nan * stacked[..., 0],
        group_std_population=stacked.std(axis=-1),
        class_std=np.sqrt(_known_mean(np.square(recall - average[..., None]))),
    )


def _known_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN if nothing is left."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
