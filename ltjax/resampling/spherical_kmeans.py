r"""k-means of directions by minibatches: what it keeps fits in a training state.

.. math:: \max_{c_1 \dots c_K} \sum_i \max_j \frac{x_i \cdot c_j}{\|x_i\| \|c_j\|}

Within an epoch a center is the direction of the sum of all points that came to it;
every epoch starts afresh from the centers of the last one, each with the weight of one
point. All functions are traced and take sharded points; N never matters.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax._numerics import l2_normalize
from ltjax.resampling._random import seed_points

_HIGHEST = jax.lax.Precision.HIGHEST


class Directions(NamedTuple):
    """K centers on their way through an epoch.

    Attributes:
        sums: [K, D], of the unit points that came to each center.
        members: [K] float32, their number.
    """

    sums: jax.Array
    members: jax.Array


def cosines(points: jax.Array, found: Directions) -> jax.Array:
    """[B, K], of unit points [B, D] and the centers."""
    centers = l2_normalize(found.sums)
    return jnp.matmul(points, centers.T, precision=_HIGHEST)


def seed_directions(
    key: jax.Array, points: jax.Array, where: jax.Array, *, num: int, restarts: int
) -> Directions:
    """Centers from the first batch: the best of several k-means++ draws.

    Args:
        key: random key.
        points: [B, D], unit rows.
        where: [B] bool, the real ones.
        num: K.
        restarts: number of draws.

    Returns:
        `Directions` without members.
    """
    points, where = jnp.asarray(points), jnp.asarray(where)
    keys = jax.random.split(key, restarts)
    drawn = jax.vmap(lambda one: seed_points(one, points, where, num))(keys)

    def near(centers):
        best = jnp.max(cosines(points, Directions(centers, centers[:, 0])), axis=1)
        return jnp.sum(jnp.where(where, best, 0.0))

    chosen = drawn[jnp.argmax(jax.vmap(near)(drawn))]
    return Directions(chosen, jnp.zeros(num, jnp.float32))


def absorb(found: Directions, points: jax.Array, where: jax.Array) -> Directions:
    """The centers after a batch of unit points [B, D], of which `where` [B] are real.

    Example:
        >>> start = Directions(jnp.eye(2), jnp.zeros(2))
        >>> points = jnp.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
        >>> found = absorb(start, points, jnp.array([True, True, False]))
        >>> found.sums.tolist(), found.members.tolist()
        ([[1.0, 0.0], [0.0, 3.0]], [0.0, 2.0])
    """
    nearest = jnp.argmax(cosines(points, found), axis=1)
    own = (nearest[:, None] == jnp.arange(len(found.sums))[None, :]) & where[:, None]
    own = own.astype(points.dtype)
    sums = jnp.matmul(own.T, points, precision=_HIGHEST)
    return Directions(found.sums + sums, found.members + jnp.sum(own, axis=0))


def next_epoch(found: Directions, points: jax.Array, where: jax.Array) -> Directions:
    """The centers at the start of an epoch, whose first batch is `points` [B, D].

    A center that no point came to moves to the point that is farthest from all others.
    """
    points, empty = jnp.asarray(points), found.members == 0
    near = jnp.where(empty[None, :], -1.0, cosines(points, found))
    apart = jnp.where(where, 1 - jnp.max(near, axis=1), -1.0)
    farthest = jax.lax.top_k(apart, len(empty))[1]
    rank = jnp.maximum(jnp.cumsum(empty) - 1, 0)
    moved = points[farthest[rank]]
    centers = jnp.where(empty[:, None], moved, l2_normalize(found.sums))
    return Directions(centers, jnp.zeros_like(found.members))
