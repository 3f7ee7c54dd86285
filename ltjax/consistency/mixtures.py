r"""Gaussian mixtures whose best balanced error is known in closed form.

All classes have unit covariance, so log posteriors are linear in x up to a constant.
Everything here is numpy in float64.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from ltjax.consistency.joints import long_tailed_prior


class GaussianMixture(NamedTuple):
    """Classes x | y = k ~ N(means[k], I) with a prior over the classes.

    Attributes:
        means: [K, D] float64.
        prior: [K] float64.
        bayes_balanced_error: in closed form.
    """

    means: np.ndarray
    prior: np.ndarray
    bayes_balanced_error: float


def gaussian_line(
    num_classes: int, *, gap: float = 2.0, dim: int = 1, imbalance_factor: float = 1.0
) -> GaussianMixture:
    r"""Equally spaced means on a line.

    The best balanced rule takes the nearest mean; inner classes lose both tails, the
    two outer ones one:

    .. math:: \mathrm{BER}^* = \frac{2(K-1)}{K}\, \Phi(-\text{gap}/2).

    Args:
        num_classes: K >= 2; 2 is the textbook pair.
        gap: distance of neighbors, in standard deviations.
        dim: D >= 1; further dimensions are noise.
        imbalance_factor: rho of the exponential prior, rarest class last.

    Returns:
        `GaussianMixture`.

    Example:
        >>> round(gaussian_line(2, gap=2.0).bayes_balanced_error, 8)
        0.15865525
    """
    means = np.zeros((num_classes, dim))
    means[:, 0] = gap * np.arange(num_classes)
    error = 2 * (num_classes - 1) / num_classes * ndtr(-gap / 2)
    prior = long_tailed_prior(num_classes, imbalance_factor)
    return GaussianMixture(means, prior, float(error))


def gaussian_cube(
    corners: int, *, gap: float = 3.0, dim: int | None = None, imbalance_factor: float
) -> GaussianMixture:
    r"""One class at every corner of a cube in `corners` dimensions, K = 2^corners.

    The coordinates are independent and each must have the right sign:

    .. math:: \mathrm{BER}^* = 1 - \Phi(\text{gap}/2)^{\text{corners}}.

    Args:
        corners: dimension of the cube.
        gap: length of an edge, in standard deviations.
        dim: D >= corners; further dimensions are noise. None for D = corners.
        imbalance_factor: rho of the exponential prior.

    Returns:
        `GaussianMixture`.

    Raises:
        ValueError: if dim < corners.

    Example:
        >>> cube = gaussian_cube(1, gap=2.0, imbalance_factor=1.0)
        >>> round(cube.bayes_balanced_error, 8)
        0.15865525
    """
    dim = corners if dim is None else dim
    if dim < corners:
        raise ValueError(f"gaussian_cube: dim is {dim}, expected at least {corners}")
    num_classes = 2**corners
    means = np.zeros((num_classes, dim))
    signs = (np.arange(num_classes)[:, None] >> np.arange(corners)) & 1
    means[:, :corners] = gap * (signs - 0.5)
    error = 1 - ndtr(gap / 2) ** corners
    prior = long_tailed_prior(num_classes, imbalance_factor)
    return GaussianMixture(means, prior, float(error))


def sample_mixture(
    mixture: GaussianMixture, number: int, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a training set with the class counts of the prior.

    Args:
        mixture: distribution.
        number: N.
        seed: of the draw.

    Returns:
        (features [N, D] float64, labels [N] int32); counts are N times the prior,
        rounded by largest remainder, so only the features are random.

    Raises:
        ValueError: if N is too small for every class to have an example.

    Example:
        >>> pair = gaussian_line(2, imbalance_factor=4.0)
        >>> np.bincount(sample_mixture(pair, 5, seed=0)[1]).tolist()
        [4, 1]
    """
    exact = number * mixture.prior
    counts = np.floor(exact).astype(np.int64)
    missing = number - counts.sum()
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    if counts.min() < 1:
        raise ValueError(
            f"sample_mixture: {number} examples leave class {counts.argmin()} empty"
        )
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    rng = np.random.Generator(np.random.Philox(key=[seed, number]))
    noise = rng.standard_normal((number, mixture.means.shape[1]))
    return mixture.means[labels] + noise, labels


def estimate_balanced_regret(
    mixture: GaussianMixture,
    score: Callable[[np.ndarray], np.ndarray],
    *,
    number: int = 200_000,
    seed: int = 0,
) -> float:
    r"""Balanced regret of a rule, from the known posterior at drawn points.

    With q the posterior under equal class frequencies, which is known exactly,

    .. math:: \mathrm{BER}(h) - \mathrm{BER}^* = E_x\bigl[\max_k q_k(x) - q_{h(x)}(x)
              \bigr],

    and the average has no noise where the rule agrees with the best one: far less
    variance than counting errors, and exactly 0 for the best rule.

    Args:
        mixture: distribution.
        score: [T, D] -> [T, K] scores, decided by argmax.
        number: points drawn, equally many from every class.
        seed: of the draw.

    Returns:
        Regret >= 0.

    Example:
        >>> pair = gaussian_line(2, gap=2.0)
        >>> best = lambda x: np.concatenate([-x, x - 2.0], axis=1)
        >>> estimate_balanced_regret(pair, best, number=1000)
        0.0
    """
    num_classes, dim = mixture.means.shape
    labels = np.arange(number) % num_classes
    rng = np.random.Generator(np.random.Philox(key=[seed, number]))
    points = mixture.means[labels] + rng.standard_normal((number, dim))
    centers = mixture.means
    exponent = points @ centers.T - 0.5 * np.sum(centers**2, axis=1)
    posterior = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    posterior /= posterior.sum(axis=1, keepdims=True)
    chosen = np.argmax(score(points), axis=1)
    lost = posterior.max(axis=1) - posterior[np.arange(number), chosen]
    return float(lost.mean())
