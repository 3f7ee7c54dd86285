"""Random numbers of host plans, drawn from a JAX key."""

import jax
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
