"""Networks from outside: called as they are written, the head found, errors by name."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ltjax.models import Classifier, CosineHead, LinearHead, OwnNetwork, build_model
from ltjax.options import ConfigError

X = jax.random.normal(jax.random.key(3), (4, 6))


class Plain(nn.Module):
    """Logits, and no mode."""

    num_classes: int = 3
    width: int = 5

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(self.num_classes, name="out")(x)


class Nested(nn.Module):
    """Batch statistics, dropout, and the last layer inside another module."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x, training, mask=None):
        x = nn.Dense(5)(x)
        x = nn.BatchNorm(use_running_average=not training)(x)
        x = nn.Dropout(0.5, deterministic=not training, rng_collection="noise")(x)
        return Plain(self.num_classes, name="top")(x)


class Body(nn.Module):
    """Features."""

    @nn.compact
    def __call__(self, x, *, deterministic=True):
        x = nn.Dense(7)(x)
        return nn.BatchNorm(use_running_average=deterministic)(x)


class Net(nnx.Module):
    """An NNX network of logits."""

    def __init__(self, width: int = 4, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(6, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.norm(self.first(x)))


def own(made, **options):
    return OwnNetwork(lambda num_classes: made, "net", **options)


def by_hand(layer):
    """What a first dense layer makes of X."""
    return np.asarray(X) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])


def start(model):
    return model.init(jax.random.key(0), X)


def test_the_last_dense_layer_is_the_head():
    model = own(Plain()).model(X, 3, LinearHead(3))
    params, state = start(model)
    assert params["backbone"].keys() == {"Dense_0"} and state == {}
    assert params["head"].keys() == {"kernel", "bias"}
    outputs, _ = model.forward(params, state, X, train=True)
    # The same by hand, and by the module itself.
    first = params["backbone"]["Dense_0"]
    hidden = np.maximum(
        np.asarray(X) @ np.asarray(first["kernel"]) + np.asarray(first["bias"]), 0
    )
    np.testing.assert_allclose(outputs["features"], hidden, atol=1e-6)
    whole = {"params": {"Dense_0": first, "out": params["head"]}}
    np.testing.assert_array_equal(outputs["logits"], Plain().apply(whole, X))
    assert model.num_features == 5 and not model.rows_independent
    vectors = model.class_vectors(params, state)
    np.testing.assert_array_equal(vectors, params["head"]["kernel"])


def test_modes_statistics_and_streams_of_other_names():
    model = own(Nested()).model(X, 3, LinearHead(3))
    params, state = start(model)
    assert params["backbone"]["top"].keys() == {"Dense_0"}
    statistics = state["batch_stats"]["backbone"]["BatchNorm_0"]
    key = jax.random.key(1)
    outputs, after = model.forward(params, state, X, train=True, rngs={"dropout": key})
    again, _ = model.forward(params, state, X, train=True, rngs={"dropout": key})
    np.testing.assert_array_equal(outputs["logits"], again["logits"])
    quiet, kept = model.forward(params, state, X, train=False)
    assert np.abs(quiet["logits"] - outputs["logits"]).max() > 1e-3
    moved = after["batch_stats"]["backbone"]["BatchNorm_0"]
    first = params["backbone"]["Dense_0"]
    mean = (
        np.asarray(X) @ np.asarray(first["kernel"]) + np.asarray(first["bias"])
    ).mean(0)
    # Flax's momentum is 0.99: 0.99 * 0 + 0.01 * mean.
    np.testing.assert_allclose(moved["mean"], 0.01 * mean, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, kept, state)
    assert not np.any(statistics["mean"])
    frozen = own(Nested()).model(X, 3, LinearHead(3), freeze_backbone=True)
    same, unmoved = frozen.forward(params, state, X, train=True, rngs={"dropout": key})
    np.testing.assert_array_equal(same["logits"], quiet["logits"])
    jax.tree.map(np.testing.assert_array_equal, unmoved, state)


