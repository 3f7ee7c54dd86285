"""DASO: class queues, blended guesses and the semantic term."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.semi_supervised.class_queues import ClassQueues, enqueue
from ltjax.methods.semi_supervised.daso import prototypes
from ltjax.options import ConfigError

B, M, K = 16, 2, 10
CONFIG = ("semi_lt", "method=daso")


def test_queues_keep_the_last_features_of_each_class():
    rng = np.random.default_rng(0)
    queues = ClassQueues(jnp.zeros((4, 3, 2)), jnp.zeros(4, jnp.int32))
    kept = collections.defaultdict(lambda: collections.deque(maxlen=3))
    put = jax.jit(enqueue)
    for _ in range(4):
        features, labels = rng.normal(size=(3, 2)), rng.integers(0, 3, 3)
        mask = np.array([True, True, rng.random() < 0.5])
        for row, label in zip(features[mask], labels[mask], strict=True):
            kept[label].append(row)
        queues = put(queues, features, labels, mask)
    want = [np.mean(kept[k], axis=0) if kept[k] else np.zeros(2) for k in range(4)]
    np.testing.assert_allclose(prototypes(queues), want, atol=1e-6)
    assert not np.any(want[3])  # a class without a feature


def test_a_step_learns_from_blended_guesses(
    smoked, stream_batch, outputs_of, log_softmax
):
    changes = ("method.threshold=0.4", "method.start=1 steps", "method.every=2 steps")
    run, state = smoked(*CONFIG, "model.norm=none", *changes)
    batch = stream_batch(views=("weak", "strong"))
    stream = batch["unlabelled"]
    shares = np.linspace(1, 2, K) / np.linspace(1, 2, K).sum()
    features = np.random.default_rng(0).normal(size=(K, 256, run.model.num_features))
    queues = ClassQueues(jnp.asarray(features, jnp.float32), jnp.full(K, 256))
    kept = {**state.method_state, "queues": queues, "shares": jnp.asarray(shares)}
    state = state.replace(method_state=kept, step=jnp.asarray(1, jnp.int32))
    new, metrics = jax.jit(run.step)(state, batch)

    own, weak, strong = (
        outputs_of(run, state, x)
        for x in (batch["inputs"], stream["weak"], stream["strong"])
    )
    # Averaged and online parameters are the same at first.
    for i, row in enumerate(own["features"]):  # full queues: the first is the oldest
        features[i % K, i // K] = row
    centers = features.mean(1)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)

    def near(x):
        h = x["features"] / np.linalg.norm(x["features"], axis=1, keepdims=True)
        return log_softmax(h @ centers.T / 0.05)

    p, q = np.exp(log_softmax(weak["logits"])), np.exp(near(weak))
    u = shares ** (1 / 1.5)
    v = (u / u.max())[p.argmax(1)][:, None]
    blended = (1 - v) * p + v * q
    real, rows = np.ravel(stream["mask"]), np.arange(B * M)
    sure = (blended.max(1) >= 0.4) & real
    assert 0 < sure.sum() < real.sum()
    label = np.asarray(batch["label"])
    want = (
        -log_softmax(own["logits"])[np.arange(B), label].mean()
        - (log_softmax(strong["logits"])[rows, blended.argmax(1)] * sure).mean()
        - ((q * near(strong)).sum(1) * real).mean()
    )
    np.testing.assert_allclose(metrics["loss"][0], want, rtol=1e-4)
    # Step 2 is a multiple of `every`: the shares are those of the guesses since.
    counts = np.bincount(blended.argmax(1)[real], minlength=K)
    found = new.method_state
    np.testing.assert_allclose(found["shares"], counts / real.sum(), rtol=1e-6)
    assert not np.any(found["counts"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("ema_decay=0.0", "evaluate_ema=False"), "ema_decay is 0, but method 'daso'"),
        (("method.queue=3",), "method.queue is 3, expected at least config.batch_size"),
    ],
)
def test_configs_that_do_not_fit_are_refused(smoked, changes, message):
    with pytest.raises(ConfigError, match=message):
        smoked(*CONFIG, *changes)
