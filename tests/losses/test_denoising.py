"""Denoising: schedules by their definitions, forward process, and the way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses


def test_schedules_are_products_of_their_betas():
    linear = losses.noise_schedule("linear", steps=1000)
    betas = np.linspace(1e-4, 0.02, 1000)
    np.testing.assert_allclose(linear[500], np.prod(1 - betas[:500]), rtol=1e-12)
    scaled = losses.noise_schedule("scaled_linear", steps=1000)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    np.testing.assert_allclose(scaled[1000], np.prod(1 - betas), rtol=1e-12)
    cosine = losses.noise_schedule("cosine", steps=1000)
    level = lambda t: np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(cosine[600], level(600) / level(0), rtol=1e-9)
    for kept in (linear, scaled, cosine):
        assert kept[0] == 1 and (np.diff(kept) < 0).all() and kept[-1] > 0
        assert len(kept) == 1001
    # With a tenth of the steps each takes ten times as much, to first order.
    coarse = losses.noise_schedule("linear", steps=100)
    assert np.log(coarse[50]) == pytest.approx(np.log(linear[500]), rel=0.1)


def test_noise_is_added_and_taken_away():
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 3, 4, 4, 1))
    kept = np.array([1.0, 0.7, 0.01])
    noisy = losses.noised(x, noise, kept)
    spread = kept[:, None, None, None]
    want = np.sqrt(spread) * x + np.sqrt(1 - spread) * noise
    np.testing.assert_allclose(noisy, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(noisy[0], x[0], rtol=1e-6)
    np.testing.assert_allclose(losses.clean_estimate(noisy, noise, kept), x, atol=2e-5)
    there = losses.ddim_step(noisy, noise, kept, np.array([0.5, 0.9, 1.0]))
    np.testing.assert_allclose(
        there, losses.noised(x, noise, jnp.array([0.5, 0.9, 1.0])), atol=2e-5
    )


def test_the_loss_is_a_mean_over_entries_and_ignores_padding():
    predicted = jnp.array([[[1.0, 2.0]], [[0.0, 3.0]], [[jnp.nan, 1.0]]])
    noise = jnp.array([[[0.0, 0.0]], [[1.0, 1.0]], [[1.0, jnp.inf]]])
    where = jnp.array([True, True, False])
    value = lambda p: jnp.sum(losses.denoising(p, noise, where=where))
    found = losses.denoising(predicted, noise, where=where)
    np.testing.assert_allclose(found, [2.5, 2.5, 0])
    slope = jax.jit(jax.grad(value))(predicted)
    np.testing.assert_allclose(slope[:2].reshape(2, 2), [[1, 2], [-1, 2]])
    assert not slope[2].any()


def test_what_is_refused():
    with pytest.raises(ValueError, match="schedule is 'cosin'"):
        losses.noise_schedule("cosin")
    with pytest.raises(ValueError, match="steps"):
        losses.noise_schedule(steps=0)
    with pytest.raises(ValueError, match=r"noise has shape \(2,\), expected \(3,\)"):
        losses.noised(jnp.zeros(3), jnp.zeros(2), 0.5)
    x = jnp.zeros((3, 1))
    with pytest.raises(ValueError, match=r"kept has shape \(2,\), expected a scalar"):
        losses.noised(x, x, np.full(2, 0.5))
    with pytest.raises(ValueError, match=r"kept is 0.0, expected numbers in \(0, 1\]"):
        losses.clean_estimate(x, x, 0.0)
    with pytest.raises(ValueError, match="ddim_step: kept_next is 1.5"):
        losses.ddim_step(x, x, 0.5, 1.5)
