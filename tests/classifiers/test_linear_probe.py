"""Probes reach the optimum: against scikit-learn and by their gradient in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from ltjax.classifiers import (
    LinearProbe,
    logistic_probe,
    probe_logits,
    probe_rows,
    svm_probe,
)

N, D, K = 120, 6, 4


def logistic(*args, **options):
    return jax.device_get(logistic_probe(*args, num_classes=K, **options))


def data(seed=0):
    """Long-tailed classes, features of scales from 0.03 to 30 far from the origin."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(K), [60, 35, 17, 8])
    features = rng.normal(size=(K, D))[labels] + rng.normal(size=(N, D))
    return features * np.logspace(-1.5, 1.5, D) + 20, labels


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def gradient_norm(probe, features, labels, l2, weights):
    """Norm of the gradient of the objective, written out."""
    p = softmax(features @ probe.kernel + probe.bias)
    residual = weights[labels][:, None] * (p - np.eye(K)[labels]) / len(labels)
    # In the solver's coordinates, with the features centered.
    total = weights[labels] @ features / weights[labels].sum()
    of_kernel = (features - total).T @ residual + l2 * probe.kernel
    return np.sqrt(np.sum(of_kernel**2) + np.sum(residual.sum(axis=0) ** 2))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("l2", [1e-1, 1e-5])
def test_optimum_to_1e_8(x64, l2, balanced):
    features, labels = data()
    weights = N / K / np.bincount(labels) if balanced else np.ones(K)
    probe = logistic(features, labels, l2=l2, class_weights=weights)
    norm = gradient_norm(probe, features, labels, l2, weights)
    assert norm <= 1e-8
    np.testing.assert_allclose(probe.gradient_norm, norm, atol=1e-12)
    p = softmax(features @ probe.kernel + probe.bias)
    losses = -weights[labels] * np.log(p[np.arange(N), labels])
    expected = losses.mean() + 0.5 * l2 * np.sum(np.square(probe.kernel))
    np.testing.assert_allclose(probe.objective, expected, rtol=1e-10)
    assert probe.iterations < 30
    np.testing.assert_allclose(np.sum(probe.bias), 0, atol=1e-9)
    logits = probe_logits(probe, features)
    np.testing.assert_allclose(softmax(np.asarray(logits)), p, atol=1e-12)


@pytest.mark.parametrize("balanced", [None, "balanced"])
def test_equals_scikit_learn(x64, balanced):
    """Its C is 1 / (N l2), and its bias is free too."""
    features, labels = data(1)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    peer = LogisticRegression(
        C=1 / (N * 1e-2),
        class_weight=balanced,
        solver="newton-cg",
        tol=1e-12,
        max_iter=1000,
    ).fit(features, labels)
    weights = N / K / np.bincount(labels) if balanced else np.ones(K)
    probe = logistic(features, labels, l2=1e-2, class_weights=weights)
    np.testing.assert_allclose(probe.kernel, peer.coef_.T, atol=2e-6)
    difference = probe.bias - peer.intercept_
    np.testing.assert_allclose(difference - difference.mean(), 0, atol=2e-6)


def test_grid_and_subsets_by_vmap(x64):
    """Rows that do not count are as if they were not there, NaN or not."""
    features, labels = data(2)
    l2 = np.array([1e-1, 1e-3])
    where = np.arange(N) % np.array([[3], [5]]) != 1
    dirty = np.where(where.any(axis=0)[:, None], features, np.nan)

    @jax.jit
    @jax.vmap
    def solve(l2, where):
        return logistic_probe(dirty, labels, num_classes=K, l2=l2, where=where)

    many = jax.device_get(solve(l2, where))
    assert np.all(many.gradient_norm <= 1e-8)
    for i in range(2):
        x, y = features[where[i]], labels[where[i]]
        probe = type(many)(*(leaf[i] for leaf in many))
        assert gradient_norm(probe, x, y, l2[i], np.ones(K)) <= 1.1e-8


