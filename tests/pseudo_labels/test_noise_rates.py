"""EM noise rates: recovered on drawn labels, and no step lowers the objective."""

import numpy as np
import pytest

from ltjax.pseudo_labels import noise_rates

CENTERS = 4.0 * np.eye(4)[:, :3]


def drawn(seed=0, counts=(400, 200, 100, 60), rates=(0.05, 0.1, 0.3, 0.45)):
    """Features [N, 3], given labels with those shares of wrong ones, whether right."""
    rng = np.random.default_rng(seed)
    given = np.repeat(np.arange(4), counts)
    wrong = rng.random(len(given)) < np.asarray(rates)[given]
    other = (given + rng.integers(1, 4, len(given))) % 4
    truth = np.where(wrong, other, given)
    order = rng.permutation(len(given))
    return (
        (CENTERS[truth] + rng.normal(size=(len(given), 3)))[order],
        given[order],
        ~wrong[order],
    )


def test_each_class_gets_its_own_rate():
    features, given, right = drawn()
    found = noise_rates(features, given, 4)
    true = [1 - right[given == k].mean() for k in range(4)]
    np.testing.assert_allclose(found.rates, true, atol=0.04)
    assert np.mean((found.right > 0.5) == right) > 0.97
    np.testing.assert_allclose(found.means, CENTERS, atol=0.5)
    np.testing.assert_allclose(np.diag(found.covariance), 1 + 0.1 * 1.2, atol=0.4)


def test_no_iteration_lowers_the_objective():
    features, given, _ = drawn(1)
    for shrinkage in (0.0, 0.5):
        found = noise_rates(features, given, 4, shrinkage=shrinkage, tolerance=0)
        assert len(found.objective) == 100
        rise = np.diff(found.objective)
        assert rise.min() > -1e-9 * np.abs(found.objective).max()
        assert found.objective[-1] > found.objective[0] + 1


def test_the_first_step_is_that_of_the_definition():
    """One E step from the medians and the total variance, in float64 by hand."""
    points, given = np.array([[0.0], [1.0], [4.0], [5.0], [3.0]]), [0, 0, 1, 1, 1]
    found = noise_rates(points, given, 2, iterations=1, start=0.2)
    variance = np.var(points)
    centers = np.array([0.5, 4.0])
    density = np.exp(-((points - centers) ** 2) / (2 * variance))
    own = density[np.arange(5), given]
    total = 0.8 * own + 0.2 * 0.5 * density.sum(1)
    np.testing.assert_allclose(found.right, (0.8 + 0.1) * own / total, rtol=1e-12)
    want = [1 - found.right[:2].mean(), 1 - found.right[2:].mean()]
    np.testing.assert_allclose(found.rates, want, rtol=1e-12)


def test_order_scale_and_names_of_the_classes_do_not_matter():
    features, given, _ = drawn(2, counts=(60, 40, 30, 20))
    found = noise_rates(features, given, 4)
    order = np.random.default_rng(0).permutation(len(given))
    turned = noise_rates(7 * features[order] - 3, 3 - given[order], 4)
    np.testing.assert_allclose(turned.right, found.right[order], atol=1e-5)
    np.testing.assert_allclose(turned.rates[::-1], found.rates, atol=1e-5)


def test_a_class_without_an_example_has_no_rate():
    features, given, _ = drawn(3, counts=(50, 50, 0, 1))
    found = noise_rates(features, given, 5)
    assert found.rates[2] == found.rates[4] == 0
    assert np.isfinite(found.right).all() and np.isfinite(found.means).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"features": np.zeros((3, 2))}, "variance 0.0, expected finite features"),
        ({"features": np.full((3, 2), np.nan)}, "variance nan, expected finite"),
        ({"features": np.zeros((2, 2))}, r"features has shape \(2, 2\), expected \(3"),
        ({"labels": [0, 1, 2]}, "labels"),
        ({"shrinkage": 1.0}, "shrinkage"),
        ({"start": 0.0}, "start"),
        ({"iterations": 0}, "iterations"),
    ],
)
def test_what_is_refused(change, message):
    given = {"features": np.eye(3)[:, :2], "labels": [0, 0, 1], "num_classes": 2}
    with pytest.raises(ValueError, match=message):
        noise_rates(**{**given, **change})
