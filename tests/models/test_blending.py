"""Blending: weights by channel, the identity for one set, and both kinds of logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models.blending import BlendingHead, blend

SETS = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 5))
SCORES = jax.random.normal(jax.random.key(1), (2, 3, 5))


def test_weights_sum_to_one_over_the_sets_for_each_channel():
    exp = np.exp(np.asarray(SCORES, np.float64))
    weights = exp / exp.sum(1, keepdims=True)
    want = (np.asarray(SETS) * weights[:, :, None, None, :]).sum(1)
    np.testing.assert_allclose(blend(SETS, SCORES), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        blend(jnp.ones_like(SETS), SCORES), np.ones((2, 4, 4, 5)), rtol=1e-6
    )


def test_one_set_and_equal_sets_come_through():
    np.testing.assert_allclose(blend(SETS[:, :1], SCORES[:, :1]), SETS[:, 0], rtol=1e-6)
    same = jnp.repeat(SETS[:, :1], 3, axis=1)
    np.testing.assert_allclose(blend(same, SCORES), SETS[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pixels", [False, True])
def test_the_head_classifies_images_or_pixels(pixels):
    head = BlendingHead(num_classes=7, pixels=pixels, width=4)
    variables = head.init(jax.random.key(2), SETS[:, 0], train=False)
    apply = jax.jit(lambda sets: head.apply(variables, sets, train=False))
    found = apply(SETS)
    assert found["logits"].shape == ((2, 4, 4, 7) if pixels else (2, 7))
    kernel = variables["params"]["classifier"]["kernel"]
    seen = found["blended"] if pixels else found["blended"].mean((1, 2))
    np.testing.assert_allclose(found["logits"], seen @ kernel, rtol=1e-4, atol=1e-5)
    # The gates are the same network for every set: their order does not matter.
    np.testing.assert_allclose(
        apply(SETS[:, ::-1])["logits"], found["logits"], atol=1e-5
    )
