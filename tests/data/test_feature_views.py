"""Views of features: noise in deviations, and features that are left out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data.feature_views import STRONG, WEAK, feature_view


def views(count, **options):
    one = functools.partial(feature_view, features=jnp.full(50, 3.0), **options)
    return np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(0), count)))


def test_noise_and_masks_have_the_size_that_is_asked_for():
    out = views(200, noise=0.2, mask=0.25)
    left = out == 0
    # 10,000 draws: 4.5 deviations of their means.
    assert abs(left.mean() - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / out.size)
    kept = out[~left]
    assert abs(kept.mean() - 3) < 4.5 * 0.2 / np.sqrt(kept.size)
    assert abs(kept.std() - 0.2) < 4.5 * 0.2 / np.sqrt(2 * kept.size)
    assert (views(3, noise=0.0, mask=1.0) == 0).all()


def test_the_weak_view_leaves_nothing_out():
    x, key = jnp.ones(200), jax.random.key(1)
    assert (WEAK(key, x) != 0).all() and (STRONG(key, x) == 0).any()
    with pytest.raises(ValueError, match=r"feature_view: features has shape \(2, 3\)"):
        WEAK(key, jnp.ones((2, 3)))
