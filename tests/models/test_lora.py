"""LoRA: at first the function of the network, merged as unmerged, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import build_model, count_parameters
from ltjax.models.class_scale import learnable_scaling
from ltjax.models.lora import with_lora
from ltjax.models.peers import with_peers
from ltjax.options import ConfigError

VIT = dict(patch=4, width=12, depth=2, num_heads=2, mlp_ratio=2.0)
IMAGES = jax.random.normal(jax.random.key(1), (3, 8, 8, 3))


@pytest.fixture(scope="module")
def base():
    return build_model("vit", num_classes=4, **VIT)


@pytest.fixture(scope="module")
def started(base):
    """(model, its params) with updates of rank 2."""
    model = with_lora(base, rank=2, alpha=6.0)
    params, state = jax.jit(model.init)(jax.random.key(0), IMAGES)
    assert state == {}
    return model, params


def logits(model, params):
    return jax.jit(lambda p: model.forward(p, {}, IMAGES, train=False)[0]["logits"])(
        params
    )


def moved(params):
    """Both factors away from their start."""
    noise = jax.tree.map(
        lambda x: 0.1 * jax.random.normal(jax.random.key(5), x.shape), params["lora"]
    )
    return {**params, "lora": jax.tree.map(jnp.add, params["lora"], noise)}


def test_the_start_is_that_of_the_network(base, started):
    model, params = started
    plain, _ = jax.jit(base.init)(jax.random.key(0), IMAGES)
    kept = {name: value for name, value in params.items() if name != "lora"}
    jax.tree.map(np.testing.assert_array_equal, kept, plain)
    np.testing.assert_array_equal(logits(model, params), logits(base, plain))


def test_attention_and_mlp_have_updates_by_hand(started):
    _, params = started
    # Two blocks: query, key, value, out of 12 x 12, and 12 x 24 and 24 x 12, at rank 2.
    assert count_parameters(params["lora"]) == 2 * 2 * (4 * 24 + 2 * 36)
    a = params["lora"]["block1"]["dense2"]["kernel"]["a"]
    assert a.shape == (24, 2) and np.abs(a).max() <= 1 / np.sqrt(24)
    other = params["lora"]["block2"]["dense2"]["kernel"]["a"]
    assert not np.array_equal(a, other)


def test_merged_is_the_definition_and_gives_the_same(base, started):
    model, params = started
    changed = moved(params)
    merged = model.merge(changed)
    assert merged.keys() == {"backbone", "head"}
    own = changed["lora"]["block1"]["attention"]["out"]["kernel"]
    a, b = (np.asarray(own[name], np.float64) for name in "ab")
    before = changed["backbone"]["block1"]["attention"]["out"]["kernel"]
    expected = before + 6.0 / 2 * (a @ b).reshape(before.shape)
    found = merged["backbone"]["block1"]["attention"]["out"]["kernel"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    told = logits(model, changed)
    assert np.abs(told - logits(model, params)).max() > 0.01
    np.testing.assert_allclose(logits(base, merged), told, atol=1e-5)


def test_both_factors_get_gradient(started):
    model, params = started

    def loss(lora, params):
        found, _ = model.forward({**params, "lora": lora}, {}, IMAGES, train=True)
        return jnp.sum(found["logits"][:, 0] ** 2)

    gradient = jax.jit(jax.grad(loss))
    first = gradient(params["lora"], params)["block1"]["dense1"]["kernel"]
    assert np.abs(first["b"]).max() > 0  # B moves first, A has no gradient while B = 0
    assert not np.abs(first["a"]).any()
    changed = moved(params)
    later = gradient(changed["lora"], changed)["block1"]["dense1"]["kernel"]
    assert np.abs(later["a"]).max() > 0


def test_convolutions_and_other_wrappers():
    base = build_model(
        "resnet", num_classes=3, block="basic", blocks=(1,), widths=(16,)
    )
    model = learnable_scaling(with_lora(base, rank=3), 3)
    networks = with_peers(model, ("peer",))
    images = jnp.ones((2, 8, 8, 3))
    params, state = networks["main"].init(jax.random.key(0), images)
    # conv1 and conv2 are [3, 3, 16, 16]: 144 x 16; the stem stays.
    shapes = jax.tree.map(jnp.shape, params["lora"])
    one = {"kernel": {"a": (144, 3), "b": (3, 16)}}
    assert shapes == {"stage1_block1": {"conv1": one, "conv2": one}}
    merged = networks["main"].merge(params)
    assert merged.keys() == {"backbone", "head", "class_scale", "peer"}
    assert merged["peer"].keys() == {"backbone", "head", "class_scale"}
    plain = learnable_scaling(base, 3)
    for role, own in (("main", merged), ("peer", merged["peer"])):
        seen = state if role == "main" else state["peer"]
        seen = {name: x for name, x in seen.items() if name != "peer"}
        own = {name: x for name, x in own.items() if name != "peer"}
        expected, _ = plain.forward(own, seen, images, train=False)
        found, _ = networks[role].forward(params, state, images, train=False)
        np.testing.assert_array_equal(found["logits"], expected["logits"])


def test_targets_that_match_nothing_are_refused(base):
    model = with_lora(base, targets=("atention",))
    message = (
        r"targets is \('atention',\), which match no module .* block1/attention/key"
    )
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), IMAGES)


def test_what_trains_must_be_the_updates(tiny):
    with pytest.raises(ConfigError, match="expected 'lora,head'"):
        tiny({"adapter.name": "lora"})
    with pytest.raises(ConfigError, match="expected 'lora,head'"):
        tiny({"adapter.name": "lora", "optimizer.train": "lora,backbone,head"})
