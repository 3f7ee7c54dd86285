"""The CIFAR residual network against the published sizes and a slow numpy version."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import ResNetCifar, build_model, count_parameters
from ltjax.models.resnet_cifar import Block, conv3x3, pad_shortcut

KEY = jax.random.key(0)


def shapes(model, size=32):
    return jax.eval_shape(model.init, KEY, jnp.zeros((1, size, size, 3)))


@pytest.mark.parametrize(
    "name, with_10, with_100",
    [
        ("resnet20", 269_722, 275_572),
        ("resnet32", 464_154, 470_004),
        ("resnet44", 658_586, 664_436),
        ("resnet56", 853_018, 858_868),
        ("resnet110", 1_727_962, 1_733_812),
    ],
)
def test_parameter_counts(name, with_10, with_100):
    for num_classes, expected in ((10, with_10), (100, with_100)):
        params, _ = shapes(build_model(name, num_classes=num_classes))
        assert count_parameters(params) == expected


@pytest.mark.parametrize(
    "head", [dict(head="cosine"), dict(head_options={"use_bias": False})]
)
def test_a_biasless_head_removes_as_many_parameters_as_classes(head):
    params, _ = shapes(build_model("resnet20", num_classes=10, **head))
    assert count_parameters(params) == 269_712


def test_double_width_is_the_network_of_the_etf_paper():
    model = build_model("resnet32", num_classes=100, width=32)
    params, _ = shapes(model)
    assert count_parameters(params["backbone"]) == 1_848_608
    assert model.num_features == 128


@pytest.mark.parametrize("size", [32, 96])
def test_intermediate_shapes(size):
    module = ResNetCifar(depth=20)

    def run(key, images):
        return module.init_with_output(
            key, images, train=False, capture_intermediates=True
        )

    features, variables = jax.eval_shape(run, KEY, jnp.zeros((2, size, size, 3)))
    seen = variables["intermediates"]
    for stage in (1, 2, 3):
        side, width = size // 2 ** (stage - 1), 16 * 2 ** (stage - 1)
        for block in (1, 2, 3):
            (out,) = seen[f"stage{stage}_block{block}"]["__call__"]
            assert out.shape == (2, side, side, width)
    assert features.shape == (2, 64)


def test_silenced_block_is_the_padded_shortcut():
    block = Block(width=32, stride=2, norm="batch", dtype="float32")
    x = jax.random.normal(KEY, (2, 8, 8, 16))
    variables = block.init(KEY, x, train=False)
    norm2 = jax.tree.map(jnp.zeros_like, variables["params"]["norm2"])
    variables["params"]["norm2"] = norm2
    outputs = np.asarray(block.apply(variables, x, train=False))
    np.testing.assert_array_equal(outputs[..., :8], 0)
    np.testing.assert_array_equal(outputs[..., 24:], 0)
    np.testing.assert_array_equal(
        outputs[..., 8:24], np.maximum(np.asarray(x)[:, ::2, ::2], 0)
    )


def test_strided_convolution_is_not_shifted():
    layer = conv3x3(1, stride=2, dtype="float32", name=None)
    x = jnp.ones((1, 6, 6, 1))
    variables = layer.init(KEY, x)
    seen = jax.grad(lambda x: layer.apply(variables, x)[0, 0, 0, 0])(x)[0, :, :, 0]
    rows, columns = np.nonzero(np.asarray(seen))
    # Rows -1..1, of which row -1 is padding.
    assert set(rows) == {0, 1} and set(columns) == {0, 1}


def test_convolutions_start_normal_and_untruncated():
    layer = conv3x3(64, dtype="float32", name=None)
    kernel = layer.init(KEY, jnp.zeros((1, 4, 4, 64)))["params"]["kernel"]
    sigma = np.sqrt(2 / (9 * 64))
    assert np.std(kernel) == pytest.approx(sigma, rel=0.02)
    # 4.6 % of a normal distribution, none of a truncated one.
    assert np.mean(np.abs(kernel) > 2 * sigma) == pytest.approx(0.0455, abs=0.005)


@pytest.mark.slow
def test_linear_head_of_the_network_starts_like_its_convolutions():
    model = build_model("resnet_cifar", depth=8, width=4, num_classes=500)
    params, _ = model.init(KEY, jnp.zeros((1, 8, 8, 3)))
    head = params["head"]
    assert np.std(head["kernel"]) == pytest.approx(np.sqrt(2 / 16), rel=0.03)
    assert np.abs(head["bias"]).max() <= 1 / np.sqrt(16)
    assert np.std(head["bias"]) == pytest.approx(0.25 / np.sqrt(3), rel=0.1)


def convolve(x, kernel, stride):
    """3x3 convolution of [B, H, W, C] padded by 1, written out in float64."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    side = (x.shape[1] - 3) // stride + 1
    out = np.zeros((len(x), side, side, kernel.shape[-1]))
    for i in range(side):
        for j in range(side):
            patch = x[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
            out[:, i, j] = np.einsum("bhwc,hwco->bo", patch, kernel)
    return out


def batch_norm(x, layer):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / np.sqrt(var + 1e-5) * layer["scale"] + layer["bias"]


@pytest.mark.slow
def test_train_mode_against_numpy():
    model = build_model("resnet_cifar", depth=8, width=4, num_classes=3)
    images = jax.random.normal(KEY, (3, 8, 8, 3))
    params, state = model.init(jax.random.key(1), images)
    outputs, new_state = model.forward(params, state, images, train=True)

    net = jax.tree.map(lambda p: np.asarray(p, np.float64), params["backbone"])
    relu = lambda x: np.maximum(x, 0)
    x = convolve(np.asarray(images, np.float64), net["stem"]["kernel"], 1)
    x = relu(batch_norm(x, net["stem_norm"]))
    for stage, side in ((1, 0), (2, 2), (3, 4)):
        block, stride = net[f"stage{stage}_block1"], 1 if stage == 1 else 2
        y = convolve(x, block["conv1"]["kernel"], stride)
        y = relu(batch_norm(y, block["norm1"]))
        y = batch_norm(convolve(y, block["conv2"]["kernel"], 1), block["norm2"])
        x = np.pad(x[:, ::stride, ::stride], ((0, 0),) * 3 + ((side, side),))
        x = relu(x + y)
    np.testing.assert_allclose(
        outputs["features"], x.mean((1, 2)), rtol=1e-3, atol=1e-4
    )
    assert jax.tree.structure(new_state) == jax.tree.structure(state)


@pytest.mark.slow
def test_group_norm_variant_has_independent_rows():
    model = build_model("resnet_cifar", depth=8, width=4, norm="group", num_classes=3)
    images = jax.random.normal(KEY, (3, 8, 8, 3))
    params, state = model.init(jax.random.key(1), images)
    assert model.rows_independent and not state

    @jax.jit
    def row_0(images):
        outputs, _ = model.forward(params, state, images, train=True)
        return outputs["logits"][0, 0]

    gradient = np.asarray(jax.grad(row_0)(images))
    np.testing.assert_array_equal(gradient[1:], 0)
    assert np.abs(gradient[0]).max() > 0


def test_shortcut_pads_odd_maps_and_both_sides():
    x = jnp.arange(1, 1 + 5 * 5 * 2, dtype=jnp.float32).reshape(1, 5, 5, 2)
    out = pad_shortcut(x, 4, 2)
    assert out.shape == (1, 3, 3, 4)
    np.testing.assert_array_equal(out[0, :, :, 1:3], x[0, ::2, ::2])
    np.testing.assert_array_equal(out[..., jnp.array([0, 3])], 0)


def test_wrong_depths_and_inputs_are_refused():
    with pytest.raises(ValueError, match="depth is 33, expected 6n \\+ 2"):
        ResNetCifar(depth=33)
    with pytest.raises(ValueError, match="norm is 'instance'"):
        ResNetCifar(norm="instance")
    with pytest.raises(ValueError, match=r"inputs have shape \(2, 32, 32\)"):
        ResNetCifar(depth=8).lazy_init(KEY, jnp.zeros((2, 32, 32)), train=False)
