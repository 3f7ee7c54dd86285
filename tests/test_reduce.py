"""The two means that papers use, and how a mask enters them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax.reduce import weighted_mean

VALUES = np.array([1.0, 3.0, 8.0], np.float32)
WEIGHTS = np.array([3.0, 1.0, 2.0], np.float32)


def test_means_by_hand():
    assert float(weighted_mean(VALUES)) == 4.0
    assert float(weighted_mean(VALUES, normalize="weights")) == 4.0
    np.testing.assert_allclose(weighted_mean(VALUES, WEIGHTS), 22 / 3, rtol=1e-6)
    np.testing.assert_allclose(
        weighted_mean(VALUES, WEIGHTS, normalize="weights"), 22 / 6, rtol=1e-6
    )


def test_means_of_the_running_example(x64):
    losses = np.array([1.845911365367, 1.199675981])
    weights = np.array([2.228073771, 0.172245039])
    np.testing.assert_allclose(weighted_mean(losses, weights), 2.159732466, atol=1e-9)
    np.testing.assert_allclose(
        weighted_mean(losses, weights, normalize="weights"), 1.799538009, atol=1e-9
    )


def test_scale_of_the_weights_matters_for_one_mean_only():
    for normalize, factor in (("examples", 7.0), ("weights", 1.0)):
        base = weighted_mean(VALUES, WEIGHTS, normalize=normalize)
        scaled = weighted_mean(VALUES, 7 * WEIGHTS, normalize=normalize)
        np.testing.assert_allclose(scaled, factor * base, rtol=1e-6)


@pytest.mark.parametrize("normalize", ["examples", "weights"])
def test_where_equals_dropping(normalize):
    keep = np.array([True, False, True])
    dirty = np.where(keep, VALUES, np.nan)
    dirty_weights = np.where(keep, WEIGHTS, np.inf)

    def mean(values, weights):
        return weighted_mean(values, weights, where=keep, normalize=normalize)

    value, gradient = jax.value_and_grad(mean, argnums=(0, 1))(dirty, dirty_weights)
    expected = weighted_mean(VALUES[keep], WEIGHTS[keep], normalize=normalize)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for part in gradient:
        assert np.all(np.isfinite(part))
        assert part[1] == 0.0


@pytest.mark.parametrize("normalize", ["examples", "weights"])
def test_nothing_left_is_zero_with_a_zero_gradient(normalize):
    nothing = np.zeros(3, bool)
    for weights, where in ((WEIGHTS, nothing), (None, nothing), (0 * WEIGHTS, None)):
        value, gradient = jax.value_and_grad(
            lambda v, w=weights, k=where: weighted_mean(
                v, w, where=k, normalize=normalize
            )
        )(VALUES)
        assert float(value) == 0.0
        np.testing.assert_array_equal(gradient, np.zeros(3))


def test_half_precision_is_summed_in_float32():
    # 4096 ones: a bfloat16 sum stops at 256.
    value = weighted_mean(jnp.ones(4096, jnp.bfloat16), jnp.ones(4096, jnp.bfloat16))
    assert (value.dtype, float(value)) == (jnp.float32, 1.0)


def test_sharded_means_are_global(x64):
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=16), rng.uniform(0.1, 9, 16)
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    place = NamedSharding(mesh, PartitionSpec("data"))
    for normalize in ("examples", "weights"):
        mean = jax.jit(lambda v, w, n=normalize: weighted_mean(v, w, normalize=n))
        sharded = mean(jax.device_put(values, place), jax.device_put(weights, place))
        np.testing.assert_allclose(sharded, mean(values, weights), rtol=1e-13)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="normalize is 'sum', expected one of"):
        weighted_mean(VALUES, normalize="sum")
    with pytest.raises(ValueError, match=r"weights have shape \(2,\), expected \(3,\)"):
        weighted_mean(VALUES, WEIGHTS[:2])
    with pytest.raises(ValueError, match=r"where has shape \(2,\), expected \(3,\)"):
        weighted_mean(VALUES, where=np.ones(2, bool))
    with pytest.raises(TypeError, match="where has dtype int"):
        weighted_mean(VALUES, where=np.ones(3, np.int32))
