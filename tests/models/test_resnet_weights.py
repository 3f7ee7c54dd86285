"""Residual networks from torchvision's names: against numpy, and their options."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from ltjax.models import ResNet
from ltjax.models.pretrained import describe_file

EPS = 1e-5  # of PyTorch's batch normalization


def torch_arrays(rng, *, block, blocks, widths, groups=1, group_width=64, classes=3):
    """Random weights of a ResNet as torchvision names them."""
    arrays = {}

    def conv(name, out, into, size):
        scale = 1 / np.sqrt(into * size**2)
        arrays[f"{name}.weight"] = rng.normal(0, scale, (out, into, size, size))

    def norm(name, width):
        arrays[f"{name}.weight"] = rng.uniform(0.5, 1.5, width)
        arrays[f"{name}.bias"] = rng.normal(size=width)
        arrays[f"{name}.running_mean"] = rng.normal(size=width)
        arrays[f"{name}.running_var"] = rng.uniform(0.5, 2, width)
        arrays[f"{name}.num_batches_tracked"] = np.array(7)

    conv("conv1", widths[0], 3, 7)
    norm("bn1", widths[0])
    into = widths[0]
    for s, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
        for b in range(count):
            inner = width * group_width // 64 * groups
            place = f"layer{s}.{b}"
            if block == "basic":
                layers, out = [(width, into, 3), (width, width, 3)], width
            else:
                out = 4 * width
                layers = [(inner, into, 1), (inner, inner // groups, 3)]
                layers.append((out, inner, 1))
            for k, (o, i, size) in enumerate(layers, 1):
                conv(f"{place}.conv{k}", o, i, size)
                norm(f"{place}.bn{k}", o)
            if into != out or (s > 1 and b == 0):
                conv(f"{place}.downsample.0", out, into, 1)
                norm(f"{place}.downsample.1", out)
            into = out
    arrays["fc.weight"] = rng.normal(size=(classes, into))
    arrays["fc.bias"] = rng.normal(size=classes)
    return {
        name: value if value.dtype.kind == "i" else value.astype(np.float32)
        for name, value in arrays.items()
    }


def convolve(x, weight, stride, groups=1):
    """[B, C, H, W] with a [out, in / groups, k, k] kernel, padded by k // 2."""
    out, into, size, _ = weight.shape
    pad = size // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    side = (x.shape[2] - size) // stride + 1
    found = np.zeros((len(x), out, side, side))
    for o in range(out):
        first = o // (out // groups) * into
        for i in range(side):
            for j in range(side):
                rows = slice(i * stride, i * stride + size)
                columns = slice(j * stride, j * stride + size)
                patch = x[:, first : first + into, rows, columns]
                found[:, o, i, j] = (patch * weight[o]).sum((1, 2, 3))
    return found


def forward(arrays, x, *, block, blocks, groups=1):
    """Features and logits in float64, from the definition."""
    a = {name: np.asarray(value, np.float64) for name, value in arrays.items()}

    def norm(x, name):
        def column(leaf):
            return a[f"{name}.{leaf}"][:, None, None]

        x = (x - column("running_mean")) / np.sqrt(column("running_var") + EPS)
        return x * column("weight") + column("bias")

    x = np.maximum(norm(convolve(x, a["conv1.weight"], 2), "bn1"), 0)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    side = (padded.shape[2] - 3) // 2 + 1
    x = np.stack(
        [
            padded[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((2, 3))
            for i in range(side)
            for j in range(side)
        ],
        -1,
    ).reshape(*x.shape[:2], side, side)
    for s, count in enumerate(blocks, 1):
        for b in range(count):
            place = f"layer{s}.{b}"
            stride = 2 if s > 1 and b == 0 else 1
            strides = [stride, 1] if block == "basic" else [1, stride, 1]
            y = x
            for k, step in enumerate(strides, 1):
                of_three = groups if block == "bottleneck" and k == 2 else 1
                y = convolve(y, a[f"{place}.conv{k}.weight"], step, of_three)
                y = norm(y, f"{place}.bn{k}")
                y = np.maximum(y, 0) if k < len(strides) else y
            if f"{place}.downsample.0.weight" in a:
                x = convolve(x, a[f"{place}.downsample.0.weight"], stride)
                x = norm(x, f"{place}.downsample.1")
            x = np.maximum(x + y, 0)
    features = x.mean((2, 3))
    return features, features @ a["fc.weight"].T + a["fc.bias"]


KINDS = {
    "basic": dict(block="basic", blocks=(1, 2), widths=(4, 6)),
    "grouped": dict(
        block="bottleneck", blocks=(1, 1), widths=(16, 32), groups=2, group_width=8
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_the_definition(kind, tmp_path, converted):
    rng, options = np.random.default_rng(0), KINDS[kind]
    given = torch_arrays(rng, **options)
    file = tmp_path / "weights.safetensors"
    save_file(given, file)

    published = describe_file(file)
    assert (published.family, published.name) == ("resnet", "resnet")
    assert published.options == {"groups": 1, "group_width": 64} | options
    assert published.mean == (0.485, 0.456, 0.406)

    images = rng.normal(size=(2, 3, 16, 16))
    outputs = converted(file, ResNet(**published.options), 3)
    found = outputs(images.transpose(0, 2, 3, 1))
    more = {k: v for k, v in options.items() if k in ("block", "blocks", "groups")}
    features, logits = forward(given, images, **more)
    np.testing.assert_allclose(found["features"], features, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(found["logits"], logits, atol=1e-4, rtol=1e-5)
