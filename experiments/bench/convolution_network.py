"""A training step of ResNet-32 in plain jax, for any version of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

BLOCKS = [(w, 2 if w > 16 and k == 0 else 1) for w in (16, 32, 64) for k in range(5)]


def make_step(batch: int, rng: np.random.Generator):
    """The jitted step of SGD with momentum on one fixed batch, and its first state."""

    def convolve(x, w, stride):
        numbers, padding = ("NHWC", "HWIO", "NHWC"), ((1, 1), (1, 1))
        return lax.conv_general_dilated(
            x, w, (stride, stride), padding, dimension_numbers=numbers
        )

    def layer(p, x, stride=1):
        y = convolve(x, p["w"], stride)
        mean = y.mean((0, 1, 2), keepdims=True)
        variance = jnp.square(y - mean).mean((0, 1, 2), keepdims=True)
        return (y - mean) * lax.rsqrt(variance + 1e-5) * p["scale"] + p["bias"]

    def loss_of(params, x, labels):
        x = jax.nn.relu(layer(params["stem"], x))
        for (first, second), (width, stride) in zip(
            params["blocks"], BLOCKS, strict=True
        ):
            side = (width - x.shape[-1]) // 2
            skip = jnp.pad(x[:, ::stride, ::stride], [(0, 0)] * 3 + [(side, side)])
            y = jax.nn.relu(layer(first, x, stride))
            x = jax.nn.relu(layer(second, y) + skip)
        logits = x.mean((1, 2)) @ params["head"]
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
        return -picked.mean()

    def fresh(inputs, width):
        w = rng.normal(size=(3, 3, inputs, width)) * np.sqrt(2 / (9 * inputs))
        shape = (1, 1, 1, width)
        return {"w": w, "scale": np.ones(shape), "bias": np.zeros(shape)}

    blocks, inputs = [], 16
    for width, _ in BLOCKS:
        blocks.append((fresh(inputs, width), fresh(width, width)))
        inputs = width
    params = {
        "stem": fresh(3, 16),
        "blocks": blocks,
        "head": rng.normal(size=(64, 10)) / 8,
    }
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    images = jnp.asarray(rng.normal(size=(batch, 32, 32, 3)), jnp.float32)
    labels = jnp.arange(batch) % 10

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state):
        params, velocity = state
        loss, grads = jax.value_and_grad(loss_of)(params, images, labels)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
        params = jax.tree.map(lambda p, v: p - 0.01 * v, params, velocity)
        return (params, velocity), loss

    return step, (params, jax.tree.map(jnp.zeros_like, params))
