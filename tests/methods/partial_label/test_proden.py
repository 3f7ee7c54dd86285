"""PRODEN: the loss against confidences, and the table that follows the network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.options import ConfigError

pytestmark = pytest.mark.usefixtures("compile_quickly")
B, K = 16, 10
CONFIG = ("partial_lt", "method=proden")


@pytest.fixture(scope="module")
def stepped(smoked):
    """(run, states after 0, 1 and 2 steps, losses, batch): three candidates a row."""
    run, state = smoked(*CONFIG, "model.norm=none")
    keys = jax.random.split(jax.random.key(3), 2)
    candidates = np.array([np.roll([1, 1, 0, 1] + [0] * 6, i) for i in range(B)], bool)
    batch = {
        "inputs": 2 * jax.random.normal(keys[0], (B, 40, 1)),
        "label": jnp.zeros(B, jnp.int32),
        "mask": jnp.arange(B) < 14,  # the last two rows are padding
        "index": jnp.arange(B, dtype=jnp.int32) * 7,
        "candidates": jnp.asarray(candidates),
        "truth": jnp.arange(B, dtype=jnp.int32) % K,
    }
    step, states, losses = jax.jit(run.step), [state], []
    for _ in range(2):
        new, metrics = step(states[-1], batch)
        states.append(new)
        losses.append(float(metrics["loss"][0]))
    return run, states, losses, jax.device_get(batch)


def logits_of(run, state, batch):
    outputs, _ = run.model.forward(
        state.params,
        state.model_state,
        batch["inputs"],
        train=True,
    )
    return np.asarray(outputs["logits"], np.float64)


def test_the_first_step_believes_in_all_candidates_alike(stepped):
    run, states, losses, batch = stepped
    z = logits_of(run, states[0], batch)
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    want = -(log_p * batch["candidates"] / 3).sum(1)[:14].mean()
    assert losses[0] == pytest.approx(want, rel=1e-5)


def test_the_table_holds_the_softmax_over_candidates_of_the_former_logits(stepped):
    run, states, losses, batch = stepped
    z = logits_of(run, states[0], batch)
    p = np.exp(z) * batch["candidates"]
    rows = p / p.sum(1, keepdims=True)
    table = np.asarray(states[1].method_state["confidence"])
    np.testing.assert_allclose(table[batch["index"][:14]], rows[:14], atol=1e-6)
    others = np.delete(table, batch["index"][:14], axis=0)
    assert not others.any()  # padding wrote nothing
    z = logits_of(run, states[1], batch)
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    assert losses[1] == pytest.approx(-(rows * log_p).sum(1)[:14].mean(), rel=1e-5)


def test_in_the_warm_up_nothing_is_written(smoked, stepped):
    batch = stepped[-1]
    run, state = smoked(*CONFIG, "model.norm=none", "method.warmup=2 steps")
    step, written = jax.jit(run.step), []
    for _ in range(3):
        state, _ = step(state, batch)
        written.append(bool(np.any(state.method_state["confidence"])))
    assert written == [False, False, True]


def test_a_sampler_that_may_repeat_an_example_is_refused(smoked):
    with pytest.raises(
        ConfigError, match="keeps one row for each; expected 'instance'"
    ):
        smoked(*CONFIG, "sampler.name=class_balanced")
