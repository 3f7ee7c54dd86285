"""Minibatch k-means of directions against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ltjax.resampling.spherical_kmeans import (
    Directions,
    absorb,
    cosines,
    next_epoch,
    seed_directions,
)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def around(rng, directions, each, noise=0.1):
    """[K each, D] unit points, in the order of the directions."""
    points = np.repeat(directions, each, axis=0)
    return unit(points + noise * rng.normal(size=points.shape)).astype(np.float32)


def test_two_batches_by_hand():
    rng = np.random.default_rng(0)
    points = unit(rng.normal(size=(2, 16, 3)))
    real = np.ones((2, 16), bool)
    real[1, 12:] = False
    sums, members = unit(rng.normal(size=(4, 3))), np.zeros(4)
    found = Directions(jnp.asarray(sums, jnp.float32), jnp.zeros(4))
    step = jax.jit(absorb)
    for batch, mask in zip(points, real, strict=True):
        found = step(found, jnp.asarray(batch, jnp.float32), jnp.asarray(mask))
        # Every row goes to the center as it was before the batch.
        places = np.argmax(batch @ unit(sums).T, axis=1)
        for row, place, counts in zip(batch, places, mask, strict=True):
            if counts:
                sums[place] += row
                members[place] += 1
    np.testing.assert_allclose(found.sums, sums, atol=1e-5)
    np.testing.assert_array_equal(found.members, members)
    assert members.sum() == 28


def test_an_epoch_starts_from_the_centers_and_moves_the_empty_ones():
    sums = jnp.array([[0.0, 4.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
    found = Directions(sums, jnp.array([5.0, 0.0, 2.0]))
    points = jnp.array([[0.0, 1.0, 0.0], [-1.0, 0, 0], [1.0, 0, 0], [0.0, -1.0, 0.0]])
    # The last one would be the farthest, but is padding; (1, 0, 0) is where the empty
    # center is, which keeps nobody away. Of equals the first one is taken.
    real = jnp.array([True, True, True, False])
    new = jax.jit(next_epoch)(found, points, real)
    want = [[0, 1, 0], [-1, 0, 0], [0, 0.6, 0.8]]
    np.testing.assert_allclose(new.sums, want, atol=1e-6)
    assert new.members.tolist() == [0, 0, 0]


def test_separate_directions_are_found_whatever_the_batches():
    rng = np.random.default_rng(1)
    centers = np.eye(4)
    points = around(rng, centers, 64)
    order = rng.permutation(len(points))
    real = jnp.ones(32, bool)
    found = seed_directions(
        jax.random.key(0), points[order[:32]], real, num=4, restarts=10
    )
    for epoch in range(2):
        for start in range(0, len(points), 32):
            batch = points[order[start : start + 32]]
            if epoch and not start:
                found = next_epoch(found, batch, real)
            found = absorb(found, batch, real)
    labels = np.asarray(cosines(points, found)).argmax(1).reshape(4, 64)
    assert np.all(labels == labels[:, :1]) and len(set(labels[:, 0])) == 4
    assert found.members.tolist() == [64] * 4
    # The directions of the means, but for the one point that an epoch starts from.
    means = unit(points.reshape(4, 64, 4).mean(1))
    np.testing.assert_allclose(
        unit(np.asarray(found.sums))[labels[:, 0]], means, atol=0.02
    )


def test_seeds_are_real_points_and_the_best_draw_is_kept():
    rng = np.random.default_rng(2)
    points = around(rng, np.eye(3), 8, noise=0.01)
    real = jnp.arange(24) < 16  # the third direction is padding only
    found = seed_directions(jax.random.key(3), points, real, num=2, restarts=8)
    rows = [
        np.flatnonzero((points == seed).all(1))[0] for seed in np.asarray(found.sums)
    ]
    assert sorted(row // 8 for row in rows) == [0, 1]


def test_sharded_batches_give_the_same_centers():
    mesh = Mesh(np.array(jax.devices()), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    rng = np.random.default_rng(4)
    points = unit(rng.normal(size=(64, 5))).astype(np.float32)
    real = np.arange(64) < 50
    start = Directions(jnp.asarray(points[:3]), jnp.zeros(3))
    alone = jax.jit(absorb)(start, points, real)
    shared = jax.jit(absorb)(
        start, jax.device_put(points, rows), jax.device_put(real, rows)
    )
    np.testing.assert_allclose(shared.sums, alone.sums, atol=1e-5)
    np.testing.assert_array_equal(shared.members, alone.members)
