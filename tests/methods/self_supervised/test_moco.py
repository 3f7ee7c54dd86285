"""MoCo: the order of a step, its queue, and one commit under a sharp gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.methods.self_supervised.queues import enqueue
from ltjax.options import ConfigError
from ltjax.train.build import build
from ltjax.train.check import check

SMOKE = "configs/selfsup_lt.py:method=moco,probe=false,smoke"
OPTIONS = ("method.queue=32", "method.momentum=0.9", "model.norm=none")


def changed(*more):
    changes = (f"--config.{item}" for item in (*OPTIONS, *more))
    return check(load_config(["--config", SMOKE, *changes]))


@pytest.fixture(scope="module")
def steps():
    """gradient rule -> (run, states after 0, 1 and 2 steps, batch of 16, loss)."""

    def go(rule):
        run = build(changed(f"gradient.name={rule}"))
        state = run.init(0, run.info.replicas[0]["hyper"])
        rows = jax.random.normal(jax.random.key(1), (2, 16, 40, 1))
        batch = {
            "view1": rows[0],
            "view2": rows[1],
            "mask": jnp.ones(16, bool),
            "label": jnp.zeros(16, jnp.int32),
        }
        step = jax.jit(run.step)
        states, metrics = [state], {}
        for _ in range(2):
            new, found = step(states[-1], batch)
            metrics = metrics or found
            states.append(new)
        return run, states, batch, metrics["loss"][0]

    return {rule: go(rule) for rule in ("plain", "sam")}


def test_the_pointer_goes_round_and_padding_leaves_the_older_key():
    queue, pointer = jnp.zeros((20, 1)), jnp.int32(0)
    places = []
    for k in range(1, 6):
        mask = jnp.arange(5) != 2 if k == 5 else jnp.ones(5, bool)
        queue, pointer = enqueue(queue, pointer, jnp.full((5, 1), 1.0 * k), mask)
        places.append(int(pointer))
    assert places == [5, 10, 15, 0, 5]
    want = [5, 5, 1, 5, 5] + [2] * 5 + [3] * 5 + [4] * 5
    assert np.array_equal(np.ravel(queue), want)


def test_a_step_follows_the_former_parameters_and_then_enqueues(steps):
    run, (first, second, third), batch, _ = steps["plain"]
    start, rows = first.params, 16
    queue = np.asarray(first.method_state["queue"])
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1, rtol=1e-6)
    # Query and key network begin equal, so that the first step leaves the second one.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-7),
        second.method_state["target"]["params"],
        start,
    )
    want = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, start, second.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-7),
        third.method_state["target"]["params"],
        want,
    )
    keys, _ = run.model.forward(
        start, first.model_state, batch["view2"], train=True, rngs=None
    )
    unit = np.asarray(keys["projection"], np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    after = second.method_state
    np.testing.assert_allclose(after["queue"][:rows], unit, atol=2e-6)
    assert np.array_equal(after["queue"][rows:], queue[rows:])
    assert int(after["pointer"]) == rows
    assert int(third.method_state["pointer"]) == 0


def test_keys_of_a_still_network_approach_it_by_powers_of_the_momentum(steps):
    """After n steps at the same query parameters q: q + 0.9^n (k - q)."""
    run, (state, *_), batch, _ = steps["plain"]
    target = state.method_state["target"]
    start = jax.tree.map(lambda x: x + 1.0, target["params"])
    first = {**state.method_state, "target": {**target, "params": start}}
    prepare = jax.jit(
        lambda kept: run.method.prepare(
            state.replace(method_state=kept),
            batch,
            key=jax.random.key(0),
            program=run.program(0),
        )[0]
    )
    kept = first
    for _ in range(3):
        kept = prepare(kept)
    jax.tree.map(
        lambda k, q: np.testing.assert_allclose(k, q + 0.9**3, rtol=1e-5, atol=1e-5),
        kept["target"]["params"],
        state.params,
    )


def test_a_sharp_gradient_commits_keys_and_queue_once(steps, assert_same):
    _, plain, *_ = steps["plain"]
    _, sharp, *_ = steps["sam"]
    assert_same(sharp[1].method_state, plain[1].method_state)
    moved = jax.tree.map(
        lambda a, b: float(jnp.max(jnp.abs(a - b))), sharp[1].params, plain[1].params
    )
    assert max(jax.tree.leaves(moved)) > 0


def test_the_loss_is_info_nce_against_the_queue_of_before(steps):
    """By float64 numpy: the keys of the batch are no negatives of one another."""
    run, (first, *_), batch, loss = steps["plain"]

    def unit(inputs):
        outputs, _ = run.model.forward(
            first.params, first.model_state, inputs, train=True, rngs=None
        )
        z = np.asarray(outputs["projection"], np.float64)
        return z / np.linalg.norm(z, axis=1, keepdims=True)

    q, k = unit(batch["view1"]), unit(batch["view2"])
    queue = np.asarray(first.method_state["queue"], np.float64)
    logits = np.concatenate([np.sum(q * k, 1, keepdims=True), q @ queue.T], 1) / 0.2
    want = np.log(np.exp(logits).sum(1)) - logits[:, 0]
    np.testing.assert_allclose(loss, want.mean(), rtol=1e-5)


def test_a_queue_that_batches_do_not_fill_is_refused():
    with pytest.raises(ConfigError, match="method.queue is 40, expected a multiple"):
        changed("method.queue=40")
