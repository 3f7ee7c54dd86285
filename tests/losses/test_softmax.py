"""Cross-entropy, the affine template and softmax focal: numbers and numerics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax.class_stats import inverse_power_weights, log_prior
from ltjax.losses import (
    affine_softmax,
    focal,
    ldam,
    logit_adjusted,
    pairwise_margin,
    softmax_cross_entropy,
    vector_scaling,
)
from ltjax.schedules import phase

COUNTS = np.array([100, 20, 5])
LOGITS = np.array([[1.0, 0.5, -0.2]])
TAIL = np.array([2])


def test_cross_entropy_of_the_running_example(x64):
    np.testing.assert_allclose(
        softmax_cross_entropy(LOGITS, TAIL), [1.845911365367], rtol=1e-12
    )
    gradient = jax.grad(lambda z: softmax_cross_entropy(z, TAIL)[0])(LOGITS)
    np.testing.assert_allclose(
        gradient[0], [0.524184601, 0.317934032, 0.157881368 - 1], atol=1e-9
    )


@pytest.mark.parametrize("size", [0.1, 3.0, 100.0])
def test_equals_optax_where_optax_is_defined(size):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(size * rng.normal(size=(64, 10)), jnp.float32)
    labels = rng.integers(0, 10, 64)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    values = softmax_cross_entropy(logits, labels)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6 * size)
    soft = rng.dirichlet(np.ones(10), 64).astype(np.float32)
    np.testing.assert_allclose(
        softmax_cross_entropy(logits, soft),
        optax.softmax_cross_entropy(logits, soft),
        rtol=1e-5,
        atol=1e-6 * size,
    )


@pytest.mark.parametrize(
    ("power", "weights", "loss"),
    [
        (0.25, [0.650746330, 0.973092732, 1.376160938], 5.009357431187),
        (1.0, [0.115384615, 0.576923077, 2.307692308], 8.400220706683),
    ],
)
def test_truncated_adjustment_with_aligned_weights(x64, power, weights, loss):
    weight = inverse_power_weights(COUNTS, power=power)
    np.testing.assert_allclose(weight, weights, atol=1e-9)
    shift = 0.75 * log_prior(COUNTS)
    value = affine_softmax(LOGITS, TAIL, weight=weight, shift=shift)
    np.testing.assert_allclose(value, [loss], rtol=1e-12)


def test_template_gives_every_loss_of_its_table(x64):
    rng = np.random.default_rng(1)
    logits, labels = rng.uniform(-1, 1, (6, 3)), np.array([0, 1, 2, 2, 1, 0])
    priors = log_prior(COUNTS)
    scale = (COUNTS / COUNTS.max()) ** 0.2
    margins = np.diag(-0.5 * (COUNTS.min() / COUNTS) ** 0.25)
    for value, expected in (
        (
            affine_softmax(logits, labels, scale=scale, shift=1.2 * priors),
            vector_scaling(logits, labels, COUNTS, gamma=0.2, tau=1.2),
        ),
        (
            affine_softmax(logits, labels, shift=priors),
            logit_adjusted(logits, labels, COUNTS),
        ),
        (
            affine_softmax(logits, labels, shift=margins, temperature=1 / 30),
            ldam(logits, labels, COUNTS),
        ),
        (
            affine_softmax(logits, labels, weight=COUNTS, shift=-margins[::-1]),
            # In the log(1 + sum) form a row is measured from its own diagonal.
            pairwise_margin(
                logits, labels, COUNTS, -margins[::-1] + np.diag(margins[::-1])[:, None]
            ),
        ),
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14)


def test_phases_switch_inside_one_program():
    rng = np.random.default_rng(2)
    logits = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    labels = np.array([0, 1, 2, 2])
    scales = np.stack([(COUNTS / 100) ** 0.05, np.ones(3)]).astype(np.float32)
    shifts = np.stack([log_prior(COUNTS), 0.75 * log_prior(COUNTS)]).astype(np.float32)
    weights = np.stack([np.ones(3), inverse_power_weights(COUNTS, power=0.25)])
    weights = weights.astype(np.float32)

    @jax.jit
    def deferred(step):
        now = phase(step, (160,))
        return affine_softmax(
            logits,
            labels,
            weight=jnp.asarray(weights)[now],
            scale=jnp.asarray(scales)[now],
            shift=jnp.asarray(shifts)[now],
        )

    first = vector_scaling(logits, labels, COUNTS, gamma=0.05, tau=1.0)
    second = logit_adjusted(logits, labels, COUNTS, tau=0.75)
    second = weights[1][labels] * second
    np.testing.assert_allclose(deferred(159), first, rtol=1e-6)
    np.testing.assert_allclose(deferred(160), second, rtol=1e-6)
    assert deferred._cache_size() == 1


def test_unit_weights_change_no_bit():
    logits = jnp.asarray(np.random.default_rng(3).normal(size=(16, 3)), jnp.float32)
    labels = np.arange(16) % 3
    plain = affine_softmax(logits, labels, shift=log_prior(COUNTS))
    weighted = affine_softmax(
        logits, labels, shift=log_prior(COUNTS), weight=np.ones(3, np.float32)
    )
    np.testing.assert_array_equal(plain, weighted)


def test_minus_infinity_takes_a_class_out():
    logits = jnp.array([[1.0, 5.0, -0.2], [0.3, 9.0, 0.8]])
    shift = jnp.array([0.0, -jnp.inf, 0.0])
    labels, soft = jnp.array([2, 0]), jnp.array([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
    for target, two in ((labels, jnp.array([1, 0])), (soft, soft[:, ::2])):
        values, pull = jax.vjp(
            lambda z, t=target: affine_softmax(z, t, shift=shift), logits
        )
        np.testing.assert_allclose(
            values, softmax_cross_entropy(logits[:, ::2], two), rtol=1e-6
        )
        (gradient,) = pull(jnp.ones(2))
        assert np.all(np.isfinite(gradient))
        np.testing.assert_array_equal(gradient[:, 1], 0)


def test_shift_larger_than_the_logits_does_not_underflow():
    # The largest logit is not the largest term: the stabilizer must see their sum.
    logits, shift = jnp.array([[0.0, 500.0]]), jnp.array([0.0, -700.0])
    value = affine_softmax(logits, jnp.array([1]), shift=shift)
    np.testing.assert_allclose(value, [200.0], rtol=1e-6)


def test_confident_losses_keep_their_digits():
    # log(1 + e^-t) for t past the rounding of 1 + e^-t.
    logits = jnp.array([[0.0, 40.0]])
    margin = pairwise_margin(logits, jnp.array([1]), jnp.ones(2), jnp.zeros((2, 2)))
    np.testing.assert_allclose(margin, [np.exp(-40.0)], rtol=1e-5)
    np.testing.assert_allclose(
        ldam(logits / 40, jnp.array([1]), [9, 9], max_margin=0.5, scale=40.0),
        [np.exp(-20.0)],
        rtol=1e-5,
    )


def test_one_class_costs_nothing():
    logits, label = jnp.array([[3.0]]), jnp.array([0])
    for loss in (softmax_cross_entropy, focal):
        value, gradient = jax.value_and_grad(lambda z, f=loss: f(z, label)[0])(logits)
        assert (float(value), float(gradient[0, 0])) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("gamma", "loss"),
    [(0.5, 1.693937888388), (1.0, 1.554476354365), (2.0, 1.309053501493)],
)
def test_focal_numbers(x64, gamma, loss):
    np.testing.assert_allclose(focal(LOGITS, TAIL, gamma=gamma), [loss], rtol=1e-12)


def test_focal_gradient_is_a_factor_of_the_cross_entropy_gradient(x64):
    gradient = jax.grad(lambda z: focal(z, TAIL, gamma=2.0)[0])(LOGITS)
    np.testing.assert_allclose(
        gradient[0], [0.629026499, 0.381523857, -1.010550356], atol=1e-9
    )
    plain = jax.grad(lambda z: softmax_cross_entropy(z, TAIL)[0])(LOGITS)
    np.testing.assert_allclose(
        gradient / plain, np.full((1, 3), 1.200009497), rtol=1e-9
    )


def test_focal_falls_with_gamma():
    values = [float(focal(LOGITS, TAIL, gamma=g)[0]) for g in (0, 0.5, 1, 2, 5)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_focal_is_smooth_where_the_answer_is_certain(gamma):
    # (1 - p)^gamma has an infinite slope at p = 1 if it is taken as a power.
    logits = jnp.array([[100.0, 0.0, -50.0], [30.0, 0.0, 0.0]])
    labels = jnp.array([0, 0])
    gradient = jax.jacrev(lambda z, g: focal(z, labels, gamma=g), argnums=(0, 1))
    for part in gradient(logits, jnp.float32(gamma)):
        assert np.all(np.isfinite(part))
    np.testing.assert_allclose(focal(logits, labels, gamma=gamma)[0], 0.0, atol=1e-30)


def test_readable_hyper_parameters_are_checked():
    with pytest.raises(
        ValueError, match=r"focal: gamma is -1.0, expected .* \[0.0, inf"
    ):
        focal(LOGITS, TAIL, gamma=-1.0)
    with pytest.raises(ValueError, match="affine_softmax: temperature is 0.0"):
        affine_softmax(LOGITS, TAIL, temperature=0.0)
    with pytest.raises(ValueError, match=r"affine_softmax: weight has shape \(2,\)"):
        affine_softmax(LOGITS, TAIL, weight=np.ones(2))
    with pytest.raises(ValueError, match=r"affine_softmax: shift has shape \(3, 2\)"):
        affine_softmax(LOGITS, TAIL, shift=np.ones((3, 2)))
    with pytest.raises(TypeError, match="affine_softmax: shift has one row per true"):
        affine_softmax(LOGITS, np.ones((1, 3)) / 3, shift=np.ones((3, 3)))
