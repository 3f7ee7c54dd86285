"""The search on the host: the same neighbors as on the device, and nothing compiled."""

import jax
import numpy as np
import pytest

from ltjax.resampling import (
    nearest_neighbors,
    neighbors,
    same_class_neighbors,
    smote,
)
from ltjax.resampling._neighbor_blocks import search_tile
from ltjax.resampling._neighbor_host import work
from ltjax.resampling.smote import synthesize


def grid(rng, dtype):
    return rng.integers(0, 4, (300, 3)).astype(dtype)


DATA = {
    "normal": lambda rng: rng.standard_normal((300, 8), np.float32),
    "float64 far away": lambda rng: 1e6 + rng.standard_normal((300, 8)),
    "bytes with ties": lambda rng: grid(rng, np.uint8),
    "floats with ties": lambda rng: grid(rng, np.float32) / 8 - 100,
    "huge": lambda rng: np.float32(1e37) * rng.standard_normal((300, 8), np.float32),
    "tiny": lambda rng: np.float32(1e-30) * rng.standard_normal((300, 8), np.float32),
    "constant": lambda rng: np.full((300, 4), 0.3, np.float32),
}


@pytest.fixture
def on_device(monkeypatch):
    """`on_device(search)`: its result where the device searches."""

    def call(search):
        with monkeypatch.context() as patch:
            patch.setattr(neighbors, "ON_HOST", -1)
            return search()

    return call


@pytest.mark.parametrize("kind", DATA)
def test_both_searches_find_the_same(kind, on_device):
    rng = np.random.default_rng(0)
    features = DATA[kind](rng)
    labels = rng.choice([0, 1, 4], 300, p=[0.7, 0.28, 0.02])
    labels[0] = 3  # a class of one
    rows = rng.permutation(300)[:90]

    def searches():
        within = same_class_neighbors(features, labels, k=7, rows=rows, block_size=64)
        among = nearest_neighbors(
            features[:50], features, k=7, itself=np.arange(50), block_size=64
        )
        return within, among

    for ours, device in zip(searches(), on_device(searches), strict=True):
        np.testing.assert_array_equal(ours.indices, device.indices)
        np.testing.assert_allclose(ours.distances, device.distances, rtol=2e-6)
        assert ours.distances.dtype == device.distances.dtype
        assert ours.indices.dtype == device.indices.dtype


def test_smote_makes_the_same_points_either_way(on_device):
    rng = np.random.default_rng(1)
    features, labels = DATA["normal"](rng), np.repeat([0, 1, 2], [200, 70, 30])

    def make():
        return smote(jax.random.key(3), features, labels)

    ours, device = make(), on_device(make)
    for one, two in zip(ours.plan, device.plan, strict=True):
        np.testing.assert_array_equal(one, two)
    assert isinstance(ours.features, jax.Array)
    # From an array of the device the points are made on the device.
    made = synthesize(jax.numpy.asarray(features), ours.plan)
    np.testing.assert_allclose(ours.features, made, rtol=1e-6, atol=1e-6)
    assert ours.features.dtype == made.dtype == np.float32


def test_few_points_compile_no_search(on_device):
    features = np.random.default_rng(2).standard_normal((40, 3), np.float32)
    search_tile.clear_cache()
    nearest_neighbors(features, features, k=2)
    assert search_tile._cache_size() == 0
    on_device(lambda: nearest_neighbors(features, features, k=2))
    assert search_tile._cache_size() == 1


def test_an_approximate_search_is_one_of_the_device():
    features = np.random.default_rng(3).standard_normal((40, 3), np.float32)
    search_tile.clear_cache()
    nearest_neighbors(features, features, k=2, recall_target=0.9)
    assert search_tile._cache_size() == 1


def test_work_is_counted_by_class():
    # 2 queries of class 0 meet 3 points, the one of class 2 meets 1: 7 pairs, each of 5
    # differences and a selection that costs as much as 32.
    assert work(np.array([0, 0, 0, 1, 2]), np.array([0, 0, 2]), 5) == 7 * 37


def test_without_points_there_are_no_neighbors():
    found = nearest_neighbors(np.ones((2, 3)), np.ones((0, 3)), k=2)
    assert found.indices.tolist() == [[-1, -1], [-1, -1]]
    assert np.isinf(found.distances).all()
