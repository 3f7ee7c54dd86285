"""Steps of the methods with candidate sets, on a batch with three candidates a row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

B, K = 16, 10
REAL = 14  # the last two rows are padding


@pytest.fixture(scope="session")
def candidate_batch():
    """`candidate_batch(*views)`: random signals by name, and what goes with them."""

    def make(*views):
        keys = jax.random.split(jax.random.key(3), len(views))
        candidates = [np.roll([1, 1, 0, 1] + [0] * 6, i) for i in range(B)]
        return {
            **{
                name: 2 * jax.random.normal(key, (B, 40, 1))
                for name, key in zip(views, keys, strict=True)
            },
            "label": jnp.zeros(B, jnp.int32),
            "mask": jnp.arange(B) < REAL,
            "index": jnp.arange(B, dtype=jnp.int32) * 7,
            "candidates": jnp.asarray(np.array(candidates, bool)),
            "truth": jnp.arange(B, dtype=jnp.int32) % K,
        }

    return make


@pytest.fixture(scope="session")
def advance():
    """`advance(run, state, batch, count) -> (states, metrics)`, without recompiling."""

    def go(run, state, batch, count=2):
        step, states, told = jax.jit(run.step), [state], []
        for _ in range(count):
            new, metrics = step(states[-1], batch)
            states.append(new)
            told.append(
                {k: float(s) / max(float(n), 1) for k, (s, n) in metrics.items()}
            )
        return states, told

    return go


@pytest.fixture(scope="session")
def outputs_of():
    """`outputs_of(run, state, inputs)`: of the network in training mode, float64."""

    def go(run, state, inputs):
        outputs, _ = run.model.forward(
            state.params, state.model_state, inputs, train=True
        )
        return {k: np.asarray(v, np.float64) for k, v in outputs.items()}

    return go
