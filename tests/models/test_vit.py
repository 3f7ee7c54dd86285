"""Vision Transformers: published sizes, a forward pass in numpy, wrong shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import ViT, build_model, count_parameters


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    # 3 * 16^2 w + w for the patches, w for the token, 197 w for the positions, twelve
    # blocks of 12 w^2 + 13 w, 2 w for the last norm, and a head of 1000 (w + 1).
    [("vit_s16", 384, 22_050_664), ("vit_b16", 768, 86_567_656)],
)
def test_published_number_of_parameters(name, width, expected):
    w = width
    by_hand = 769 * w + w + 197 * w + 12 * (12 * w**2 + 13 * w) + 2 * w + 1000 * (w + 1)
    assert by_hand == expected
    model = build_model(name, num_classes=1000)
    images = jnp.zeros((1, 224, 224, 3))
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), images)[0])
    assert count_parameters(params) == expected


def layer_norm(x):
    centered = x - x.mean(-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-6)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def stretched(x, factor, axis):
    """Linear interpolation between the centers of the entries of an axis."""
    size = x.shape[axis]
    at = (np.arange(factor * size) + 0.5) / factor - 0.5
    return np.apply_along_axis(lambda line: np.interp(at, range(size), line), axis, x)


@pytest.mark.parametrize("pool", ["cls", "mean", "pixels"])
def test_forward_against_numpy(pool):
    net = ViT(patch=2, width=6, depth=2, num_heads=2, mlp_ratio=2.0, pool=pool)
    images = np.random.default_rng(0).normal(size=(3, 4, 6, 2))
    variables = net.init(jax.random.key(0), jnp.asarray(images), train=False)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])
    found = net.apply(variables, jnp.asarray(images), train=False)

    grid = images.reshape(3, 2, 2, 3, 2, 2).transpose(0, 1, 3, 2, 4, 5)
    flat = grid.reshape(3, 6, 8)  # six patches of 2 x 2 x 2 numbers
    x = flat @ p["patches"]["kernel"].reshape(8, 6) + p["patches"]["bias"]
    if pool == "cls":
        x = np.concatenate([np.broadcast_to(p["token"], (3, 1, 6)), x], axis=1)
    x = x + p["positions"]
    for k in (1, 2):
        block = p[f"block{k}"]
        heads = block["attention"]
        y = layer_norm(x)  # its scale and bias start at 1 and 0
        q, k_, v = (
            np.einsum("btd,dhe->bhte", y, heads[n]["kernel"])
            for n in ("query", "key", "value")
        )
        scores = q @ k_.swapaxes(-1, -2) / np.sqrt(3)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        x = x + np.einsum("bhte,hed->btd", weights @ v, heads["out"]["kernel"])
        hidden = layer_norm(x) @ block["dense1"]["kernel"] + block["dense1"]["bias"]
        x = x + gelu(hidden) @ block["dense2"]["kernel"] + block["dense2"]["bias"]
    x = layer_norm(x)
    if pool == "pixels":
        expected = stretched(stretched(x.reshape(3, 2, 3, 6), 2, 1), 2, 2)
    else:
        expected = x[:, 0] if pool == "cls" else x.mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_keeps_float32_parameters():
    model = build_model("vit", num_classes=3, depth=1, dtype="bfloat16")
    images = jnp.ones((2, 8, 8, 3))
    params, state = jax.jit(model.init)(jax.random.key(0), images)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    forward = functools.partial(model.forward, train=False)
    outputs, _ = jax.jit(forward)(params, state, images)
    assert outputs["logits"].dtype == jnp.float32


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 6, 8, 3\), expected .* patch, 4"):
        ViT(depth=1).init(jax.random.key(0), jnp.zeros((1, 6, 8, 3)), train=False)
    with pytest.raises(ValueError, match="width is 10, expected a multiple of num_h"):
        ViT(width=10)
    with pytest.raises(ValueError, match="norm"):
        build_model("vit", num_classes=2, norm="batch")
