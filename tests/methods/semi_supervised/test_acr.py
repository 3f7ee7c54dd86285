"""ACR: its targets and masks, the estimate it keeps, and the strength it draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

B, M, K = 16, 2, 10
CONFIG = ("semi_lt", "method=acr")
CHANGES = (
    "model.norm=none",
    "method.threshold=0.4",
    "method.start=2 steps",
    "method.every=2 steps",
)


@pytest.fixture(scope="module")
def stepped(smoked, stream_batch):
    """(run, states before steps 0, 2 and 4, metrics of these steps, batch)."""
    run, state = smoked(*CONFIG, *CHANGES)
    batch, step = stream_batch(), jax.jit(run.step)
    states, told = [state], []
    for t in (1, 3, 5):
        new, metrics = step(states[-1], batch)
        told.append(metrics)
        # The parameters stay, so that what is kept can be followed by hand.
        states.append(
            state.replace(method_state=new.method_state, step=jnp.asarray(t, jnp.int32))
        )
    return run, states, told, batch


@pytest.fixture(scope="module")
def by_hand(stepped, outputs_of):
    run, states, _, batch = stepped
    stream = batch["unlabelled"]
    views = {
        name: outputs_of(run, states[0], stream[name])
        for name in ("weak", "strong", "strong2")
    }
    counts = run.info.class_counts
    prior = counts / counts.sum()
    return views, prior, np.ravel(stream["mask"])


def decide(log_p):
    p = np.exp(log_p)
    return p.argmax(1), p.max(1) >= 0.4


def test_a_step_minimizes_the_four_losses(stepped, by_hand, outputs_of, log_softmax):
    run, states, told, batch = stepped
    views, prior, real = by_hand
    own = outputs_of(run, states[0], batch["inputs"])
    weak = views["weak"]
    # At first tau = 2, so that both classifiers learn from the same classes.
    target, reach = decide(log_softmax(weak["logits"] - 2 * np.log(prior)))
    first = (reach | decide(log_softmax(weak["logits"]))[1]) & real
    second = (reach | decide(log_softmax(weak["branch"]))[1]) & real
    assert 0 < first.sum() and 0 < second.sum() and (first != second).any()

    def agree(name, sure):
        rows = np.arange(B * M)
        strong = [log_softmax(views[v][name]) for v in ("strong", "strong2")]
        return -np.mean([z[rows, target] * sure for z in strong])

    label = np.asarray(batch["label"])
    balanced = log_softmax(own["branch"] + 2 * np.log(prior))
    want = (
        -log_softmax(own["logits"])[np.arange(B), label].mean()
        - balanced[np.arange(B), label].mean()
        + agree("logits", first)
        + agree("branch", second)
    )
    np.testing.assert_allclose(told[0]["loss"][0], want, rtol=1e-5)


def test_the_estimate_counts_and_the_strength_follows_it(stepped, by_hand, log_softmax):
    _, states, told, _ = stepped
    views, prior, real = by_hand
    guess, reach = decide(log_softmax(views["weak"]["branch"]))
    counts = np.bincount(guess[reach & real], minlength=K)
    assert counts.max() > 1  # a class that occurs twice counts twice
    order = np.argsort(prior, kind="stable")
    backwards = np.empty(K)
    backwards[order] = prior[order[::-1]]
    estimate, apart = np.full(K, 1 / K), []
    for state in states[1:]:
        estimate = 0.99 * estimate + 0.01 * counts / counts.sum()
        np.testing.assert_allclose(
            state.method_state["prior"], estimate, rtol=1e-5, atol=1e-7
        )
        anchors = np.stack([prior, np.full(K, 1 / K), backwards])
        apart.append(0.5 * ((estimate - anchors) * np.log(estimate / anchors)).sum(1))
    kept = [state.method_state for state in states[1:]]
    np.testing.assert_allclose(kept[0]["divergences"], apart[0], rtol=1e-4)
    # The period that ends with step 2 is not after the start; that with step 4 is.
    assert not np.any(kept[1]["divergences"])
    d = np.exp(apart[2] / 2)
    strengths = [float(k["strength"]) for k in kept]
    np.testing.assert_allclose(strengths, [1, 1, d[0] / d.sum()], rtol=1e-4)
    assert float(told[0]["tau"][0]) == 2
