"""ImageNet residual networks: counts by formula, shapes, placement of the strides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import ResNet, build_model, count_parameters
from ltjax.models.resnet import Block, conv

KEY = jax.random.key(0)
WIDTHS = (64, 128, 256, 512)


def backbone_shapes(name, **options):
    model = build_model(name, num_classes=1000, **options)
    params, _ = jax.eval_shape(model.init, KEY, jnp.zeros((1, 64, 64, 3)))
    return model, params["backbone"]


def formula(blocks, kind, *, groups=1, group_width=64, widths=WIDTHS):
    """Parameters layer by layer: k^2 in out / groups + 2 out for conv and norm."""
    layer = lambda size, a, b, groups=1: size**2 * a // groups * b + 2 * b
    total, entering = layer(7, 3, widths[0]), widths[0]
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        for block in range(count):
            if kind == "basic":
                out = width
                total += layer(3, entering, out) + layer(3, out, out)
            else:
                out, inner = 4 * width, width * group_width // 64 * groups
                total += layer(1, entering, inner) + layer(1, inner, out)
                total += layer(3, inner, inner, groups)
            if entering != out or (stage > 0 and block == 0):
                total += layer(1, entering, out)
            entering = out
    return total


@pytest.mark.parametrize(
    "name, blocks, kind, grouping, published",
    [
        ("resnet10", (1, 1, 1, 1), "basic", {}, 4_905_792),
        ("resnet18", (2, 2, 2, 2), "basic", {}, None),
        ("resnet34", (3, 4, 6, 3), "basic", {}, None),
        ("resnet50", (3, 4, 6, 3), "bottleneck", {}, 23_508_032),
        ("resnet101", (3, 4, 23, 3), "bottleneck", {}, 42_500_160),
        ("resnet152", (3, 8, 36, 3), "bottleneck", {}, 58_143_808),
        (
            "resnext50",
            (3, 4, 6, 3),
            "bottleneck",
            {"groups": 32, "group_width": 4},
            22_979_904,
        ),
    ],
)
def test_parameter_counts(name, blocks, kind, grouping, published):
    model, params = backbone_shapes(name)
    expected = formula(blocks, kind, **grouping)
    assert count_parameters(params) == expected
    assert published is None or expected == published
    assert model.num_features == (512 if kind == "basic" else 2048)


def test_widened_last_stage():
    widths = (64, 128, 256, 1024)
    model, params = backbone_shapes("resnet50", widths=widths)
    assert count_parameters(params) == formula(
        (3, 4, 6, 3), "bottleneck", widths=widths
    )
    assert model.num_features == 4096


def test_intermediate_shapes():
    module = ResNet(blocks=(1, 1, 1, 1))

    def run(key, images):
        return module.init_with_output(
            key, images, train=False, capture_intermediates=True
        )

    features, variables = jax.eval_shape(run, KEY, jnp.zeros((2, 224, 224, 3)))
    seen = variables["intermediates"]
    assert seen["stem"]["__call__"][0].shape == (2, 112, 112, 64)
    for stage, (side, width) in enumerate(
        ((56, 256), (28, 512), (14, 1024), (7, 2048))
    ):
        out = seen[f"stage{stage + 1}_block1"]["__call__"][0]
        assert out.shape == (2, side, side, width)
    assert features.shape == (2, 2048)


def test_stride_is_in_the_3x3_convolution():
    block = Block("bottleneck", 8, 2, 1, 64, "batch", "float32")

    def run(key, x):
        return block.init_with_output(key, x, train=False, capture_intermediates=True)

    _, variables = jax.eval_shape(run, KEY, jnp.zeros((1, 8, 8, 16)))
    seen = variables["intermediates"]
    sides = [seen[f"conv{i}"]["__call__"][0].shape[1] for i in (1, 2, 3)]
    assert sides == [8, 4, 4]


def test_convolutions_start_normal_by_fan_out():
    kernel = conv(64, 3, dtype="float32", name=None).init(
        KEY, jnp.zeros((1, 4, 4, 16))
    )["params"]["kernel"]
    # Fan-in would give sqrt(2 / (9 * 16)), twice as much.
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.03)


@pytest.mark.slow
def test_a_tiny_network_trains_on_one_batch():
    model = build_model("resnet10", num_classes=2, widths=(4, 4, 8, 8))
    images = jax.random.normal(KEY, (4, 32, 32, 3))
    labels = jnp.array([0, 1, 0, 1])
    params, state = model.init(jax.random.key(1), images)

    @jax.jit
    def step(params, state):
        def loss(params):
            outputs, new = model.forward(params, state, images, train=True)
            log_p = jax.nn.log_softmax(outputs["logits"])
            return -jnp.mean(log_p[jnp.arange(4), labels]), new

        (value, new), grad = jax.value_and_grad(loss, has_aux=True)(params)
        return value, jax.tree.map(lambda p, g: p - 0.1 * g, params, grad), new

    first, params, state = step(params, state)
    for _ in range(10):
        last, params, state = step(params, state)
    assert last < 0.5 * first


def test_wrong_structures_are_refused():
    with pytest.raises(ValueError, match="block is 'botleneck'"):
        ResNet(block="botleneck")
    with pytest.raises(ValueError, match="one for each of the 2 stages"):
        ResNet(blocks=(1, 1))
    with pytest.raises(ValueError, match="groups need block='bottleneck'"):
        ResNet(block="basic", groups=32)


def test_the_small_stem_keeps_the_resolution():
    """A 3x3 convolution in the place of 7x7, and four strides of two fewer than 32."""
    _, large = backbone_shapes("resnet18")
    model, small = backbone_shapes("resnet18", stem="small")
    fewer = count_parameters(large) - count_parameters(small)
    assert fewer == (7**2 - 3**2) * 3 * 64
    assert small["stem"]["kernel"].shape == (3, 3, 3, 64)
    # One pixel moves the features of a small image only by what its stages pool: with
    # stride 1 in stem and first stage, 32 pixels end as 4.
    tiny = ResNet(blocks=(1, 1, 1, 1), block="basic", widths=(2, 2, 2, 2), stem="small")
    _, caught = jax.eval_shape(
        lambda key, x: tiny.init_with_output(
            key, x, train=False, capture_intermediates=True, mutable=True
        ),
        KEY,
        jnp.zeros((1, 32, 32, 3)),
    )
    shapes = caught["intermediates"]
    sides = [shapes[f"stage{k}_block1"]["__call__"][0].shape[1] for k in range(1, 5)]
    assert sides == [32, 16, 8, 4]
