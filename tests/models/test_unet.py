"""A U-Net keeps the resolution and sees its neighbourhood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models.unet import UNet


def test_features_of_a_pixel_depend_on_its_neighbourhood():
    """Two levels reach 1 + 2 + 4 + 2 + 1 pixels and the poolings, not the corner."""
    net = UNet(width=2, levels=2, norm="none")
    x = jnp.zeros((1, 32, 32, 1))
    variables = net.init(jax.random.key(0), x, train=False)
    apply = jax.jit(lambda x: net.apply(variables, x, train=False))
    base, moved = apply(x), apply(x.at[0, 3, 3, 0].set(5.0))
    assert base.shape == (1, 32, 32, 2)
    changed = np.abs(np.asarray(moved - base)).max(axis=-1)[0] > 0
    assert changed[3, 3] and not changed[28:, 28:].any()


def test_sides_must_be_halved_evenly():
    net = UNet(width=2, levels=2)
    with pytest.raises(ValueError, match="UNet: inputs have shape .* multiples of 4"):
        net.init(jax.random.key(0), jnp.zeros((1, 30, 32, 1)), train=False)
