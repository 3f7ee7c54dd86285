"""The TLA + ADRW bound: numbers by hand, streaming minima, the two choices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.metrics.bound import (
    bound_terms,
    choose_switch_epoch,
    choose_weight_power,
    contraction_factor,
    init_min_scores,
    update_min_scores,
)

COUNTS = np.array([100, 20, 5])
PRIOR = COUNTS / 125
SCALE = np.array([1.0, 0.724779664, 0.549280272])  # (n / n_max)^.2
B = np.array([2.0, 1.0, 0.2])


def test_known_numbers(x64):
    terms = bound_terms(B, COUNTS, scale=SCALE, shift=1.2 * np.log(PRIOR))
    np.testing.assert_allclose(
        terms.contraction, [1.619638453, 1.710431209, 1.810130853], rtol=1e-9
    )
    np.testing.assert_allclose(
        terms.lipschitz, [0.069218045, 1.644125359, 1.802942551], rtol=2e-8
    )
    assert float(terms.total) == pytest.approx(9.001242958, rel=1e-8)


def test_parts_compose_as_defined(x64):
    weight = np.array([0.65, 0.97, 1.38])
    terms = bound_terms(B, COUNTS, weight=weight, scale=SCALE, shift=np.log(PRIOR))
    exponents = np.exp(SCALE * B + np.log(PRIOR))
    gap = 1 - exponents / exponents.sum()
    others = SCALE.sum() - SCALE
    contraction = np.sqrt(SCALE**2 + others**2)
    np.testing.assert_allclose(terms.gap, gap, rtol=1e-12)
    np.testing.assert_allclose(terms.lipschitz, weight * contraction * gap, rtol=1e-12)
    summand = weight * contraction * gap * np.sqrt(PRIOR)
    np.testing.assert_allclose(terms.summand, summand, rtol=1e-12)
    assert float(terms.total) == pytest.approx(summand.sum() / (3 * 0.04), rel=1e-12)


def test_defaults_are_plain_cross_entropy(x64):
    terms = bound_terms(B, COUNTS)
    np.testing.assert_allclose(terms.contraction, np.sqrt(1 + 4), rtol=1e-12)
    np.testing.assert_allclose(terms.gap, 1 - np.exp(B) / np.exp(B).sum(), rtol=1e-12)


def test_gap_of_a_certain_class_is_not_rounded_away():
    # softmax = 1 - 1e-13 rounds to 1 in float32; the gap must still be e^-30.
    gap = bound_terms(jnp.array([30.0, 0.0]), [1, 1]).gap
    np.testing.assert_allclose(gap[0], np.exp(-30.0), rtol=1e-4)


def test_contraction_of_equal_scales():
    factor = contraction_factor(jnp.full(10, 2.0))
    np.testing.assert_allclose(factor, 2 * np.sqrt(1 + 81), rtol=1e-6)


def test_minima_are_streamed_and_masked():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 40)
    where = rng.random(40) < 0.8
    update = jax.jit(update_min_scores)
    scores = init_min_scores(3)
    for start in range(0, 40, 10):
        rows = slice(start, start + 10)
        masked = np.where(where[rows, None], logits[rows], np.nan)
        marked = np.where(where[rows], labels[rows], -1)
        scores = update(scores, masked, marked, where=where[rows])
    own = logits[np.arange(40), labels]
    expected = [own[(labels == k) & where].min() for k in range(3)]
    np.testing.assert_array_equal(scores, np.float32(expected))


def test_unseen_class_stays_at_infinity_and_bad_labels_show():
    logits = jnp.array([[1.0, 2.0, 3.0]])
    scores = update_min_scores(init_min_scores(3), logits, jnp.array([1]))
    np.testing.assert_array_equal(scores, [np.inf, 2.0, np.inf])
    for label in (-1, 3):
        assert np.isnan(update_min_scores(scores, logits, jnp.array([label]))).all()


def test_weight_power_equalizes_exact_power_laws():
    summand = 7 * PRIOR**0.3
    power = choose_weight_power(summand, COUNTS)
    assert power == pytest.approx(0.3, abs=1e-12)
    np.testing.assert_allclose(np.ptp(summand * PRIOR**-power), 0, atol=1e-12)


def test_weight_power_minimizes_the_spread():
    rng = np.random.default_rng(3)
    counts = np.array([500, 200, 90, 30, 6])
    log_prior = np.log(counts / counts.sum())
    summand = np.exp(0.4 * log_prior + 0.3 * rng.normal(size=5))
    power = choose_weight_power(summand, counts)
    grid = np.linspace(0, 1, 2001)
    spread = [np.var(np.log(summand) - nu * log_prior) for nu in grid]
    assert power == pytest.approx(grid[np.argmin(spread)], abs=5e-4)


def test_weight_power_is_clipped_and_needs_a_tail():
    assert choose_weight_power(PRIOR**2.5, COUNTS) == 1.0
    assert choose_weight_power(PRIOR**-1.0, COUNTS) == 0.0
    assert choose_weight_power(np.ones(3), [7, 7, 7], low=0.1) == 0.1
    # A class without a summand has nothing to equalize.
    power = choose_weight_power(np.append(PRIOR**0.3, 0.0), np.append(COUNTS, 1))
    assert power == pytest.approx(0.3, abs=1e-12)


def test_switch_epoch_by_hand():
    # Head parts 10, 5, 3, 2.9, 2.89, 2.88: over two epochs the progress is
    # 70 %, 42 %, 3.7 % and 0.7 %, so 5 is the first stop below 1 %.
    head = np.array([10.0, 5.0, 3.0, 2.9, 2.89, 2.88])
    tail = np.array([1.0, 0.5, 9.0, 0.1, 7.0, 0.01])  # must not matter
    history = np.stack([head, tail], axis=1)
    assert choose_switch_epoch(history, [90, 10], window=2) == 5
    assert choose_switch_epoch(history, [90, 10], window=2, tolerance=0.05) == 4
    assert choose_switch_epoch(history[:5], [90, 10], window=2) is None
    assert choose_switch_epoch(history[:1], [90, 10]) is None


def test_switch_epoch_forgives_a_bump():
    # The running minimum, not the last value, is what has to move.
    head = np.array([8.0, 4.0, 6.0, 2.0, 1.0])
    assert choose_switch_epoch(head[:, None] * np.ones(2), [9, 1], window=2) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bound_terms(B, COUNTS[:2]), "class_counts has shape"),
        (lambda: bound_terms(B, COUNTS, scale=SCALE[:2]), "scale has shape"),
        (lambda: update_min_scores(B[:2], jnp.ones((1, 3)), jnp.zeros(1, int)), "min"),
        (lambda: choose_weight_power(B, COUNTS, low=1.0, high=0.5), "low <= high"),
        (lambda: choose_switch_epoch(B, COUNTS), "expected 2 axes"),
        (lambda: choose_switch_epoch(B[None], COUNTS, tolerance=1.0), "tolerance"),
        (lambda: choose_switch_epoch(B[None], COUNTS, window=0), "at least 1"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
