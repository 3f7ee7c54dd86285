"""Local outlier factors: by hand, and next to scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import LocalOutlierFactor

from ltjax.pseudo_labels import inliers_by_class, local_outlier_factor


def peer(points, k):
    model = LocalOutlierFactor(n_neighbors=k).fit(points)
    return -model.negative_outlier_factor_


def test_five_points_by_hand():
    # kdist (2, 1, 1, 2, 8); densities 2/3 four times and 2/15.
    points = np.array([[0.0], [1.0], [2.0], [3.0], [10.0]])
    factors = local_outlier_factor(points, num_neighbors=2)
    np.testing.assert_allclose(factors, [1, 1, 1, 1, 5], rtol=1e-9)


@pytest.mark.parametrize("dim", [2, 40])
@pytest.mark.parametrize("k", [1, 7, 20, 500])
def test_equal_to_scikit_learn(dim, k):
    rng = np.random.default_rng(dim)
    points = rng.normal(size=(150, dim))
    points[:20] = 0.05 * points[:20] + 3  # a dense cluster
    k = min(k, 149)
    np.testing.assert_allclose(
        local_outlier_factor(points, num_neighbors=k), peer(points, k), rtol=1e-9
    )


def test_far_from_the_origin_nothing_cancels():
    rng = np.random.default_rng(0)
    points = 1e6 + rng.normal(size=(60, 3))
    expected = peer(points - points[0], 5)
    factors = local_outlier_factor(points, num_neighbors=5)
    np.testing.assert_allclose(factors, expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Duplicate values")
def test_equal_points_are_very_dense():
    points = np.concatenate([np.zeros((6, 2)), np.eye(2) * 3, [[5.0, 5.0]]])
    factors = local_outlier_factor(points, num_neighbors=4)
    np.testing.assert_allclose(factors, peer(points, 4), rtol=1e-9)
    assert factors[-1] > 1e9


def test_scale_and_rotation_do_not_matter():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(80, 3))
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    expected = local_outlier_factor(points, num_neighbors=9)
    moved = local_outlier_factor(7 * points @ rotation, num_neighbors=9)
    np.testing.assert_allclose(moved, expected, rtol=1e-8)


def test_about_one_inside_of_a_cloud():
    grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1)
    factors = local_outlier_factor(grid.reshape(-1, 2), num_neighbors=8)
    inside = factors.reshape(20, 20)[5:15, 5:15]
    np.testing.assert_allclose(inside, 1.0, atol=0.03)


def test_few_points():
    assert local_outlier_factor(np.zeros((1, 3))).tolist() == [1.0]
    assert local_outlier_factor(np.zeros((0, 3))).shape == (0,)
    points = np.random.default_rng(0).normal(size=(4, 2))
    np.testing.assert_allclose(
        local_outlier_factor(points, num_neighbors=20), peer(points, 3), rtol=1e-9
    )


def test_inliers_are_the_percentile_of_their_class():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 300)
    labels[:2] = 3  # a class of two is kept
    points = rng.normal(size=(300, 4)) + 5 * labels[:, None]
    kept = inliers_by_class(points, labels, 5, contamination=0.3)
    for k in range(3):
        at = labels == k
        score = -peer(points[at], int(np.clip(0.2 * at.sum(), 10, 200)))
        expected = score >= np.percentile(score, 30)
        np.testing.assert_array_equal(kept[at], expected)
    assert kept[:2].all()


def test_planted_outliers_are_dropped():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(100, 3))
    points[::10] += 12 * rng.choice([-1, 1], size=(10, 3))
    kept = inliers_by_class(points, np.zeros(100, int), 1, contamination=0.1)
    assert not kept[::10].any() and kept.sum() == 90


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 20])
def test_the_kept_set_is_never_empty(count):
    """At least max(2, ceil(n / 2)) of a class, and no more at the largest share."""
    points = np.random.default_rng(count).normal(size=(count, 2))
    kept = inliers_by_class(points, np.zeros(count, int), 1, contamination=0.5)
    least = max(2, -(-count // 2))
    assert kept.sum() == (min(least, count) if count > 2 else count)
    same = inliers_by_class(0 * points, np.zeros(count, int), 1, contamination=0.5)
    assert same.all()  # equal scores are none below their median


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: local_outlier_factor(np.ones(3)), "features has shape"),
        (lambda: local_outlier_factor(np.ones((3, 1)), num_neighbors=0), "is 0"),
        (lambda: local_outlier_factor([[np.nan], [1.0]]), "features must be finite"),
        (lambda: inliers_by_class(np.ones((3, 1)), [0, 0], 1), r"expected \(2, D\)"),
        (
            lambda: inliers_by_class(np.ones((1, 1)), [0], 1, contamination=0.6),
            "contamination is 0.6",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
