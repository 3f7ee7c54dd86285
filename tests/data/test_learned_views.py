"""Views by a learned policy: pixels there and back, and who is probed."""

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data import ctaugment
from ltjax.data.learned_views import learned_views

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def test_images_are_those_of_ctaugment_normalized_again():
    views = learned_views(MEAN, STD, depth=1, threshold=0.9)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)) / 255
    images = jnp.asarray((pixels - MEAN) / STD, jnp.float32)
    # Only the lowest strengths are left; probes have any.
    rates = views.init()
    low = rates.rates.at[:, :, 1:].multiply(0.1)
    probe, key = jnp.arange(6) >= 3, jax.random.key(1)

    def by_hand(key, image, probe):
        first, second = jax.random.split(key)
        rest = dict(depth=1, threshold=0.9, decay=0.99)
        drawn = ctaugment.sample(first, ctaugment.Rates(low), **rest)
        alike = ctaugment.sample(first, ctaugment.Rates(low), probe=True, **rest)
        level = jnp.where(probe, alike.level, drawn.level)
        policy = ctaugment.Policy(drawn.op, level)
        changed = ctaugment.apply(second, 255 * image, policy, cutout=False)
        return changed / 255, policy

    def both(images):
        made = views.vary(key, images, ctaugment.Rates(low), probe)
        keys = jax.random.split(key, 6)
        given = jnp.asarray(pixels, jnp.float32)
        return made, jax.vmap(by_hand)(keys, given, probe)

    (found, policies), (want, own) = jax.device_get(jax.jit(both)(images))
    np.testing.assert_allclose(found * STD + MEAN, want, atol=0.02)
    np.testing.assert_array_equal(policies.op, own.op)
    np.testing.assert_array_equal(policies.level, own.level)
    assert policies.level[:3, 0, 0].max() < 1 / 8 < policies.level[3:, 0, 0].max()
