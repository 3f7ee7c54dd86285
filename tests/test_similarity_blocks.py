"""Blockwise log-sum-exp: its definition, its gradients, and what it keeps in memory."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax._similarity_blocks import (
    Side,
    check_block,
    cross_group_sums,
    cross_log_sum_exp,
    self_group_sums,
    self_log_sum_exp,
)

A, N, D = 6, 7, 3


def sides(count, seed, *, boost=True):
    rng = np.random.default_rng(seed)
    bias = np.log(rng.uniform(0.2, 2.0, count))
    bias[1] = -np.inf
    return Side(
        bias=bias,
        ids=np.array([0, 1, 1, 2, 3, 4, 5])[:count],
        groups=np.array([0, 1, 0, 1, 2, 0, 1])[:count],
        boost=rng.uniform(-1, 1, count) if boost else None,
    )


def by_definition(queries, keys, rows, columns):
    """Values [A] and softmax weights [A, N], one pair at a time."""
    weights = np.zeros((len(queries), len(keys)))
    for i, q in enumerate(queries):
        for j, k in enumerate(keys):
            if rows.ids[i] != columns.ids[j]:
                own = rows.groups[i] == columns.groups[j]
                boost = rows.boost[i] if own else 0.0
                weights[i, j] = np.exp(q @ k + columns.bias[j] + boost)
    total = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(total), np.nan_to_num(weights / total[:, None])


@pytest.mark.parametrize("block", [None, 1, 3, 50])
def test_queries_and_keys_apart(x64, block):
    rng = np.random.default_rng(0)
    queries, keys = rng.normal(size=(A, D)), rng.normal(size=(N, D))
    rows, columns = sides(A, 1), sides(N, 2)._replace(boost=None)
    cotangent = rng.normal(size=A)

    @jax.jit
    def both(queries, keys):
        values, pull = jax.vjp(
            lambda q, k: cross_log_sum_exp(q, k, rows, columns, block=block),
            queries,
            keys,
        )
        return values, *pull(jnp.asarray(cotangent))

    values, of_queries, of_keys = both(queries, keys)
    expected, weights = by_definition(queries, keys, rows, columns)
    np.testing.assert_allclose(values, expected, rtol=1e-13)
    weights *= cotangent[:, None]
    np.testing.assert_allclose(of_queries, weights @ keys, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(of_keys, weights.T @ queries, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("block", [None, 1, 3, 7])
def test_points_that_are_their_own_keys(x64, block):
    rng = np.random.default_rng(3)
    points, side, cotangent = rng.normal(size=(N, D)), sides(N, 4), rng.normal(size=N)

    @jax.jit
    def both(points):
        values, pull = jax.vjp(lambda p: self_log_sum_exp(p, side, block=block), points)
        return values, *pull(jnp.asarray(cotangent))

    values, gradient = both(points)
    expected, weights = by_definition(points, points, side, side)
    np.testing.assert_allclose(values, expected, rtol=1e-13)
    weights *= cotangent[:, None]
    np.testing.assert_allclose(gradient, (weights + weights.T) @ points, rtol=1e-12)


@pytest.mark.parametrize("block", [None, 3])
def test_sums_over_the_own_group(x64, block):
    rng = np.random.default_rng(9)
    queries, keys = rng.normal(size=(A, D)), rng.normal(size=(N, D))
    rows, columns = sides(A, 1, boost=False), sides(N, 2, boost=False)
    of_total, of_near = rng.normal(size=(2, A))

    def own(rows, columns):
        """[A, N]: the pairs of a group that are not one example; key 1 is left out."""
        pairs = rows.groups[:, None] == columns.groups[None, :]
        pairs &= rows.ids[:, None] != columns.ids[None, :]
        return pairs & (columns.bias > -np.inf)[None, :]

    @jax.jit
    def both(queries, keys):
        apart = lambda q, k: cross_group_sums(q, k, rows, columns, block=block)
        alone = lambda q: self_group_sums(q, rows, block=block)
        one, of_pair = jax.vjp(apart, queries, keys)
        two, of_points = jax.vjp(alone, queries)
        given = type(one)(jnp.asarray(of_total), jnp.asarray(of_near))
        return one, two, *of_pair(given), *of_points(given)

    apart, alone, *gradients = both(queries, keys)
    zero = rows._replace(boost=np.zeros(A))
    for found, others, side in ((apart, keys, columns), (alone, queries, rows)):
        same = own(rows, side)
        expected, _ = by_definition(queries, others, zero, side)
        np.testing.assert_allclose(found.total, expected, rtol=1e-13)
        np.testing.assert_allclose(
            found.near,
            (np.where(same, queries @ others.T + side.bias, 0)).sum(1),
            **{"rtol": 1e-12, "atol": 1e-14},
        )
    weights = by_definition(queries, keys, zero, columns)[1] * of_total[:, None]
    weights += own(rows, columns) * of_near[:, None]
    np.testing.assert_allclose(gradients[0], weights @ keys, rtol=1e-12)
    np.testing.assert_allclose(gradients[1], weights.T @ queries, rtol=1e-12)
    weights = by_definition(queries, queries, zero, rows)[1] * of_total[:, None]
    weights += own(rows, rows) * of_near[:, None]
    np.testing.assert_allclose(
        gradients[2], (weights + weights.T) @ queries, rtol=1e-12
    )


@pytest.mark.parametrize("block", [None, 2])
def test_row_without_keys_is_minus_infinity_with_zero_gradient(block):
    side = Side(ids=jnp.array([0, 0, 0]))
    points = jnp.ones((3, 2))

    def total(points):
        return jnp.sum(jax.nn.softplus(self_log_sum_exp(points, side, block=block)))

    values = jax.jit(lambda p: self_log_sum_exp(p, side, block=block))(points)
    assert np.all(values == -np.inf)
    value, gradient = jax.jit(jax.value_and_grad(total))(points)
    assert value == 0 and not np.any(gradient)


def test_hessian_vector_product_and_vmap(x64):
    rng = np.random.default_rng(5)
    points, direction = rng.normal(size=(2, 2, N, D))
    ids = jnp.arange(N)

    def blocked(p):
        own = self_log_sum_exp(p, Side(ids=ids), block=3)
        both = Side(ids=ids), Side(ids=ids + 1)
        return jnp.sum(own**2 + cross_log_sum_exp(p, 0.5 * p, *both, block=3) ** 2)

    def naive(p):
        products = p @ p.T
        own = jnp.where(jnp.eye(N, dtype=bool), -jnp.inf, products)
        away = jnp.where(jnp.eye(N, k=-1, dtype=bool), -jnp.inf, 0.5 * products)
        sums = [jax.nn.logsumexp(x, axis=1) for x in (own, away)]
        return jnp.sum(sums[0] ** 2 + sums[1] ** 2)

    def product(function):
        one = lambda p, v: jax.jvp(jax.grad(function), (p,), (v,))[1]
        return jax.jit(jax.vmap(one))(points, direction)

    np.testing.assert_allclose(product(blocked), product(naive), rtol=1e-10)


def test_near_duplicates_at_a_low_temperature():
    rng = np.random.default_rng(6)
    one = rng.normal(size=(1, 8))
    points = one / np.linalg.norm(one) + 1e-7 * rng.normal(size=(64, 8))
    points *= 0.05**-0.5
    # 63 others at a similarity of 20.
    for block in (None, 5):
        side = Side(ids=jnp.arange(64))
        values = jax.jit(lambda p: self_log_sum_exp(p, side, block=block))(  # noqa: B023
            jnp.float32(points)
        )
        np.testing.assert_allclose(values, 20 + np.log(63), rtol=1e-6)


SIZE, WIDTH, BLOCK = 256, 16, 32


def risk(points, keys, block=BLOCK):
    ids = jnp.arange(SIZE) // 2
    side = Side(ids=ids, groups=ids % 5)
    own = self_group_sums(points, side, block=block)
    apart = cross_group_sums(keys, points, Side(groups=ids), side, block=block)
    return jnp.sum(own.total**2 + own.near), apart.total + apart.near


def total(points, keys, block=BLOCK):
    one, two = risk(points, keys, block)
    return one + jnp.sum(two**2)


def arrays():
    rng = np.random.default_rng(7)
    return jnp.asarray(rng.normal(size=(2, SIZE, WIDTH)) / 2, jnp.float32)


def largest(text, dims=r"(?:f32|s32|pred)\[([\d,]+)\]"):
    sizes = (math.prod(map(int, shape.split(","))) for shape in re.findall(dims, text))
    return max(sizes, default=0)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (("data", None), AxisType.Auto),
        ((None, "data"), AxisType.Auto),
        (("data", "model"), AxisType.Auto),
        (("data", None), AxisType.Explicit),
    ],
    ids=str,
)
def test_eight_devices_equal_one_and_never_hold_the_matrix(spec, kind):
    points, keys = arrays()
    expected = jax.jit(jax.value_and_grad(total, (0, 1)))(points, keys)
    shape = (4, 2) if "model" in spec else (8,)
    mesh = jax.make_mesh(shape, ("data", "model")[: len(shape)], (kind,) * len(shape))
    with jax.set_mesh(mesh):
        place = NamedSharding(mesh, PartitionSpec(*spec))
        placed = [jax.device_put(x, place) for x in (points, keys)]
        compiled = jax.jit(jax.value_and_grad(total, (0, 1))).lower(*placed).compile()
        values = compiled(*placed)
    for value, one in zip(*map(jax.tree.leaves, (values, expected)), strict=True):
        np.testing.assert_allclose(
            jax.device_get(value), one, rtol=1e-6, atol=1e-6 * np.abs(one).max()
        )
    text = compiled.as_text()
    rows = SIZE if spec[0] is None else SIZE // shape[0]
    local = re.sub(r"sharding=\{.*?\}|metadata=\{.*?\}", "", text)
    assert largest(local) <= max(rows * BLOCK, SIZE * WIDTH) < SIZE * SIZE // 4
    gathered = "\n".join(re.findall(r"= \S+ all-gather\(.*", text))
    assert largest(gathered) <= SIZE * WIDTH


def test_rows_are_summed_over_devices_for_keys_only():
    """Points that are their own keys need one gather in each pass, and no sum."""
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    place = NamedSharding(mesh, PartitionSpec("data"))
    points = jax.device_put(arrays()[0], place)

    def own(points):
        return self_log_sum_exp(points, Side(ids=jnp.arange(SIZE)), block=BLOCK)

    text = (
        jax.jit(lambda p: jax.vjp(own, p)[1](jnp.ones(SIZE))[0], out_shardings=place)
        .lower(points)
        .compile()
        .as_text()
    )
    assert "all-gather(" in text and "while(" in text
    assert not re.search(r"(all-reduce|reduce-scatter|all-to-all|permute)\(", text)


def test_inside_shard_map_with_gathered_keys():
    points, keys = arrays()
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))

    def local(points, keys):
        keys = jax.lax.all_gather(keys, "data", tiled=True)
        return cross_log_sum_exp(points, keys, Side(), Side(), block=BLOCK)

    sharded = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec("data"),
    )
    values = jax.jit(sharded)(points, keys)
    expected = cross_log_sum_exp(points, keys, Side(), Side())
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_memory_grows_with_the_block():
    points = jnp.ones((2048, 8))

    def temporary(block):
        def loss(p):
            return jnp.sum(self_log_sum_exp(p, Side(ids=jnp.arange(2048)), block=block))

        compiled = jax.jit(jax.grad(loss)).lower(points).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    matrix = 4 * 2048**2
    assert temporary(64) < matrix / 8 < matrix <= temporary(None)


@pytest.mark.parametrize("block", [0, -1, 2.5, True])
def test_block_is_a_positive_integer(block):
    with pytest.raises(ValueError, match=f"f: block is {block}, expected None"):
        check_block("f", block)
    check_block("f", None)
    check_block("f", np.int64(4))
