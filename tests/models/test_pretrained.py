"""Files of published weights: what is fitted, and what is refused by name."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from ltjax.models import ResNet, ViT
from ltjax.models.pretrained import (
    describe_file,
    is_weights_file,
    read_weights,
    resized_positions,
)

TINY = dict(block="basic", blocks=(1,), widths=(2,))


def arrays(classes=3, channels=3):
    """A residual network of one block, as torchvision names it."""
    sizes = {
        "conv1.weight": (2, channels, 7, 7),
        "layer1.0.conv1.weight": (2, 2, 3, 3),
        "layer1.0.conv2.weight": (2, 2, 3, 3),
        "fc.weight": (classes, 2),
        "fc.bias": (classes,),
    }
    for norm in ("bn1", "layer1.0.bn1", "layer1.0.bn2"):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            sizes[f"{norm}.{leaf}"] = (2,)
    rng = np.random.default_rng(0)
    return {n: rng.normal(size=shape).astype("f4") for n, shape in sizes.items()}


def shapes(classes=3, channels=3):
    """Of every array of the network itself."""
    found = {
        "params.backbone.stem.kernel": (7, 7, channels, 2),
        "params.head.kernel": (2, classes),
        "params.head.bias": (classes,),
    }
    for k in (1, 2):
        found[f"params.backbone.stage1_block1.conv{k}.kernel"] = (3, 3, 2, 2)
    for norm in ("stem_norm", "stage1_block1.norm1", "stage1_block1.norm2"):
        for place in ("params.backbone", "model_state.batch_stats.backbone"):
            leaves = ("scale", "bias") if place[0] == "p" else ("mean", "var")
            found |= {f"{place}.{norm}.{leaf}": (2,) for leaf in leaves}
    return found


@pytest.fixture
def file(tmp_path):
    """`file(arrays) -> path`."""

    def write(given, name="weights.safetensors"):
        save_file(given, tmp_path / name)
        return tmp_path / name

    return write


def test_a_head_is_kept_for_as_many_classes_and_left_out_for_others(file):
    path = file(arrays(classes=3))
    kept = read_weights(path, ResNet(**TINY), shapes(classes=3))
    np.testing.assert_array_equal(
        kept.arrays["params.head.kernel"], arrays(3)["fc.weight"].T
    )
    assert kept.fresh == frozenset()
    assert kept.notes == ["its head is kept, the number of classes being the same"]
    other = read_weights(path, ResNet(**TINY), shapes(classes=4))
    assert other.fresh == {"head"} and "params.head.kernel" not in other.arrays
    assert other.notes == [
        "its head of 3 classes is left out, a new one starts at random"
    ]
    skipped = read_weights(
        path, ResNet(**TINY), shapes(classes=3), skip=frozenset({"head"})
    )
    assert "params.head.kernel" not in skipped.arrays and not skipped.notes


def test_gray_images_see_what_three_equal_channels_would(file):
    path, given = file(arrays()), arrays()
    found = read_weights(path, ResNet(**TINY), shapes(channels=1))
    gray = np.random.default_rng(1).normal(size=(1, 9, 9, 1)).astype("f4")
    one = jax.lax.conv_general_dilated(
        gray,
        found.arrays["params.backbone.stem.kernel"],
        (2, 2),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    three = jax.lax.conv_general_dilated(
        np.repeat(gray, 3, -1),
        given["conv1.weight"].transpose(2, 3, 1, 0),
        (2, 2),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(one, three, atol=1e-5)
    assert "its first layer is summed over the channels" in found.notes


def test_every_array_that_does_not_fit_is_named(file):
    given = arrays()
    del given["layer1.0.bn2.bias"]
    given["layer1.0.se.weight"] = np.zeros(2, "f4")
    given["layer1.0.conv1.weight"] = np.zeros((2, 2, 5, 5), "f4")
    with pytest.raises(ValueError) as error:
        read_weights(file(given), ResNet(**TINY), shapes())
    lines = str(error.value).splitlines()
    assert lines[0].endswith("weights.safetensors does not fit the network:")
    assert [line.strip() for line in lines[1:]] == [
        "layer1.0.se.weight has no place",
        "params.backbone.stage1_block1.norm2.bias is missing",
        "params.backbone.stage1_block1.conv1.kernel has shape (5, 5, 2, 2), expected"
        " (3, 3, 2, 2)",
    ]


def test_another_network_is_refused_by_its_attributes(file):
    path = file(arrays())
    with pytest.raises(ValueError, match=r"blocks = \(1,\), but .* has \(2,\)"):
        read_weights(path, ResNet(**(TINY | {"blocks": (2,)})), shapes())
    with pytest.raises(ValueError, match="block = 'basic', but the network has 'none'"):
        read_weights(path, ViT(), shapes())


def test_what_our_own_export_wrote_goes_back(file):
    rng = np.random.default_rng(2)
    own = {
        "params/backbone/Dense_0/kernel": rng.normal(size=(3, 2)).astype("f4"),
        "batch_stats/backbone/norm/mean": rng.normal(size=2).astype("f4"),
    }
    path = file(own)
    assert describe_file(path) is None
    expected = {
        "params.backbone.Dense_0.kernel": (3, 2),
        "model_state.batch_stats.backbone.norm.mean": (2,),
        "params.head.kernel": (2, 4),
    }
    found = read_weights(path, None, expected)
    assert found.fresh == {"head"}
    names = ["params.backbone.Dense_0.kernel", *list(expected)[1:2]]
    for name, value in zip(names, own.values(), strict=True):
        np.testing.assert_array_equal(found.arrays[name], value)
    with pytest.raises(ValueError, match="it has nothing for head"):
        read_weights(path, None, expected, skip=frozenset({"backbone"}))


def test_half_precision_is_read(file):
    import ml_dtypes

    half = {"params/backbone/kernel": np.arange(4).astype(ml_dtypes.bfloat16)}
    found = read_weights(file(half), None, {"params.backbone.kernel": (4,)})
    value = found.arrays["params.backbone.kernel"]
    assert value.dtype == np.float32 and value.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda d: d / "a.pth", ValueError, "a pickle.*safetensors.torch.save_file"),
        (lambda d: d / "none.safetensors", FileNotFoundError, "there is no file"),
        (lambda d: d / "a.npz", ValueError, "not a .safetensors file"),
        (lambda d: d / "broken.safetensors", ValueError, "cannot be read"),
    ],
)
def test_other_files_are_refused(make, error, message, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(error, match=message):
        describe_file(make(tmp_path))


def test_unknown_names_are_told(file):
    path = file({"stages.0.weight": np.zeros(2, "f4")})
    with pytest.raises(ValueError, match="such as stages.0.weight; expected the names"):
        describe_file(path)
    config = path.parent / "config.json"
    config.write_text("{")
    with pytest.raises(ValueError, match="config.json, beside the weights, cannot"):
        describe_file(path)


def test_a_run_is_not_a_file_of_weights():
    assert is_weights_file("a/b.safetensors") and is_weights_file("b.PTH")
    assert not is_weights_file("runs/la") and not is_weights_file("stage:first")


def test_positions_keep_the_class_token_and_constants():
    given = np.full((1, 17, 2), 3.0, np.float32)
    given[:, 0] = 7.0
    found = resized_positions(given, 10)
    assert found.shape == (1, 10, 2)
    np.testing.assert_array_equal(found[:, 0], given[:, 0])
    np.testing.assert_allclose(found[:, 1:], 3.0, atol=1e-5)
    # A ramp stays one: bicubic interpolation is exact on it, but at the border.
    ramp = np.broadcast_to(np.arange(8.0)[:, None], (8, 8)).reshape(1, 64, 1)
    twice = resized_positions(ramp.astype(np.float32), 256)[0].reshape(16, 16)
    np.testing.assert_allclose(twice[4:12, 3], np.arange(4, 12) / 2 - 0.25, atol=1e-5)
    assert resized_positions(given, 11) is given  # not a square: refused by its shape
