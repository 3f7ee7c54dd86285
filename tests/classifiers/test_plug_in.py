"""The plug-in classifier and balanced risk: closed forms of the AM measure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight

from ltjax.classifiers import (
    adjust_logits,
    balanced_risk_weights,
    plug_in_predict,
    plug_in_threshold,
)


def test_two_unit_gaussians():
    # Means 0 and 2, p = 0.05: eta >= p is x >= 1, AM = Phi(1) = 0.84134475; eta >= 1/2
    # is x >= 1 + log(19) / 2 = 2.47221949, TPR 0.31838506, TNR 0.99328615.
    p, n = 0.05, 2000
    counts = [n * (1 - p), n * p]
    np.testing.assert_allclose(np.log(p / (1 - p)), -2.94443898, rtol=1e-8)
    x = np.linspace(-4, 6, 200_001)
    log_odds = 2 * x - 2 + np.log(p / (1 - p))
    logits = np.stack([np.zeros_like(x), log_odds], axis=1)
    positive = np.asarray(plug_in_predict(logits.astype(np.float32), counts))
    cut = x[positive.argmax()]
    assert np.all(np.diff(positive) >= 0)
    np.testing.assert_allclose(cut, 1.0, atol=1e-4)
    am = (norm.cdf(cut) + 1 - norm.cdf(cut - 2)) / 2
    np.testing.assert_allclose(am, 0.84134475, rtol=1e-6)
    cut = x[(log_odds >= 0).argmax()]
    np.testing.assert_allclose(cut, 2.47221949, atol=1e-4)
    tpr, tnr = 1 - norm.cdf(2.47221949 - 2), norm.cdf(2.47221949)
    np.testing.assert_allclose([tpr, tnr], [0.31838506, 0.99328615], rtol=1e-5)
    np.testing.assert_allclose((tpr + tnr) / 2, 0.65583561, rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(tpr * tnr), 0.56235885, rtol=1e-5)


def test_three_atoms_and_the_regret_identity():
    mu, eta = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.9])
    p = mu @ eta
    np.testing.assert_allclose(p, 0.29)

    def am(h):
        tpr, tnr = mu @ (eta * h) / p, mu @ ((1 - eta) * (1 - h)) / (1 - p)
        return (tpr + tnr) / 2

    def regret(h):
        wrong = h != (eta > p)
        return mu @ (np.abs(eta - p) * wrong) / (2 * p * (1 - p))

    logits = np.log(np.stack([1 - eta, eta], axis=1)).astype(np.float32)
    best = np.asarray(plug_in_predict(logits, 1000 * np.array([1 - p, p])))
    assert best.tolist() == [0, 0, 1]
    np.testing.assert_allclose(am(best), 0.79626032, rtol=1e-7)
    other = np.array([0, 1, 1])
    np.testing.assert_allclose(am(other), 0.73069451, rtol=1e-7)
    np.testing.assert_allclose(am(best) - am(other), 0.06556581, rtol=1e-6)
    np.testing.assert_allclose(regret(other), 0.06556581, rtol=1e-6)
    for constant in (np.zeros(3, int), np.ones(3, int)):
        np.testing.assert_allclose(am(constant), 0.5)
        np.testing.assert_allclose(regret(constant), 0.29626032, rtol=1e-7)
    # AM is a cost-sensitive risk: cost 1 - p of a miss, p of a false alarm.
    risk = mu @ ((1 - p) * eta * (1 - other) + p * (1 - eta) * other)
    np.testing.assert_allclose(2 * p * (1 - p) * (1 - am(other)), risk)


def test_balanced_counts_leave_the_ordinary_threshold():
    p = np.array([[0.6, 0.4], [0.5, 0.5], [0.4, 0.6]], np.float32)
    assert plug_in_predict(np.log(p), [50, 50]).tolist() == [0, 1, 1]  # ties: positive


def test_more_classes_are_logit_adjustment():
    rng = np.random.default_rng(0)
    logits, counts = rng.standard_normal((200, 4)).astype(np.float32), [70, 20, 8, 2]
    expected = np.argmax(adjust_logits(logits, counts), axis=1)
    assert np.array_equal(plug_in_predict(logits, counts), expected)
    traced = jax.jit(plug_in_predict)(logits, jnp.array(counts))
    assert np.array_equal(traced, expected)


def test_the_estimate_stays_inside_the_unit_interval():
    assert plug_in_threshold([10, 0]).tolist() == [0.95, 0.05]
    assert plug_in_threshold([0, 10]).tolist() == [0.05, 0.95]
    np.testing.assert_allclose(plug_in_threshold([5, 4, 0]), [5 / 9, 4 / 9, 1 / 18])
    with pytest.raises(ValueError, match="class_counts are all zero"):
        plug_in_threshold([0, 0])


def test_duplicating_a_class_moves_estimate_and_threshold_together():
    # A well-specified model refitted on 4 copies of the negatives: log-odds and
    # threshold both move by log 4.
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3000, 1)) + 2 * np.repeat([0, 1], [2700, 300])[:, None]
    y = np.repeat([0, 1], [2700, 300])

    def decide(x, y, copies):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(y == 0), copies), np.flatnonzero(y)]
        )
        model = LogisticRegression(C=1e6, tol=1e-8).fit(x[rows], y[rows])
        log_odds = model.decision_function(x)
        logits = np.stack([np.zeros_like(log_odds), log_odds], axis=1)
        counts = np.bincount(y[rows])
        return np.asarray(plug_in_predict(logits.astype(np.float32), counts))

    assert np.mean(decide(x, y, 1) != decide(x, y, 4)) < 0.01


def test_a_monotone_transform_needs_its_threshold_transformed_too():
    # Squaring eta keeps the ranking, but eta^2 >= p is another rule.
    eta = np.linspace(0.01, 0.99, 99)
    logits = np.log(np.stack([1 - eta, eta], axis=1)).astype(np.float32)
    squared = np.log(np.stack([1 - eta**2, eta**2], axis=1)).astype(np.float32)
    counts = [90, 10]
    assert np.any(plug_in_predict(logits, counts) != plug_in_predict(squared, counts))
    transformed = [1 - 0.1**2, 0.1**2]
    moved = plug_in_predict(squared, 10_000 * np.array(transformed))
    assert np.array_equal(moved, plug_in_predict(logits, counts))


def test_balanced_weights():
    # n / (K n_k) for (90, 9, 1): 100/270, 100/27, 100/3.
    weights = balanced_risk_weights([90, 9, 1])
    np.testing.assert_allclose(weights, [0.37037037, 3.7037037, 33.33333333], rtol=1e-8)
    np.testing.assert_allclose(weights @ [90, 9, 1], 100)
    labels = np.repeat([0, 1, 2], [90, 9, 1])
    peer = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(weights, peer)
    # K = 2: 1 / (2 p) and 1 / (2 (1 - p)).
    np.testing.assert_allclose(balanced_risk_weights([80, 20]), [1 / 1.6, 1 / 0.4])
    assert balanced_risk_weights([7, 7, 7]).tolist() == [1, 1, 1]
    np.testing.assert_allclose(balanced_risk_weights([4, 0, 4]), [1, 0, 1])
    traced = jax.jit(balanced_risk_weights)(jnp.array([90, 9, 1]))
    np.testing.assert_allclose(traced, weights, rtol=1e-6)


def test_weights_of_any_cost():
    # n C_k / sum n C = 100 (1, 2) / (80 + 40).
    weights = balanced_risk_weights([80, 20], class_costs=[1, 2])
    np.testing.assert_allclose(weights, [100 / 120, 200 / 120])
    assert balanced_risk_weights([80, 20], class_costs=[3, 3]).tolist() == [1, 1]


def test_intercept_only_logistic_has_the_predicted_optimum():
    # min_b of -(1/n) sum w_y log sigma(+-b): b = log(w_1 n_1 / (w_0 n_0)).
    counts = np.array([90.0, 10.0])
    grid = np.linspace(-4, 4, 8001)
    losses = np.stack([np.logaddexp(0, grid), np.logaddexp(0, -grid)])
    balanced = (balanced_risk_weights(counts) * counts) @ losses
    assert abs(grid[balanced.argmin()]) < 1e-3
    plain = counts @ losses
    np.testing.assert_allclose(grid[plain.argmin()], np.log(1 / 9), atol=1e-3)


def test_balanced_risk_and_plug_in_reach_the_same_balanced_accuracy():
    rng = np.random.default_rng(2)

    def sample(counts):
        y = np.repeat([0, 1], counts)
        return rng.standard_normal((len(y), 2)) + 1.5 * y[:, None], y

    counts = [20_000, 1000]
    (x, y), (x_test, y_test) = sample(counts), sample([20_000, 20_000])
    plain = LogisticRegression(C=1e6).fit(x, y)
    log_odds = plain.decision_function(x_test)
    logits = np.stack([np.zeros_like(log_odds), log_odds], axis=1)
    plug_in = np.asarray(plug_in_predict(logits.astype(np.float32), counts))
    weights = balanced_risk_weights(counts)[y]
    weighted = LogisticRegression(C=1e6).fit(x, y, sample_weight=weights)
    optimum = float(norm.cdf(1.5 * np.sqrt(2) / 2))
    for predicted in (plug_in, weighted.predict(x_test)):
        assert abs(np.mean(predicted == y_test) - optimum) < 0.01
    assert np.mean(plain.predict(x_test) == y_test) < optimum - 0.1


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="class_costs has shape"):
        balanced_risk_weights([1, 2], class_costs=[1, 2, 3])
    with pytest.raises(ValueError, match="expected costs >= 0 with a positive total"):
        balanced_risk_weights([1, 2], class_costs=[-1, 2])
    with pytest.raises(ValueError, match="class 1 has -1"):
        plug_in_threshold([1, -1])
    with pytest.raises(ValueError, match="logits have 2 classes"):
        plug_in_predict(np.zeros((3, 2), np.float32), [1, 2, 3])
    with pytest.raises(TypeError, match="logits has dtype int"):
        plug_in_predict(np.zeros((3, 2), int), [1, 2])
