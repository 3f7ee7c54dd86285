"""PRODEN: the loss against confidences, and the table that follows the network."""

import jax
import numpy as np
import pytest

from ltjax.options import ConfigError

CONFIG = ("partial_lt", "method=proden")


@pytest.fixture(scope="module")
def stepped(smoked, candidate_batch, advance):
    """(run, states after 0, 1 and 2 steps, losses, batch): three candidates a row."""
    run, state = smoked(*CONFIG, "model.norm=none")
    batch = candidate_batch("inputs")
    states, told = advance(run, state, batch)
    return run, states, [metrics["loss"] for metrics in told], jax.device_get(batch)


def test_the_first_step_believes_in_all_candidates_alike(stepped, outputs_of):
    run, states, losses, batch = stepped
    z = outputs_of(run, states[0], batch["inputs"])["logits"]
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    want = -(log_p * batch["candidates"] / 3).sum(1)[:14].mean()
    assert losses[0] == pytest.approx(want, rel=1e-5)


def test_the_table_holds_the_softmax_over_candidates_of_the_former_logits(
    stepped, outputs_of
):
    run, states, losses, batch = stepped
    z = outputs_of(run, states[0], batch["inputs"])["logits"]
    p = np.exp(z) * batch["candidates"]
    rows = p / p.sum(1, keepdims=True)
    table = np.asarray(states[1].method_state["confidence"])
    np.testing.assert_allclose(table[batch["index"][:14]], rows[:14], atol=1e-6)
    others = np.delete(table, batch["index"][:14], axis=0)
    assert not others.any()  # padding wrote nothing
    z = outputs_of(run, states[1], batch["inputs"])["logits"]
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
