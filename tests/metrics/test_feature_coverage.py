"""Coverage of features: on a circle, by the definition in float64, in expectation."""

import functools

import jax
import numpy as np
import pytest

from ltjax.metrics import feature_coverage

covered = jax.jit(feature_coverage, static_argnames=("neighbors", "block"))


def on_circle(*degrees):
    angles = np.deg2rad(np.asarray(degrees, np.float64))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def by_hand(x, bank, k):
    """One row after the other, from distances."""
    x, bank = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, bank))
    found = []
    for i in range(len(x)):
        others = np.delete(np.linalg.norm(x - x[i], axis=1), i)
        radius = np.sort(others)[k - 1]
        found.append(np.linalg.norm(bank - x[i], axis=1).min() <= radius)
    return np.array(found)


def test_pairs_on_a_circle(x64):
    """Each has another 10 degrees away, and the next but one at 80 or more."""
    x = on_circle(0, 10, 90, 100)
    for degrees, k, want in [
        ((5,), 1, [1, 1, 0, 0]),
        ((111,), 1, [0, 0, 0, 0]),
        ((109,), 1, [0, 0, 0, 1]),
        # Second nearest: 90, 80, 80 and 90 degrees.
        ((111,), 2, [0, 0, 1, 1]),
        ((5, 95), 1, [1, 1, 1, 1]),
    ]:
        bank = 3 * on_circle(*degrees)  # norms do not matter
        np.testing.assert_array_equal(covered(x, bank, neighbors=k), want)


@pytest.mark.parametrize("block", [None, 4, 7])
def test_blocks_and_missing_rows_by_the_definition(x64, block):
    rng = np.random.default_rng(0)
    x, bank = rng.normal(size=(17, 3)), rng.normal(size=(9, 3))
    where, bank_where = np.arange(17) % 5 != 2, np.arange(9) % 4 != 1
    want = np.zeros(17, bool)
    want[where] = by_hand(x[where], bank[bank_where], 3)
    assert 0 < want.sum() < where.sum()
    x[~where], bank[~bank_where] = np.nan, np.nan
    found = covered(
        x, bank, neighbors=3, where=where, bank_where=bank_where, block=block
    )
    np.testing.assert_array_equal(found, want)
    nothing = covered(x, bank, neighbors=3, where=where, bank_where=bank_where & False)
    assert not np.any(nothing)


def test_of_one_distribution_the_expectation_is_that_of_ranks():
    """A row is not covered if its k nearest are all of its own sample.

    Of the N - 1 + M others in order of distance any are as likely to be the first k:
    with N = 8, M = 4 and k = 2 that is 7/11 6/10 = 0.3818.
    """
    draws = jax.random.normal(jax.random.key(0), (400, 12, 5))
    function = functools.partial(feature_coverage, neighbors=2)
    found = jax.jit(jax.vmap(function))(draws[:, :8], draws[:, 8:])
    means = np.mean(found, axis=1)
    error = means.std() / np.sqrt(len(means))
    assert abs(means.mean() - (1 - 42 / 110)) < 4 * error < 0.06


def test_bad_input_is_named():
    x = on_circle(0, 10, 90)
    with pytest.raises(ValueError, match="neighbors is 3, expected 1 to 2"):
        feature_coverage(x, x, neighbors=3)
    with pytest.raises(ValueError, match=r"shape \(1, 2\), expected two rows at least"):
        feature_coverage(x[:1], x)
    with pytest.raises(ValueError, match=r"bank has shape \(3, 1\), expected \[M, 2\]"):
        feature_coverage(x, x[:, :1])
    with pytest.raises(ValueError, match=r"bank has shape \(0, 2\)"):
        feature_coverage(x, x[:0])
    with pytest.raises(TypeError, match="bank has dtype int"):
        feature_coverage(x, x.astype(int))
