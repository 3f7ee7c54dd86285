"""Cleaning: small losses, critical weights, prototypes with a mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from ltjax.pseudo_labels import (
    cdr_gradient,
    forget_rate_schedule,
    prototype_cleaning,
    rolt_targets,
    small_loss,
    upper_component,
)

keep = jax.jit(small_loss)
LOSSES = np.float32([0.3, 2.0, 0.1, 0.7, 0.3, 5.0, 0.2, 0.9, 1.1, 0.4])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5, 0.7, 1.0])
def test_small_losses(rate):
    kept = np.asarray(keep(LOSSES, forget_rate=rate))
    # (1 - 0.7) * 10 is 2.9999998 in float32 and must be 3.
    size = int(round((1 - rate) * 10))
    expected = np.argsort(LOSSES, kind="stable")[:size]
    assert sorted(np.flatnonzero(kept)) == sorted(expected)


def test_masked_and_broken_losses():
    dirty = np.where(np.arange(10) < 6, LOSSES, np.nan)
    where = np.arange(10) < 6
    kept = np.asarray(keep(dirty, forget_rate=0.5, where=where))
    assert sorted(np.flatnonzero(kept)) == [0, 2, 4]
    # A NaN that counts comes last.
    kept = keep(np.float32([np.nan, 1.0, 0.5]), forget_rate=0.34)
    assert kept.tolist() == [False, False, True]


def test_forget_rates():
    rates = [float(forget_rate_schedule(e, noise_rate=0.45)) for e in range(12)]
    expected = [*np.linspace(0, 0.45, 10), 0.45, 0.45]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def network(seed):
    rng = np.random.default_rng(seed)
    shapes = {"kernel": (3, 3, 2, 4), "dense": (8, 5), "bias": (5,), "scale": (4,)}
    return {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.4, 1.0])
def test_critical_weights(rate, traced):
    gradients, params = network(0), network(1)
    split = cdr_gradient
    if traced:
        split = jax.jit(lambda g, p, r: cdr_gradient(g, p, noise_rate=r))
        new = split(gradients, params, jnp.float32(rate))
    else:
        new = split(gradients, params, noise_rate=rate)
    pooled = ("kernel", "dense")
    scores = np.concatenate(
        [np.abs(gradients[name] * params[name]).ravel() for name in pooled]
    )
    size = int((1 - rate) * scores.size + 1e-6)
    assert scores.size == 112
    limit = np.sort(scores)[-size] if size else np.inf
    for name in pooled:
        critical = np.abs(gradients[name] * params[name]) >= limit
        expected = np.where(critical, (1 - rate) * gradients[name], 0)
        np.testing.assert_allclose(new[name], expected, rtol=1e-6)
    for name in ("bias", "scale"):
        np.testing.assert_array_equal(new[name], gradients[name])


def test_trees_must_agree():
    with pytest.raises(ValueError, match="cdr_gradient: gradients and params differ"):
        cdr_gradient(network(0), {"kernel": jnp.ones(3)}, noise_rate=0.1)
    # Nothing to split.
    assert cdr_gradient({"b": 1.0}, {"b": 2.0}, noise_rate=0.1) == {"b": 1.0}


@pytest.mark.parametrize("seed", range(4))
def test_mixture_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(0.25, 0.08, 40), rng.normal(0.8, 0.06, 90)])
    model = GaussianMixture(2, random_state=0).fit(x[:, None])
    expected = model.predict(x[:, None]) == np.argmax(model.means_[:, 0])
    np.testing.assert_array_equal(upper_component(x), expected)


def test_mixture_of_few_values():
    assert upper_component([3.0]).tolist() == [True]
    assert upper_component([2.0, 2.0]).tolist() == [True, True]
    assert upper_component([0.0, 1.0]).tolist() == [False, True]


def planted(seed, noise=0.3):
    """Three clusters of unequal sizes; some labels say another class."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(3), [120, 60, 30])
    points = 6 * np.eye(3)[truth] + 0.5 * rng.normal(size=(210, 3))
    wrong = rng.uniform(size=210) < noise
    labels = np.where(wrong, (truth + 1 + rng.integers(0, 2, 210)) % 3, truth)
    return points, labels, labels == truth


