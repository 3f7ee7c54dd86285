"""A batch for methods with several experts, and their logits in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

B = 16


@pytest.fixture(scope="session")
def expert_batch():
    """Sixteen signals of ten classes; the last two rows are padding."""
    return {
        "inputs": 2 * jax.random.normal(jax.random.key(3), (B, 40, 1)),
        "label": jnp.arange(B, dtype=jnp.int32) % 10,
        "mask": jnp.arange(B) < 14,
        "index": jnp.arange(B, dtype=jnp.int32),
    }


@pytest.fixture(scope="session")
def expert_logits():
    """`expert_logits(run, state, batch) -> [B, E, K]` float64, of the training pass."""

    def forward(run, state, batch):
        outputs, _ = run.model.forward(
            state.params, state.model_state, batch["inputs"], train=True
        )
        return np.asarray(outputs["expert_logits"], np.float64)

    return forward


@pytest.fixture(scope="session")
def cross_entropy():
    """`cross_entropy(z [..., K], labels [...])` in float64."""

    def fn(z, labels):
        labels = np.broadcast_to(labels, z.shape[:-1])
        own = np.take_along_axis(z, labels[..., None], -1)[..., 0]
        return np.log(np.exp(z).sum(-1)) - own

    return fn
