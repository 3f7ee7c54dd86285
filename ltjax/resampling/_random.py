"""Random numbers of host plans, drawn from a JAX key."""

import jax
import jax.numpy as jnp
import numpy as np

from ltjax._checks import is_concrete, shape_of


def host_generator(caller: str, key: jax.Array, *stream: int) -> np.random.Generator:
    """A numpy generator that is a pure function of `key` and of `stream`.

    Streams (for example a class index) are independent of each other, so that what is
    drawn for one class does not depend on the others.
    """
    typed = isinstance(key, jax.Array) and jnp.issubdtype(
        key.dtype, jax.dtypes.prng_key
    )
    if not typed or shape_of(key) != ():
        raise TypeError(f"{caller}: key is {key!r}, expected one jax.random.key(seed)")
    if not is_concrete(key):
        raise TypeError(f"{caller}: key is traced, expected a concrete key")
    words = np.asarray(jax.random.key_data(key)).ravel().tolist()
    sequence = np.random.SeedSequence([*words, *stream])
    return np.random.Generator(np.random.Philox(sequence))
