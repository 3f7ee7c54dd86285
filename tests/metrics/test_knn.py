"""Nearest neighbors against scikit-learn; votes, ties and blocks by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from ltjax.metrics import Neighbors, knn_predict, nearest_neighbors, neighbor_votes

search = jax.jit(nearest_neighbors, static_argnames=("k", "metric", "block"))
predict = jax.jit(knn_predict, static_argnames=("num_classes", "k", "metric", "block"))


def data(seed=0, queries=9, bank=53, dim=4, classes=5):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(queries + bank, dim)) + 3.0
    labels = rng.integers(0, classes, bank)
    return features[:queries], features[queries:], labels


@pytest.mark.parametrize("block", [None, 10])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbors_equal_scikit_learn(metric, block):
    queries, bank, _ = data()
    found = search(jnp.float32(queries), bank, k=7, metric=metric, block=block)
    peer = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute").fit(bank)
    distances, indices = peer.kneighbors(queries)
    np.testing.assert_array_equal(found.indices, indices)
    expected = 1 - distances if metric == "cosine" else -0.5 * distances**2
    np.testing.assert_allclose(found.similarities, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 10])
def test_majority_equals_scikit_learn(k):
    """Which also lets the lowest class win a tied vote."""
    queries, bank, labels = data(seed=1, queries=40)
    peer = KNeighborsClassifier(n_neighbors=k, algorithm="brute").fit(bank, labels)
    found = predict(
        queries, bank, labels, num_classes=5, k=k, metric="euclidean", block=16
    )
    np.testing.assert_array_equal(found, peer.predict(queries))


def test_weighted_votes_equal_scikit_learn(x64):
    queries, bank, labels = data(seed=2, queries=40)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    # exp(cos / T), with cos = 1 - |x - y|^2 / 2 for unit rows.
    peer = KNeighborsClassifier(
        n_neighbors=20,
        algorithm="brute",
        weights=lambda d: np.exp((1 - d**2 / 2) / 0.1),
    ).fit(unit(bank), labels)
    options = {"num_classes": 5, "k": 20, "temperature": 0.1}
    found = predict(queries, bank, labels, **options)
    np.testing.assert_array_equal(found, peer.predict(unit(queries)))
    votes = jax.jit(
        lambda *found: neighbor_votes(
            Neighbors(*found), labels, num_classes=5, temperature=0.1
        )
    )(*search(queries, bank, k=20))
    shares = votes / votes.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, peer.predict_proba(unit(queries)), rtol=1e-9)


def test_votes_by_hand():
    """Two neighbors of class 3, one of class 1, and a fourth that is missing."""
    found = Neighbors(
        jnp.array([[0.9, 0.5, 0.5, -jnp.inf]]), jnp.array([[2, 0, 1, -1]], jnp.int32)
    )
    labels = jnp.array([3, 3, 1])
    votes = neighbor_votes(found, labels, num_classes=4)
    np.testing.assert_array_equal(votes, [[0, 1, 0, 2]])
    weighted = neighbor_votes(found, labels, num_classes=4, temperature=0.2)
    # Weights 1 and exp(-0.4 / 0.2): the nearest outvotes the other two.
    np.testing.assert_allclose(weighted, [[0, 1, 0, 2 * np.exp(-2.0)]], rtol=1e-6)


def test_duplicates_come_in_the_order_of_the_bank():
    bank = jnp.tile(jnp.eye(2), (6, 1))
    for block in (None, 5):
        found = search(jnp.eye(2), bank, k=4, block=block)
        np.testing.assert_array_equal(found.indices, [[0, 2, 4, 6], [1, 3, 5, 7]])


def test_padding_of_the_bank_does_not_vote():
    queries, bank, labels = data()
    where = np.arange(len(bank)) % 3 != 0
    dirty = np.where(where[:, None], bank, np.nan)
    for metric in ("cosine", "euclidean"):
        options = {"num_classes": 5, "k": 3, "metric": metric, "block": 8}
        found = predict(queries, dirty, labels, **options, bank_where=where)
        kept = predict(queries, bank[where], labels[where], **options)
        np.testing.assert_array_equal(found, kept)
    nobody = predict(
        queries, dirty, labels, num_classes=5, k=3, bank_where=np.zeros(len(bank), bool)
    )
    np.testing.assert_array_equal(nobody, -1)


def test_queries_and_bank_on_eight_devices():
    queries, bank, labels = data(seed=3, queries=16, bank=64)
    expected = predict(queries, bank, labels, num_classes=5, k=5)
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    placed = (jax.device_put(jnp.asarray(x), split) for x in (queries, bank, labels))
    found = predict(*placed, num_classes=5, k=5, block=8)
    np.testing.assert_array_equal(found, expected)


def test_bad_input_is_named():
    x, y = np.ones((4, 3), np.float32), np.zeros(4, int)
    with pytest.raises(ValueError, match=r"k is 5, expected an integer in \[1, 4\]"):
        nearest_neighbors(x, x, k=5)
    with pytest.raises(ValueError, match="nearest_neighbors: metric is 'l1'"):
        nearest_neighbors(x, x, k=1, metric="l1")
    with pytest.raises(ValueError, match="expected equally many features"):
        nearest_neighbors(x[:, :2], x, k=1)
    with pytest.raises(TypeError, match="bank has dtype int"):
        nearest_neighbors(x, x.astype(int), k=1)
    with pytest.raises(ValueError, match=r"bank_labels have shape \(3,\)"):
        knn_predict(x, x, y[:3], num_classes=2, k=1)
    with pytest.raises(TypeError, match="bank_labels have dtype float"):
        knn_predict(x, x, y * 1.0, num_classes=2, k=1)
    with pytest.raises(ValueError, match="temperature is 0"):
        knn_predict(x, x, y, num_classes=2, k=1, temperature=0.0)
