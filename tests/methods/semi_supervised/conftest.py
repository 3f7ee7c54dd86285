"""What the tests of methods with an unlabelled stream share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

B, M, K = 16, 2, 10


@pytest.fixture(scope="session")
def stream_batch():
    """`stream_batch(**leaves)`: random signals; a third of the stream is padding."""

    def make(seed=0, views=("weak", "strong", "strong2"), **more):
        keys = iter(jax.random.split(jax.random.key(seed), 8))

        def signals(*shape):
            return 3 * jax.random.normal(next(keys), (*shape, 40, 1))

        return {
            "inputs": signals(B),
            "label": jnp.arange(B, dtype=jnp.int32) % K,
            "mask": jnp.ones(B, bool),
            "unlabelled": {
                **{name: signals(B, M) for name in views},
                "mask": jnp.arange(B * M).reshape(B, M) % 3 > 0,
                "index": jnp.arange(B * M, dtype=jnp.int32).reshape(B, M),
                "truth": jax.random.randint(next(keys), (B, M), 0, K),
            },
            **more,
        }

    return make


@pytest.fixture(scope="session")
def outputs_of():
    """`outputs_of(run, state, inputs)`: outputs by name in float64, rows in order."""

    def make(run, state, inputs):
        flat = inputs.reshape(-1, 40, 1)
        outputs, _ = run.model.forward(
            state.params, state.model_state, flat, train=True
        )
        return {name: np.asarray(x, np.float64) for name, x in outputs.items()}

    return make


@pytest.fixture(scope="session")
def log_softmax():
    """In numpy, over the last axis."""

    def compute(z):
        z = z - z.max(-1, keepdims=True)
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    return compute
