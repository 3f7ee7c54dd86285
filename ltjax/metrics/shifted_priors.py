r"""Accuracy under other class priors, from the recalls that one test set gives.

A test set in which class k has the share :math:`w_k` has the expected accuracy
:math:`\sum_k w_k\, \mathrm{recall}_k`, whatever the shares were among the examples that
the recalls come from. So no test set is drawn, and any number of priors costs one pass.
"""

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_counts,
    check_range,
    check_rank,
    check_seed,
    check_whole,
    dtype_of,
)


def exponential_prior(
    class_counts: ArrayLike, *, ratio: float, backward: bool = False
) -> np.ndarray:
    r"""An exponential prior by frequency rank.

    .. math:: w_k \propto \gamma^{-r_k / (K - 1)}

    with the rank r = 0 of the most frequent training class, or of the rarest one.
    Classes of equal counts share the mean of what their ranks would get.

    Args:
        class_counts: [K] non-negative, training examples per class; they give the
            order.
        ratio: gamma >= 1, of the largest share to the smallest; 1 is uniform.
        backward: whether the rarest training class is the most frequent one here.

    Returns:
        [K] float64, sums to 1.

    Raises:
        ValueError: if a count is negative or ratio < 1.

    Example:
        >>> exponential_prior([5, 80, 15], ratio=4.0).round(4)
        array([0.1429, 0.5714, 0.2857])

    References:
        Zhang et al., NeurIPS 2022 (SADE): ratios 50, 25, 10, 5 and 2, both ways.
    """
    check_counts("exponential_prior", class_counts)
    check_range("exponential_prior", "ratio", ratio, low=1)
    counts = np.asarray(class_counts, np.float64)
    ordered = counts if backward else -counts
    rank = np.empty(counts.size)
    rank[np.argsort(ordered, kind="stable")] = np.arange(counts.size)
    weights = float(ratio) ** -(rank / max(counts.size - 1, 1))
    _, group, number = np.unique(counts, return_inverse=True, return_counts=True)
    weights = (np.bincount(group, weights=weights) / number)[group]
    return weights / weights.sum()


def dirichlet_priors(
    prior: ArrayLike, *, size: float, draws: int, seed: int = 0
) -> np.ndarray:
    r"""Random priors around a given one.

    .. math:: p \sim \mathrm{Dir}(a), \qquad a_k = S\,
              \frac{u_k w_k}{\sum_j u_j w_j}, \quad u_k \sim U(0.95, 1.05)

    Args:
        prior: [K] w, sums to 1.
        size: S, the published protocol's number of test examples of a class.
        draws: number of priors.
        seed: of the draws.

    Returns:
        [draws, K] float64, rows of sum 1.

    Raises:
        ValueError: if the prior does not sum to 1 or a number is out of range.

    Example:
        >>> dirichlet_priors([0.5, 0.5], size=100, draws=3).shape
        (3, 2)

    References:
        Yang et al., ICML 2024 (DirMixE), released code: three draws each around a
        uniform prior and exponential ones of ratio 100, size 1000 (CIFAR-10) or 100
        (CIFAR-100). It then takes max(1, floor(n p / max p)) examples of each class; we
        keep p.
    """
    caller = "dirichlet_priors"
    check_rank(caller, "prior", prior, 1, "[K]")
    w = _check_priors(caller, "prior", np.asarray(prior, np.float64)[None])[0]
    check_range(caller, "size", size, low=0, open_low=True)
    check_whole(caller, "draws", draws)
    check_seed(caller, "seed", seed)
    generator = np.random.Generator(np.random.Philox(seed))
    jittered = w * generator.uniform(0.95, 1.05, (draws, w.size))
    jittered /= jittered.sum(axis=1, keepdims=True)
    # Normalized gammas; a draw of very small parameters may underflow to 0 throughout.
    found = generator.standard_gamma(np.maximum(size * jittered, 1e-3))
    return found / found.sum(axis=1, keepdims=True)


def prior_accuracy(recall: ArrayLike, priors: ArrayLike) -> np.ndarray:
    """Expected accuracy under each of several priors.

    Args:
        recall: [..., K]; NaN for a class without an example.
        priors: [P, K], rows of sum 1.

    Returns:
        [..., P] float64. Classes without an example are left out and the others' shares
        scaled up; NaN if none is left.

    Raises:
        ValueError: if a prior has another length, a negative share, or does not sum to
            1.

    Example:
        >>> prior_accuracy([0.8, 0.4], [[0.5, 0.5], [0.75, 0.25]])
        array([0.6, 0.7])
    """
    caller = "prior_accuracy"
    check_rank(caller, "priors", priors, 2, "[P, K]")
    dtype_of(caller, "recall", recall)
    priors = np.asarray(priors, np.float64)
    recall = np.asarray(recall, np.float64)
    if recall.shape[-1:] != priors.shape[1:]:
        raise ValueError(
            f"{caller}: recall has shape {recall.shape}, but the priors have"
            f" {priors.shape[1]} classes (last axis)"
        )
    _check_priors(caller, "priors", priors)
    known = np.isfinite(recall)
    total = np.where(known, recall, 0) @ priors.T
    share = known.astype(np.float64) @ priors.T
    return np.where(share > 0, total / np.where(share > 0, share, 1), np.nan)


def _check_priors(caller: str, name: str, priors: np.ndarray) -> np.ndarray:
    sums = priors.sum(axis=1)
    bad = np.flatnonzero((priors < 0).any(axis=1) | (np.abs(sums - 1) > 1e-6))
    if bad.size or not np.isfinite(sums).all():
        row = int(bad[0]) if bad.size else int(np.flatnonzero(~np.isfinite(sums))[0])
        raise ValueError(
            f"{caller}: {name} row {row} sums to {sums[row]:.6g}, expected"
            " non-negative shares that sum to 1"
        )
    return priors
