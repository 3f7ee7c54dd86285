"""Denoising: what a step learns from, which part of the network, and the refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import noise_schedule
from ltjax.options import ConfigError

CONFIG = ("diffusion_digits", "method=denoising")


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {
        "inputs": jnp.asarray(rng.normal(size=(16, 16, 16, 1)), jnp.float32),
        "label": jnp.arange(16, dtype=jnp.int32) % 10,
        "mask": jnp.arange(16) < 14,
        "index": jnp.arange(16, dtype=jnp.int32),
    }


def prepared(run, state, batch):
    return run.method.prepare(state, batch, key=jax.random.key(3), program=None)[1]


def test_noise_times_and_prompts_of_a_batch(smoked, batch):
    run, state = smoked(*CONFIG, "method.label_dropout=0.5")
    seen = prepared(run, state, batch)
    time = np.asarray(seen["time"])
    assert time.min() >= 1 and time.max() <= 1000 and len(set(time)) > 8
    kept = noise_schedule()[time][:, None, None, None]
    want = np.sqrt(kept) * batch["inputs"] + np.sqrt(1 - kept) * seen["noise"]
    np.testing.assert_allclose(seen["noisy"][:14], want[:14], atol=1e-5)
    prompt = np.asarray(seen["prompt"])
    dropped = prompt == -1
    assert 0 < dropped.sum() < 16
    np.testing.assert_array_equal(prompt[~dropped], batch["label"][~dropped])
    assert "control" not in seen
    run, state = smoked(*CONFIG, "method.label_dropout=1.0")
    assert "prompt" not in prepared(run, state, batch)


def test_a_step_learns_the_noise_of_the_real_rows(smoked, batch):
    run, state = smoked(*CONFIG)
    head = jax.tree.map(lambda x: x + 0.05, state.params["head"])
    state = state.replace(params={**state.params, "head": head})
    seen = prepared(run, state, batch)
    losses, aux = jax.jit(
        lambda params: run.method.loss(params, state, seen, key=None, program=None)
    )(state.params)
    asked = {"image": seen["noisy"], "time": seen["time"], "label": seen["prompt"]}
    told, _ = run.model.forward(state.params, {}, asked, train=False)
    want = np.square(told["noise"] - seen["noise"]).mean((1, 2, 3))
    np.testing.assert_allclose(losses["noise"][:14], want[:14], rtol=1e-4)
    assert not losses["noise"][14:].any()
    total, count = aux["metrics"]["loss_noisy_half"]
    late = np.asarray(seen["time"])[:14] > 500
    assert int(count) == late.sum()
    np.testing.assert_allclose(total, want[:14][late].sum(), rtol=1e-4)


@pytest.mark.parametrize(
    "part", [pytest.param("control", marks=pytest.mark.slow), "low_rank"]
)
def test_a_technique_is_tuned_through_its_own_weights(smoked, batch, part):
    run, state = smoked(*CONFIG, f"method.trains={part}")
    seen = prepared(run, state, batch)
    assert ("control" in seen) == (part == "control")
    # Zero at first, a layer passes no gradient on to what lies before it.
    stir = lambda x: x + 0.02 * jnp.cos(jnp.arange(x.size)).reshape(x.shape)
    params = jax.tree.map(stir, state.params)

    @jax.jit
    def slope(params):
        loss = lambda p: run.method.loss(p, state, seen, key=None, program=None)[0]
        return jax.grad(lambda p: jnp.sum(loss(p)["noise"]))(params)

    size = {
        name: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(part))
        for name, part in slope(params).items()
    }
    other = {"control": "low_rank", "low_rank": "control"}[part]
    assert size[part] > 0 and size[other] == 0


def test_features_are_pooled_activations(smoked, batch):
    run, state = smoked(*CONFIG, "method.layer=bottom", "method.draws=1")
    found = jax.jit(run.method.predict)(state, batch["inputs"][:2])["features"]
    assert found.shape == (2, 4)
    alone = jax.jit(run.method.predict)(state, batch["inputs"][1:2])["features"]
    np.testing.assert_allclose(found[1:], alone, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.name=unet", "needs a network that is told times"),
        ("method.time=2000", "expected at most the number of steps, 1000"),
        ("model.labels=3", "model.labels is 3, expected at least the 10 classes"),
        ("method.layer=up7", "no layer 'up7', expected one of bottom, last, up0, up1"),
    ],
)
def test_what_does_not_fit_is_refused(smoked, batch, change, message):
    with pytest.raises(ValueError, match=message):
        run, state = smoked(*CONFIG, change)
        jax.eval_shape(run.method.predict, state, batch["inputs"])


def test_a_technique_needs_its_part_of_the_network(smoked):
    changes = ("method.trains=control", "model.control=False")
    with pytest.raises(ConfigError, match="expected config.model.control to be set"):
        smoked(*CONFIG, *changes)
