"""LARS in both forms, by hand."""

import jax
import numpy as np
import optax

from ltjax.models.projection import DistillingHead
from ltjax.optimizers import kernels_only, lars

WEIGHT, GRADIENT = np.array([[3.0, 4.0]]), np.array([[0.6, 0.8]])


def run(optimizer, gradients, start=WEIGHT):
    """Parameters after each of the gradients."""

    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params, found = start, []
    state = optimizer.init(params)
    for gradient in gradients:
        params, state = step(params, state, gradient)
        found.append(params)
    return found


def test_one_step_by_hand(x64):
    """|w| = 5, u = (.63, .84) with |u| = 1.05: trust 1e-3 * 5 / 1.05."""
    optimizer = lars(2.0, weight_decay=0.01, momentum=0.0)
    (after,) = run(optimizer, [GRADIENT])
    trust = 1e-3 * 5 / 1.05
    np.testing.assert_allclose(trust, 0.00476190476, atol=5e-12)
    np.testing.assert_allclose(WEIGHT - after, [[0.006, 0.008]], rtol=1e-9)


def test_learning_rate_is_outside_of_the_momentum(x64):
    """Rates 1 then 0: the form of BYOL stands still, that of optax moves on."""
    schedule = optax.piecewise_constant_schedule(1.0, {1: 0.0})
    mine, other = (
        run(optimizer, [GRADIENT] * 2)
        for optimizer in (lars(schedule), optax.lars(schedule))
    )
    np.testing.assert_allclose(mine[0], other[0], rtol=1e-12)
    np.testing.assert_allclose(mine[1], mine[0], rtol=1e-15)
    moved = other[0] + 0.9 * (other[0] - WEIGHT)
    np.testing.assert_allclose(other[1], moved, rtol=1e-12)
    # Under a constant rate they are the same.
    pair = (run(o, [GRADIENT] * 3)[-1] for o in (lars(0.5), optax.lars(0.5)))
    np.testing.assert_allclose(*pair, rtol=1e-12)


def test_biases_follow_plain_momentum_and_zero_weights_move(x64):
    params = {"kernel": np.zeros((1, 2)), "bias": np.array([3.0])}
    gradients = {"kernel": GRADIENT, "bias": np.array([2.0])}
    optimizer = lars(0.1, weight_decay=0.5)
    one, two = run(optimizer, [gradients] * 2, params)
    np.testing.assert_allclose(one["bias"], 3 - 0.1 * 2)
    np.testing.assert_allclose(two["bias"], 3 - 0.1 * 2 - 0.1 * (1.9 * 2))
    # A trust ratio of 1 where the norm is 0.
    np.testing.assert_allclose(one["kernel"], -0.1 * GRADIENT)


def test_stacked_networks_are_adapted_each_by_itself(x64):
    """Regressors r and 2 r: their norms, not that of both, are what counts."""
    kernel = np.stack([WEIGHT, 2 * WEIGHT])
    stacked = {"kernel1": kernel, "offset": np.ones((2, 3)), "bias2": np.ones((2, 2))}
    slopes = {"kernel1": np.stack([GRADIENT] * 2)}
    slopes |= {name: 2 * stacked[name] for name in ("offset", "bias2")}
    params, gradients = ({"head": {"regressors": x}} for x in (stacked, slopes))
    (after,) = run(lars(2.0, weight_decay=0.01, momentum=0.0), [gradients], params)
    after = after["head"]["regressors"]
    for k, start in enumerate(kernel):
        (alone,) = run(lars(2.0, weight_decay=0.01, momentum=0.0), [GRADIENT], start)
        np.testing.assert_allclose(after["kernel1"][k], alone, rtol=1e-12)
    for name in ("offset", "bias2"):  # plain steps of 2 * 2
        np.testing.assert_allclose(after[name], -3.0, rtol=1e-12)


def test_kernels_of_a_distilling_head_are_those_of_its_layers():
    head = DistillingHead(width=3, dim=2, experts=2, regressor_width=3)
    shapes = jax.eval_shape(
        lambda key: head.init(key, np.zeros((4, 5)), train=True), jax.random.key(0)
    )
    found = jax.tree_util.tree_flatten_with_path(kernels_only(shapes["params"]))[0]
    names = {path[-1].key for path, adapted in found if adapted}
    assert names == {"kernel", "kernel1", "kernel2"}
    assert len(found) > len([1 for _, adapted in found if adapted])
