"""LARS in both forms, by hand."""

import jax
import numpy as np
import optax

from ltjax.optimizers import lars

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
