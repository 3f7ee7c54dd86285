"""Random over- and under-sampling, ROSE, and gradients under resampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from imblearn.over_sampling import RandomOverSampler

from ltjax.classifiers import balanced_risk_weights, prior_correction
from ltjax.resampling import (
    random_oversample,
    random_undersample,
    rose_bandwidth,
    smoothed_bootstrap,
)

KEY = jax.random.key(0)
COUNTS = np.array([300, 80, 50, 10])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), COUNTS))


def test_oversampling_fills_every_class_to_the_largest():
    rows = random_oversample(KEY, LABELS)
    assert rows[:440].tolist() == list(range(440))  # every original once
    assert np.bincount(LABELS[rows[440:]]).tolist() == [0, 220, 250, 290]
    assert np.all(np.diff(LABELS[rows[440:]]) >= 0)
    peer = RandomOverSampler(random_state=0)
    peer.fit_resample(LABELS[:, None], LABELS)
    assert len(peer.sample_indices_) == len(rows)
    uses = np.bincount(rows)[LABELS == 3]  # 290 draws over 10 rows
    assert np.all(np.abs(uses - 30) < 5 * np.sqrt(29))


def test_undersampling_draws_without_replacement():
    rows = random_undersample(KEY, LABELS)
    assert np.bincount(LABELS[rows]).tolist() == [10, 10, 10, 10]
    assert len(set(rows.tolist())) == len(rows)
    kept = random_undersample(KEY, LABELS, targets=[150, 80, 0, 10])
    assert np.bincount(LABELS[kept], minlength=4).tolist() == [150, 80, 0, 10]
    assert set(np.flatnonzero(LABELS == 1)) <= set(kept.tolist())


def test_a_class_draws_for_itself_and_a_key_for_itself():
    targets = np.array([300, 90, 90, 90])
    rows = random_oversample(KEY, LABELS, targets=targets)
    alone = random_oversample(KEY, LABELS, targets=[300, 80, 50, 90])
    assert np.array_equal(rows[-80:], alone[-80:])
    other = random_oversample(jax.random.key(1), LABELS, targets=targets)
    assert not np.array_equal(rows, other)


def test_absent_classes_stay_absent():
    labels = [0, 0, 2]
    assert random_oversample(KEY, labels).tolist() == [0, 1, 2, 2]
    kept = np.array(labels)[random_undersample(KEY, labels)]
    assert kept.tolist() == [0, 2]


def test_balanced_draws_have_the_gradient_of_balanced_weights():
    # E over k ~ U, i ~ U(class k) of g_i is (1/K) sum_k mean_k g; with weights
    # w_k = n / (K n_k) the mean over the data of w_y g is the same number.
    rng = np.random.default_rng(1)
    features = rng.standard_normal((440, 3))
    theta = jnp.asarray(rng.standard_normal((3, 4)))

    def losses(theta):
        log_p = jax.nn.log_softmax(jnp.asarray(features) @ theta)
        return -jnp.take_along_axis(log_p, jnp.asarray(LABELS)[:, None], axis=1)[:, 0]

    weights = jnp.asarray(balanced_risk_weights(COUNTS)[LABELS], jnp.float32)
    weighted = jax.grad(lambda t: jnp.mean(weights * losses(t)))(theta)
    per_example = jax.jacobian(losses)(theta)
    of_class = [per_example[LABELS == k].mean(axis=0) for k in range(4)]
    np.testing.assert_allclose(weighted, np.mean(of_class, axis=0), atol=1e-6)


def test_resampling_then_correcting_the_prior_is_calibrated():
    # x has 5 values with known p(x | y); the exact posterior after resampling to prior
    # q, corrected back to pi, is the exact posterior of the original data.
    rng = np.random.default_rng(2)
    likelihood = rng.dirichlet(np.ones(5), size=3)  # [K, x]
    pi, q = np.array([0.9, 0.08, 0.02]), np.array([1, 1, 1]) / 3

    def posterior(prior):
        joint = prior[:, None] * likelihood
        return (joint / joint.sum(axis=0)).T

    corrected = prior_correction(posterior(q), q, pi)
    np.testing.assert_allclose(corrected, posterior(pi), rtol=1e-6)
    unchanged = prior_correction(posterior(pi), pi, pi)
    np.testing.assert_allclose(unchanged, posterior(pi), rtol=1e-6)


def test_rose_bandwidth_and_noise():
    # h = (4 / (4 * 100))^(1/6) = 0.01^(1/6) = 0.46415888
    np.testing.assert_allclose(rose_bandwidth(100, 2), 0.46415888, rtol=1e-8)
    rng = np.random.default_rng(3)
    features = rng.standard_normal((100, 2)) * np.array([1.0, 10.0])
    labels = np.repeat([0, 1], [60, 40])
    new = smoothed_bootstrap(KEY, features, labels, num_new=[0, 20_000])
    noise = new.features - features[new.plan.base]
    spread = features[labels == 1].std(axis=0)
    np.testing.assert_allclose(noise.std(axis=0), 0.46415888 * spread, rtol=0.03)
    np.testing.assert_allclose(noise.mean(axis=0) / spread, 0, atol=0.02)
    plain = smoothed_bootstrap(KEY, features, labels, shrinkage=0)
    np.testing.assert_array_equal(plain.features, features[plain.plan.base])
    assert plain.labels.tolist() == [1] * 20
    assert smoothed_bootstrap(KEY, np.float32(features), labels).features.dtype == (
        np.float32
    )


@pytest.mark.parametrize(
    ("function", "targets", "message"),
    [
        (
            random_oversample,
            [10, 80, 50, 10],
            r"targets\[0\] is 10, but",
        ),
        (random_oversample, [300, 80, 50, 10, 1], "has no example to repeat"),
        (random_undersample, [1, 1, 1, 11], "only 10 examples"),
        (random_undersample, [1, 1, 1, -1], "expected >= 0"),
        (random_undersample, [1, 1], r"labels must lie in \[0, 2\)"),
    ],
)
def test_impossible_targets_are_named(function, targets, message):
    with pytest.raises(ValueError, match=message):
        function(KEY, LABELS, targets=targets)


def test_bad_input_is_named():
    with pytest.raises(TypeError, match="expected one integer per class"):
        random_oversample(KEY, LABELS, targets=[300.0, 80.0, 50.0, 10.0])
    with pytest.raises(TypeError, match="labels have dtype float64"):
        random_oversample(KEY, LABELS.astype(float))
    with pytest.raises(TypeError, match="expected one jax.random.key"):
        random_undersample(np.random.default_rng(0), LABELS)
    with pytest.raises(ValueError, match="shrinkage is -1"):
        smoothed_bootstrap(KEY, np.eye(4), [0, 0, 0, 1], shrinkage=-1)


def test_the_bootstrap_of_nothing_is_nothing():
    new = smoothed_bootstrap(KEY, np.zeros((0, 2)), np.zeros(0, np.int32))
    assert new.features.shape == (0, 2)
