"""Steps of the methods for noisy labels, and the outputs they are to be judged by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

B, K = 16, 10
REAL = 14  # the last two rows are padding


@pytest.fixture(scope="session")
def noisy_batch():
    """Random signals; every third label is wrong."""
    truth = jnp.arange(B, dtype=jnp.int32) % K
    return {
        "inputs": 2 * jax.random.normal(jax.random.key(5), (B, 40, 1)),
        "label": jnp.where(jnp.arange(B) % 3 == 0, (truth + 1) % K, truth),
        "truth": truth,
        "mask": jnp.arange(B) < REAL,
        "index": jnp.arange(B, dtype=jnp.int32) * 7,
    }


@pytest.fixture(scope="session")
def cost_of():
    """`cost_of(model, state, batch)`: cross-entropy of the given labels [B]."""

    def go(model, state, batch):
        outputs, _ = model.forward(
            state.params, state.model_state, batch["inputs"], train=True
        )
        z = np.asarray(outputs["logits"], np.float64)
        log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
        return -log_p[np.arange(B), np.asarray(batch["label"])]

    return go
