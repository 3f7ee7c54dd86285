"""Borderline-SMOTE and ADASYN: which points become bases, and how often."""

import jax
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from ltjax.resampling import adasyn, adasyn_amounts, borderline_smote

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def overlapping():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [150, 40, 30]))
    centers = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 2.0]])
    return rng.standard_normal((220, 2)) + centers[labels], labels


def foreign_neighbors(features, labels, m):
    """Neighbors of other classes among the m nearest, from scikit-learn."""
    found = NearestNeighbors(n_neighbors=m + 1).fit(features).kneighbors(features)[1]
    return (labels[found[:, 1:]] != labels[:, None]).sum(axis=1)


def test_only_points_in_danger_are_bases(overlapping):
    features, labels = overlapping
    foreign = foreign_neighbors(features, labels, 10)
    danger = (foreign >= 5) & (foreign < 10)
    new = borderline_smote(KEY, features, labels)
    assert np.bincount(new.labels).tolist() == [0, 110, 120]
    for label in (1, 2):
        used = set(new.plan.base[new.labels == label])
        assert used == set(np.flatnonzero(danger & (labels == label)))
    assert np.array_equal(labels[new.plan.neighbor], new.labels)


def test_half_the_neighbors_is_danger_and_all_of_them_is_noise():
    # m = 2: the 1s at 0 and 1 have the neighbors {0.4 (class 0), the other 1}: danger.
    # The 1 at 20 has only class-0 neighbors: noise. Class 0 is not enlarged.
    features = np.array([[0.0], [1.0], [20.0], [0.4], [20.2], [19.8], [30.0], [31.0]])
    labels = [1, 1, 1, 0, 0, 0, 0, 0]
    new = borderline_smote(KEY, features, labels, m=2, num_new=[0, 40])
    assert set(new.plan.base) == {0, 1}


def test_the_second_kind_goes_less_than_halfway_towards_other_classes(overlapping):
    features, labels = overlapping
    new = borderline_smote(KEY, features, labels, kind="borderline-2")
    other = labels[new.plan.neighbor] != new.labels
    assert 0.2 < other.mean() < 0.9
    assert new.plan.step[other].max() < 0.5 < new.plan.step[~other].max()
    start = features[new.plan.base]
    move = new.plan.step[:, None] * (features[new.plan.neighbor] - start)
    np.testing.assert_allclose(new.features, start + move)
    everyone = NearestNeighbors(n_neighbors=6).fit(features).kneighbors(features)[1]
    pairs = zip(new.plan.base, new.plan.neighbor, strict=True)
    assert all(j in everyone[i, 1:] for i, j in pairs)


def test_a_class_without_danger_is_reported():
    features = np.concatenate([np.arange(20.0), 1000 + np.arange(12.0)])[:, None]
    labels = np.repeat([0, 1], [20, 12])
    with pytest.warns(UserWarning, match=r"class 1 has no point in danger.*8 were"):
        new = borderline_smote(KEY, features, labels)
    assert len(new.labels) == 0


def test_adaptive_amounts():
    # Foreign neighbors (2, 5, 0, 3, 0) of 5, G = 40: shares 0.2, 0.5, 0, 0.3, 0.
    assert adasyn_amounts([2, 5, 0, 3, 0], 40).tolist() == [8, 20, 0, 12, 0]
    # Shares 0.5 and 1.5: the point left after rounding down goes to the larger share.
    assert adasyn_amounts([1, 3], 2).tolist() == [0, 2]
    # Shares 1/4 each, which rounded by themselves are no point at all.
    assert adasyn_amounts([3] * 16, 4).tolist() == [1] * 4 + [0] * 12
    # Shares 5/3, 10/3, 0, 5: remainders 2/3 and 1/3, one point left.
    assert adasyn_amounts([1, 2, 0, 3], 10).tolist() == [2, 3, 0, 5]
    assert adasyn_amounts([1, 2], 0).tolist() == [0, 0]
    with pytest.raises(ValueError, match="foreign is all zero"):
        adasyn_amounts([0, 0], 4)


def test_adasyn_makes_points_where_other_classes_are_near(overlapping):
    features, labels = overlapping
    new = adasyn(KEY, features, labels)
    foreign = foreign_neighbors(features, labels, 5)
    for label, total in ((1, 110), (2, 120)):
        rows = np.flatnonzero(labels == label)
        share = foreign[rows] / foreign[rows].sum()
        made = np.bincount(new.plan.base, minlength=220)[rows]
        assert made.sum() == total
        assert np.all(np.abs(made - share * total) < 1)
    assert np.array_equal(labels[new.plan.neighbor], new.labels)


def test_adasyn_makes_what_is_asked_over_many_equal_bases():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 2)), np.repeat([0, 1], [24, 16])
    for amount in (1, 4, 100):
        new = adasyn(KEY, features, labels, num_new=[0, amount])
        assert len(new.labels) == amount


def test_adasyn_needs_a_foreign_neighbor():
    features = np.concatenate([np.arange(20.0), 1000 + np.arange(12.0)])[:, None]
    with pytest.raises(ValueError, match="no point of class 1 has a neighbor of anoth"):
        adasyn(KEY, features, np.repeat([0, 1], [20, 12]))


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind is 'borderline-3'"):
        borderline_smote(KEY, np.eye(3), [0, 0, 1], kind="borderline-3")
