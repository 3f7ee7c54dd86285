"""An NNX module in the forward contract: gradients, batch statistics, streams."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ltjax.models import from_nnx, model_from_nnx


class Net(nnx.Module):
    """Two convolutions in a list, batch normalization, dropout, linear head."""

    def __init__(self, rngs, dropout=0.0):
        self.convs = nnx.List(
            [nnx.Conv(1, 4, (3,), rngs=rngs), nnx.Conv(4, 6, (3,), rngs=rngs)]
        )
        self.norm = nnx.BatchNorm(6, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x, *, mask=None):
        for conv in self.convs:
            x = nnx.relu(conv(x))
        x = self.norm(x, mask=None if mask is None else mask[:, None, None])
        features = self.dropout(jnp.mean(x, axis=1))
        return {"logits": self.head(features), "features": features}


INPUTS = jax.random.normal(jax.random.key(0), (5, 8, 1))
RNGS = {"dropout": jax.random.key(1)}


@pytest.fixture(scope="module")
def split():
    return from_nnx(Net(nnx.Rngs(0)))


def test_variables_are_plain_dicts(split):
    params, state, _ = split
    shapes = jax.tree.map(jnp.shape, (params, state))
    assert shapes[0]["convs"]["1"] == {"kernel": (3, 4, 6), "bias": (6,)}
    assert shapes[1] == {"norm": {"mean": (6,), "var": (6,)}}


def test_modes_equal_the_module_itself(split):
    params, state, forward = split
    net = Net(nnx.Rngs(0))
    net.eval()
    outputs, same = forward(params, state, INPUTS, train=False)
    np.testing.assert_array_equal(outputs["logits"], net(INPUTS)["logits"])
    assert same is state
    net.train()
    outputs, new = forward(params, state, INPUTS, train=True, rngs=RNGS)
    np.testing.assert_allclose(outputs["logits"], net(INPUTS)["logits"], rtol=1e-6)
    np.testing.assert_allclose(new["norm"]["mean"], net.norm.mean[...], rtol=1e-6)
    np.testing.assert_allclose(new["norm"]["var"], net.norm.var[...], rtol=1e-6)
    assert (np.asarray(new["norm"]["mean"]) != 0).any()


def test_gradients_and_state_under_jit_equal_nnx(split):
    params, state, forward = split
    traces = []

    @jax.jit
    def step(params, state):
        traces.append(None)

        def loss(params):
            outputs, new = forward(params, state, INPUTS, train=True, rngs=RNGS)
            return jnp.sum(jnp.sin(outputs["logits"])), new

        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, new), grad = step(params, state)
    step(params, new)
    assert len(traces) == 1

    net = Net(nnx.Rngs(0))
    expected, expected_grad = nnx.value_and_grad(
        lambda net: jnp.sum(jnp.sin(net(INPUTS)["logits"]))
    )(net)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new["norm"]["var"], net.norm.var[...], rtol=1e-5)
    pairs = [
        (grad["convs"]["0"]["kernel"], expected_grad["convs"][0]["kernel"]),
        (grad["norm"]["scale"], expected_grad["norm"]["scale"]),
        (grad["head"]["bias"], expected_grad["head"]["bias"]),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs[...], rtol=1e-4, atol=1e-5)


def test_mask_equals_dropping_rows(split):
    params, state, forward = split
    real = np.array([True, True, False, True, False])
    padded = jnp.where(real[:, None, None], INPUTS, jnp.nan)
    outputs, new = forward(params, state, padded, train=True, rngs=RNGS, mask=real)
    kept, new_kept = forward(params, state, INPUTS[real], train=True, rngs=RNGS)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    near(outputs["logits"][real], kept["logits"])
    jax.tree.map(near, new, new_kept)


def test_streams_follow_the_keys_given():
    params, state, forward = from_nnx(Net(nnx.Rngs(0), dropout=0.5))

    def features(rngs):
        outputs, _ = forward(params, state, INPUTS, train=True, rngs=rngs)
        return np.asarray(outputs["features"])

    other = {"dropout": jax.random.key(2)}
    np.testing.assert_array_equal(features(RNGS), features(RNGS))
    assert (features(RNGS) != features(other)).any()
    with pytest.raises(ValueError, match="Net has random streams"):
        features(None)


@pytest.mark.slow
def test_model_is_initialized_per_key_under_vmap():
    model = model_from_nnx(Net, num_features=6)
    assert not model.rows_independent and model.describe == "Net"
    keys = jax.random.split(jax.random.key(0), 2)
    params, state = jax.jit(jax.vmap(model.init, in_axes=(0, None)))(keys, INPUTS)
    kernels = np.asarray(params["head"]["kernel"])
    assert kernels.shape == (2, 6, 3) and (kernels[0] != kernels[1]).all()

    def run(params, state):
        return model.forward(params, state, INPUTS, train=True, rngs=RNGS)

    outputs, new = jax.vmap(run)(params, state)
    one = jax.tree.map(lambda x: x[1], (params, state))
    alone, new_alone = run(*one)
    np.testing.assert_allclose(outputs["logits"][1], alone["logits"], rtol=1e-5)
    np.testing.assert_allclose(
        new["norm"]["var"][1], new_alone["norm"]["var"], rtol=1e-5
    )


class Pair(nnx.Module):
    """Returns a pair, takes no mask; with or without batch statistics."""

    def __init__(self, rngs, norm):
        self.head = nnx.Linear(1, 2, rngs=rngs)
        self.norm = nnx.BatchNorm(1, rngs=rngs) if norm else None

    def __call__(self, x):
        features = self.norm(x) if self.norm else x
        return self.head(features), features


def test_pairs_and_masks_of_modules_that_take_none():
    inputs, mask = jnp.ones((3, 1)), jnp.array([True, True, False])
    params, state, forward = from_nnx(Pair(nnx.Rngs(0), norm=False))
    outputs, _ = forward(params, state, inputs, train=True, mask=mask)
    np.testing.assert_array_equal(outputs["features"], [[1], [1], [0]])
    assert model_from_nnx(lambda rngs: Pair(rngs, False), num_features=1)[2]

    params, state, forward = from_nnx(Pair(nnx.Rngs(0), norm=True))
    with pytest.raises(ValueError, match="expected its __call__ to take mask="):
        forward(params, state, inputs, train=True, mask=mask)


def test_wrong_outputs_and_structures_are_refused(split):
    params, state, forward = split
    with pytest.raises(ValueError, match="params has the structure"):
        forward({"head": params["head"]}, state, INPUTS, train=False)
    linear = nnx.Linear(1, 2, rngs=nnx.Rngs(0))
    params, state, forward = from_nnx(linear)
    with pytest.raises(TypeError, match="dict of arrays such as 'logits'"):
        forward(params, state, jnp.ones((3, 1)), train=False)
