"""A batch of images and signals, and what a network says of it in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

B, REAL = 16, 14


@pytest.fixture(scope="session")
def digit_batch():
    """Sixteen pairs of ten classes; the last two rows are padding."""
    keys = jax.random.split(jax.random.key(3))
    return {
        "inputs": {
            "image": jax.random.normal(keys[0], (B, 12, 12, 1)),
            "signal": 2 * jax.random.normal(keys[1], (B, 40, 1)),
        },
        "label": jnp.arange(B, dtype=jnp.int32) % 10,
        "mask": jnp.arange(B) < REAL,
        "index": jnp.arange(B, dtype=jnp.int32),
    }


@pytest.fixture(scope="session")
def modality_logits():
    """`modality_logits(run, state, batch) -> [14, M, K]` float64, of the real rows."""

    def forward(run, state, batch):
        outputs, _ = run.model.forward(
            state.params, state.model_state, batch["inputs"], train=False
        )
        return np.asarray(outputs["modality_logits"], np.float64)[:REAL]

    return forward


@pytest.fixture(scope="session")
def softmax():
    """In float64, over the last axis."""

    def fn(z):
        e = np.exp(z - z.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    return fn
