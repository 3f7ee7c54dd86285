"""Class Gaussians and their calibration, by hand and by numpy."""

import numpy as np
import pytest

from ltjax.pseudo_labels import ClassGaussians, calibrate_tail, class_gaussians


def test_they_are_mean_and_unbiased_covariance_of_what_counts():
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(30, 3)), np.arange(30) % 3
    where = rng.random(30) < 0.7
    found = class_gaussians(points, labels, 3, where=where, ridge=0.01)
    for k in range(3):
        own = points[where & (labels == k)]
        cov = np.cov(own.T, ddof=1)
        np.testing.assert_allclose(found.means[k], own.mean(0))
        want = cov + 0.01 * np.trace(cov) / 3 * np.eye(3)
        np.testing.assert_allclose(found.covariances[k], want)
        assert found.counts[k] == len(own)


def test_the_nearest_head_classes_pull_a_tail_class():
    # The tail class lies at distances 1, 3.162 and 1 of the three head classes.
    means = np.array([[2, 0], [0, 3], [1, 1], [1, 0], [5, 5], [9, 9]], float)
    covariances = np.arange(1.0, 7)[:, None, None] * np.eye(2)
    counts = np.array([50, 40, 30, 5, 4, 3])
    given = ClassGaussians(means, covariances, counts)
    new = calibrate_tail(given, counts, nearest=2, confidence=0.7, weights="uniform")
    np.testing.assert_allclose(new.means[3], [1.15, 0.15])
    np.testing.assert_allclose(new.covariances[3], (0.7 * 4 + 0.3 * 2) * np.eye(2))
    np.testing.assert_array_equal(new.means[:3], means[:3])
    by_distance = calibrate_tail(given, counts, nearest=2, confidence=0.7)
    share = np.array([50, 30]) / 80  # both are as near
    want = 0.7 * means[3] + 0.3 * share @ means[[0, 2]]
    np.testing.assert_allclose(by_distance.means[3], want)
    distances = np.array([1, 3.16227766, 1])
    scale = np.median(np.linalg.norm(means[:3, None] - means[3:], axis=2))
    share = counts[:3] * np.exp(-((distances / scale) ** 2))
    want = 0.7 * means[3] + 0.3 * share @ means[:3] / share.sum()
    of_all = calibrate_tail(given, counts, nearest=3, confidence=0.7)
    np.testing.assert_allclose(of_all.means[3], want, rtol=1e-8)
    usual = calibrate_tail(given, counts, nearest=2, weights="uniform")
    trust = 0.3 + 0.4 * 1.0  # (5 - 2) / (2 * 2 - 2) is cut to 1
    np.testing.assert_allclose(
        usual.means[3], trust * means[3] + (1 - trust) * np.array([1.5, 0.5])
    )
    alone = calibrate_tail(given, counts, confidence=1.0)
    np.testing.assert_array_equal(alone.means, means)


def test_a_class_like_its_nearest_stays_as_it_is():
    means = np.array([[2.0, 0.0], [7.0, 7.0], [2.0, 0.0], [8.0, 8.0]])
    covariances = np.stack([np.diag([1.0, 2.0])] * 4)
    given = ClassGaussians(means, covariances, np.array([9, 9, 3, 3]))
    for confidence in (0.0, 0.4):
        new = calibrate_tail(given, given.counts, nearest=1, confidence=confidence)
        np.testing.assert_allclose(new.means[2], means[2])
        np.testing.assert_allclose(new.covariances[2], covariances[2])


def test_a_class_without_an_example_is_named():
    with pytest.raises(ValueError, match="class 1 has no example that counts"):
        class_gaussians(np.zeros((2, 2)), np.array([0, 2]), 3)
    given = class_gaussians(np.zeros((2, 2)), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="class_counts has shape \\(3,\\)"):
        calibrate_tail(given, np.ones(3))
