"""Two sets of batch normalization in one network: what is shared and what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import build_model
from ltjax.models.second_norms import with_second_norms

INPUTS = jax.random.normal(jax.random.key(1), (6, 5))


@pytest.fixture(scope="module")
def network():
    """A model with batch normalization in its head only, its first variables."""
    model = build_model(
        "mlp", num_classes=2, head="projection", hidden=(4,), head_options={"width": 3}
    )
    twin = with_second_norms(model)
    return model, twin, *twin.init(jax.random.key(0), INPUTS)


def test_the_branches_begin_alike_and_move_apart(network, assert_same):
    model, twin, params, state = network
    assert set(params) == {"backbone", "head", "second_norms"}
    assert_same(params["second_norms"]["head"]["norm1"], params["head"]["norm1"])
    first, after = twin.forward(params, state, INPUTS, train=True)
    second, other = twin.forward(params, state, INPUTS, train=True, branch=1)
    assert_same(first, second)
    assert_same(after["second_norms"], state["second_norms"])
    assert_same(other["batch_stats"], state["batch_stats"])
    assert_same(other["second_norms"], after["batch_stats"])
    moved = jax.tree.map(jnp.ones_like, params["second_norms"])
    changed = {**params, "second_norms": moved}
    assert_same(twin.forward(changed, state, INPUTS, train=True)[0], first)
    outputs, _ = twin.forward(changed, state, INPUTS, train=True, branch=1)
    assert np.any(outputs["projection"] != first["projection"])
    # In evaluation the network is that of the first branch.
    own = {name: params[name] for name in ("backbone", "head")}
    plain, _ = model.forward(
        own, {"batch_stats": after["batch_stats"]}, INPUTS, train=False
    )
    assert_same(twin.forward(params, after, INPUTS, train=False)[0], plain)
    hidden = twin.embed(params, after, INPUTS)
    assert_same(twin.classify(params, after, hidden, train=False)[0], plain)


def test_a_branch_without_batch_normalization_is_the_network():
    twin = with_second_norms(build_model("mlp", num_classes=2, norm="none"))
    params, state = twin.init(jax.random.key(0), INPUTS)
    assert "second_norms" not in params and "second_norms" not in state
    one, _ = twin.forward(params, state, INPUTS, train=True)
    two, _ = twin.forward(params, state, INPUTS, train=True, branch=1)
    assert np.array_equal(one["logits"], two["logits"])
