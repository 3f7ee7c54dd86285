"""The router: its targets by hand, whom it asks, and that nothing else learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.experts.ride_router import route, routing_targets, running_means
from ltjax.options import ConfigError

# Three experts, two classes. Rows: right at once; right with the second; right only
# with the third; never right.
Z = jnp.array(
    [
        [[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]],
        [[0.0, 1.0], [4.0, 0.0], [0.0, 0.0]],
        [[0.0, 2.0], [1.0, 0.0], [9.0, 0.0]],
        [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]],
    ]
)


def test_targets_say_where_more_experts_help():
    found = routing_targets(Z, jnp.zeros(4, jnp.int32))
    assert found.tolist() == [[False, False], [True, False], [True, True], [False] * 2]


def test_experts_are_asked_until_one_logit_is_not_positive():
    router = jnp.array([[-1.0, 9.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    logits, used = route(Z, router)
    assert used.tolist() == [1, 2, 3, 1]
    means = np.cumsum(np.asarray(Z), 1) / np.arange(1, 4)[:, None]
    np.testing.assert_allclose(running_means(Z), means, rtol=1e-6)
    for row, number in enumerate([1, 2, 3, 1]):
        np.testing.assert_allclose(logits[row], means[row, number - 1], rtol=1e-6)


def changes(*more):
    return (
        "method=ride_routed",
        "stages=()",
        "method.name=ride_router",
        "weights.name=none",
        "model.norm=none",
        *more,
    )


def test_a_step_weighs_the_positives_and_moves_the_router_alone(
    smoked, expert_batch, tmp_path
):
    trained = ("optimizer.train=head/router", f"init_from={tmp_path}")
    run, state = smoked("experts_lt", *changes(*trained, "method.positive_weight=7.0"))
    new, metrics = jax.jit(run.step)(state, expert_batch)
    outputs, _ = run.model.forward(
        state.params, state.model_state, expert_batch["inputs"], train=True
    )
    r = np.asarray(outputs["router"], np.float64)
    z, labels = outputs["expert_logits"], expert_batch["label"]
    target = np.asarray(routing_targets(z, labels))
    each = np.where(target, 7 * np.log1p(np.exp(-r)), np.log1p(np.exp(r)))
    want = each.sum(1)[:14].mean()
    assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-5)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, new.params)
    router = moved["head"].pop("router")
    assert any(jax.tree.leaves(router)) and not any(jax.tree.leaves(moved))
    found = run.predict(state, expert_batch["inputs"])
    np.testing.assert_array_equal(
        found["experts_used"], 1 + np.cumprod(r > 0, axis=1).sum(1)
    )


def test_it_needs_a_router_and_leaves_the_experts_alone(smoked, tmp_path):
    with pytest.raises(ConfigError, match="leaves the experts as they are"):
        smoked("experts_lt", *changes())
    with pytest.raises(ConfigError, match="head.router is False"):
        smoked("experts_lt", *changes("head.router=False"))
