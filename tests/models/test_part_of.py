"""A network inside of larger trees: every function finds its own, and puts it back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import build_model
from ltjax.models.forward import Model
from ltjax.models.part_of import part_of

INPUTS = jnp.array([[1.0, 2.0], [3.0, 4.0]])


@pytest.fixture(scope="module")
def network():
    """A model with batch normalization, and its variables."""
    model = build_model("mlp", num_classes=3, hidden=(4,), norm="batch")
    return model, *jax.jit(model.init)(jax.random.key(0), INPUTS)


def test_every_function_is_that_of_the_network(network, assert_same):
    model, params, state = network
    whole = {"mine": params, "other": jnp.ones(1)}
    kept = {"mine": state, "other": jnp.zeros(1)}
    part = part_of(
        model,
        lambda tree: tree["mine"],
        lambda tree: tree["mine"],
        lambda tree, new: {**tree, "mine": new},
    )
    outputs, moved = part.forward(whole, kept, INPUTS, train=True)
    expected, new = model.forward(params, state, INPUTS, train=True)
    assert_same(outputs, expected)
    assert_same(moved, {**kept, "mine": new})
    assert np.any(new["batch_stats"]["backbone"]["norm1"]["mean"])
    features = part.embed(whole, kept, INPUTS)
    assert_same(features, model.embed(params, state, INPUTS))
    classified, after = part.classify(whole, kept, features, train=False)
    assert_same(classified, model.classify(params, state, features, train=False)[0])
    assert_same(after, kept)
    vectors = part.class_vectors(whole, kept)
    assert_same(vectors, model.class_vectors(params, state))


def test_the_state_may_be_the_networks_own(network, assert_same):
    model, params, state = network
    part = part_of(model, lambda tree: tree["mine"])
    _, moved = part.forward({"mine": params}, state, INPUTS, train=True)
    assert_same(moved, model.forward(params, state, INPUTS, train=True)[1])


def test_what_a_network_has_not_its_part_has_not():
    bare = Model(lambda *_: ({}, {}), lambda *_, **__: ({}, {}), True, 1, "bare")
    part = part_of(bare, lambda tree: tree)
    assert part.embed is part.classify is part.class_vectors is None
    assert part.class_centers is None
