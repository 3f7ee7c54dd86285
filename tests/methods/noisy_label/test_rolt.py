"""RoLT: what an epoch's pass writes down, and the targets of the three phases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.pseudo_labels import prototype_cleaning

REAL, K = 14, 10


@pytest.fixture(scope="module")
def made(smoked):
    changes = ("model.norm=none", "total=100 steps", "method.beta=0.9")
    return smoked("noisy_lt", "method=rolt,drw", *changes)


@pytest.fixture(scope="module")
def cleaned(made):
    """(run, features, logits of two epochs, states after each, in the late phase)."""
    run, state = made
    labels = run.sources["train"].labels
    rng = np.random.default_rng(0)
    features = np.eye(K)[labels] + rng.normal(0, 0.2, (len(labels), K))
    features[::5] = np.eye(K)[(labels[::5] + 1) % K]  # these look like another class
    logits = rng.normal(size=(2, len(labels), K)).astype(np.float32)
    kept = [jax.device_get(state.method_state)]
    (refresh,) = run.method.refreshes
    epoch = run.info.steps_per_epoch
    assert [t for t in range(2 * epoch) if refresh.due(t)] == [0, epoch]
    for step, z in zip((0, epoch), logits, strict=True):
        kept.append(refresh.fn(kept[-1], (features, z), step=step))
    kept.append(refresh.fn(kept[-1], (features, logits[0]), step=90))
    return run, features, logits, kept


def test_an_epoch_finds_the_clean_labels_and_averages_what_is_predicted(cleaned):
    run, features, logits, kept = cleaned
    labels, size = run.sources["train"].labels, len(features)
    found = prototype_cleaning(features, labels, K)
    wrong = np.arange(size) % 5 == 0
    assert found.is_clean[~wrong].mean() > 0.9 > 0.5 > found.is_clean[wrong].mean()
    state = kept[2]
    np.testing.assert_array_equal(state["clean"][:size], found.is_clean)
    want = 0.6 * 0.4 * logits[0] + 0.4 * logits[1]
    np.testing.assert_allclose(state["logits"][:size], want, rtol=1e-5, atol=1e-7)
    nearest = np.argmax(state["scores"][:size], axis=1)
    np.testing.assert_array_equal(nearest, np.argmax(found.scores, axis=1))
    assert (state["surrogate"] == -1).all() and (state["weights"] == 1).all()
    assert not state["logits"][size:].any()  # rows that pad the table


def test_late_the_surrogate_labels_are_written_once(cleaned):
    run, features, logits, kept = cleaned
    labels, size = run.sources["train"].labels, len(features)
    state, (refresh,) = kept[3], run.method.refreshes
    predicted = np.argmax(state["logits"][:size], axis=1)
    want = np.where(state["clean"][:size], labels, predicted)
    np.testing.assert_array_equal(state["surrogate"][:size], want)
    counts = np.bincount(want, minlength=K)
    inverse = np.where(counts > 0, 0.1 / (1 - 0.9 ** np.maximum(counts, 1)), 0)
    np.testing.assert_allclose(state["weights"], K * inverse / inverse.sum(), rtol=1e-5)
    again = refresh.fn(state, (features, -logits[0]), step=99)
    np.testing.assert_array_equal(again["surrogate"], state["surrogate"])


def test_the_three_phases_have_their_targets(cleaned, made, noisy_batch, cost_of):
    run, _, _, kept = cleaned
    _, state = made
    step, model = jax.jit(run.step), run.model
    own, index = np.asarray(noisy_batch["label"]), noisy_batch["index"]
    eye = np.eye(K)

    def loss_at(number, tables):
        now = state.replace(
            step=jnp.int32(number), method_state=jax.tree.map(jnp.asarray, tables)
        )
        return float(step(now, noisy_batch)[1]["loss"][0])

    log_p = -np.stack(
        [
            cost_of(model, state, {**noisy_batch, "label": np.full(16, k)})
            for k in range(K)
        ],
        axis=1,
    )
    plain = loss_at(39, kept[2])
    assert plain == pytest.approx(-(eye[own] * log_p).sum(1)[:REAL].mean(), rel=1e-5)

    rows = {name: np.asarray(x)[index] for name, x in kept[3].items() if len(x) > K}
    clean = rows["clean"][:, None]
    assert 0 < clean[:REAL].sum() < REAL
    mixed = 0.4 * eye[np.argmax(rows["logits"], 1)] + 0.2 / K + 0.2 * eye[own]
    mixed += 0.2 * eye[np.argmax(rows["scores"], 1)]
    before = {**kept[3], "surrogate": kept[2]["surrogate"]}
    want = -(np.where(clean, eye[own], mixed) * log_p).sum(1)[:REAL].mean()
    assert loss_at(40, before) == pytest.approx(want, rel=1e-5)

    target = np.where(clean, eye[own], 0.5 * eye[rows["surrogate"]] + 0.5 / K)
    want = -(target * kept[3]["weights"] * log_p).sum(1)[:REAL].mean()
    assert loss_at(90, kept[3]) == pytest.approx(want, rel=1e-5)
