r"""Kernel density of features: the example weights of re-weighted SAM.

.. math:: \log p_i = \log \frac1N \sum_j
          \exp\Big(-\frac{\|f_i - f_j\|^2}{2 h^2}\Big), \qquad w_i \propto p_i^{-\alpha}

The sum includes j = i, and the kernel's constant is left out: it scales all weights.
Everything stays in log space, since densities underflow in high dimension, and no N x N
matrix exists. Distances are taken in difference form: from a matrix product, those
within a cluster of nearly collapsed features would be rounding errors in float32.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_floating, check_range, check_rank
from ltjax._numerics import at_least_float32


def log_density(
    features: ArrayLike, *, bandwidth: ArrayLike, block_size: int = 1024
) -> jax.Array:
    r"""Log kernel density of every point among all points, itself included.

    Args:
        features: [N, D] float. L2-normalized backbone outputs of un-augmented images
            are the usual choice.
        bandwidth: h > 0, in units of the features.
        block_size: rows handled at once; memory is block_size x N.

    Returns:
        [N] float32 (float64 for float64 features), up to the kernel's constant.

    Raises:
        ValueError: if features is not [N, D] or the bandwidth is not positive.

    Example:
        >>> points = jnp.array([[0.0], [0.0], [0.0], [3.0]])
        >>> print(jnp.exp(log_density(points, bandwidth=1.0)).round(6))
        [0.752777 0.752777 0.752777 0.258332]

    References:
        Liu et al., "Self-supervised Learning is More Robust to Dataset Imbalance", ICLR
        2022, sec. 5. The authors released no density code.
    """
    check_range("log_density", "bandwidth", bandwidth, low=0.0, open_low=True)
    features = _checked("log_density", features)

    def of_block(start):
        return _block_log_density(features, start, bandwidth, size=block_size)

    return _by_blocks(of_block, len(features), block_size)


def median_bandwidth(
    features: ArrayLike, *, neighbor: int | None = None, block_size: int = 1024
) -> float:
    r"""Median over the points of the distance to their k-th nearest neighbor.

    Args:
        features: [N, D] float, N >= 2, concrete.
        neighbor: k >= 1; the point itself is not counted. Default
            :math:`\lceil\sqrt N\rceil`, at most N - 1.
        block_size: rows handled at once.

    Returns:
        Bandwidth h > 0, in units of the features.

    Raises:
        ValueError: if there is one point only, or most points coincide with k others.

    Example:
        >>> median_bandwidth(jnp.array([[0.0], [1.0], [3.0], [7.0]]), neighbor=1)
        1.5
    """
    features = _checked("median_bandwidth", features)
    count = len(features)
    if count < 2:
        raise ValueError(f"median_bandwidth: {count} point(s), expected at least 2")
    if neighbor is None:
        neighbor = min(math.ceil(math.sqrt(count)), count - 1)
    if not 1 <= neighbor < count:
        raise ValueError(
            f"median_bandwidth: neighbor is {neighbor}, expected one of 1..{count - 1}"
        )

    def of_block(start):
        return _block_neighbor(features, start, size=block_size, neighbor=neighbor)

    distances = _by_blocks(of_block, count, block_size)
    bandwidth = float(np.median(np.asarray(distances)))
    if bandwidth <= 0:
        raise ValueError(
            f"median_bandwidth: more than half of the points coincide with {neighbor}"
            " others, so the median distance is 0; pass a bandwidth"
        )
    return bandwidth


def density_weights(
    features: ArrayLike,
    *,
    bandwidth: ArrayLike | None = None,
    alpha: ArrayLike = 0.5,
    clip: tuple[float, float] | None = (0.1, 10.0),
    block_size: int = 1024,
) -> jax.Array:
    r"""Example weights of re-weighted SAM: :math:`w_i \propto p_i^{-\alpha}`, mean 1.

    Args:
        features: [N, D] float, one row per training example. L2-normalized backbone
            outputs (before a projector) of un-augmented images are the usual choice.
        bandwidth: h > 0, in units of the features; default `median_bandwidth`.
        alpha: exponent >= 0, may be traced; 0 gives equal weights.
        clip: bounds of the weights as multiples of their median, or None.
        block_size: rows handled at once; memory is block_size x N.

    Returns:
        [N] float32 (float64 for float64 features), mean 1, constants.

    Raises:
        ValueError: if features is not [N, D], alpha < 0 or the bandwidth is not > 0.

    Example:
        >>> points = jnp.array([[0.0], [0.0], [0.0], [3.0]])
        >>> weights = density_weights(points, bandwidth=1.0)
        >>> print(f"{weights[3] / weights[0]:.4f}")
        1.7070

    Limits: alpha=0 makes rwSAM plain SAM.

    References:
        Liu et al., ICLR 2022, sec. 5. Exponent, kernel, bandwidth and feature layer are
        not given there: the defaults are ours. The released scripts use 1.2^label or
        1.005^label instead, which needs labels sorted by frequency.
    """
    check_range("density_weights", "alpha", alpha, low=0.0)
    if bandwidth is None:
        bandwidth = median_bandwidth(features, block_size=block_size)
    log_p = log_density(features, bandwidth=bandwidth, block_size=block_size)
    # Relative to the median, so that no exponential overflows before the clipping.
    log_w = -jnp.asarray(alpha, log_p.dtype) * log_p
    log_w = log_w - jnp.median(log_w)
    if clip is not None:
        low, high = clip
        log_w = jnp.clip(log_w, math.log(low), math.log(high))
    log_mean = jax.nn.logsumexp(log_w) - math.log(log_w.size)
    return jax.lax.stop_gradient(jnp.exp(log_w - log_mean))


def _checked(caller: str, features) -> jax.Array:
    check_rank(caller, "features", features, 2, "[N, D]")
    check_floating(caller, "features", features)
    return at_least_float32(features)


def _by_blocks(of_block, count: int, block_size: int) -> jax.Array:
    starts = [min(s, max(count - block_size, 0)) for s in range(0, count, block_size)]
    blocks = [of_block(start) for start in starts]
    # The last block is moved back to have full size: drop what it repeats.
    if len(blocks) > 1:
        blocks[-1] = blocks[-1][(len(blocks) - 1) * block_size - starts[-1] :]
    return jnp.concatenate(blocks)


@partial(jax.jit, static_argnames="size")
def _squared_distances(features, start, *, size: int) -> jax.Array:
    """[size, N], from the block of rows that begins at `start`."""
    rows = jax.lax.dynamic_slice_in_dim(features, start, min(size, len(features)))
    # The compiler fuses the sum: no [size, N, D] array exists.
    return jnp.sum(jnp.square(rows[:, None, :] - features[None, :, :]), axis=-1)


@partial(jax.jit, static_argnames="size")
def _block_log_density(features, start, bandwidth, *, size: int):
    exponent = -_squared_distances(features, start, size=size) / (2 * bandwidth**2)
    return jax.nn.logsumexp(exponent, axis=1) - math.log(len(features))


def _block_neighbor(features, start, *, size: int, neighbor: int) -> np.ndarray:
    squared = np.array(_squared_distances(features, start, size=size))
    rows = np.arange(len(squared))
    squared[rows, start + rows] = np.inf  # itself
    # A selection: many times faster than top_k, whose k is large here.
    return np.sqrt(np.partition(squared, neighbor - 1, axis=1)[:, neighbor - 1])
