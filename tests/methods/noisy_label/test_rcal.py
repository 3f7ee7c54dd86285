"""RCAL: the Gaussians of the first pass, virtual features, and the three terms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.pseudo_labels import (
    calibrate_tail,
    class_gaussians,
    inliers_by_class,
    noise_rates,
    virtual_cross_entropy,
)
from ltjax.train.state import step_key

REAL, B, K = 14, 16, 10
CHANGES = ("model.norm=none", "method.beta=0.3")


@pytest.fixture(scope="module")
def fitted_with(smoked):
    """`fitted_with(*changes)`: run, state after the refresh, random features."""
    return lambda *changes: _fitted(smoked, *changes)


@pytest.fixture(scope="module")
def fitted(fitted_with):
    """(run, state after the refresh, random features of the training set)."""
    return fitted_with()


def _fitted(smoked, *changes):
    run, state = smoked("noisy_lt", "method=rcal,pretrain=false", *CHANGES, *changes)
    labels = run.sources["train"].labels
    rng = np.random.default_rng(0)
    features = rng.normal(size=(len(labels), run.model.num_features))
    features = (features + 3 * np.eye(K, features.shape[1])[labels]).astype(np.float32)
    (refresh,) = run.method.refreshes
    assert [t for t in range(9) if refresh.due(t)] == [0]
    kept = refresh.fn(jax.device_get(state.method_state), features, step=0)
    kept = jax.tree.map(
        lambda x, old: jnp.asarray(x, old.dtype), kept, state.method_state
    )
    return run, state.replace(method_state=kept), features


def test_the_first_pass_fits_and_calibrates_the_gaussians(fitted):
    run, state, features = fitted
    train, kept = run.sources["train"], state.method_state
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    inliers = inliers_by_class(unit, train.labels, K, contamination=0.4)
    np.testing.assert_array_equal(kept["kept"][: len(unit)], inliers)
    assert 0.5 < inliers.mean() < 0.9
    found = class_gaussians(features, train.labels, K, where=inliers)
    found = calibrate_tail(found, np.bincount(train.labels, minlength=K))
    np.testing.assert_allclose(kept["means"], found.means, rtol=1e-5, atol=1e-6)
    roots = np.asarray(kept["roots"], np.float64)
    squares = roots @ np.swapaxes(roots, 1, 2)
    np.testing.assert_allclose(squares, found.covariances, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(kept["anchor"][: len(unit)], features)


def test_virtual_features_have_the_statistics_of_their_classes(fitted, noisy_batch):
    run, state, _ = fitted
    wide = {name: jnp.repeat(x, 500, axis=0) for name, x in noisy_batch.items()}
    prepare = jax.jit(run.method.prepare, static_argnames="program")
    _, made = prepare(state, wide, key=jax.random.key(1), program=run.program(0))
    label = np.asarray(made["virtual_label"])
    counts = np.bincount(label, minlength=K)
    assert np.abs(counts / len(label) - 0.1).max() < 0.02
    roots = np.asarray(state.method_state["roots"], np.float64)
    for k in range(K):
        rows = np.asarray(made["virtual"])[label == k]
        deviation = np.sqrt(np.einsum("ij,ij->i", roots[k], roots[k]))
        away = rows.mean(0) - np.asarray(state.method_state["means"][k])
        assert np.abs(away / deviation).max() < 5 / np.sqrt(counts[k])
        assert np.abs(rows.std(0) / deviation - 1).max() < 5 / np.sqrt(2 * counts[k])


def test_a_step_adds_mixed_labels_virtual_features_and_the_distance(
    fitted, noisy_batch, cost_of
):
    run, state, _ = fitted
    _, metrics = jax.jit(run.step)(state, noisy_batch)
    key, _ = jax.random.split(step_key(state, "model"))
    prepare = jax.jit(run.method.prepare, static_argnames="program")
    _, made = prepare(state, noisy_batch, key=key, program=run.program(0))
    made = jax.device_get(made)
    lam, partner = made["lam"][0], made["partner_row"]
    assert sorted(partner) == list(range(B))
    anchors = np.asarray(state.method_state["anchor"])[np.asarray(noisy_batch["index"])]
    np.testing.assert_allclose(
        made["anchor"], lam * anchors + (1 - lam) * anchors[partner], atol=1e-5
    )
    labels = np.asarray(noisy_batch["label"])
    first = cost_of(run.model, state, {**made, "label": labels})
    second = cost_of(run.model, state, {**made, "label": labels[partner]})
    features = run.model.forward(
        state.params, state.model_state, made["inputs"], train=True
    )[0]["features"]
    away = ((np.asarray(features, np.float64) - made["anchor"]) ** 2).sum(1)
    head = state.params["head"]
    z = made["virtual"] @ np.asarray(head["kernel"], np.float64) + np.asarray(
        head["bias"]
    )
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    virtual = -log_p[np.arange(B), made["virtual_label"]]
    weight = np.where(np.arange(B) < REAL, 1 / REAL, 0)
    want = weight @ (lam * first + virtual + 0.3 * away)
    want += (1 - lam) * weight[partner] @ second
    assert metrics["loss"][0] == pytest.approx(want, rel=1e-4)


def test_before_the_first_step_clean_images_lie_where_they_did(smoked, noisy_batch):
    """Without labels the features are the network's own: the distance of REG is 0."""
    changes = (*CHANGES, "method.reg_on=clean", "method.virtual=off")
    run, state = smoked("noisy_lt", "method=rcal,pretrain=false", *changes)
    (refresh,) = run.method.refreshes
    features = refresh.gather(state, noisy_batch)
    anchor = state.method_state["anchor"].at[noisy_batch["index"]].set(features)
    state = state.replace(method_state={**state.method_state, "anchor": anchor})

    def go(state, batch):
        key, program = jax.random.key(0), run.program(0)
        _, made = run.method.prepare(state, batch, key=key, program=program)
        losses, aux = run.method.loss(
            state.params, state, made, key=key, program=program
        )
        return made, losses, aux["outputs"]["features"]

    made, losses, seen = jax.device_get(jax.jit(go)(state, noisy_batch))
    np.testing.assert_allclose(losses["distance"], 0, atol=1e-8)
    # The labels' term is that of the mixtures all the same.
    away = ((seen - made["anchor"]) ** 2).sum(1)
    assert made["lam"][0] < 1 and away.max() > 1e-4
    np.testing.assert_array_equal(made["anchor"], features)


