"""Masks of the largest weights, against sorting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.pruning import apply_masks, kth_smallest_magnitude, magnitude_masks

WEIGHTS = np.array([0.5, -0.1, 0.3, 0, -0.7, 0.2, 0.25, -0.05, 0.6, 0.15], np.float32)


@pytest.mark.parametrize(
    ("fraction", "kept"),
    [
        (0.3, [1, 0, 1, 0, 1, 1, 1, 0, 1, 1]),
        (0.5, [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]),
        (0.9, [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]),
        (1.0, [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]),
        (0.0, [1] * 10),
    ],
)
def test_one_kernel_by_hand(fraction, kept):
    params = {"conv": WEIGHTS.reshape(1, 1, 10), "dense": np.ones((3, 3))}
    masks = magnitude_masks(params, fraction=fraction)
    np.testing.assert_array_equal(masks["conv"].ravel(), kept)
    assert masks["dense"] is None


def test_threshold_is_that_of_all_kernels_together():
    rng = np.random.default_rng(0)
    params = {
        "a": {"kernel": jnp.float32(rng.normal(size=(3, 3, 4))), "bias": jnp.ones(4)},
        "b": {"kernel": jnp.float32(rng.normal(size=(1, 1, 8, 5)))},
    }
    masks = jax.jit(lambda p: magnitude_masks(p, fraction="0.9"))(params)
    pool = np.concatenate([params[n]["kernel"].ravel() for n in "ab"])
    cut = -(-9 * pool.size // 10)
    threshold = np.sort(np.abs(pool))[cut]
    for name in "ab":
        expected = np.abs(params[name]["kernel"]) >= threshold
        np.testing.assert_array_equal(masks[name]["kernel"], expected)
    kept = sum(int(mask.sum()) for mask in jax.tree.leaves(masks))
    assert kept == pool.size - cut

    def total(params):
        pruned = apply_masks(params, masks)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(pruned))

    gradient = jax.grad(total)(params)
    kernel, mask = params["a"]["kernel"], masks["a"]["kernel"]
    np.testing.assert_allclose(gradient["a"]["kernel"], 2 * kernel * mask, rtol=1e-6)
    np.testing.assert_allclose(gradient["a"]["bias"], 2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_order_statistic_of_every_dtype(x64, dtype):
    values = jnp.asarray(np.random.default_rng(1).normal(size=31), dtype)
    values = values.at[3].set(0).at[4].set(1e-40).at[5].set(values[6])
    select = jax.jit(
        lambda x: [kth_smallest_magnitude([x[:9], x[9:]], k) for k in (0, 7, 30)]
    )
    found = select(values)
    expected = np.sort(np.abs(np.asarray(values)))[[0, 7, 30]]
    assert found[0].dtype == dtype
    np.testing.assert_array_equal(np.stack(found), expected)


def test_share_is_exact_in_large_networks():
    """ceil(0.9 P) with P = 10: 9 in decimals, but 10 from a float a little above."""
    assert 0.1 + 0.2 > 0.3
    params = {"conv": WEIGHTS.reshape(1, 1, 10)}
    masks = magnitude_masks(params, fraction=0.1 + 0.2)
    assert int(masks["conv"].sum()) == 7


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="magnitude_masks: fraction is 1.5"):
        magnitude_masks({"a": np.ones((1, 1, 2))}, fraction=1.5)
    with pytest.raises(ValueError, match="no array of the parameters is selected"):
        magnitude_masks({"a": np.ones(2)}, fraction=0.5)
    with pytest.raises(ValueError, match="k is 2, expected 0 to 1"):
        kth_smallest_magnitude([jnp.ones(2)], 2)
