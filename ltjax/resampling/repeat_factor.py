r"""Repeat-factor sampling: classes rarer than a threshold are drawn more often."""

import dataclasses

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_counts, check_range
from ltjax.class_stats import count_labels
from ltjax.options import Component, option
from ltjax.resampling.component import SamplerOptions, deferred, label_arguments
from ltjax.resampling.samplers import Sampler, class_weighted


def repeat_factors(class_counts: ArrayLike, *, threshold: float) -> np.ndarray:
    r"""How often an example of each class is repeated,
    :math:`r_k = \max(1, \sqrt{t / \pi_k})`.

    Args:
        class_counts: [K] >= 0; a class without examples has the factor 1.
        threshold: t in (0, 1], share of the examples below which a class is repeated.

    Returns:
        [K] float64 >= 1.

    Raises:
        ValueError: if the threshold is out of range or there is no example at all.

    Example:
        >>> repeat_factors([90, 10], threshold=0.4).tolist()
        [1.0, 2.0]

    References:
        Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation",
        CVPR 2019, section 5.
    """
    check_range("repeat_factors", "threshold", threshold, low=0, high=1, open_low=True)
    check_counts("repeat_factors", class_counts)
    counts = np.asarray(class_counts, np.float64)
    if counts.sum() == 0:
        raise ValueError("repeat_factors: class_counts are all 0, expected examples")
    share = np.where(counts > 0, counts / counts.sum(), 1.0)
    return np.maximum(1.0, np.sqrt(threshold / share))


def repeat_factor(
    labels: ArrayLike, num_classes: int, batch_size: int, *, threshold: float = 0.05
) -> Sampler:
    """Draws each example with probability proportional to its class's repeat factor.

    The expected numbers of draws are those of repeating the examples; an epoch is
    N // B steps, as for every sampler.

    Args:
        labels: [N] int.
        num_classes: K; classes without examples are never drawn.
        batch_size: B.
        threshold: see `repeat_factors`. LVIS has 0.001 for 1,200 classes.

    Returns:
        `Sampler`.

    Raises:
        ValueError: see `repeat_factors`.

    Example:
        >>> repeat_factor([0, 0, 0, 1], 2, 4)(seed=0, step=0)[0].shape
        (4,)
    """
    counts = count_labels(labels, num_classes)
    weights = repeat_factors(counts, threshold=threshold)
    return class_weighted(labels, num_classes, batch_size, weights=weights)


@dataclasses.dataclass(frozen=True)
class RepeatFactorOptions(SamplerOptions):
    """Of repeat-factor sampling."""

    threshold: float = option(
        0.05, "share below which a class is repeated", above=0, high=1
    )


REPEAT_FACTOR = Component(
    "rare examples repeated by the root of their rarity (Gupta 2019)",
    RepeatFactorOptions,
    deferred(
        lambda o, setting: repeat_factor(
            *label_arguments(setting), threshold=o.threshold
        )
    ),
)
