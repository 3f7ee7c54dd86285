"""SimPro: guesses under the unlabelled prior, losses under that of all, and both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

B, M, K = 16, 2, 10


@pytest.fixture(scope="module")
def stepped(smoked, stream_batch):
    """(run, state before the last step of a pass, after it, metrics, batch)."""
    run, state = smoked(
        *("semi_lt", "method=simpro"), "model.norm=none", "method.threshold=0.5"
    )
    batch = stream_batch()
    keys = jax.random.split(jax.random.key(5), 2)
    for name, key in zip(("weak", "strong"), keys, strict=True):
        batch[name] = 2 * jax.random.normal(key, (B, 40, 1))
    every = run.companions[0].size // (B * M)
    rng = np.random.default_rng(1)
    kept = {
        "unlabelled": jnp.asarray(rng.dirichlet(np.ones(K)), jnp.float32),
        "all": jnp.asarray(rng.dirichlet(np.ones(K)), jnp.float32),
        "guessed": jnp.asarray(rng.uniform(0, 5, K), jnp.float32),
        "labelled": jnp.asarray(rng.integers(0, 9, K), jnp.float32),
    }
    step = jnp.asarray(2 * every - 1, jnp.int32)
    state = state.replace(method_state=kept, step=step)
    new, metrics = jax.jit(run.step)(state, batch)
    return run, state, new, metrics, batch


@pytest.fixture(scope="module")
def by_hand(stepped, outputs_of, log_softmax):
    """(guesses [B M, K], whether they count, the priors before) in float64."""
    run, state, _, _, batch = stepped
    stream = batch["unlabelled"]
    kept = {k: np.asarray(v, np.float64) for k, v in state.method_state.items()}
    weak = outputs_of(run, state, stream["weak"])["logits"]
    guess = np.exp(log_softmax(weak + 2 * np.log(kept["unlabelled"])))
    sure = (guess.max(1) >= 0.5) & np.ravel(stream["mask"])
    assert 0 < sure.sum() < np.sum(stream["mask"])
    return guess, sure, kept


def test_a_step_minimizes_both_terms(stepped, by_hand, outputs_of, log_softmax):
    run, state, _, metrics, batch = stepped
    guess, sure, kept = by_hand

    def log_p(inputs):
        logits = outputs_of(run, state, inputs)["logits"]
        return log_softmax(logits + 2 * np.log(kept["all"] + 1e-9))

    strong = [log_p(batch["unlabelled"][v]) for v in ("strong", "strong2")]
    agree = -np.mean([(guess * z).sum(1) * sure for z in strong])
    label = np.asarray(batch["label"])
    own = -np.mean([log_p(batch[v])[np.arange(B), label] for v in ("weak", "strong")])
    share = M * run.info.num_train / run.companions[0].size
    np.testing.assert_allclose(metrics["loss"][0], share * own + agree, rtol=1e-5)


def test_the_priors_move_with_the_end_of_a_pass(stepped, by_hand):
    _, _, new, _, batch = stepped
    guess, sure, kept = by_hand
    v = kept["guessed"] + (guess * sure[:, None]).sum(0)
    labels = np.bincount(np.asarray(batch["label"]), minlength=K)
    everything = v + kept["labelled"] + labels
    found = new.method_state
    want = 0.9 * kept["unlabelled"] + 0.1 * v / (v.sum() + 1)
    np.testing.assert_allclose(found["unlabelled"], want, rtol=1e-5)
    want = 0.9 * kept["all"] + 0.1 * everything / everything.sum()
    np.testing.assert_allclose(found["all"], want, rtol=1e-5)
    assert not np.any(found["guessed"]) and not np.any(found["labelled"])


def test_within_a_pass_the_evidence_adds_up(stepped):
    run, state, new, _, batch = stepped
    amid = state.replace(step=state.step - 1)
    found = run.method.update(amid, batch, {})
    for name, value in state.method_state.items():
        np.testing.assert_array_equal(found[name], value)
