"""Normalization layers: coupling of rows, groups, reference values."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import NORMS, make_norm
from ltjax.models.norms import couples_rows, num_groups


class Layer(nn.Module):
    kind: str

    @nn.compact
    def __call__(self, x, *, train=True, mask=None):
        return make_norm(self.kind, train=train, mask=mask)(x, "norm")


def apply(kind, x, **options):
    """(outputs, variables before, variables after) of one layer in train mode."""
    layer = Layer(kind)
    before = layer.init(jax.random.key(0), x)
    outputs, after = layer.apply(before, x, mutable=["batch_stats"], **options)
    return outputs, before, after


@pytest.mark.parametrize("kind", NORMS)
def test_rows_are_coupled_by_batch_norm_only(kind):
    x = jax.random.normal(jax.random.key(1), (3, 2, 8))

    def row_0(x):
        outputs, _, _ = apply(kind, x)
        return jnp.sum(outputs[0] ** 3)

    others = np.abs(jax.grad(row_0)(x)[1:]).max()
    if kind == "batch":
        assert couples_rows(kind) and others > 1e-3
    else:
        assert not couples_rows(kind) and others == 0


def test_group_norm_against_numpy():
    x = jax.random.normal(jax.random.key(1), (2, 5, 3, 8))
    outputs, _, _ = apply("group", x)
    assert num_groups(8) == 2
    grouped = np.asarray(x, np.float64).reshape(2, 15, 2, 4)
    mean = grouped.mean((1, 3), keepdims=True)
    var = grouped.var((1, 3), keepdims=True)
    expected = ((grouped - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_layer_norm_against_numpy():
    x = jax.random.normal(jax.random.key(1), (2, 5, 8))
    outputs, _, _ = apply("layer", x)
    exact = np.asarray(x, np.float64)
    mean, var = exact.mean(-1, keepdims=True), exact.var(-1, keepdims=True)
    expected = (exact - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_counts_real_rows_only():
    x = jax.random.normal(jax.random.key(1), (4, 3, 8))
    mask = jnp.array([True, True, False, True])
    outputs, _, after = apply("batch", x, mask=mask)
    kept = np.asarray(x, np.float64)[np.asarray(mask)]
    mean, var = kept.mean((0, 1)), kept.var((0, 1))
    averages = after["batch_stats"]["norm"]
    np.testing.assert_allclose(averages["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(averages["var"], 0.9 + 0.1 * var, rtol=1e-5)
    expected = (np.asarray(x, np.float64) - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_frozen_norm_uses_and_keeps_its_averages():
    x = 3 + jax.random.normal(jax.random.key(1), (4, 8))
    outputs, before, after = apply("frozen", x)
    np.testing.assert_allclose(outputs, np.asarray(x) / np.sqrt(1 + 1e-5), rtol=1e-6)
    assert after["batch_stats"] == before["batch_stats"]


def test_none_is_the_identity_without_parameters():
    x = jnp.ones((2, 8))
    outputs, before, _ = apply("none", x)
    assert outputs is x and not jax.tree.leaves(before)


def test_groups_divide_channels_and_hold_at_least_four():
    for channels in range(1, 130):
        groups = num_groups(channels)
        assert channels % groups == 0 and groups <= 32
        assert groups == 1 or channels // groups >= 4


def test_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm is 'bn', expected one of"):
        make_norm("bn", train=True)
