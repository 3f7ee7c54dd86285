"""RECORDS as a treatment: the prior that is taken out of guesses, and its metric."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.options import ConfigError

CHANGES = ("pseudo_labels.name=dynamic_prior", "pseudo_labels.tau=0.5")
MOMENTUM = 0.9


@pytest.fixture(scope="module")
def begun(smoked):
    return smoked("semi_lt", "method=fixmatch", "model.norm=none", *CHANGES)


def test_two_steps_take_out_the_prior_of_the_moving_mean(
    begun, stream_batch, outputs_of, log_softmax
):
    run, state = begun
    head = {k: np.asarray(v, np.float64) for k, v in state.params["head"].items()}
    prepare = jax.jit(run.method.prepare, static_argnames="program")
    mean = np.zeros(run.model.num_features)
    for seed in range(2):
        batch = stream_batch(seed)
        kept, made = prepare(
            state, batch, key=jax.random.key(0), program=run.program(0)
        )
        outputs = outputs_of(run, state, batch["unlabelled"]["weak"])
        real = np.ravel(batch["unlabelled"]["mask"])
        mean = MOMENTUM * mean + (1 - MOMENTUM) * outputs["features"][real].mean(0)
        np.testing.assert_allclose(kept["seen_features"], mean, rtol=1e-4, atol=1e-6)
        log_prior = log_softmax(mean @ head["kernel"] + head["bias"])
        np.testing.assert_allclose(np.log(kept["seen_prior"]), log_prior, atol=1e-4)
        taken = log_softmax(log_softmax(outputs["logits"]) - 0.5 * log_prior)
        want = taken.argmax(1)
        clear = np.diff(np.sort(taken, axis=1)[:, -2:])[:, 0] > 1e-3
        got = np.ravel(made["unlabelled"]["target"])
        np.testing.assert_array_equal(got[clear], want[clear])
        state = state.replace(method_state=kept)
    assert clear.sum() > 20


def test_its_prior_is_measured_against_the_true_one(begun, stream_batch):
    run, state = begun
    after, metrics = jax.jit(run.step)(state, stream_batch())
    truth = run.sources["unlabelled"].columns["truth"]
    shares = np.bincount(truth, minlength=10) / len(truth)
    want = 0.5 * np.abs(shares - after.method_state["seen_prior"]).sum()
    assert 0.05 < want < 1
    np.testing.assert_allclose(metrics["prior_distance"][0], want, rtol=1e-5)


def test_guesses_that_are_zero_stay_finite(begun, stream_batch):
    run, state = begun
    sharp = jax.tree.map(lambda x: 1e4 * x, state.params["head"])
    state = state.replace(params={**state.params, "head": sharp})
    kept, made = run.method.prepare(
        state, stream_batch(), key=jax.random.key(0), program=run.program(0)
    )
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(kept))
    assert made["unlabelled"]["target"].max() < 10


def test_a_cosine_head_is_refused(smoked):
    with pytest.raises(ConfigError, match="'dynamic_prior' needs logits"):
        smoked("semi_lt", "method=fixmatch", CHANGES[0], "head.name=cosine")
