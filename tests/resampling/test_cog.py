"""COG: clustering, bookkeeping of sub-classes, and small problems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans as PeerKMeans
from sklearn.linear_model import LogisticRegression

from ltjax.resampling import (
    SubClasses,
    cog,
    cog_num_clusters,
    cog_replication,
    kmeans,
    max_rule,
    max_scores,
    sum_rule,
)

KEY = jax.random.key(0)


def logistic(features, labels, weights=None):
    model = LogisticRegression(C=10, max_iter=2000, tol=1e-8)
    return model.fit(features, labels, sample_weight=weights)


def four_blobs_and_a_rare_center(seed=0, times=1):
    rng = np.random.default_rng(seed)
    centers = np.array([[-2, -2], [-2, 2], [2, -2], [2, 2], [0, 0]])
    blob = np.repeat([0, 1, 2, 3, 4], np.array([100, 100, 100, 100, 40]) * times)
    features = centers[blob] + 0.5 * rng.standard_normal((len(blob), 2))
    return features, (blob == 4).astype(int), blob


def recalls(labels, predicted):
    return [np.mean(predicted[labels == k] == k) for k in np.unique(labels)]


def test_clusters_of_the_blobs():
    features, labels, blob = four_blobs_and_a_rare_center()
    split = cog(KEY, features, labels, num_clusters=[4, 1])
    assert split.parent.tolist() == [0, 0, 0, 0, 1]
    assert np.array_equal(split.parent[split.labels], labels)
    # Up to the order of ids the sub-classes are the blobs (a few points may stray).
    table = np.zeros((5, 5), int)
    np.add.at(table, (split.labels, blob), 1)
    assert table.max(axis=1).sum() > 435
    means = [features[split.labels == s].mean(axis=0) for s in range(5)]
    np.testing.assert_allclose(split.centers, means, rtol=1e-12)


def test_a_rare_class_between_blobs_needs_the_decomposition():
    features, labels, _ = four_blobs_and_a_rare_center()
    test_features, test_labels, _ = four_blobs_and_a_rare_center(seed=1, times=20)
    plain = logistic(features, labels).predict(test_features)
    assert recalls(test_labels, plain) == [1.0, 0.0]  # balanced accuracy 0.5
    split = cog(KEY, features, labels, num_clusters=[4, 1])
    model = logistic(features, split.labels)
    predicted = max_rule(model.predict_log_proba(test_features), split.parent)
    assert min(recalls(test_labels, np.asarray(predicted))) > 0.95


def test_one_dimension_three_linear_scores_separate_what_two_cannot():
    x = np.array([-3.1, -3, -2.9, 2.9, 3, 3.1, 0, 0.1])[:, None]
    labels = np.array([0] * 6 + [1] * 2)
    cuts = np.linspace(-4, 4, 200)
    for sign in (1, -1):  # no half-line gets both classes right
        right = [np.mean((sign * (x[:, 0] - c) > 0) == labels) for c in cuts]
        assert max(right) < 1
    split = cog(KEY, x, labels, num_clusters=[2, 1])
    model = logistic(x, split.labels)
    predicted = max_rule(model.decision_function(x), split.parent)
    assert predicted.tolist() == labels.tolist()


def test_without_clusters_and_replication_it_is_the_base_learner():
    features, labels, _ = four_blobs_and_a_rare_center()
    split = cog(KEY, features, labels, num_clusters=[1, 1])
    assert split.labels.tolist() == labels.tolist()
    assert split.parent.tolist() == [0, 1]
    scores = jnp.asarray(np.random.default_rng(0).random((5, 2)))
    assert max_rule(scores, split.parent).tolist() == scores.argmax(axis=1).tolist()
    np.testing.assert_array_equal(sum_rule(scores, split.parent, 2), scores)


def test_sub_classes_are_contiguous_and_keep_every_example():
    rng = np.random.default_rng(1)
    labels = rng.choice([0, 1, 3], 300, p=[0.7, 0.2, 0.1])
    features = rng.standard_normal((300, 3))
    split = cog(KEY, features, labels, num_clusters=[5, 3, 1, 2])
    assert np.array_equal(split.parent[split.labels], labels)
    assert np.unique(split.labels).tolist() == list(range(10))
    assert np.bincount(split.parent).tolist() == [5, 3, 0, 2]
    again = cog(KEY, features, labels, num_clusters=[5, 3, 1, 2])
    assert np.array_equal(split.labels, again.labels)
    alone = cog(KEY, features, labels, num_clusters=[1, 3, 1, 1])
    of_one = labels == 1
    assert np.array_equal(split.labels[of_one] - 5, alone.labels[of_one] - 1)


def test_permuting_cluster_ids_changes_nothing_after_mapping_back():
    features, labels, _ = four_blobs_and_a_rare_center()
    split = cog(KEY, features, labels, num_clusters=[4, 1])
    order = np.array([2, 0, 4, 1, 3])  # new id of each old one
    parent = np.empty_like(split.parent)
    parent[order] = split.parent
    scores = logistic(features, split.labels).predict_proba(features)
    permuted = np.empty_like(scores)
    permuted[:, order] = scores
    a, b = (scores, split.parent), (permuted, parent)
    assert np.array_equal(max_rule(*a), max_rule(*b))
    np.testing.assert_allclose(sum_rule(*a, 2), sum_rule(*b, 2), rtol=1e-6)
    np.testing.assert_array_equal(max_scores(*a, 2), max_scores(*b, 2))


def test_replication_equals_weight():
    features, labels, _ = four_blobs_and_a_rare_center()
    split = cog(KEY, features, labels, num_clusters=[4, 1])
    times = cog_replication(labels, split)
    # Sub-classes near 100, rare class 40: r = round(100 / 40) = 2 (half to even).
    assert times.tolist() == [1, 2]
    rows = np.repeat(np.arange(440), times[labels])
    assert len(rows) == 1 * 400 + 2 * 40
    copies = logistic(features[rows], split.labels[rows])
    weighted = logistic(features, split.labels, times[labels])
    np.testing.assert_allclose(copies.coef_, weighted.coef_, rtol=1e-3)


def test_number_of_clusters():
    # Rare classes are those below the median 95: 90 and 40, target 65.
    assert cog_num_clusters([400, 100, 90, 40]).tolist() == [6, 2, 1, 1]
    # The smallest class only: target 40; 400 / 40 = 10 is clipped to 8.
    assert cog_num_clusters([400, 100, 90, 40], rare="smallest").tolist() == [
        8,
        2,
        2,
        1,
    ]
    assert cog_num_clusters([400, 40], target=100).tolist() == [4, 1]
    assert cog_num_clusters([50, 0, 50]).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="class_counts are all zero"):
        cog_num_clusters([0, 0])
    with pytest.raises(ValueError, match="target is 0"):
        cog_num_clusters([3, 2], target=0)


def test_sum_rule_and_max_rule_can_disagree():
    probabilities = jnp.array([[0.3, 0.3, 0.4]])
    assert max_rule(probabilities, [0, 0, 1]).tolist() == [1]
    np.testing.assert_allclose(sum_rule(probabilities, [0, 0, 1], 2), [[0.6, 0.4]])
    np.testing.assert_allclose(
        max_scores(-probabilities, [0, 0, 2], 3), [[-0.3, -np.inf, -0.4]]
    )


def test_previous_sub_classes_keep_their_ids_on_new_features():
    features, labels, _ = four_blobs_and_a_rare_center()
    split = cog(KEY, features, labels, num_clusters=[4, 1])
    rng = np.random.default_rng(2)
    moved = 3 * features + 50 + 0.1 * rng.standard_normal(features.shape)
    for seed in range(3):
        key = jax.random.key(seed)
        again = cog(key, moved, labels, num_clusters=[4, 1], previous=split)
        assert np.mean(again.labels == split.labels) > 0.98
    refined = cog(KEY, moved, labels, num_clusters=[5, 1], previous=split)
    assert refined.parent.tolist() == [0] * 5 + [1]


def test_kmeans_finds_as_good_a_clustering_as_scikit_learn():
    rng = np.random.default_rng(3)
    centers = 6 * rng.standard_normal((6, 4))
    points = 1000 + centers[rng.integers(0, 6, 900)] + rng.standard_normal((900, 4))
    ours = kmeans(KEY, points, num_clusters=6)
    peer = PeerKMeans(6, n_init=10, random_state=0).fit(points)
    np.testing.assert_allclose(ours.inertia, peer.inertia_, rtol=1e-4)
    distances = np.linalg.norm(points[:, None] - ours.centers[None], axis=-1)
    assert np.array_equal(ours.labels, distances.argmin(axis=1))
    recomputed = np.square(distances.min(axis=1)).sum()
    np.testing.assert_allclose(ours.inertia, recomputed, rtol=1e-4)
    again = kmeans(KEY, points, num_clusters=6)
    assert np.array_equal(ours.labels, again.labels)


def test_no_cluster_is_empty_while_there_are_distinct_points():
    # All first centers on one point: three of four clusters start empty.
    points = np.array([[0.0], [0.0], [0.0], [1.0], [5.0], [20.0]])
    start = np.zeros((4, 1))
    found = kmeans(KEY, points, num_clusters=4, start=start)
    assert np.bincount(found.labels, minlength=4).min() == 1
    assert found.inertia == pytest.approx(0, abs=1e-4)
    few = kmeans(KEY, np.repeat([[1.0], [2.0]], 5, axis=0), num_clusters=4)
    assert len(set(few.labels.tolist())) == 2
    split = cog(KEY, np.ones((9, 2)), np.zeros(9, int), num_clusters=[3])
    assert split.parent.tolist() == [0] and set(split.labels) == {0}
    single = kmeans(KEY, [[7.0]], num_clusters=2)
    assert single.labels.tolist() == [0] or single.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_clusters": [4]}, r"num_clusters has shape \(1,\), but there are 2"),
        ({"num_clusters": [0, 1]}, r"num_clusters is \[0, 1\], expected integers >= 1"),
        ({"num_clusters": [1.5, 1]}, "expected integers >= 1"),
        (
            {"num_clusters": np.array(["1970-01-02", "1970-01-03"], "datetime64[D]")},
            "num_clusters is .* expected integers >= 1",
        ),
        ({"restarts": 0}, "restarts is 0, expected an integer of at least 1"),
        ({"iterations": 0}, "iterations is 0"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"num_clusters": [2, 1]} | change
    with pytest.raises(ValueError, match=message):
        cog(KEY, np.arange(6.0)[:, None], [0, 0, 0, 0, 1, 1], **arguments)


def test_wrong_tables_are_named():
    with pytest.raises(ValueError, match="max_rule: parent has shape"):
        max_rule(jnp.ones((2, 3)), [0, 1])
    with pytest.raises(ValueError, match=r"start has shape \(3, 1\)"):
        kmeans(KEY, [[0.0], [1.0]], num_clusters=2, start=np.zeros((3, 1)))
    with pytest.raises(ValueError, match="there are no points"):
        kmeans(KEY, np.zeros((0, 2)), num_clusters=2)
    split = SubClasses(np.zeros(3, int), np.zeros(1, int), np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"labels have shape \(2,\), expected \(3,\)"):
        cog_replication([0, 1], split)


def test_no_examples_have_no_sub_classes():
    found = cog(KEY, np.zeros((0, 2)), np.zeros(0, np.int32))
    assert len(found.labels) == 0


def test_a_parent_that_is_no_class_is_refused():
    for rule in (max_scores, sum_rule):
        for wrong in (-1, 2):
            with pytest.raises(ValueError, match=f"parent holds {wrong}, expected"):
                rule(np.ones((4, 3), np.float32), [0, wrong, 1], 2)
