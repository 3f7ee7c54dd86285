"""Threshold moving, expected cost, prior correction: numbers by hand and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.class_stats import inverse_power_weights
from ltjax.classifiers import (
    adjust_logits,
    cost_sampling_targets,
    expected_cost,
    min_expected_cost,
    move_threshold,
    move_threshold_logits,
    prior_correction,
    shift_threshold_for_costs,
    undersampling_correction,
)

BY_ROW = np.array([[0, 1, 1], [2, 0, 2], [5, 5, 0]])
GENERAL = np.array([[0, 1, 9], [3, 0, 3], [3, 3, 0]])


def test_cost_of_the_true_class_only():
    # Row sums 2, 4, 10: (1.10, 1.32, 1.20) / 3.62.
    p = np.array([0.55, 0.33, 0.12], np.float32)
    moved = move_threshold(p, BY_ROW)
    np.testing.assert_allclose(moved, [0.30386740, 0.36464088, 0.33149171], rtol=1e-6)
    assert p.argmax() == 0 and int(moved.argmax()) == 1
    np.testing.assert_allclose(expected_cost(p, BY_ROW), [1.26, 1.15, 1.21], rtol=1e-6)
    assert int(min_expected_cost(p, BY_ROW)) == 1


def test_general_costs_where_row_sums_and_bayes_differ():
    # Row sums 10, 6, 6: (5, 1.8, 1.2) / 8.
    p = np.array([0.5, 0.3, 0.2], np.float32)
    moved = move_threshold(p, GENERAL)
    np.testing.assert_allclose(moved, [0.625, 0.225, 0.15], rtol=1e-6)
    np.testing.assert_allclose(expected_cost(p, GENERAL), [1.5, 1.1, 5.4], rtol=1e-6)
    assert int(moved.argmax()) == 0 and int(min_expected_cost(p, GENERAL)) == 1


def test_row_sums_equal_bayes_for_two_classes_and_row_costs():
    rng = np.random.default_rng(0)
    binary = rng.dirichlet([1, 1], 500).astype(np.float32)
    cost = np.array([[0, 3], [7, 0]])
    decisions = np.asarray(min_expected_cost(binary, cost))
    assert np.array_equal(decisions, np.argmax(move_threshold(binary, cost), axis=1))
    # The threshold on p_1 is C01 / (C01 + C10).
    assert np.array_equal(decisions, binary[:, 1] > 3 / 10)
    p = rng.dirichlet(np.ones(4), 500).astype(np.float32)
    by_row = np.array([1.0, 2.0, 5.0, 0.5])[:, None] * (1 - np.eye(4))
    decisions = np.asarray(min_expected_cost(p, by_row))
    assert np.array_equal(decisions, np.argmax(move_threshold(p, by_row), axis=1))


def test_row_sums_of_inverse_priors_are_logit_adjustment():
    # Priors (0.7, 0.2, 0.1) and logits (1.2, 0.4, 0.1), tau = 1/2 and 1.
    prior, logits = np.array([0.7, 0.2, 0.1]), np.array([1.2, 0.4, 0.1], np.float32)
    expected = {
        0.5: [0.36746986, 0.30890160, 0.32362854],
        1.0: [0.20396720, 0.32076930, 0.47526349],
    }
    for tau, probabilities in expected.items():
        cost = prior[:, None] ** -tau * (1 - np.eye(3)) / 2
        moved = jax.nn.softmax(move_threshold_logits(logits, cost))
        np.testing.assert_allclose(moved, probabilities, rtol=1e-6)
        adjusted = jax.nn.softmax(adjust_logits(logits, 1000 * prior, tau=tau))
        np.testing.assert_allclose(adjusted, probabilities, rtol=1e-6)
        of_probabilities = move_threshold(jax.nn.softmax(logits), cost)
        np.testing.assert_allclose(of_probabilities, probabilities, rtol=1e-5)


def test_adjustments_add_up_and_zero_is_the_identity():
    logits, counts = np.array([[1.2, 0.4, 0.1]], np.float32), np.array([70, 20, 10])
    twice = adjust_logits(adjust_logits(logits, counts, tau=0.3), counts, tau=0.4)
    np.testing.assert_allclose(twice, adjust_logits(logits, counts, tau=0.7), rtol=1e-6)
    np.testing.assert_array_equal(adjust_logits(logits, counts, tau=0.0), logits)


def test_invariances_of_the_cost():
    p = np.random.default_rng(1).dirichlet(np.ones(3), 20).astype(np.float32)
    moved = move_threshold(p, GENERAL)
    np.testing.assert_allclose(move_threshold(p, 7 * GENERAL), moved, rtol=1e-6)
    np.testing.assert_allclose(moved.sum(axis=1), 1, rtol=1e-6)
    equal_rows = np.array([[0, 1, 3], [2, 0, 2], [4, 0, 0]])
    np.testing.assert_allclose(move_threshold(p, equal_rows), p, rtol=1e-6)
    order = [2, 0, 1]
    permuted = move_threshold(p[:, order], GENERAL[np.ix_(order, order)])
    np.testing.assert_allclose(permuted, moved[:, order], rtol=1e-6)


def test_prior_correction_of_under_sampling():
    # Negatives kept at rate 0.1: p = 0.1 p_s / (0.1 p_s - p_s + 1).
    for sampled, expected in ((0.5, 0.09090909), (0.8, 0.28571429)):
        p = undersampling_correction(sampled, keep_rate=0.1)
        np.testing.assert_allclose(p, expected, rtol=1e-6)
        # The same by priors: 1000 : 50 before, 100 : 50 after.
        pair = np.array([1 - sampled, sampled], np.float32)
        corrected = prior_correction(pair, [100, 50], [1000, 50])
        np.testing.assert_allclose(corrected[1], expected, rtol=1e-6)


def test_prior_correction_is_a_group_and_survives_extreme_priors():
    p = np.random.default_rng(2).dirichlet(np.ones(3), 20).astype(np.float32)
    a, b, c = ([5, 3, 2], [1, 1, 1], [900, 90, 10])
    there = prior_correction(prior_correction(p, a, b), b, c)
    np.testing.assert_allclose(there, prior_correction(p, a, c), rtol=1e-5)
    np.testing.assert_allclose(prior_correction(p, a, a), p, rtol=1e-6)
    extreme = prior_correction(p[:, :2], [1, 1], [1e-40, 2e-40])
    same = prior_correction(p[:, :2], [1, 1], [1, 2])
    np.testing.assert_allclose(extreme, same, rtol=1e-6)
    dropped = prior_correction(p, a, [1, 1, 0])
    assert not np.any(dropped[:, 2]) and np.allclose(dropped.sum(axis=1), 1)


def test_logits_survive_where_probabilities_underflow():
    logits = np.array([200.0, 0.0], np.float32)
    cost = np.array([[0, 1], [np.exp(300.0), 0]])
    np.testing.assert_allclose(move_threshold_logits(logits, cost), [200, 300])
    without = move_threshold_logits(logits, [[0, 1], [0, 0]])
    assert without.tolist() == [200, -np.inf]


def test_threshold_between_margins():
    # d_+ = D b^(1/3) / (1 + b^(1/3)): 1 -> 1/2, 8 -> 2/3, 27 -> 3/4.
    for beta, share in ((1, 1 / 2), (8, 2 / 3), (27, 3 / 4)):
        np.testing.assert_allclose(shift_threshold_for_costs(1.0, beta), share)
        np.testing.assert_allclose(shift_threshold_for_costs(4.0, beta), 4 * share)
    # It is where b / d^2 + 1 / (D - d)^2 is least.
    distance = np.linspace(0.01, 0.99, 9801)
    bound = 8 / distance**2 + 1 / (1 - distance) ** 2
    assert abs(distance[bound.argmin()] - 2 / 3) < 1e-3
    # The modern version, LDAM: n^(-1/4) of counts 100 : 1.
    weights = inverse_power_weights([100, 1], power=0.25)
    np.testing.assert_allclose(weights[1] / weights[0], 3.16227766, rtol=1e-8)


def test_sampling_targets_from_costs():
    # Row sums C = (2, 4, 10), counts (100, 60, 20): C / n = (0.02, 0.0667, 0.5), so
    # lambda is class 0 for over-sampling: t = n_0 (1, 2, 5); class 2 for under-: t =
    # 20 (0.2, 0.4, 1).
    counts = [100, 60, 20]
    assert cost_sampling_targets(counts, BY_ROW).tolist() == [100, 200, 500]
    assert cost_sampling_targets(counts, BY_ROW, mode="under").tolist() == [4, 8, 20]
    # Equal costs balance the classes.
    equal = 1 - np.eye(3)
    assert cost_sampling_targets(counts, equal).tolist() == [100, 100, 100]
    assert cost_sampling_targets(counts, equal, mode="under").tolist() == [20, 20, 20]
    # The paper's lambda, written with a common factor, is the same class.
    totals = BY_ROW.sum(axis=1)
    cheapest = totals.argmin()
    ratio = totals / totals[cheapest] * counts[cheapest] / np.array(counts)
    assert ratio.argmin() == 0 and ratio.argmax() == 2


def test_costs_and_priors_may_be_traced():
    p = np.array([[0.5, 0.3, 0.2]], np.float32)
    np.testing.assert_allclose(
        jax.jit(move_threshold)(p, GENERAL), move_threshold(p, GENERAL), rtol=1e-6
    )
    logits = np.log(p)
    moved = jax.jit(move_threshold_logits)(logits, GENERAL)
    np.testing.assert_allclose(moved, move_threshold_logits(logits, GENERAL), rtol=1e-6)
    assert jax.jit(min_expected_cost)(p, GENERAL).tolist() == [1]
    corrected = jax.jit(prior_correction)(p, np.array([5, 3, 2]), np.ones(3))
    np.testing.assert_allclose(corrected, prior_correction(p, [5, 3, 2], np.ones(3)))
    gap = jax.jit(shift_threshold_for_costs)(3.0, 8.0)
    np.testing.assert_allclose(gap, 2.0, rtol=1e-6)


def test_half_precision_is_computed_in_float32():
    p = jnp.array([[0.5, 0.25, 0.25]], jnp.bfloat16)
    for result in (
        move_threshold(p, GENERAL),
        prior_correction(p, [1, 1, 2], [1, 1, 1]),
    ):
        assert result.dtype == jnp.float32


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (np.ones((2, 2)), r"cost has shape \(2, 2\), but there are 3 classes"),
        (-BY_ROW, r"cost\[0, 1\] is -1.0, expected a number >= 0"),
        (np.ones((3, 3)), r"cost\[0, 0\] is 1.0, expected 0 on the diagonal"),
        (np.where(BY_ROW == 5, np.nan, BY_ROW), r"cost\[2, 0\] is nan"),
        (np.zeros((3, 3)), "cost is zero everywhere"),
    ],
)
def test_bad_costs_are_named(cost, message):
    p = np.array([0.5, 0.3, 0.2], np.float32)
    for function in (move_threshold, move_threshold_logits, min_expected_cost):
        with pytest.raises(ValueError, match=message):
            function(p, cost)


def test_bad_input_is_named():
    p = np.array([0.5, 0.5], np.float32)
    with pytest.raises(TypeError, match="probabilities has dtype int"):
        move_threshold(np.array([0, 1]), np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"source_prior\[1\] is 0.0, expected > 0"):
        prior_correction(p, [1, 0], [1, 1])
    with pytest.raises(ValueError, match=r"target_prior\[0\] is -1.0"):
        prior_correction(p, [1, 1], [-1, 1])
    with pytest.raises(ValueError, match="target_prior has shape"):
        prior_correction(p, [1, 1], [1, 1, 1])
    with pytest.raises(ValueError, match="keep_rate is 0"):
        undersampling_correction(0.5, keep_rate=0)
    with pytest.raises(ValueError, match="beta is 0"):
        shift_threshold_for_costs(1.0, 0)
    with pytest.raises(ValueError, match="mode is 'both'"):
        cost_sampling_targets([1, 1], 1 - np.eye(2), mode="both")
    with pytest.raises(ValueError, match="must all be positive"):
        cost_sampling_targets([1, 0], 1 - np.eye(2))
    with pytest.raises(ValueError, match="must all be positive"):
        cost_sampling_targets([1, 1], [[0, 1], [0, 0]])
