"""Random numbers of host plans, drawn from a JAX key, and random seed points."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import is_concrete
from ltjax._numerics import as_key


def host_generator(caller: str, key: ArrayLike, *stream: int) -> np.random.Generator:
    """A numpy generator that is a pure function of `key` and of `stream`.

    Streams (for example a class index) are independent of each other, so that what is
    drawn for one class does not depend on the others.
    """
    key = as_key(caller, key)
    if not is_concrete(key):
        raise TypeError(f"{caller}: key is traced, expected a concrete key")
    words = np.asarray(jax.random.key_data(key)).ravel().tolist()
    sequence = np.random.SeedSequence([*words, *stream])
    return np.random.Generator(np.random.Philox(sequence))


def seed_points(key, points, valid, width):
    """k-means++: each seed with probability in proportion to its squared distance.

    Args:
        key: random key.
        points: [N, D] float.
        valid: [N] bool, the points that may be drawn.
        width: number of seeds.

    Returns:
        [width, D]; points may occur twice if there are fewer different ones.
    """

    def add(at, state):
        centers, nearest = state
        weights = jnp.where(at == 0, 0.0, jnp.log(nearest))
        weights = jnp.where(valid, weights, -jnp.inf)
        index = jax.random.categorical(jax.random.fold_in(key, at), weights)
        squared = jnp.sum(jnp.square(points - points[index][None, :]), axis=1)
        return centers.at[at].set(points[index]), jnp.minimum(nearest, squared)

    centers = jnp.zeros((width, points.shape[1]), points.dtype)
    nearest = jnp.full(len(points), jnp.inf, points.dtype)
    return jax.lax.fori_loop(0, width, add, (centers, nearest))[0]
