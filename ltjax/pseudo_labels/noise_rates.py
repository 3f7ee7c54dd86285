r"""Which labels are right, and how many of each class, from Gaussians of features.

Where an outlier factor has to be told the noise rate, a mixture estimates it, one rate
for each class: among the labels of rare classes the share of wrong ones is larger.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_range, check_rank, shape_of
from ltjax.class_stats import count_labels


class NoiseRates(NamedTuple):
    """What the mixture says of labels.

    Attributes:
        right: [N] float64, the probability that the label of an example is right.
        rates: [K] float64, the share of wrong labels among those given as class k.
        means: [K, D] float64, of the true classes.
        covariance: [D, D] float64, shared by them.
        objective: [T] float64, the penalized log-likelihood of each iteration, which
            never falls.
    """

    right: np.ndarray
    rates: np.ndarray
    means: np.ndarray
    covariance: np.ndarray
    objective: np.ndarray


def noise_rates(
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    shrinkage: float = 0.1,
    start: float = 0.2,
    iterations: int = 100,
    tolerance: float = 1e-6,
) -> NoiseRates:
    r"""Rates of wrong labels by expectation maximization.

    A label k is kept with probability :math:`1 - \epsilon_k`, or else it was put on an
    example of any class j, drawn from :math:`g`:

    .. math:: p(z \mid k) = (1 - \epsilon_k)\, N(z; \mu_k, \Sigma)
              + \epsilon_k \sum_j g_j\, N(z; \mu_j, \Sigma)

    One iteration estimates all of :math:`\epsilon, g, \mu, \Sigma` in closed form. The
    prior of the means is a Gaussian around the medians of the given classes, worth one
    example each, so that a class of few examples is not drawn to its wrong ones; that
    of the covariance pulls it towards the total variance, equal in all directions.

    Args:
        features: [N, D] real.
        labels: [N] int, given labels.
        num_classes: K.
        shrinkage: in [0, 1), the weight of the equal variances in the covariance.
        start: in (0, 1), the first :math:`\epsilon` of every class.
        iterations: at most, >= 1.
        tolerance: on the largest change of a probability `right`.

    Returns:
        `NoiseRates`, on the host in float64. A class without an example has rate 0.

    Raises:
        ValueError: if shapes disagree, a label lies outside [0, K), features do not
            vary or are not finite, or a number is out of range.

    Example:
        >>> points = [[0.0], [0.1], [0.2], [9.0], [9.0], [9.1], [9.2]]
        >>> found = noise_rates(points, [0, 0, 0, 0, 1, 1, 1], 2)
        >>> found.right.round(2).tolist()
        [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
        >>> found.rates.round(2).tolist()
        [0.25, 0.0]

    References:
        Dempster, Laird and Rubin, "Maximum Likelihood from Incomplete Data via the EM
        Algorithm", 1977. Its place is that of the outlier factors in Zhang et al.,
        "When Noisy Labels Meet Long Tail Dilemmas", ICCV 2023; the mixture is ours.
    """
    caller = "noise_rates"
    check_rank(caller, "features", features, 2, "[N, D]")
    check_range(caller, "shrinkage", shrinkage, low=0, high=1, open_high=True)
    check_range(caller, "start", start, low=0, high=1, open_low=True, open_high=True)
    check_range(caller, "iterations", iterations, low=1)
    counts = np.asarray(count_labels(labels, num_classes))
    points, given = np.asarray(features, np.float64), np.asarray(labels)
    size, dim = points.shape
    if size != given.size:
        raise ValueError(
            f"{caller}: features has shape {shape_of(features)}, expected"
            f" ({given.size}, D), one row per label"
        )
    variance = float(np.mean(np.var(points, axis=0))) if size else 0.0
    if not 0 < variance < np.inf:
        raise ValueError(
            f"{caller}: features have the variance {variance}, expected finite features"
            " that vary"
        )
    weight = size * shrinkage / (1 - shrinkage)
    medians = np.stack(
        [
            np.median(points[given == k] if counts[k] else points, axis=0)
            for k in range(num_classes)
        ]
    )
    wrong = np.where(counts > 0, start, 0.0)
    source = np.full(num_classes, 1 / num_classes)
    means, covariance = medians, variance * np.eye(dim)
    right, objective = np.full(size, np.nan), []
    for _ in range(iterations):
        # E: was the label kept, and if not, which class is the example of?
        log_density = _log_densities(points, means, covariance)
        with np.errstate(divide="ignore"):
            log_kept = np.log1p(-wrong)[given] + log_density[np.arange(size), given]
            log_put = np.log(wrong)[given, None] + np.log(source) + log_density
        top = np.maximum(log_kept, log_put.max(axis=1))
        kept, put = np.exp(log_kept - top), np.exp(log_put - top[:, None])
        total = kept + put.sum(axis=1)
        kept, put = kept / total, put / total[:, None]
        away = medians - means
        objective.append(
            np.sum(top + np.log(total))
            - _penalty(covariance, away, weight, variance, num_classes)
        )
        before, right = right, kept + put[np.arange(size), given]
        if np.max(np.abs(right - before)) <= tolerance:
            break
        # M: each in closed form, the means before the covariance.
        shares = put.copy()
        shares[np.arange(size), given] += kept
        mass = shares.sum(axis=0)
        lost = np.bincount(given, 1 - kept, num_classes)
        wrong = np.divide(lost, counts, out=np.zeros(num_classes), where=counts > 0)
        source = put.sum(axis=0) / max(put.sum(), np.finfo(np.float64).tiny)
        means = (medians + shares.T @ points) / (1 + mass)[:, None]
        covariance = _scatter(points, shares, means) + weight * variance * np.eye(dim)
        covariance += (medians - means).T @ (medians - means)
        covariance /= size + num_classes + weight
    lost = np.bincount(given, 1 - right, num_classes)
    rates = np.divide(lost, counts, out=np.zeros(num_classes), where=counts > 0)
    return NoiseRates(right, rates, means, covariance, np.asarray(objective))


def _log_densities(points, means, covariance) -> np.ndarray:
    """[N, K], log N(z; mu_k, Sigma)."""
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, points.T).T
    centers = np.linalg.solve(root, means.T).T
    squares = np.sum(white**2, axis=1)[:, None] + np.sum(centers**2, axis=1)
    squares = np.maximum(squares - 2 * white @ centers.T, 0)
    log_det = 2 * np.sum(np.log(np.diag(root)))
    return -0.5 * (squares + log_det + len(root) * np.log(2 * np.pi))


def _scatter(points, shares, means) -> np.ndarray:
    """[D, D], the sum over i and k of shares (z - mu)(z - mu)^T."""
    second = (points * shares.sum(axis=1)[:, None]).T @ points
    cross = (shares.T @ points).T @ means
    weighted = (means * shares.sum(axis=0)[:, None]).T @ means
    return second - cross - cross.T + weighted


def _penalty(covariance, away, weight, variance, num_classes) -> float:
    """Minus the log-prior of means and covariance, up to a constant."""
    log_det = np.linalg.slogdet(covariance)[1]
    inverse = np.linalg.inv(covariance)
    spread = np.einsum("kd,de,ke->", away, inverse, away)
    pull = weight * variance * np.trace(inverse)
    return 0.5 * ((num_classes + weight) * log_det + pull + spread)
