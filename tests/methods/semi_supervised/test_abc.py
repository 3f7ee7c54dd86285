"""ABC: the rates of its masks, its four losses, and which classifier predicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data.unlabelled import semi_supervised_counts
from ltjax.methods.semi_supervised.abc import mask_rates
from ltjax.options import ConfigError

B, M, K = 16, 2, 10
VIEWS = ("weak", "strong", "strong2")
CONFIG = ("semi_lt", "method=abc")
CHANGES = ("model.norm=none", "method.threshold=0.4", "method.masks=expected")


@pytest.fixture(scope="module")
def made(smoked):
    return smoked(*CONFIG, *CHANGES)


def test_the_rates_are_those_of_the_paper():
    """N = (100, 50, 10): (0.1, 0.2, 1); half-way (0.55, 0.6, 1); at first all 1."""
    classes = jnp.arange(3)
    labelled, half = mask_rates([100, 50, 10], classes, classes, 0.5)
    np.testing.assert_allclose(labelled, [0.1, 0.2, 1.0], rtol=1e-6)
    np.testing.assert_allclose(half, [0.55, 0.6, 1.0], rtol=1e-6)
    assert mask_rates([100, 50, 10], classes, classes, 0.0)[1].tolist() == [1, 1, 1]
    assert mask_rates([7, 7, 7], classes, classes, 1.0)[0].tolist() == [1, 1, 1]


def test_the_balanced_loss_sees_few_rows():
    """K N_K / N = 100 / 2478 of a batch that is drawn by frequency."""
    counts = semi_supervised_counts(K, 1000, 100)
    assert counts.sum() == 2478
    rates, _ = mask_rates(counts, jnp.arange(K), jnp.arange(K), 0.0)
    expected = counts @ np.asarray(rates, np.float64) / counts.sum()
    assert expected == pytest.approx(0.040355, abs=5e-7)


def test_a_step_minimizes_the_four_losses(made, stream_batch, outputs_of, log_softmax):
    run, state = made
    batch = stream_batch()
    stream = batch["unlabelled"]
    # The last of 6 steps: five of six parts of 500 are over, so that e = 416.
    state = state.replace(step=jnp.asarray(5, jnp.int32))
    own, weak, *strong = (
        outputs_of(run, state, inputs)
        for inputs in (batch["inputs"], *(stream[v] for v in VIEWS))
    )
    p = np.exp(log_softmax(weak["branch"]))
    limit = np.median(p.max(1))  # parts the guesses of the second classifier
    state = state.replace(
        hyper={**state.hyper, "method.threshold": jnp.asarray(limit, jnp.float32)}
    )
    metrics = jax.jit(run.step)(state, batch)[1]
    real, rows = np.ravel(stream["mask"]), np.arange(B * M)
    balance = run.info.class_counts.min() / run.info.class_counts
    label = np.asarray(batch["label"])

    def entropy(z):
        return -log_softmax(z)[np.arange(B), label]

    q = np.exp(log_softmax(weak["logits"]))
    sure = (q.max(1) >= limit) & real
    agree = [-log_softmax(s["logits"])[rows, q.argmax(1)] * sure for s in strong]
    share = 1 - 416 / 500 * (1 - balance[p.argmax(1)])
    share = share * ((p.max(1) >= limit) & real)
    assert 0 < (share > 0).sum() < real.sum()
    soft = [-(p * log_softmax(s["branch"])).sum(1) * share for s in strong]
    want = (
        entropy(own["logits"]).mean()
        + np.mean(agree)
        + (balance[label] * entropy(own["branch"])).mean()
        + np.mean(soft[0] + soft[1])
    )
    np.testing.assert_allclose(metrics["loss"][0], want, rtol=1e-5)


def test_drawn_masks_are_the_expected_ones_on_average(smoked, stream_batch):
    run, state = smoked(*CONFIG, "model.norm=none", "method.threshold=0.3")
    batch = stream_batch()

    def shares(key):
        _, new = run.method.prepare(state, batch, key=key, program=None)
        return new["share"], new["unlabelled"]["share"]

    draws = jax.jit(jax.vmap(shares))(jax.random.split(jax.random.key(1), 400))
    assert set(np.unique(draws[0])) == set(np.unique(draws[1])) == {0, 1}
    balance = run.info.class_counts.min() / run.info.class_counts
    want = balance[np.asarray(batch["label"])]
    assert np.abs(np.mean(draws[0], axis=0) - want).max() < 0.12  # five deviations


def test_the_losses_of_one_classifier_leave_the_other_alone(made, stream_batch):
    run, state = made
    _, batch = run.method.prepare(
        state, stream_batch(), key=jax.random.key(0), program=None
    )

    def total(params):
        losses, _ = run.method.loss(
            params, state, batch, key=jax.random.key(0), program=None
        )
        return jnp.stack([sum(jnp.sum(losses[n]) for n in pair) for pair in pairs])

    pairs = ("label", "unlabelled"), ("balanced_label", "balanced_unlabelled")
    head = jax.jit(jax.jacrev(total))(state.params)["head"]
    of_first, of_second = (head[name]["kernel"] for name in ("main", "branch"))
    assert np.any(of_first[0]) and not np.any(of_first[1])
    assert np.any(of_second[1]) and not np.any(of_second[0])


def test_the_second_classifier_predicts(made, stream_batch):
    run, state = made
    inputs = stream_batch()["inputs"]
    ema = state.ema
    outputs, _ = run.model.forward(
        ema["params"], ema["model_state"], inputs, train=False
    )
    np.testing.assert_array_equal(
        run.predict(state, inputs)["logits"], outputs["branch"]
    )


def test_a_loss_with_a_head_of_its_own_is_refused(smoked):
    with pytest.raises(ConfigError, match="loss.name is 'ldam'.*has linear heads"):
        smoked(*CONFIG, "loss.name=ldam")