def test_few_rows_and_a_constant_feature_in_float32():
    """Separable data with more features than rows; the last feature says nothing."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(12, 40)).astype(np.float32)
    features[:, -1] = 7.0
    labels = np.arange(12) % K
    probe = logistic(features, labels, l2=1e-4)
    assert probe.kernel.dtype == jnp.float32 and probe.gradient_norm <= 1e-5
    logits = probe_logits(probe, features)
    np.testing.assert_array_equal(np.argmax(logits, axis=1), labels)
    np.testing.assert_allclose(probe.kernel[-1], 0, atol=1e-6)


def test_svm_equals_scikit_learn(x64):
    features, labels = data(4)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    fit = functools.partial(svm_probe, num_classes=K)
    probe = fit(features, labels, c=10.0)
    peer = LinearSVC(C=10.0, dual=False, tol=1e-12, max_iter=100_000)
    peer.fit(unit, labels)
    np.testing.assert_allclose(probe.kernel, peer.coef_.T, atol=1e-5)
    np.testing.assert_allclose(probe.bias, peer.intercept_, atol=1e-5)
    assert probe.gradient_norm <= 1e-8
    where = np.arange(N) % 4 != 2
    half = fit(np.where(where[:, None], features, np.nan), labels, where=where)
    unit, labels = unit[where], labels[where]
    again = LinearSVC(C=1.0, dual=False, tol=1e-12, max_iter=100_000).fit(unit, labels)
    np.testing.assert_allclose(half.kernel, again.coef_.T, atol=1e-5)


def test_rows_of_the_few_shot_protocol():
    labels = np.random.default_rng(5).permutation(np.repeat(np.arange(3), [30, 9, 4]))
    rows = probe_rows(labels, 3)
    np.testing.assert_array_equal(np.bincount(labels[rows]), [4, 4, 4])
    assert np.all(np.diff(rows) > 0)
    fewer = probe_rows(labels, 3, per_class=2)
    assert set(fewer) < set(rows)
    np.testing.assert_array_equal(np.bincount(labels[fewer]), [2, 2, 2])
    assert not np.array_equal(rows, probe_rows(labels, 3, seed=1))
    with pytest.raises(
        ValueError, match=r"class 2 has 4 row\(s\), expected at least 5"
    ):
        probe_rows(labels, 3, per_class=5)
    with pytest.raises(ValueError, match="per_class is 'all'"):
        probe_rows(labels, 3, per_class="all")


def test_bad_input_is_named():
    features, labels = np.ones((5, 2)), np.zeros(5, int)
    with pytest.raises(ValueError, match="logistic_probe: l2 is 0"):
        logistic_probe(features, labels, num_classes=2, l2=0.0)
    with pytest.raises(ValueError, match=r"labels have shape \(4,\)"):
        logistic_probe(features, labels[:4], num_classes=2, l2=1.0)
    with pytest.raises(ValueError, match=r"class_weights has shape \(3,\)"):
        logistic_probe(
            features, labels, num_classes=2, l2=1.0, class_weights=np.ones(3)
        )
    with pytest.raises(ValueError, match=r"class 1 has no row \(1 of 2 have none\)"):
        logistic_probe(features, labels, num_classes=2, l2=1.0)
    two, left = np.array([0, 0, 1, 0, 0]), np.arange(5) != 2
    with pytest.raises(ValueError, match="class 1 has no row"):
        logistic_probe(features, two, num_classes=2, l2=1.0, where=left)
    probe = LinearProbe(np.ones((3, 2)), np.ones(2), *[np.zeros(())] * 3)
    with pytest.raises(ValueError, match=r"features has shape \(5, 2\), expected"):
        probe_logits(probe, features)
    with pytest.raises(ValueError, match="svm_probe: c is -1"):
        svm_probe(features, labels, num_classes=2, c=-1.0)
    with pytest.raises(ValueError, match="svm_probe: class 1 has no row"):
        svm_probe(features, two, num_classes=2, where=left)


def test_features_may_be_a_list():
    rows, labels = [[1.0, 0.0], [0.0, 1.0]], [0, 1]
    one = logistic_probe(rows, labels, num_classes=2, l2=1.0)
    other = logistic_probe(np.float32(rows), np.array(labels), num_classes=2, l2=1.0)
    np.testing.assert_array_equal(one.kernel, other.kernel)
