"""Selections: thresholds, the best of every class, CReST's and SoLar's sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import pseudo_labels
from ltjax.pseudo_labels import (
    crest_rates,
    crest_sizes,
    keep_best_of_class,
)

# Compiled, so that a test costs one program and not one per operation.
keep_confident = jax.jit(pseudo_labels.keep_confident)
solar_sizes = jax.jit(pseudo_labels.solar_sizes)

keep = jax.jit(keep_best_of_class)


def test_confidence_is_compared_with_the_threshold():
    rows = np.float32([[0.5, 0.5], [0.05, 0.95], [0.8, 0.2]])
    classes, kept = keep_confident(rows, threshold=np.float32(0.95))
    assert classes.tolist() == [0, 1, 0]
    assert kept.tolist() == [False, True, False]
    assert keep_confident(rows, threshold=0.0)[1].all()
    assert not keep_confident(rows, threshold=1.1)[1].any()
    # One per class, and a mask.
    _, kept = keep_confident(rows, threshold=np.array([0.4, 0.99]))
    assert kept.tolist() == [True, False, True]
    _, kept = keep_confident(rows, threshold=0.4, where=np.array([False, True, True]))
    assert kept.tolist() == [False, True, True]


def slow_selection(scores, classes, sizes):
    kept = np.zeros(len(scores), bool)
    for k, size in enumerate(sizes):
        members = [i for i in range(len(scores)) if classes[i] == k]
        kept[sorted(members, key=lambda i: (-scores[i], i))[:size]] = True
    return kept


def test_best_of_class():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 60).astype(np.float32)  # with ties
    classes, sizes = rng.integers(0, 4, 60), np.array([3, 0, 99, 7])
    kept = keep(scores, classes, sizes)
    np.testing.assert_array_equal(kept, slow_selection(scores, classes, sizes))
    # Masked rows and rows of no class take no place.
    where = rng.uniform(size=60) < 0.6
    kept = np.asarray(keep(scores, classes, sizes, where=where))
    np.testing.assert_array_equal(
        kept[where], slow_selection(scores[where], classes[where], sizes)
    )
    assert not kept[~where].any()
    outside = keep(scores, np.where(where, classes, -1), sizes)
    np.testing.assert_array_equal(outside, kept)
    assert keep(
        np.float32([np.nan, 0.0]), np.array([0, 0]), np.array([1])
    ).tolist() == ([False, True])
    assert keep([], [], np.array([1])).shape == (0,)


def test_crest_numbers():
    rates = crest_rates([100, 46, 21, 10])
    expected = [0.464158883, 0.594392195, 0.771944263, 1]
    np.testing.assert_allclose(rates, expected, atol=1e-9)
    assert crest_sizes([50, 30, 20, 8], rates).tolist() == [23, 17, 15, 8]
    # Any order of the classes; the power 0 keeps all, a large one the rarest class.
    np.testing.assert_allclose(
        crest_rates([10, 100, 21, 46]), np.array(expected)[[3, 0, 2, 1]], atol=1e-9
    )
    assert np.all(crest_rates([100, 46, 10], power=0) == 1)
    assert crest_sizes([50, 30, 8], crest_rates([100, 46, 10], power=9)).tolist() == (
        [0, 0, 8]
    )


def test_crest_selection_end_to_end():
    confidence = np.linspace(0.5, 1, 10).astype(np.float32)
    classes = np.array([0] * 8 + [1] * 2)
    sizes = crest_sizes([8, 2], crest_rates([80, 10]))  # (1/8)^(1/3) = 1/2
    assert sizes.tolist() == [4, 2]
    assert np.flatnonzero(keep(confidence, classes, sizes)).tolist() == [
        4,
        5,
        6,
        7,
        8,
        9,
    ]


def test_solar_sizes():
    counts, prior = jnp.array([100, 20, 3, 0]), np.array([0.5, 0.2, 0.2, 0.1])
    # ceil(123 r rho) = ceil(24.6), ceil(9.84), ceil(9.84) > 3, and nothing of no one.
    sizes = solar_sizes(counts, prior, rate=0.4)
    assert sizes.tolist() == [25, 10, 3, 0]
    assert solar_sizes(counts, prior, rate=0.0).tolist() == [1, 1, 1, 0]
    # 100 * 0.6 * 0.5 is 30 and not 31, although 0.6 rounds up in float32.
    exact = solar_sizes(jnp.array([60, 40]), np.float32([0.6, 0.4]), rate=0.5)
    assert exact.tolist() == [30, 20]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: pseudo_labels.keep_confident(np.ones((2, 3)), threshold=np.ones(2)),
            ValueError,
            r"threshold has shape \(2,\)",
        ),
        (
            lambda: keep_best_of_class(np.ones(3), np.zeros(2, int), np.ones(2, int)),
            ValueError,
            r"classes has shape \(2,\)",
        ),
        (
            lambda: keep_best_of_class(np.ones(3), np.zeros(3), np.ones(2, int)),
            TypeError,
            "classes have dtype float",
        ),
        (lambda: crest_rates([3, 0]), ValueError, "class 1 has count 0"),
        (lambda: crest_rates([3, 1], power=-1), ValueError, "power is -1"),
        (lambda: crest_sizes([3, 1], [1.0]), ValueError, "rates has shape"),
        (
            lambda: pseudo_labels.solar_sizes(np.ones(2), np.ones(3), rate=0.2),
            ValueError,
            "prior has shape",
        ),
        (
            lambda: pseudo_labels.solar_sizes([1], [1.0], rate=-1),
            ValueError,
            "rate is -1",
        ),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_prior_of_words_is_named():
    with pytest.raises(TypeError, match="solar_sizes: prior is dtype <U1"):
        pseudo_labels.solar_sizes(np.array([2, 1]), np.array(["a", "b"]), rate=0.5)
