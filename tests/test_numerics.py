"""Safe lookups, masks and norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax import _numerics as numerics

LABELS = np.array([0, 2, -1, 1, 3, 2, 0, 1], np.int32)
INSIDE = (LABELS >= 0) & (LABELS < 3)


def expected(table):
    """table[labels] with NaN outside, by numpy."""
    picked = np.asarray(table)[np.where(INSIDE, LABELS, 0)]
    outside = ~INSIDE if picked.ndim == 1 else ~INSIDE[:, None]
    return np.where(outside, np.nan, picked)


def test_namespace_and_host():
    assert numerics.namespace(1.0, np.ones(2), jnp.ones(2)) is np
    assert isinstance(numerics.host(jnp.ones(2)), np.ndarray)

    def inside(x):
        assert numerics.namespace(1.0, x) is jnp
        assert numerics.host(x) is x
        return x

    jax.eval_shape(inside, 1.0)


def test_at_least_float32(x64):
    for given, kept in (("bfloat16", "float32"), ("float16", "float32")):
        assert numerics.at_least_float32(jnp.ones(2, given)).dtype == kept
    assert numerics.at_least_float32(np.ones(2)).dtype == jnp.float64


@pytest.mark.parametrize(
    "given",
    [7, np.int32(7), np.uint32(7), np.array(7), jnp.int32(7)]
    + [jax.random.key(7), jax.random.PRNGKey(7), np.asarray(jax.random.PRNGKey(7))],
    ids=str,
)
def test_everything_that_is_a_key(given):
    key = numerics.as_key("f", given)
    assert key.shape == () and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert jax.random.key_data(key).tolist() == [0, 7]


def test_keys_may_be_traced():
    bits = jax.jit(lambda key: jax.random.key_data(numerics.as_key("f", key)))
    for given in (jax.random.key(7), jax.random.PRNGKey(7), 7):
        assert bits(given).tolist() == [0, 7]


@pytest.mark.parametrize(
    "given",
    [None, 1.5, True, "7", jax.random.split(jax.random.key(0)), np.arange(3)]
    + [np.random.default_rng(0)],
    ids=lambda g: type(g).__name__,
)
def test_other_keys_are_refused(given):
    with pytest.raises(
        TypeError, match=r"(?s)^f: key is .*expected one jax.random.key"
    ):
        numerics.as_key("f", given)


@pytest.mark.parametrize("seed", [-1, 2**32, 1732700000000])
def test_seeds_that_jax_would_cut_are_refused(seed):
    with pytest.raises(ValueError, match=rf"f: key is {seed}, expected an integer in"):
        numerics.as_key("f", seed)


@pytest.mark.parametrize("on_device", [False, True])
def test_class_indices(x64, on_device):
    for dtype in "int8 int16 int32 int64 uint8 uint16 uint32 uint64".split():
        ends = np.iinfo(dtype)
        labels = np.array([0, 3, ends.max, ends.min], dtype)
        found = numerics.class_indices(jnp.asarray(labels) if on_device else labels)
        assert found.dtype == jnp.int32
        largest = ends.max if ends.max < 2**31 else -1
        smallest = ends.min if ends.min >= -(2**31) else -1
        assert found.tolist() == [0, 3, largest, smallest]


def test_class_indices_of_lists_and_of_what_is_no_index():
    assert numerics.class_indices([0, 2**32 + 1, -(2**32)]).tolist() == [0, -1, -1]
    assert numerics.class_indices(np.ones(2)).dtype == jnp.float32
    assert numerics.class_indices([]).dtype == jnp.int32
    traced = jax.jit(numerics.class_indices)(np.array([2**32 - 1, 5], np.uint32))
    assert traced.tolist() == [-1, 5]


def test_nan_outside_reaches_the_gradient():
    labels = jnp.array([0, 3, -1])

    def total(values):
        # The gradient of the second factor is 0, and must not hide the first.
        return jnp.sum(numerics.nan_outside(values * 0.0, labels, 3))

    values, gradient = jax.value_and_grad(total)(jnp.ones(3))
    assert np.isnan(values)
    np.testing.assert_array_equal(gradient, [0.0, np.nan, np.nan])


def test_class_lookup_of_one_table():
    table = np.array([0.5, -1.0, 2.0], np.float32)
    np.testing.assert_array_equal(numerics.class_lookup(table, LABELS), expected(table))
    shaped = numerics.class_lookup(table, LABELS.reshape(2, 2, 2))
    np.testing.assert_array_equal(shaped, expected(table).reshape(2, 2, 2))
    assert float(numerics.class_lookup(table, 2)) == 2.0


def test_class_lookup_of_a_table_per_example():
    tables = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    picked = tables[np.arange(8), np.where(INSIDE, LABELS, 0)]
    np.testing.assert_array_equal(
        numerics.class_lookup(tables, LABELS), np.where(INSIDE, picked, np.nan)
    )


def test_gradient_of_a_lookup_counts_the_labels():
    gradient = jax.grad(lambda t: jnp.nansum(numerics.class_lookup(t, LABELS)))
    np.testing.assert_array_equal(gradient(jnp.ones(3)), np.bincount(LABELS[INSIDE]))


def test_class_rows():
    table = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    rows = numerics.class_rows(table, LABELS, like=jnp.zeros((8, 4)))
    np.testing.assert_array_equal(rows, expected(table))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_lookups_and_their_gradients_on_a_mesh(kind):
    vector = np.arange(3, dtype=np.float32)
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    mesh = jax.make_mesh((8,), ("data",), (kind,))
    with jax.set_mesh(mesh):
        split = NamedSharding(mesh, PartitionSpec("data"))
        labels = jax.device_put(LABELS, split)
        like = jax.device_put(np.zeros((8, 4), np.float32), split)

        def both(vector, table):
            picked = numerics.class_lookup(vector, labels)
            rows = numerics.class_rows(table, labels, like=like)
            return jnp.nansum(picked) + jnp.nansum(rows), (picked, rows)

        graded = jax.jit(jax.value_and_grad(both, argnums=(0, 1), has_aux=True))
        (_, (picked, rows)), (by_vector, by_table) = graded(vector, table)
    counts = np.bincount(LABELS[INSIDE])
    np.testing.assert_array_equal(jax.device_get(picked), expected(vector))
    np.testing.assert_array_equal(jax.device_get(rows), expected(table))
    np.testing.assert_array_equal(jax.device_get(by_vector), counts)
    np.testing.assert_array_equal(
        jax.device_get(by_table), np.repeat(counts[:, None], 4, axis=1)
    )


def test_mask_rows_hides_what_is_not_finite():
    keep = [True, False]
    values = np.array([[1.0, 2.0], [np.nan, np.inf]], np.float32)
    labels = np.array([3, 7])
    masked, masked_labels = numerics.mask_rows(keep, values, labels)
    np.testing.assert_array_equal(masked, [[1.0, 2.0], [0.0, 0.0]])
    assert masked_labels.tolist() == [3, 0]
    assert numerics.mask_rows(None, values) is values
    gradient = jax.grad(
        lambda v: jnp.sum(jnp.log(numerics.mask_rows(keep, v) + 1) ** 2)
    )(values)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[1], [0.0, 0.0])


def test_mask_values():
    values = jnp.array([1.0, jnp.nan])
    assert numerics.mask_values(values, None) is values
    masked = numerics.mask_values(values, np.array([True, False]))
    np.testing.assert_array_equal(masked, [1.0, 0.0])


def test_norms_at_zero_and_elsewhere():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(numerics.safe_norm(x), [5.0, 1e-12])
    assert numerics.safe_norm(x, keepdims=True).shape == (2, 1)
    np.testing.assert_allclose(numerics.l2_normalize(x), [[0.6, 0.8], [0.0, 0.0]])
    for function in (numerics.safe_norm, numerics.l2_normalize):
        gradient = jax.grad(lambda x, f=function: jnp.sum(f(x)))(x)
        assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(
        jax.grad(lambda x: jnp.sum(numerics.safe_norm(x)))(x)[1], [0.0, 0.0]
    )


def test_a_moving_average_follows_geometrically():
    """After n identical values: new + decay^n (start - new); counters are the new."""
    average = {"w": jnp.array([3.0, -1.0]), "steps": jnp.int32(7)}
    new = {"w": jnp.array([1.0, 1.0]), "steps": jnp.int32(9)}
    for _ in range(5):
        average = numerics.moving_average(average, new, 0.9)
    np.testing.assert_allclose(average["w"], 1 + 0.9**5 * np.array([2.0, -2.0]), 1e-6)
    assert average["steps"] == 9
