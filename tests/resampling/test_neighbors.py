"""The search of the device against brute force in float64 and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from ltjax.resampling import (
    _neighbor_index,
    nearest_neighbors,
    neighbors,
    same_class_neighbors,
)
from ltjax.resampling._neighbor_blocks import Query, Table, search_tile


@pytest.fixture(autouse=True)
def _on_the_device(monkeypatch):
    """Few points are searched on the host otherwise: test_neighbor_host.py."""
    monkeypatch.setattr(neighbors, "ON_HOST", -1)


def brute_force(queries, points, k, allowed):
    """Distances and indices from the definition, in float64, ties by index."""
    queries, points = np.asarray(queries, np.float64), np.asarray(points, np.float64)
    distances = np.sqrt(np.square(queries[:, None] - points[None]).sum(axis=-1))
    distances = np.where(allowed, distances, np.inf)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    distances = np.take_along_axis(distances, order, axis=1)
    return distances, np.where(np.isfinite(distances), order, -1)


def same_class(labels):
    labels = np.asarray(labels)
    return (labels[:, None] == labels[None]) & ~np.eye(len(labels), dtype=bool)


def normal(rng, count=600):
    return rng.standard_normal((count, 8)).astype(np.float32)


def repeated(rng, count=600):
    return normal(rng, 15)[rng.integers(0, 15, count)]


DATA = {
    "float32": normal,
    "float64": lambda rng: rng.standard_normal((600, 8)),
    "far from the origin": lambda rng: 1000 + np.float32(0.01) * normal(rng),
    "tiny": lambda rng: np.float32(1e-30) * normal(rng),
    "huge": lambda rng: np.float32(1e30) * normal(rng),
    "integer grid": lambda rng: rng.integers(0, 3, (600, 8)),
    "float grid": lambda rng: np.float32(rng.integers(0, 3, (600, 8)) / 4 - 100),
    "duplicates": repeated,
    "clusters": lambda rng: repeated(rng) + np.float32(1e-5) * normal(rng),
    "constant": lambda rng: np.full((600, 8), 0.3, np.float32),
    "bytes": lambda rng: rng.integers(0, 256, (600, 8)).astype(np.uint8),
}


@pytest.mark.parametrize("block_size", [64, 2048])
@pytest.mark.parametrize("kind", DATA)
def test_equals_brute_force_whatever_the_data_and_the_block(kind, block_size):
    rng = np.random.default_rng(0)
    features = DATA[kind](rng)
    labels = rng.choice([0, 1, 2, 5], 600, p=[0.6, 0.3, 0.08, 0.02])
    labels[0] = 4  # a class of one
    found = same_class_neighbors(features, labels, k=5, block_size=block_size)
    distances, indices = brute_force(features, features, 5, same_class(labels))
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6)
    assert found.indices.dtype == jnp.int32 and found.distances.dtype == jnp.float32


def test_equals_scikit_learn_on_the_whole_data():
    rng = np.random.default_rng(1)
    points, queries = normal(rng, 500), normal(rng, 90)
    found = nearest_neighbors(queries, points, k=12, block_size=128)
    distances, indices = (
        NearestNeighbors(n_neighbors=12).fit(points).kneighbors(queries)
    )
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5)


def test_equals_scikit_learn_within_a_class():
    rng = np.random.default_rng(2)
    features, labels = normal(rng), rng.integers(0, 2, 600)
    rows = np.flatnonzero(labels == 1)[::-1]
    found = same_class_neighbors(features, labels, k=3, rows=rows, block_size=64)
    members = features[labels == 1]
    peer = NearestNeighbors(n_neighbors=4).fit(members).kneighbors(members)[1][:, 1:]
    np.testing.assert_array_equal(
        found.indices[::-1], np.flatnonzero(labels == 1)[peer]
    )


@pytest.mark.parametrize("k", [1, 5, 40, 300])
def test_every_k_including_more_than_there_are_points(k):
    rng = np.random.default_rng(3)
    features, labels = normal(rng, 200), np.repeat([0, 1], [150, 50])
    found = same_class_neighbors(features, labels, k=k, block_size=64)
    _, indices = brute_force(features, features, k, same_class(labels))
    np.testing.assert_array_equal(found.indices[:, : indices.shape[1]], indices)
    assert np.all(np.asarray(found.indices)[:, indices.shape[1] :] == -1)


def test_float32_far_from_the_origin_keeps_the_true_neighbors():
    # 400 points, mean 1000, spread 0.01, D = 8. The expansion |a|^2 - 2ab + |b|^2
    # in float32 finds 1.6 % of the true neighbors, centered search 99 %.
    rng = np.random.default_rng(0)
    exact = 1000 + 0.01 * rng.standard_normal((400, 8))
    everyone = ~np.eye(400, dtype=bool)
    _, truth = brute_force(exact, exact, 5, everyone)

    def recovered(indices):
        pairs = zip(np.asarray(indices), truth, strict=True)
        return np.mean([np.isin(found, true).mean() for found, true in pairs])

    rounded = exact.astype(np.float32)
    norms = np.square(rounded).sum(axis=1)
    expanded = norms[:, None] - 2 * rounded @ rounded.T + norms[None]
    np.fill_diagonal(expanded, np.inf)
    assert recovered(np.argsort(expanded, axis=1)[:, :5]) < 0.05
    itself = np.arange(400)
    from_float32 = nearest_neighbors(rounded, rounded, k=5, itself=itself)
    assert recovered(from_float32.indices) > 0.98
    from_float64 = nearest_neighbors(exact, exact, k=5, itself=itself)
    np.testing.assert_array_equal(from_float64.indices, truth)


def test_a_point_is_excluded_by_index_and_not_by_position():
    # On a small grid, dropping the first of k + 1 keeps more than half of the points
    # as their own neighbors: their duplicates come first.
    grid = np.random.default_rng(0).integers(0, 12, (400, 2)).astype(np.float32)
    first_six = brute_force(grid, grid, 6, np.ones((400, 400), bool))[1]
    itself = np.arange(400)
    assert np.mean((first_six[:, 1:] == itself[:, None]).any(axis=1)) > 0.5
    found = nearest_neighbors(grid, grid, k=5, itself=itself)
    assert not np.any(np.asarray(found.indices) == itself[:, None])
    _, indices = brute_force(grid, grid, 5, ~np.eye(400, dtype=bool))
    np.testing.assert_array_equal(found.indices, indices)


def test_a_restricted_search_stays_in_its_class():
    rng = np.random.default_rng(4)
    features, labels = normal(rng), rng.integers(0, 40, 600)
    found = np.asarray(same_class_neighbors(features, labels, k=5).indices)
    assert np.all((found < 0) | (labels[found] == labels[:, None]))
    single = same_class_neighbors(features[:3], [7, 0, 0], k=2)
    assert single.indices.tolist() == [[-1, -1], [2, -1], [1, -1]]
    assert single.distances[0].tolist() == [np.inf, np.inf]


def test_doubtful_queries_are_searched_again(monkeypatch):
    # 100 points in each of 15 clusters so narrow that the expansion cannot order them.
    rng = np.random.default_rng(5)
    features = repeated(rng, 1500) + np.float32(1e-5) * normal(rng, 1500)
    everyone = ~np.eye(1500, dtype=bool)
    found = nearest_neighbors(features, features, k=5, itself=np.arange(1500))
    indices = brute_force(features, features, 5, everyone)[1]
    np.testing.assert_array_equal(found.indices, indices)
    monkeypatch.setattr(
        "ltjax.resampling._neighbor_blocks._certified",
        lambda query, kth, bound: jnp.ones(len(kth), bool),
    )
    search_tile.clear_cache()
    unrepaired = nearest_neighbors(features, features, k=5, itself=np.arange(1500))
    search_tile.clear_cache()
    assert np.any(np.asarray(unrepaired.indices) != indices)


def test_approximate_search_recalls_most_neighbors():
    rng = np.random.default_rng(6)
    features = normal(rng)
    options = {"k": 5, "itself": np.arange(600), "block_size": 128}
    exact = np.asarray(nearest_neighbors(features, features, **options).indices)
    found = nearest_neighbors(features, features, **options, recall_target=0.95)
    hits = [np.isin(a, b).mean() for a, b in zip(found.indices, exact, strict=True)]
    assert np.mean(hits) > 0.9
    assert not np.any(np.asarray(found.indices) == np.arange(600)[:, None])


def test_points_spread_over_devices_give_the_same_result():
    rng = np.random.default_rng(7)
    features, labels = rng.integers(0, 4, (700, 3)), rng.integers(0, 3, 700)
    mesh = jax.make_mesh((4,), ("data",))
    options = {"k": 5, "block_size": 64}
    alone = same_class_neighbors(features, labels, **options)
    spread = same_class_neighbors(features, labels, **options, mesh=mesh)
    np.testing.assert_array_equal(alone.indices, spread.indices)
    np.testing.assert_array_equal(alone.distances, spread.distances)


def test_double_precision(x64):
    rng = np.random.default_rng(8)
    features = 1 + 1e-9 * rng.standard_normal((200, 4))
    found = nearest_neighbors(features, features, k=3, itself=np.arange(200))
    assert found.distances.dtype == jnp.float64
    distances, indices = brute_force(features, features, 3, ~np.eye(200, dtype=bool))
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)


def test_a_thousand_classes_need_one_program():
    rng = np.random.default_rng(9)
    features = normal(rng, 4000)
    few, many = rng.integers(0, 3, 4000), rng.permutation(np.arange(4000) % 1000)
    same_class_neighbors(features, few, k=2, block_size=512)
    programs = search_tile._cache_size()
    found = same_class_neighbors(features, many, k=2, block_size=512)
    assert search_tile._cache_size() == programs
    assert np.all(many[np.asarray(found.indices)] == many[:, None])


def test_memory_is_bounded_by_the_block_and_not_by_the_data():
    def temporary_bytes(blocks, block_size):
        def array(*shape, dtype=jnp.float32):
            return jax.ShapeDtypeStruct(shape, dtype)

        def ints(*shape):
            return array(*shape, dtype=jnp.int32)

        at, points = (blocks, block_size), (blocks, block_size, 16)
        table = Table(
            array(*points), array(*at), ints(*at), ints(*at), array(*points), array()
        )
        query = Query(
            array(64, 16), array(64, 16), ints(64), ints(64), array(dtype=jnp.bool_)
        )
        lowered = search_tile.lower(table, query, ints(), ints(), k=5, group=16)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    # 10 000 blocks of 1024 points: N x N would be 400 TB.
    assert temporary_bytes(10_000, 1024) <= temporary_bytes(2, 1024) + 4096
    assert temporary_bytes(10_000, 1024) < 64 * 2**20


def test_tiles_cover_all_queries_and_pack_small_classes():
    classes = np.repeat([0, 1, 2, 3, 7, 8], [700, 3, 5, 2, 300, 1])
    tiles = _neighbor_index.tiles(classes, 256)
    assert tiles[0][0] == 0 and tiles[-1][1] == len(classes)
    assert all(a[1] == b[0] for a, b in zip(tiles[:-1], tiles[1:], strict=True))
    assert all(stop - start <= 256 for start, stop in tiles)
    assert (512, 710) in tiles  # the tail of class 0 with classes 1, 2 and 3
    assert _neighbor_index.tiles(classes[:0], 256) == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k": 0}, ValueError, "k is 0, expected an integer >= 1"),
        ({"block_size": 2.5}, ValueError, "block_size is 2.5"),
        ({"recall_target": 1.5}, ValueError, "recall_target is 1.5"),
        ({"features": np.ones(3)}, ValueError, r"shape \(3,\), expected \[N, D\]"),
        ({"features": [[0.0], [np.nan], [1.0]]}, ValueError, "row 1 holds NaN"),
        (
            {"features": [["a"], ["b"], ["c"]]},
            TypeError,
            "dtype <U1, expected an array",
        ),
        ({"labels": [0, 1]}, ValueError, r"labels have shape \(2,\), expected \(3,\)"),
        ({"labels": [0, 1, -1]}, ValueError, r"labels\[2\] is -1"),
        ({"labels": [0.0, 1.0, 1.0]}, TypeError, "dtype float64, expected integers"),
        ({"rows": [3]}, ValueError, r"rows must be a vector of indices in \[0, 3\)"),
    ],
)
def test_bad_input_is_named(change, error, message):
    arguments = {"features": np.eye(3), "labels": [0, 1, 1], "k": 1} | change
    with pytest.raises(error, match=f"same_class_neighbors: .*{message}"):
        same_class_neighbors(**arguments)


def test_bad_queries_are_named():
    points = np.eye(3)
    with pytest.raises(ValueError, match="queries have 2 features, but points have 3"):
        nearest_neighbors(points[:, :2], points, k=1)
    with pytest.raises(ValueError, match=r"itself has shape \(2,\), expected \(3,\)"):
        nearest_neighbors(points, points, k=1, itself=[0, 1])
    with pytest.raises(TypeError, match="points are traced"):
        jax.jit(lambda x: nearest_neighbors(np.eye(3), x, k=1))(points)