def test_wrong_labels_are_found_in_every_class():
    points, labels, right = planted(0)
    result = prototype_cleaning(points, labels, 3)
    for k in range(3):
        at = labels == k
        assert np.mean(result.is_clean[at] == right[at]) > 0.95
    # The nearest prototype is the true class.
    truth = np.repeat(np.arange(3), [120, 60, 30])
    assert np.mean(np.argmax(result.scores, axis=1) == truth) > 0.98


def test_scores_are_squared_distances_of_the_last_round():
    points, labels, _ = planted(1)
    x = points - points.mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    keep = np.ones(len(x), bool)
    for _ in range(2):
        means = np.stack([x[(labels == k) & keep].mean(axis=0) for k in range(3)])
        scores = -np.sum((x[:, None] - means) ** 2, axis=2)
        keep = np.zeros(len(x), bool)
        for k in range(3):
            own = scores[labels == k, k]
            scaled = (own - own.min()) / np.ptp(own)
            model = GaussianMixture(2, random_state=0).fit(scaled[:, None])
            upper = np.argmax(model.means_[:, 0])
            keep[labels == k] = model.predict(scaled[:, None]) == upper
    result = prototype_cleaning(points, labels, 3)
    np.testing.assert_allclose(result.scores, scores, atol=1e-9)
    np.testing.assert_array_equal(result.is_clean, keep)


def test_order_of_examples_does_not_matter():
    points, labels, _ = planted(2)
    order = np.random.default_rng(0).permutation(len(labels))
    result = prototype_cleaning(points, labels, 3)
    moved = prototype_cleaning(points[order], labels[order], 3)
    np.testing.assert_array_equal(moved.is_clean, result.is_clean[order])
    np.testing.assert_allclose(moved.scores, result.scores[order], atol=1e-12)


def test_classes_of_none_and_of_one():
    points, labels, _ = planted(3)
    labels = np.where(labels == 2, 1, labels)
    labels[-1] = 4
    result = prototype_cleaning(points, labels, 5)
    assert result.is_clean[-1]
    assert np.all(result.scores[:, [2, 3]] == -np.inf)
    assert np.all(np.isfinite(result.scores[:, [0, 1, 4]]))
    # All features equal: nothing to tell, nothing dropped.
    none = prototype_cleaning(np.ones((0, 2)), [], 2)
    assert none.is_clean.shape == (0,) and none.scores.shape == (0, 2)
    same = prototype_cleaning(np.ones((4, 2)), [0, 0, 1, 1], 2)
    assert same.is_clean.all()


def test_targets_of_rolt():
    labels, clean = np.array([0, 1, 2]), np.array([True, False, False])
    rows = rolt_targets(
        labels, clean, np.array([1, 0, 2]), np.array([2, 3, 2]), num_classes=4
    )
    expected = [[1, 0, 0, 0], [0.45, 0.25, 0.05, 0.25], [0.05, 0.05, 0.85, 0.05]]
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small_loss(LOSSES[:, None], forget_rate=0.1), "losses has shape"),
        (lambda: small_loss(LOSSES, forget_rate=1.5), "forget_rate is 1.5"),
        (lambda: forget_rate_schedule(0, noise_rate=0.4, ramp=1), "ramp is 1"),
        (lambda: prototype_cleaning(np.ones((2, 3)), [0], 1), r"expected \(1, D\)"),
        (lambda: prototype_cleaning([[np.nan]], [0], 1), "of finite numbers"),
        (lambda: upper_component(np.ones((2, 2))), "values has shape"),
        (
            lambda: rolt_targets([0], [True], [0, 1], [0], num_classes=2),
            r"predicted has shape \(2,\)",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
