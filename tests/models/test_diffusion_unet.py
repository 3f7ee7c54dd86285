"""The diffusion network: what it is told, its layers, adapters that start at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from ltjax.models import build_model
from ltjax.models.diffusion_unet import DiffusionUNet
from ltjax.models.low_rank import is_updated
from ltjax.models.pretrained import read_weights

SMALL = {"width": 4, "multipliers": (1, 2), "attends": 4, "labels": 3}


@pytest.fixture(scope="module")
def network():
    """(model, params, forward): weights that are zero at first are random here."""
    model = build_model(
        "diffusion_unet", num_classes=3, head="noise", control=True, low_rank=2, **SMALL
    )
    params, _ = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    rng = np.random.default_rng(0)

    def stir(x):
        return x + np.float32(0.1 * rng.normal(size=x.shape))

    some = {name: params[name] for name in ("backbone", "head")}
    params = {**params, **jax.tree.map(stir, some)}

    @jax.jit
    def plain(params, asked):
        return model.forward(params, {}, asked, train=False)[0]["noise"]

    return model, params, plain


IMAGES = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
ASKED = {"image": IMAGES, "time": jnp.array([3, 500])}


def test_a_bare_image_has_no_noise_and_no_label(network):
    _, params, plain = network
    bare = plain(params, IMAGES)
    told = {"image": IMAGES, "time": jnp.zeros(2), "label": jnp.array([-1, -1])}
    np.testing.assert_array_equal(bare, plain(params, told))
    for change in ({"time": jnp.array([0, 9])}, {"label": jnp.array([-1, 1])}):
        moved = plain(params, {**told, **change})
        np.testing.assert_allclose(moved[0], bare[0], atol=1e-6)
        assert np.abs(moved[1] - bare[1]).max() > 1e-4
    assert bare.shape == IMAGES.shape


def test_a_new_control_branch_and_low_rank_corrections_change_nothing(network):
    model, params, plain = network
    base = plain(params, ASKED)
    control = jnp.ones((2, 8, 8, 1))
    np.testing.assert_array_equal(base, plain(params, {**ASKED, "control": control}))
    low = jax.jit(
        lambda params: model.forward(params, {}, ASKED, train=False, low_rank=True)[0]
    )
    np.testing.assert_array_equal(base, low(params)["noise"])
    # Once the zeros are gone, both do; without being asked neither does.
    moved = {
        **params,
        "control": jax.tree.map(lambda x: x + 0.1, params["control"]),
        "low_rank": jax.tree.map(lambda x: x + 0.1, params["low_rank"]),
    }
    np.testing.assert_array_equal(base, plain(moved, ASKED))
    assert np.abs(plain(moved, {**ASKED, "control": control}) - base).max() > 1e-4
    assert np.abs(low(moved)["noise"] - base).max() > 1e-4


def test_a_fresh_control_branch_copies_the_encoder(network):
    model, params, _ = network
    copied = model.adopt(params, frozenset({"control"}))
    same = lambda a, b: all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))
    assert same(copied["control"]["encoder"], params["backbone"]["encoder"])
    assert same(copied["control"]["out0"], params["control"]["out0"])
    kept = model.adopt(params, frozenset())
    assert same(kept, params) and not same(kept["control"], copied["control"])


def test_weights_made_elsewhere_are_read_by_their_names(network, tmp_path):
    """A file as `config.init_from` reads it; what it lacks starts afresh."""
    model, params, _ = network
    rng = np.random.default_rng(3)
    paths, tree = jax.tree_util.tree_flatten_with_path({"params": params})
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths
    ]
    shapes = {name: leaf.shape for name, (_, leaf) in zip(names, paths, strict=True)}
    made = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
        if name.startswith(("params.backbone", "params.head"))
    }
    file = tmp_path / "made.safetensors"
    save_file({name.replace(".", "/"): x for name, x in made.items()}, file)
    backbone = DiffusionUNet(control=True, low_rank=2, **SMALL)
    read = read_weights(file, backbone, shapes)
    assert read.fresh == {"control", "low_rank"}
    leaves = [
        read.arrays.get(name, leaf)
        for name, (_, leaf) in zip(names, paths, strict=True)
    ]
    start = jax.tree.unflatten(tree, leaves)["params"]
    adopted = {"params": model.adopt(start, read.fresh)}
    found = dict(zip(names, jax.tree.leaves(adopted), strict=True))
    for name, x in made.items():
        np.testing.assert_array_equal(found[name], x, err_msg=name)
    stem = "encoder.stem.kernel"  # the control branch begins as a copy of what was read
    copied = found[f"params.control.{stem}"]
    np.testing.assert_array_equal(copied, made[f"params.backbone.{stem}"])
    missing = {**shapes, "params.backbone.level2.block.conv1.kernel": (3, 3, 4, 4)}
    with pytest.raises(ValueError, match="level2.block.conv1.kernel is missing"):
        read_weights(file, backbone, missing)


def test_updated_are_attention_and_small_convolutions(network):
    _, params, _ = network
    updates = jax.tree_util.tree_flatten_with_path(params["low_rank"])[0]
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape
        for path, leaf in updates
    }
    assert shapes["level0.block.skip.kernel.a"] == (8, 2)
    assert shapes["level0.block.skip.kernel.b"] == (2, 4)
    assert shapes["encoder.bottom.attention.query.kernel.a"] == (8, 2)
    kernels = {name.rpartition(".")[0] for name in shapes}
    for name in kernels:
        modules = tuple(name.split(".")[:-1])
        kernel = params["backbone"]
        for part in name.split("."):
            kernel = kernel[part]
        assert is_updated(modules, kernel)
    assert not any("told" in name or "conv1" in name for name in kernels)


def test_layers_are_read_by_a_tap(network):
    model, params, _ = network
    seen = {}

    def tap(name, x):
        seen[name] = x.shape
        return x

    jax.eval_shape(lambda: model.forward(params, {}, IMAGES, train=False, tap=tap))
    assert seen["backbone/bottom"] == (2, 4, 4, 8)
    assert seen["backbone/up1"] == (2, 4, 4, 8)
    assert seen["backbone/up0"] == (2, 8, 8, 4)


def test_what_is_refused():
    with pytest.raises(ValueError, match="width is 5 .* expected an even width"):
        build_model("diffusion_unet", num_classes=3, width=5)
    model = build_model("diffusion_unet", num_classes=3, head="noise", **SMALL)
    with pytest.raises(ValueError, match="expected .* multiples of 2"):
        model.init(jax.random.key(0), jnp.zeros((1, 7, 8, 1)))
