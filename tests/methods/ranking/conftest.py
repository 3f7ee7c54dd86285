"""Batches for methods that rank, binary and of ten classes."""

import jax
import jax.numpy as jnp
import pytest

B = 16


@pytest.fixture(scope="session")
def ranked_batch():
    """`ranked_batch(labels)`: sixteen signals; the last two rows are padding."""

    def make(labels):
        return {
            "inputs": 2 * jax.random.normal(jax.random.key(3), (B, 40, 1)),
            "label": jnp.asarray(labels, jnp.int32),
            "mask": jnp.arange(B) < 14,
            "index": jnp.arange(B, dtype=jnp.int32),
        }

    return make
