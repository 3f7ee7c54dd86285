"""Which features have others nearby: what a training set leaves out of a test set."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_floating,
    check_rank,
    check_where,
    check_whole,
    shape_of,
)
from ltjax._numerics import at_least_float32, mask_rows
from ltjax._similarity_blocks import check_block, everywhere, over_blocks, whole_blocks
from ltjax.metrics.knn import nearest_neighbors


def feature_coverage(
    features: ArrayLike,
    bank: ArrayLike,
    *,
    neighbors: int = 5,
    where: ArrayLike | None = None,
    bank_where: ArrayLike | None = None,
    block: int | None = 1024,
) -> jax.Array:
    r"""Whether a row of the bank is as near as the k nearest of the other features.

    .. math:: c_i = \big[\, \min_j \|x_i - y_j\| \le \rho_i \,\big]

    for unit features :math:`x_i`, unit rows :math:`y_j` of the bank, and the distance
    :math:`\rho_i` from :math:`x_i` to the k-th nearest of the other features. The mean
    of c is the coverage. If both are N and M draws from one distribution, it is
    :math:`1 - \frac{(N-1) \cdots (N-k)}{(N+M-1) \cdots (N+M-k)}` in expectation,
    whatever the distribution; below that the bank leaves out a part of it. No label is
    read, so a representation that gives a rare class a place of its own is told from
    one that mixes it with the head by the class means of c.

    Args:
        features: [N, D] float, such as those of a balanced test set; any norm.
        bank: [M, D] float, such as those of a long-tailed training set.
        neighbors: k, at most N - 1.
        where: optional [N] bool; False rows are nobody's neighbors and not covered.
        bank_where: optional [M] bool; False rows cover nothing.
        block: features, and rows that they are compared with, at a time; None for all.

    Returns:
        [N] bool.

    Raises:
        ValueError: if shapes disagree, there are less than two features, or `neighbors`
            is not in [1, N - 1].
        TypeError: if the features are not floating point.

    Example:
        >>> angles = jnp.deg2rad(jnp.array([0.0, 10.0, 90.0, 100.0]))
        >>> x = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
        >>> feature_coverage(x, jnp.array([[1.0, 0.1]]), neighbors=1).tolist()
        [True, True, False, False]

    References:
        Naeem, Oh, Uh, Choi and Yoo, "Reliable Fidelity and Diversity Metrics for
        Generative Models", ICML 2020, section 3.2, where features of real images are
        covered by those of generated ones, k = 5. Their balls are closed, as here; the
        released code leaves out the boundary. That the test set's features are to be
        covered by the training set's, on the sphere, is ours.
    """
    name = "feature_coverage"
    for argument, x in (("features", features), ("bank", bank)):
        check_rank(name, argument, x, 2, "[rows, D]")
        check_floating(name, argument, x)
    count, dim = shape_of(features)
    if shape_of(bank)[1] != dim or not shape_of(bank)[0]:
        raise ValueError(
            f"{name}: the bank has shape {shape_of(bank)}, expected [M, {dim}] with"
            " M >= 1"
        )
    check_whole(name, "neighbors", neighbors, low=1)
    if count < 2:
        raise ValueError(
            f"{name}: features have shape {shape_of(features)}, expected two rows at"
            " least"
        )
    if neighbors > count - 1:
        raise ValueError(
            f"{name}: neighbors is {neighbors}, expected 1 to {count - 1}, one less"
            " than there are features"
        )
    check_where(name, where, (count,))
    check_where(f"{name} (bank)", bank_where, shape_of(bank)[:1])
    check_block(name, block)
    features = everywhere(mask_rows(where, at_least_float32(features)))

    def of_block(carry, some):
        # The nearest of all features is the one that asks.
        others = nearest_neighbors(
            some, features, k=neighbors + 1, bank_where=where, block=block
        )
        nearest = nearest_neighbors(some, bank, k=1, bank_where=bank_where, block=block)
        reach, found = others.similarities[:, -1], nearest.similarities[:, 0]
        return carry, (found >= reach) & (found > -jnp.inf)

    width = min(int(block or count), count)
    _, covered = over_blocks(of_block, None, whole_blocks(features, width), width)
    covered = covered.reshape(-1)[:count]
    return covered if where is None else covered & jnp.asarray(where)
