"""The optimizers of min-max losses, step by step against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax.losses import (
    SaddleDuals,
    SaddleVariables,
    aucm,
    pesg,
    projected_descent_ascent,
    refresh_pesg,
)

RATE, MARGIN, DECAY, WEIGHT_DECAY = 0.2, 0.9, 0.05, 1e-3
INPUTS = np.random.default_rng(0).normal(size=(4, 8, 3))
LABELS = (np.arange(8) % 3 == 0).astype(np.int32)


def gradient_of_the_objective(w, a, b, alpha, x):
    """dF/d(w, a, b, alpha) of a linear scorer with a sigmoid, by hand."""
    h = 1 / (1 + np.exp(-x @ w))
    up, down = LABELS == 1, LABELS == 0
    by_score = np.where(
        up,
        (2 * (h - a) - 2 * alpha) / up.sum(),
        (2 * (h - b) + 2 * alpha) / down.sum(),
    )
    return (
        (by_score * h * (1 - h)) @ x,
        2 * (a - h[up].mean()),
        2 * (b - h[down].mean()),
        2 * (MARGIN + h[down].mean() - h[up].mean()) - 2 * alpha,
    )


def published_trajectory(momentum, clip, steps, published, reference):
    """The released optimizer, in numpy: its momentum multiplies the new gradient."""
    new_share = 1 - momentum
    values = [np.array([0.3, -0.2, 0.1]), 0.0, 0.0]
    alpha, rate = 0.0, RATE
    buffer, total, count = [0.0] * 3, [0.0] * 3, 0
    reference = [np.array(r) for r in (reference or values)]
    path = []
    for t in range(steps):
        if t == 3:  # a stage ends: lr / 10 and a new reference
            reference = [s / count for s in total]
            total, count, rate = [0.0] * 3, 0, rate / 10
        *slopes, ascent = gradient_of_the_objective(*values, alpha, INPUTS[t % 4])
        for i in range(3):
            d = np.clip(slopes[i], -clip, clip)
            d = d + DECAY * (values[i] - reference[i]) + WEIGHT_DECAY * values[i]
            buffer[i] = (1 - new_share) * buffer[i] + new_share * d
            values[i] = values[i] - rate * buffer[i]
            total[i] = total[i] + values[i]
        count += 1
        if published:
            ascent = 2 * (MARGIN + values[2] - values[1]) - 2 * alpha
        alpha = np.clip(alpha + rate * ascent, 0, 999)
        path.append([*values[0], values[1], values[2], alpha])
    return np.array(path)


@pytest.mark.parametrize(
    ("step", "momentum", "clip", "noise"),
    [("published", 0.1, 0.2, True), ("gradient", 0.6, 1.0, False)],
)
def test_trajectory_is_that_of_the_released_optimizer(step, momentum, clip, noise, x64):
    reference = None
    if noise:
        rng = np.random.default_rng(1)
        reference = (0.01 * rng.normal(size=3), *(0.01 * rng.normal(size=2)))

    def make(rate):
        return pesg(
            rate,
            margin=MARGIN,
            momentum=momentum,
            clip=clip,
            epoch_decay=DECAY,
            weight_decay=WEIGHT_DECAY,
            alpha_step=step,
            reference=reference,
        )

    @jax.jit
    def advance(variables, state, x, rate):
        def mean(variables):
            scores = jax.nn.sigmoid(x @ variables.params)
            return jnp.mean(aucm(scores, LABELS, variables.duals, margin=MARGIN).values)

        gradients = jax.grad(mean)(variables)
        updates, state = make(rate).update(gradients, state, variables)
        return optax.apply_updates(variables, updates), state

    zero = jnp.zeros(())
    variables = SaddleVariables(jnp.array([0.3, -0.2, 0.1]), SaddleDuals(*[zero] * 3))
    state, rate, path = make(RATE).init(variables), RATE, []
    for t in range(7):
        if t == 3:
            state, rate = refresh_pesg(state), rate / 10
        variables, state = advance(variables, state, INPUTS[t % 4], rate)
        path.append(np.concatenate([variables.params, np.stack(variables.duals)]))
    expected = published_trajectory(momentum, clip, 7, step == "published", reference)
    np.testing.assert_allclose(path, expected, rtol=1e-11, atol=1e-14)
    assert np.abs(np.diff(expected, axis=0)).max() > 1e-2
    assert state.steps == 4 and state.steps.dtype == jnp.int32


def test_alpha_stays_in_its_bounds():
    variables = SaddleVariables(jnp.ones(2), SaddleDuals(*jnp.float32([0.0, 0.0, 0.5])))
    gradients = jax.tree.map(lambda x: -100 * jnp.ones_like(x), variables)
    transform = pesg(0.1)
    updates, _ = transform.update(gradients, transform.init(variables), variables)
    moved = optax.apply_updates(variables, updates)
    assert moved.duals.alpha == 0
    np.testing.assert_allclose(moved.params, 1.1, rtol=1e-6)  # clipped to 1
    with pytest.raises(ValueError, match="pesg: update needs params"):
        transform.update(gradients, transform.init(variables))


def test_refresh_without_a_step_changes_nothing():
    variables = SaddleVariables(jnp.ones(2), SaddleDuals(*jnp.zeros(3)))
    state = pesg(0.1).init(variables)
    fresh = refresh_pesg(state)
    np.testing.assert_array_equal(fresh.reference[0], state.reference[0])


def test_multiplier_of_a_budget():
    """lambda <- max(0, lambda - lr (eps - cost)): the gradient is eps - cost."""
    transform = projected_descent_ascent(0.1, low=0.0)
    state, value = transform.init(jnp.array(1.0)), jnp.array(1.0)
    for cost, expected in ((0.3, 0.98), (5.0, 1.43), (-20.0, 0.0)):
        step, state = transform.update(jnp.array(0.5 - cost), state, value)
        value = optax.apply_updates(value, step)
        np.testing.assert_allclose(value, expected, atol=1e-6)


def test_signs_and_bounds_by_leaf():
    variables = {"duals": SaddleDuals(*jnp.zeros(3)), "w": jnp.zeros(2)}
    transform = projected_descent_ascent(
        1.0,
        ascend={"duals": SaddleDuals(False, False, True), "w": False},
        low={"duals": SaddleDuals(-9.0, -9.0, 0.0), "w": -0.5},
    )
    gradients = jax.tree.map(jnp.ones_like, variables)
    updates, _ = transform.update(gradients, transform.init(variables), variables)
    np.testing.assert_array_equal(np.stack(updates["duals"]), [-1, -1, 1])
    np.testing.assert_array_equal(updates["w"], [-0.5, -0.5])
    with pytest.raises(ValueError, match="projected_descent_ascent: update needs"):
        transform.update(gradients, transform.init(variables))


def test_options_are_checked():
    with pytest.raises(ValueError, match="pesg: alpha_step is 'official'"):
        pesg(0.1, alpha_step="official")
    with pytest.raises(ValueError, match="pesg: momentum is 1.0"):
        pesg(0.1, momentum=1.0)
    with pytest.raises(ValueError, match="pesg: clip is 0"):
        pesg(0.1, clip=0)
