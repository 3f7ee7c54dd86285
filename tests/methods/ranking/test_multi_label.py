"""Several labels per example: two phases of TKPR, the others, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses
from ltjax.methods.ranking.multi_label import multi_label
from ltjax.options import ConfigError, NoOptions

B, K = 8, 8


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    targets = (rng.random((B, K)) < 0.3).astype(np.uint8)
    targets[np.arange(B), rng.integers(0, K, B)] = 1
    return {
        "inputs": jnp.asarray(rng.normal(size=(B, 32, 32, 1)), jnp.float32),
        "targets": jnp.asarray(targets),
        "label": jnp.asarray(K - 1 - targets[:, ::-1].argmax(1), jnp.int32),
        "mask": jnp.arange(B) < 7,
        "index": jnp.arange(B, dtype=jnp.int32),
    }


def logits_of(run, state, batch):
    outputs, _ = run.model.forward(
        state.params, state.model_state, batch["inputs"], train=True
    )
    return np.asarray(outputs["logits"], np.float64)


def test_binary_cross_entropy_first_and_the_ranking_later(smoked, batch):
    run, state = smoked(
        "multilabel_scenes",
        "method=tkpr",
        "model.norm=none",
        "weights.start=1 steps",
        "loss.k=2",
    )
    step, y = jax.jit(run.step), np.asarray(batch["targets"])
    z = logits_of(run, state, batch)
    state, metrics = step(state, batch)
    bce = np.where(y, np.log1p(np.exp(-z)), np.log1p(np.exp(z))).sum(1)
    assert float(metrics["loss"][0]) == pytest.approx(bce[:7].mean(), rel=1e-5)
    hit = y[np.arange(B), z.argmax(1)][:7]
    assert tuple(map(int, metrics["precision_at_1"])) == (hit.sum(), 7)
    z = logits_of(run, state, batch)
    _, metrics = step(state, batch)
    want = []
    for row, relevant in zip(z[:7], y[:7], strict=True):
        top = np.argsort(-row)[:3]
        pairs = [(i, j) for i in np.flatnonzero(relevant) for j in top if i != j]
        total = sum(np.log1p(np.exp(row[j] - row[i])) for i, j in pairs)
        want.append(total / (2 * relevant.sum()))
    assert float(metrics["loss"][0]) == pytest.approx(np.mean(want), rel=1e-5)


@pytest.mark.parametrize("name", ["distribution_balanced", "tkpr"])
def test_what_a_loss_is_told(smoked, batch, name):
    change = "loss.mu=0.2" if name == "distribution_balanced" else "loss.k=0"
    run, state = smoked(
        "multilabel_scenes", f"method={name}", "model.norm=none", change
    )
    state = state.replace(step=jnp.array(3))  # past TKPR's first phase
    z, y = logits_of(run, state, batch).astype(np.float32), batch["targets"]
    if name == "tkpr":
        want = losses.tkpr(z, y, k=jnp.sum(y, axis=1).astype(jnp.int32))
    else:
        counts = run.sources["train"].columns["targets"].sum(0)
        want = losses.distribution_balanced(z, y, counts, num_examples=64, mu=0.2)
    found, _ = run.method.loss(
        state.params, state, batch, key=jax.random.key(0), program=None
    )
    np.testing.assert_allclose(found["label"], want, rtol=1e-4)


def test_losses_and_methods_of_other_labels_are_refused(smoked):
    with pytest.raises(ConfigError, match="'ce', a loss of one label per example, but"):
        smoked("multilabel_scenes", "method=tkpr", "loss.name=ce")
    with pytest.raises(ConfigError, match="'supervised' has one label"):
        smoked("multilabel_scenes", "method=tkpr", "method.name=supervised")
    with pytest.raises(ConfigError, match=r"expected \[N, K\]: several labels"):
        smoked("multilabel_scenes", "method=tkpr", "data.name=digit_scenes")


@pytest.mark.parametrize(
    ("row", "message"),
    [([0, 0, 0], "no label for example 1"), ([0, 2, 0], "neither 0 nor 1")],
)
def test_bad_targets_are_refused(smoked, row, message):
    @dataclasses.dataclass
    class Told:
        networks = {"main": None}
        rule = None
        columns = {"targets": np.array([[0, 1, 0], row])}

    with pytest.raises(ConfigError, match=message):
        multi_label(NoOptions(), Told())
