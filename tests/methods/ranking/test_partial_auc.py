"""Partial areas as losses of the config: class 1, or every class against the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses
from ltjax.methods.ranking.losses import one_vs_rest


def relaxed(scores, positives, where=None):
    return losses.partial_auc(scores, positives, where=where)


def test_classes_are_averaged_that_have_a_pair():
    rng = np.random.default_rng(0)
    scores, labels = rng.random((7, 4)), np.array([0, 1, 2, 0, 1, 2, 3])
    where = np.arange(7) < 6  # nobody is left of class 3
    found = one_vs_rest(
        relaxed, jnp.asarray(scores, jnp.float32), jnp.asarray(labels), where=where
    )
    want = []
    for k in range(3):
        p, q = scores[:6][labels[:6] == k, k], scores[:6][labels[:6] != k, k]
        hard = (1 - p + 1e-6)[:, None] * (q + 1e-6)[None, :]
        want.append(np.mean(hard * (1 - p[:, None] + q[None, :]) ** 2))
    assert float(found[:6].mean()) == pytest.approx(np.mean(want), rel=1e-5)


def test_of_two_classes_only_the_second_is_ranked():
    scores = jnp.array([[0.9, 0.3], [0.1, 0.8]])
    found = one_vs_rest(relaxed, scores, jnp.array([0, 1]))
    want = relaxed(scores[:, 1], jnp.array([False, True]))
    np.testing.assert_allclose(found, want)


@pytest.mark.parametrize(
    "loss",
    [
        "partial_auc,loss.kind=one_way",
        "partial_auc_cvar,loss.alpha=0.5",
        "partial_auc_kl,loss.positive_temperature=2.0",
    ],
)
def test_options_reach_the_surrogate(smoked, ranked_batch, loss):
    name, change = loss.split(",")
    run, state = smoked("auc_lt", f"method={name},binary", "model.norm=none", change)
    batch = ranked_batch(np.arange(16) % 4 == 0)
    outputs, _ = run.model.forward(
        state.params, state.model_state, batch["inputs"], train=True
    )
    key, value = change.removeprefix("loss.").split("=")
    given = {key: value if key == "kind" else float(value)}
    usual = {"partial_auc_cvar": {"beta": 0.3}, "partial_auc_kl": {"temperature": 1.0}}
    scores = jax.nn.softmax(outputs["logits"])[:, 1]
    want = getattr(losses, name)(
        scores,
        batch["label"] == 1,
        where=batch["mask"],
        **usual.get(name, {}),
        **given,
    )
    found, _ = run.method.loss(
        state.params, state, batch, key=jax.random.key(0), program=None
    )
    np.testing.assert_allclose(found["label"], want, rtol=1e-5)
