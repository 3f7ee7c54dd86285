"""MLP and the two small convolutional networks against slow numpy versions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import Conv1D, Conv2D, build_model

KEY = jax.random.key(0)


def exact(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def normalize(x):
    axes = tuple(range(x.ndim - 1))
    return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)


def convolve(x, kernel, strides, sides):
    """Convolution of [B, positions..., C] over all its positions, in float64."""
    x = np.pad(x, ((0, 0), *((s, s) for s in sides), (0, 0)))
    size = kernel.shape[:-2]
    counts = [
        (n - k) // s + 1 for n, k, s in zip(x.shape[1:], size, strides, strict=False)
    ]
    out = np.zeros((len(x), *counts, kernel.shape[-1]))
    for at in np.ndindex(*counts):
        patch = x[
            (
                slice(None),
                *(
                    slice(i * s, i * s + k)
                    for i, s, k in zip(at, strides, size, strict=True)
                ),
            )
        ]
        axes = range(1, patch.ndim), range(kernel.ndim - 1)
        out[(slice(None), *at)] = np.tensordot(patch, kernel, axes)
    return out


@pytest.mark.parametrize("pool, width", [("mean", 4), ("flatten", 20)])
def test_conv1d_against_numpy(pool, width):
    model = build_model(
        "conv1d", num_classes=3, widths=(3, 4), strides=(2, 2), pool=pool, length=19
    )
    assert model.num_features == width
    signals = jax.random.normal(KEY, (4, 19))
    params, state = model.init(jax.random.key(1), signals)
    outputs, _ = model.forward(params, state, signals, train=True)
    with_channel, _ = model.forward(params, state, signals[..., None], train=True)
    np.testing.assert_array_equal(outputs["logits"], with_channel["logits"])

    net, x = exact(params["backbone"]), np.asarray(signals, np.float64)[..., None]
    for i in (1, 2):
        x = convolve(x, net[f"conv{i}"]["kernel"], (2,), (2,))
        x = np.maximum(normalize(x), 0)
    x = x.mean(1) if pool == "mean" else x.reshape(4, -1)
    np.testing.assert_allclose(outputs["features"], x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pool, width", [("mean", 4), ("flatten", 64)])
def test_conv2d_against_numpy(pool, width):
    model = build_model(
        "conv2d", num_classes=3, widths=(3, 4), strides=(2, 1), pool=pool, size=7
    )
    assert model.num_features == width
    images = jax.random.normal(KEY, (4, 7, 7))
    params, state = model.init(jax.random.key(1), images)
    outputs, _ = model.forward(params, state, images, train=True)
    net, x = exact(params["backbone"]), np.asarray(images, np.float64)[..., None]
    for i, stride in ((1, 2), (2, 1)):
        x = convolve(x, net[f"conv{i}"]["kernel"], (stride,) * 2, (2, 2))
        x = np.maximum(normalize(x), 0)
    x = x.mean((1, 2)) if pool == "mean" else x.reshape(4, -1)
    np.testing.assert_allclose(outputs["features"], x, rtol=1e-3, atol=1e-4)


def test_mlp_flattens_its_inputs_and_has_biases_without_norm():
    model = build_model("mlp", num_classes=3, hidden=[6, 5])
    inputs = jax.random.normal(KEY, (4, 2, 3))
    params, state = model.init(jax.random.key(1), inputs)
    assert not state and model.rows_independent
    assert set(params["backbone"]["dense1"]) == {"kernel", "bias"}
    outputs, _ = model.forward(params, state, inputs, train=True)
    x = np.asarray(inputs, np.float64).reshape(4, 6)
    for layer in ("dense1", "dense2"):
        weights = exact(params["backbone"][layer])
        x = np.maximum(x @ weights["kernel"] + weights["bias"], 0)
    np.testing.assert_allclose(outputs["features"], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name, shape, features",
    [("conv1d", (2, 40), 64), ("conv2d", (2, 28, 28, 1), 1024), ("mlp", (2, 9), 256)],
)
def test_default_shapes(name, shape, features):
    model = build_model(name, num_classes=10)

    def run(key, inputs):
        return model.forward(*model.init(key, inputs), inputs, train=True)[0]

    outputs = jax.eval_shape(run, KEY, jnp.zeros(shape))
    assert outputs["features"].shape == (2, features)
    assert outputs["logits"].shape == (2, 10)
    assert model.num_features == features


def test_wrong_structures_and_inputs_are_refused():
    with pytest.raises(ValueError, match="one for each of the 2 widths"):
        Conv1D(widths=(3, 4))
    with pytest.raises(ValueError, match="one for each of the 2 widths"):
        Conv2D(widths=(3, 4))
    with pytest.raises(ValueError, match="kernel_size is 4"):
        Conv1D(kernel_size=4)
    with pytest.raises(ValueError, match="kernel_size is 2"):
        Conv2D(kernel_size=2)
    for module in (Conv1D, Conv2D):
        with pytest.raises(ValueError, match="pool is 'max'"):
            module(pool="max")
    with pytest.raises(ValueError, match=r"\(1, 30\), expected \[B, 40\]"):
        Conv1D(pool="flatten").lazy_init(KEY, jnp.zeros((1, 30)), train=False)
    with pytest.raises(ValueError, match=r"\(1, 32, 32\), expected \[B, 28, 28\]"):
        Conv2D().lazy_init(KEY, jnp.zeros((1, 32, 32)), train=False)
    with pytest.raises(ValueError, match=r"inputs have shape \(1, 30\)"):
        Conv2D().lazy_init(KEY, jnp.zeros((1, 30)), train=False)
