"""SMOTE: numbers by hand, its geometry, and imbalanced-learn's distribution."""

import warnings

import imblearn.over_sampling
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from ltjax.resampling import (
    SmotePlan,
    percent_kept,
    percent_new,
    smote,
    smote_plan,
    synthesize,
)
from ltjax.resampling.smote import _synthesize

KEY = jax.random.key(0)


def blobs(counts, dim=4, seed=0, dtype=np.float32):
    """Shuffled Gaussian classes of the given sizes, well inside one another."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    features = rng.standard_normal((len(labels), dim)) + labels[:, None]
    return features.astype(dtype), labels


def make(base, neighbor, step):
    arrays = (np.array([base]), np.array([neighbor]), np.array([step]))
    return SmotePlan(*arrays, labels=np.array([0]))


def test_the_papers_pair_of_points():
    # (6, 4) + 0.25 ((4, 3) - (6, 4)) = (5.5, 3.75)
    points = np.array([[6.0, 4.0], [4.0, 3.0]])
    assert synthesize(points, make(0, 1, 0.25)).tolist() == [[5.5, 3.75]]
    on_device = synthesize(jnp.asarray(points), make(0, 1, 0.25))
    assert on_device.tolist() == [[5.5, 3.75]]


def test_moments_around_one_base():
    # Base 0 has the neighbors (1, 0) and (0, 2) for k = 2. With u ~ U(0, 1), E u = 1/2
    # and E u^2 = 1/3: mean (1/4, 1/2), second moments diag(1/6, 2/3).
    points = np.array([[0, 0], [1, 0], [0, 2], [3, 3]], np.float64)
    new = smote(KEY, points, [0, 0, 0, 0], num_new=[80_000], k=2)
    of_base = new.plan.base == 0
    assert set(new.plan.neighbor[of_base]) == {1, 2}
    made = new.features[of_base]
    mean, covariance = [0.25, 0.5], [[0.10416667, -0.125], [-0.125, 0.41666667]]
    np.testing.assert_allclose(made.mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(made.T), covariance, atol=0.02)


@pytest.mark.parametrize(
    ("per_feature", "covariance"),
    [(False, np.ones((2, 2)) / 3), (True, np.eye(2) / 3)],
    ids=["segment", "box"],
)
def test_a_step_per_point_or_per_feature(per_feature, covariance):
    points = np.array([[0.0, 0.0], [2.0, 2.0]])
    new = smote(KEY, points, [0, 0], num_new=[40_000], per_feature=per_feature)
    assert new.plan.step.shape == ((40_000, 2) if per_feature else (40_000,))
    np.testing.assert_allclose(np.cov(new.features.T), covariance, atol=0.01)


def test_new_points_lie_between_neighbors_of_one_class():
    features, labels = blobs([60, 25, 9], dtype=np.float64)
    new = smote(KEY, features, labels, k=4)
    base, neighbor = features[new.plan.base], features[new.plan.neighbor]
    made = np.asarray(new.features)

    def norm(x):
        return np.linalg.norm(x, axis=1)

    np.testing.assert_allclose(
        norm(made - base) + norm(neighbor - made), norm(neighbor - base), rtol=1e-12
    )
    assert np.all(new.plan.base != new.plan.neighbor)
    assert np.array_equal(labels[new.plan.base], new.labels)
    for label in (1, 2):
        rows = np.flatnonzero(labels == label)
        members, of_class = features[rows], made[new.labels == label]
        assert np.all(of_class >= members.min(axis=0))
        assert np.all(of_class <= members.max(axis=0))
        peer = NearestNeighbors(n_neighbors=5).fit(members)
        nearest = {
            row: set(rows[found[1:]])
            for row, found in zip(rows, peer.kneighbors(members)[1], strict=True)
        }
        pairs = zip(new.plan.base, new.plan.neighbor, strict=True)
        assert all(j in nearest[i] for i, j in pairs if labels[i] == label)


def test_same_distribution_as_imbalanced_learn():
    features, labels = blobs([4000, 40], dim=2, dtype=np.float64)
    # The peer draws its bases with replacement; so do "uniform" bases.
    ours = smote(KEY, features, labels, bases="uniform").features
    peer = imblearn.over_sampling.SMOTE(random_state=0).fit_resample(features, labels)
    theirs = peer[0][len(features) :]
    assert ours.shape == theirs.shape == (3960, 2)
    spread = np.sqrt(2 / 3960)  # of the difference of two means of unit variance
    scale = theirs.std(axis=0)
    assert np.all(np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 4 * spread * scale)
    ratio = np.linalg.eigvalsh(np.cov(ours.T)) / np.linalg.eigvalsh(np.cov(theirs.T))
    np.testing.assert_allclose(ratio, 1, atol=0.1)

    def distance_to_class(points):
        members = features[labels == 1]
        return NearestNeighbors(n_neighbors=1).fit(members).kneighbors(points)[0]

    deciles = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(
        np.quantile(distance_to_class(ours), deciles),
        np.quantile(distance_to_class(theirs), deciles),
        rtol=0.15,
    )


def test_synthesis_commutes_with_similarities_but_neighbors_depend_on_scales():
    features, labels = blobs([40, 12], dim=2, dtype=np.float64)
    plan = smote_plan(KEY, features, labels)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])

    def similar(x):
        return 3 * x @ turn.T + np.array([5.0, -7.0])

    np.testing.assert_allclose(
        synthesize(similar(features), plan), similar(synthesize(features, plan))
    )
    again = smote_plan(KEY, similar(features), labels)
    assert all(np.array_equal(a, b) for a, b in zip(plan, again, strict=True))
    stretched = smote_plan(KEY, features * np.array([100.0, 1.0]), labels)
    assert not np.array_equal(plan.neighbor, stretched.neighbor)


def test_amounts_in_percent():
    # 30 minority points at 300 % make 90; the majority at 25 % keeps 120 of them.
    assert percent_new([500, 30], [0, 300]).tolist() == [0, 90]
    assert percent_kept(500, 30, percent=25) == 120
    assert percent_kept(100, 30, percent=25) == 100
    assert percent_kept(200, 50, percent=200) == 25
    features, labels = blobs([500, 30])
    new = smote(KEY, features, labels, num_new=percent_new([500, 30], [0, 300]))
    assert np.bincount(new.plan.base, minlength=530)[labels == 1].tolist() == [3] * 30
    half = smote(KEY, features, labels, num_new=percent_new([500, 31], [0, 50])).plan
    assert len(half.base) == 15 and len(set(half.base)) == 15


def test_stratified_bases_are_used_evenly_and_uniform_ones_are_not():
    features, labels = blobs([100, 30])
    even = smote(KEY, features, labels).plan.base
    assert set(np.bincount(even, minlength=130)[labels == 1]) == {2, 3}
    drawn = smote(KEY, features, labels, bases="uniform").plan.base
    assert np.bincount(drawn, minlength=130)[labels == 1].max() > 3


def test_two_points_make_a_segment_and_one_point_is_replicated():
    features = np.array([[0.0, 1.0], [4.0, 3.0], [9.0, 9.0]])
    with pytest.warns(UserWarning, match="class 1 has a single point, .*replicated"):
        new = smote(KEY, features, [0, 0, 1], num_new=[50, 3])
    first = new.features[:50]
    np.testing.assert_allclose(first[:, 1], 1 + first[:, 0] / 2)
    assert new.features[50:].tolist() == [[9.0, 9.0]] * 3
    assert not new.plan.step[50:].any()


def test_a_class_draws_for_itself():
    features, labels = blobs([60, 20, 20])
    amounts = np.array([0, 40, 40])
    plan = smote_plan(KEY, features, labels, num_new=amounts)
    alone = smote_plan(KEY, features, labels, num_new=[0, 0, 40])
    of_two = plan.labels == 2
    assert all(np.array_equal(x[of_two], y) for x, y in zip(plan, alone, strict=True))
    # Classes of equal size must not repeat one another's draws.
    assert not np.any(plan.step[~of_two] == plan.step[of_two])
    other = smote_plan(jax.random.key(1), features, labels, num_new=amounts)
    assert not np.array_equal(plan.step, other.step)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("float64", "float64"), ("float32", "float32"), ("bfloat16", "bfloat16")]
    + [("float16", "float16"), ("int64", "float32"), ("uint8", "float32")],
)
def test_dtype_and_order(given, expected):
    features, labels = blobs([9, 4, 9, 2])
    features = jnp.asarray(10 * abs(features), jnp.bfloat16)
    if given != "bfloat16":
        features = np.asarray(features).astype(given)
    new = smote(KEY, features, labels)
    assert new.features.dtype == jnp.dtype(expected)
    assert new.labels.tolist() == [1] * 5 + [3] * 7
    assert new.labels.dtype == np.int32


def test_float64_keeps_its_digits_without_x64():
    features = 1e6 + 1e-6 * np.random.default_rng(0).standard_normal((8, 2))
    new = smote(KEY, features, np.repeat([0, 1], [5, 3])).features
    start, end = features.min(axis=0), features.max(axis=0)
    assert np.all((new >= start) & (new <= end))


def test_synthesis_runs_inside_jit_on_other_features_of_the_same_examples():
    features, labels = blobs([20, 8])
    plan = smote_plan(KEY, features, labels)
    embed = jax.jit(lambda x, plan: synthesize(jnp.tanh(x), plan))
    expected = np.tanh(features)
    base, neighbor = expected[plan.base], expected[plan.neighbor]
    expected = base + plan.step[:, None] * (neighbor - base)
    np.testing.assert_allclose(embed(features, plan), expected, atol=1e-6)


def test_a_thousand_classes_share_one_plan_and_one_program():
    labels = np.repeat(np.arange(1000), 2 + np.arange(1000) % 5)
    features = np.random.default_rng(0).standard_normal((len(labels), 3))
    features = features.astype(np.float32)
    programs = _synthesize._cache_size()
    new = smote(KEY, jnp.asarray(features), labels)  # few host arrays need no program
    assert _synthesize._cache_size() == programs + 1
    counts = np.bincount(labels) + np.bincount(new.labels, minlength=1000)
    assert set(counts) == {6}


def test_nothing_to_do():
    features, labels = blobs([5, 5])
    new = smote(KEY, features, labels)
    assert new.features.shape == (0, 4) and new.labels.shape == (0,)


def test_the_plan_may_not_fit():
    features, labels = blobs([9, 4])
    plan = smote_plan(KEY, features, labels, per_feature=True)
    with pytest.raises(ValueError, match="steps for 4 features, but features have 3"):
        synthesize(features[:, :3], plan)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"key": 0.5}, TypeError, r"key is 0.5, expected one jax.random.key\(seed\)"),
        ({"key": -1}, ValueError, r"key is -1, expected an integer in \[0, 2\^32\)"),
        ({"bases": "all"}, ValueError, "bases is 'all'"),
        ({"k": 0}, ValueError, "k is 0"),
        ({"num_new": [1]}, ValueError, "expected a number >= 0 for each of the 2"),
        ({"num_new": [0, -1]}, ValueError, "expected a number >= 0"),
        ({"num_new": [0.5, 1.0]}, TypeError, "num_new has dtype float64"),
        ({"num_new": [0, 0, 2]}, ValueError, "2 points of class 2, which has no"),
        ({"features": np.full((6, 2), np.inf)}, ValueError, "row 0 holds NaN or inf"),
        ({"labels": np.zeros(5, int)}, ValueError, r"shape \(5,\), expected \(6,\)"),
        ({"labels": np.zeros(6)}, TypeError, "dtype float64, expected integers"),
    ],
)
def test_bad_input_is_named(change, error, message):
    arguments = {"key": KEY, "features": np.eye(6), "labels": [0, 0, 0, 0, 1, 1]}
    arguments |= change
    positional = [arguments.pop(name) for name in ("key", "features", "labels")]
    with warnings.catch_warnings(), pytest.raises(error, match=message):
        smote(*positional, **arguments)


def test_a_plan_of_rows_that_are_not_there_is_refused():
    features = np.zeros((4, 2), np.float32)
    plan = smote_plan(KEY, features, [0, 0, 0, 1], num_new=[2, 0])
    with pytest.raises(ValueError, match="names row ., but features have 0 rows"):
        synthesize(features[:0], plan)
