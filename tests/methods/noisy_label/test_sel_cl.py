"""Sel-CL and its second stage: the objectives of a step in float64, the selection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.pseudo_labels import confident_examples, neighbor_votes, similarity_limit

B, K, Q = 16, 10, 32
CHANGES = ("model.name=mlp", "model.hidden=(8,)", "method.neighbors=5")


@pytest.fixture(scope="module")
def made(smoked):
    """A run whose state believes some examples; (run, state, batch)."""
    run, state = smoked("noisy_lt", "method=sel_cl,tune=false", *CHANGES)
    rng = np.random.default_rng(1)
    kept = dict(state.method_state)
    size = run.info.num_train
    kept["selected"] = kept["selected"].at[:size].set(rng.uniform(size=size) < 0.6)
    index = np.where(np.arange(Q) < 20, rng.integers(0, size, Q), -1)
    kept["queue_index"] = jnp.asarray(index, jnp.int32)
    kept["limit"] = jnp.float32(0.2)
    views = 2 * jax.random.normal(jax.random.key(2), (2, B, 40, 1))
    rows = jnp.arange(B, dtype=jnp.int32) * 5
    batch = {
        "view1": views[0],
        "view2": views[1],
        "mask": jnp.ones(B, bool),
        "label": jnp.asarray(run.sources["train"].labels)[rows].astype(jnp.int32),
        "index": rows,
    }
    return run, state.replace(method_state=kept), batch


def objective(terms, losses):
    """What a plain gradient follows."""
    (term,) = terms
    return sum(float(jnp.sum(w * losses[name])) for name, w in term.descent.items())


def log_softmax(z):
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def test_the_objective_against_loops_over_the_pairs(made):
    run, state, batch = made
    key = jax.random.key(0)
    program = run.program(0)
    kept, ready = run.method.prepare(state, batch, key=key, program=program)
    state = state.replace(method_state=kept)
    outputs, _ = run.model.forward(
        state.params, state.model_state, ready["view1"], train=True
    )
    losses, aux = run.method.loss(state.params, state, ready, key=key, program=program)
    terms = run.method.terms(state, ready, aux, program=program)
    got = objective(terms, losses)

    def units(x):
        x = np.asarray(x, np.float64)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    labels, table = (
        np.asarray(run.sources["train"].labels),
        np.asarray(kept["selected"]),
    )
    index = np.asarray(kept["queue_index"])
    rows = np.asarray(batch["index"])
    keys = np.concatenate([units(ready["key"]), np.asarray(kept["queue"], np.float64)])
    where = np.concatenate([rows, index])
    q = units(outputs["projection"])
    p = np.exp(log_softmax(np.asarray(outputs["logits"], np.float64)))
    partner, lam = np.asarray(ready["partner_row"]), float(ready["lam"][0])

    def believed(i, a):
        if where[a] < 0 or labels[rows[i]] != labels[where[a]]:
            return False
        return (table[rows[i]] and table[where[a]]) or keys[i] @ keys[a] >= 0.2

    pairs = np.array(
        [[believed(i, a) or i == a for a in range(B + Q)] for i in range(B)]
    )
    assert 1 < pairs.sum(1).max() and pairs.sum(1).min() == 1
    s = np.where(where < 0, -np.inf, q @ keys.T / 0.1)
    log_s = log_softmax(s)
    contrast = [
        -(
            lam * log_s[i, pairs[i]].mean()
            + (1 - lam) * log_s[i, pairs[partner[i]]].mean()
        )
        for i in range(B)
    ]
    mix = lam * np.eye(B) + (1 - lam) * np.eye(B)[partner]
    target = mix @ pairs[:, :B] @ mix.T
    same = np.clip(p @ p.T, 1e-6, 1 - 1e-6)
    cost = -(target * np.log(same) + (1 - target) * np.log(1 - same))
    similar = cost[~np.eye(B, dtype=bool)].mean()
    own, chosen = labels[rows], table[rows]
    base = chosen / chosen.sum()
    given = -(
        lam * base * np.log(p[np.arange(B), own])
        + (1 - lam) * base[partner] * np.log(p[np.arange(B), own[partner]])
    ).sum()
    want = np.mean(contrast) + given + 0.01 * similar
    assert got == pytest.approx(want, rel=1e-4)


def test_before_anything_is_selected_it_is_the_loss_without_labels(made):
    run, state, batch = made
    fresh = run.init(0, run.info.replicas[0]["hyper"])
    assert not fresh.method_state["selected"].any()
    step = jax.jit(run.step)
    new, _ = step(fresh, batch)
    # The classifier has learned nothing but to tell pairs apart: no label matters.
    other = {**batch, "label": (batch["label"] + 1) % K}
    same, _ = step(fresh, other)
    jax.tree.map(np.testing.assert_array_equal, new.params, same.params)
    places = np.asarray(new.method_state["queue_index"])
    np.testing.assert_array_equal(places[:B], batch["index"])
    assert (places[B:] == -1).all()


def test_every_epoch_after_the_first_selects(made):
    run, state, _ = made
    (refresh,) = run.method.refreshes
    epoch = run.info.steps_per_epoch
    assert [t for t in range(2 * epoch + 3) if refresh.due(t)] == [
        *range(2, 2 * epoch + 3, epoch)
    ]
    labels = np.asarray(run.sources["train"].labels)
    rng = np.random.default_rng(0)
    features = np.eye(K)[labels] + rng.normal(0, 0.3, (len(labels), K))
    kept = jax.device_get(state.method_state)
    new = refresh.fn(kept, features, step=2)
    votes = neighbor_votes(features, labels, K, k=5)
    want = confident_examples(votes.shares, labels)
    np.testing.assert_array_equal(new["selected"][: len(labels)], want)
    assert not new["selected"][len(labels) :].any()
    limit = similarity_limit(features, labels, want, quantile=0.25)
    assert new["limit"] == pytest.approx(limit)


def test_the_second_stage_bootstraps_the_selected(smoked, noisy_batch):
    tune = ("method.name=sel_cl_tune", "head.name=linear", "augment.name=none")
    run, state = smoked(
        "noisy_lt",
        "method=supervised",
        "model.name=mlp",
        "model.hidden=(8,)",
        *tune,
        "method.bootstrap=3 steps",
    )
    table = state.method_state["selected"].at[jnp.arange(0, 60)].set(True)
    state = state.replace(method_state={"selected": table})
    batch = {**noisy_batch, "mask": jnp.ones(B, bool)}
    key, program = jax.random.key(0), run.program(0)
    z = np.asarray(run.predict(state, batch["inputs"])["logits"], np.float64)
    opinion, eye = z.argmax(1), np.eye(K)
    for step, share in ((2, 0.0), (3, 0.2)):
        now = state.replace(step=jnp.int32(step))
        _, ready = run.method.prepare(now, batch, key=key, program=program)
        losses, aux = run.method.loss(now.params, now, ready, key=key, program=program)
        terms = run.method.terms(now, ready, aux, program=program)
        got = objective(terms, losses)
        mixed, _ = run.model.forward(
            now.params, now.model_state, ready["inputs"], train=True
        )
        log_p = log_softmax(np.asarray(mixed["logits"], np.float64))
        partner, lam = np.asarray(ready["partner_row"]), float(ready["lam"][0])
        target = (1 - share) * eye[np.asarray(batch["label"])] + share * eye[opinion]
        chosen = np.asarray(batch["index"]) < 60
        target *= (chosen / chosen.sum())[:, None]
        want = -(lam * target * log_p + (1 - lam) * target[partner] * log_p).sum()
        assert got == pytest.approx(want, rel=1e-5)