@pytest.mark.parametrize("head", [LinearHead(3), CosineHead(3)])
def test_features_get_a_head_as_those_of_the_library_do(head):
    model = own(Body(), returns="features").model(X, 3, head)
    params, state = start(model)
    assert params.keys() == {"backbone", "head"}
    assert state.keys() == {"batch_stats"}
    outputs, after = model.forward(params, state, X, train=True)
    assert np.any(after["batch_stats"]["backbone"]["BatchNorm_0"]["mean"])
    variables = {
        "params": params["backbone"],
        "batch_stats": state["batch_stats"]["backbone"],
    }
    features, _ = Body().apply(
        variables, X, deterministic=False, mutable=["batch_stats"]
    )
    expected, logits = head.apply({"params": params["head"]}, features, train=True)
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-6)
    np.testing.assert_allclose(outputs["features"], expected, atol=1e-6)
    embedded = model.embed(params, state, X)
    told, _ = model.classify(params, state, embedded, train=False)
    evaluated, _ = model.forward(params, state, X, train=False)
    np.testing.assert_array_equal(told["logits"], evaluated["logits"])
    assert model.class_vectors(params, state).shape == (7, 3)


def test_a_network_of_ours_is_one_too():
    whole = Classifier(build_backbone(), LinearHead(3))
    model = own(whole).model(X, 3, LinearHead(3))
    params, state = start(model)
    outputs, _ = model.forward(params, state, X, train=False)
    assert outputs["logits"].shape == (4, 3) and outputs["features"].shape == (4, 8)
    assert model.num_features == 8
    ready = build_model("mlp", num_classes=3)
    assert own(ready).model(X, 3, LinearHead(3)) is ready


def build_backbone():
    from ltjax.models import MLP

    return MLP(hidden=(8,))


def test_nnx_from_a_function_of_streams_or_with_its_values():
    made = own(lambda rngs: Net(rngs=rngs), returns="features")
    model = made.model(X, 3, LinearHead(3))
    params, state = start(model)
    assert params["backbone"]["first"]["kernel"].shape == (6, 4)
    other, _ = model.init(jax.random.key(9), X)
    assert np.any(
        params["backbone"]["first"]["kernel"] != other["backbone"]["first"]["kernel"]
    )
    keys = {"dropout": jax.random.key(1)}
    outputs, after = model.forward(params, state, X, train=True, rngs=keys)
    assert outputs["logits"].shape == (4, 3) and outputs["features"].shape == (4, 4)
    assert np.any(after["state"]["backbone"]["norm"]["mean"])

    given = Net(rngs=nnx.Rngs(5))
    model = own(given, returns="features").model(X, 3, LinearHead(3))
    params, _ = start(model)
    np.testing.assert_array_equal(
        params["backbone"]["first"]["kernel"], given.first.kernel[...]
    )


class Fixed(nn.Module):
    """Whatever it is told."""

    made: object

    def __call__(self, x):
        return self.made(x)


class Needs(nn.Module):
    """An argument that nobody knows."""

    def __call__(self, x, text, train=False):
        return x


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (own(Needs()), "takes 'text' besides its inputs, expected only train"),
        (own(nn.Dense), "is <class .*Dense'>, expected a Flax Linen module"),
        (own(3), "is a int, expected a Flax Linen module"),
        (own(Fixed(lambda x: {"scores": x})), "returns scores, expected 'logits'"),
        (own(Fixed(lambda x: [x])), "returns list, expected features"),
        (
            own(Fixed(lambda x: x[:, None]), returns="features"),
            r"returns features \[B, 1, 6\], expected \[B, D\]; average",
        ),
        (
            own(Plain(5), for_classes=True),
            r"returns logits \[B, 5\], but the data have 3 .* takes num_classes",
        ),
        (
            own(Plain(), for_classes=False),
            r"returns \[B, 3\] for data of 3 classes, .* model.returns = 'logits'",
        ),
        (
            own(Body(), returns="features", rows_independent=True),
            "has batch statistics, but model.rows_independent",
        ),
        (
            own(nn.Conv(3, (3, 3, 3, 3))),
            r"cannot be called with inputs of shape \(4, 6\)",
        ),
    ],
)
def test_what_cannot_be_used_is_named(network, message):
    with pytest.raises(ConfigError, match=f"config.model.name: net {message}"):
        network.model(X, 3, LinearHead(3))


def test_another_head_needs_features():
    with pytest.raises(ConfigError, match="gives logits itself, but another head"):
        own(Plain()).model(X, 3, CosineHead(3), usual_head=False)
    model = own(Body()).model(X, 3, CosineHead(3), usual_head=False)
    assert model.num_features == 7


def test_padding_rows_need_a_mask():
    model = own(Body()).model(X, 3, LinearHead(3))
    params, state = start(model)
    mask = jnp.array([True, True, False, True])
    with pytest.raises(ConfigError, match="expected its __call__ to take mask="):
        model.forward(params, state, X, train=True, mask=mask)
