"""Alignment and uniformity of instances and of classes, from their definitions."""

import functools

import jax
import numpy as np
import pytest

from ltjax.metrics import alignment, category_uniformity, uniformity

SQUARE = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])


def ref_uniformity(x, t):
    pairs = [(i, j) for i in range(len(x)) for j in range(i)]
    return np.log(np.mean([np.exp(-t * np.sum((x[i] - x[j]) ** 2)) for i, j in pairs]))


def test_alignment_by_hand(x64):
    """Distances sqrt(0.8) and 0; where views agree the root has no slope."""
    x, y = np.eye(2), np.array([[0.6, 0.8], [0.0, 1.0]])
    loss = jax.jit(jax.value_and_grad(lambda x, a: alignment(x, y, alpha=a)))
    value, _ = loss(x, 2.0)
    np.testing.assert_allclose(value, 0.4, rtol=1e-13)
    value, gradient = loss(x, 1.0)
    np.testing.assert_allclose(value, np.sqrt(0.8) / 2, rtol=1e-13)
    np.testing.assert_allclose(value, 0.447213596, atol=5e-10)
    np.testing.assert_array_equal(gradient[1], 0)
    np.testing.assert_allclose(gradient[0], (x - y)[0] / np.sqrt(0.8) / 2, rtol=1e-12)
    dirty = np.array([x[0], [np.nan, 0]])
    masked = jax.jit(alignment)(dirty, y, where=np.array([True, False]))
    np.testing.assert_allclose(masked, 0.8, rtol=1e-13)


def test_uniformity_of_a_square(x64):
    """Two of the six pairs are at a squared distance of 4, four at 2."""
    value = jax.jit(uniformity)
    for t, expected in ((2.0, -4.396348967), (1.0, -2.339988613)):
        by_hand = np.log((2 * np.exp(-4 * t) + 4 * np.exp(-2 * t)) / 6)
        np.testing.assert_allclose(value(SQUARE, t=t), by_hand, rtol=1e-13)
        np.testing.assert_allclose(by_hand, expected, atol=5e-10)
    alone = value(SQUARE, t=1.0, where=np.arange(4) == 2)
    assert alone == -np.inf


def test_uniformity_in_blocks_off_the_sphere(x64):
    rng = np.random.default_rng(0)
    x, where = rng.normal(size=(9, 3)), np.arange(9) % 4 != 1
    dirty = np.where(where[:, None], x, np.nan)
    function = functools.partial(uniformity, t=0.7, where=where, block=4)
    value, gradient = jax.jit(jax.value_and_grad(function))(dirty)
    np.testing.assert_allclose(value, ref_uniformity(x[where], 0.7), rtol=1e-12)
    assert not np.any(gradient[~where])
    step = 1e-6 * np.eye(3)[1]
    ends = []
    for sign in (1, -1):
        moved = x.copy()
        moved[2] += sign * step
        ends.append(ref_uniformity(moved[where], 0.7))
    np.testing.assert_allclose(gradient[2, 1], (ends[0] - ends[1]) / 2e-6, rtol=1e-7)


def ref_category(features, labels, m):
    x = features / np.linalg.norm(features, axis=1, keepdims=True)
    present = np.unique(labels)
    sums = np.stack([x[labels == k].sum(axis=0) for k in present])
    centers = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    apart = np.linalg.norm(centers[:, None] - centers[None], axis=2)
    count = len(present)
    nearest = np.sort(apart, axis=1)[:, 1 : m + 1]
    within = []
    for k in present:
        own = x[labels == k]
        within.append(np.linalg.norm(own[:, None] - own[None], axis=2).mean())
    return apart.sum() / count / (count - 1), nearest.mean(), np.mean(within)


def test_centers_by_hand(x64):
    """A square has sides sqrt 2 and diagonals 2; two centers that coincide crowd."""

    @jax.jit
    def by_neighbors(centers):
        function = functools.partial(category_uniformity, centers, np.arange(4))
        return [function(num_classes=4, neighbors=m) for m in (1, 2, 3)]

    crowded = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    for centers, inter, near in [
        (SQUARE, 1.609475708, (1.414213562, 1.414213562, 1.609475708)),
        (crowded, 1.178511302, (0.707106781, 1.060660172, 1.178511302)),
    ]:
        for found, expected in zip(by_neighbors(centers), near, strict=True):
            np.testing.assert_allclose(found.inter, inter, atol=5e-10)
            np.testing.assert_allclose(found.neighborhood, expected, atol=5e-10)
            assert found.intra == 0
    simplex = np.eye(10) - 0.1
    function = functools.partial(category_uniformity, num_classes=10)
    found = jax.jit(function)(simplex, np.arange(10))
    np.testing.assert_allclose(found.inter, np.sqrt(20 / 9), rtol=1e-12)
    np.testing.assert_allclose(found.inter, 1.490711985, atol=5e-10)


@pytest.mark.parametrize("block", [None, 5])
def test_classes_by_definition(x64, block):
    """Class 2 has no example, and some rows do not count."""
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(13, 3)), rng.choice([0, 1, 3, 4, 7], 13)
    labels[:5] = [0, 1, 3, 4, 7]
    where = np.arange(13) != 6
    keep = where & (labels != 7)
    features[6] = np.nan
    function = jax.jit(
        functools.partial(category_uniformity, num_classes=5, neighbors=2, block=block)
    )
    found = function(features, labels, where=where)
    expected = ref_category(features[keep], labels[keep], 2)
    np.testing.assert_allclose(found[:3], expected, rtol=1e-12)
    assert not np.any(found.centers[2])
    few = function(features, np.minimum(labels, 1), where=where)
    assert np.isfinite(few.inter) and np.isnan(few.neighborhood)


def test_bad_input_is_named():
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"alignment: second has shape \(3, 3\)"):
        alignment(x, x[:3])
    with pytest.raises(ValueError, match="alignment: alpha is 0"):
        alignment(x, x, alpha=0.0)
    with pytest.raises(TypeError, match="uniformity: features has dtype int"):
        uniformity(x.astype(int))
    with pytest.raises(ValueError, match="neighbors is 2, expected 1 to 1"):
        category_uniformity(x, np.zeros(4, int), num_classes=2, neighbors=2)
    with pytest.raises(ValueError, match=r"features has shape \(4, 0\)"):
        category_uniformity(x[:, :0], np.zeros(4, int), num_classes=2)


def test_no_rows_are_as_one():
    for rows in (0, 1):
        assert uniformity(SQUARE[:rows].astype(np.float32)) == -np.inf