def test_without_its_parts_it_is_plain_training(smoked, noisy_batch):
    """Neither distance nor mixtures nor virtual features: the step of `supervised`."""
    off = ("method.beta=0", "method.mixup=0", "method.virtual=off")
    after = []
    for method, changes in (("rcal,pretrain=false", off), ("supervised", ())):
        run, state = smoked("noisy_lt", f"method={method}", CHANGES[0], *changes)
        new, metrics = jax.jit(run.step)(state, noisy_batch)
        after.append((float(metrics["loss"][0]), jax.device_get(new.params)))
    (loss, params), (plain, of_plain) = after
    assert loss == pytest.approx(plain, rel=1e-6)
    for ours, theirs in zip(
        jax.tree.leaves(params), jax.tree.leaves(of_plain), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_the_bound_takes_the_place_of_draws(fitted_with, noisy_batch):
    run, state, _ = fitted_with("method.virtual=bound")
    prepare = jax.jit(run.method.prepare, static_argnames="program")
    _, made = prepare(state, noisy_batch, key=jax.random.key(0), program=run.program(0))
    assert "virtual" not in made
    losses, _ = run.method.loss(
        state.params, state, made, key=jax.random.key(0), program=run.program(0)
    )
    kept, head = state.method_state, state.params["head"]
    want = virtual_cross_entropy(
        kept["means"], kept["roots"], head["kernel"], head["bias"]
    )
    np.testing.assert_allclose(losses["virtual"], np.mean(want), rtol=1e-4)
    assert losses["virtual"].shape == (B,)
    metrics = jax.jit(run.step)(state, noisy_batch)[1]
    assert np.isfinite(metrics["loss"][0])


def test_labels_may_be_believed_by_their_posterior(fitted_with):
    run, state, features = fitted_with("method.believes=posterior")
    labels = run.sources["train"].labels
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    right = noise_rates(unit, labels, K).right
    kept = np.asarray(state.method_state["kept"])[: len(labels)]
    assert kept[right > 0.5].all()
    for k in range(K):  # a class keeps two, believed or not
        own = (labels == k) & ~(right > 0.5)
        assert kept[own].sum() <= 2
        assert kept[labels == k].sum() >= min(2, np.sum(labels == k))
