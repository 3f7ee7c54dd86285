"""Mixup: a convex combination with a permutation, its weight Beta distributed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.resampling.mixup import mixup

KEY = jax.random.key(0)


def test_mixup_is_a_convex_combination_with_a_permutation():
    inputs = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)
    mixed, partner, lam = mixup(KEY, inputs, alpha=1.0)
    assert partner.dtype == jnp.int32 and lam.shape == () and lam.dtype == jnp.float32
    assert sorted(partner.tolist()) == list(range(6))
    expected = float(lam) * inputs + (1 - float(lam)) * inputs[np.asarray(partner)]
    assert np.allclose(mixed, expected, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_weight_has_a_beta_distribution(alpha):
    keys = jax.random.split(KEY, 4000)
    draw = jax.jit(
        jax.vmap(
            lambda key, a: mixup(key, jnp.ones((2, 1)), alpha=a).lam,
            in_axes=(0, None),
        )
    )
    lam = np.asarray(draw(keys, alpha))
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(lam.mean() - 0.5) < 4 * np.sqrt(variance / 4000)
    assert abs(lam.var() / variance - 1) < 0.1


def test_a_strength_of_zero_is_refused():
    with pytest.raises(ValueError, match="alpha is 0.0"):
        mixup(KEY, np.ones((2, 1)), alpha=0.0)


def test_an_example_may_stay_the_larger_part_of_its_mixture():
    inputs = np.eye(4, dtype=np.float32)
    for seed in range(6):
        key = jax.random.key(seed)
        lam = mixup(key, inputs, alpha=0.5).lam
        kept = mixup(key, inputs, alpha=0.5, dominant=True).lam
        assert kept == max(lam, 1 - lam)
