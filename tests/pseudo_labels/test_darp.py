"""DARP: the filter and the weights by hand, the published iteration, the optimum."""

import numpy as np
import pytest

from ltjax.pseudo_labels import darp_refine, entropy_weights, keep_largest

ROWS = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
FOUR = np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])


def predictions(size, num_classes, *, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(size, num_classes))
    logits += np.linspace(3, 0, num_classes)
    lifted = np.exp(logits)
    return lifted / lifted.sum(axis=1, keepdims=True)


def long_tail(size, num_classes, ratio):
    mass = ratio ** -np.linspace(0, 1, num_classes)
    return mass * size / mass.sum()


def released_filter(table, mass, ratio):
    """The filter as the released code writes it, column by column."""
    kept = np.zeros_like(table)
    for k in range(table.shape[1]):
        order = sorted(range(len(table)), key=lambda m: (-table[m, k], m))
        chosen = order[: int(ratio * mass[k] + 1e-9)]
        kept[chosen, k] = table[chosen, k]
        kept[:, k] *= (mass[k] + 1e-6) / (kept[:, k].sum() + 1e-6)
    kept += 1e-6
    return kept / kept.sum(axis=1, keepdims=True)


def released_iteration(rows, weights, mass, passes):
    """Algorithm 1: alpha, then roots by bisection, class after class, and alpha."""
    nu = np.zeros(rows.shape[1])
    for _ in range(passes):
        alpha = 1 / np.sum(rows * np.exp(-np.outer(1 / weights, nu)), axis=1)
        for k in range(rows.shape[1]):
            a = rows[:, k] * alpha
            low, high = -1.0, 1.0
            with np.errstate(over="ignore"):
                while np.sum(a * np.exp(-low / weights)) < mass[k]:
                    low *= 2
                while np.sum(a * np.exp(-high / weights)) > mass[k]:
                    high *= 2
                for _ in range(90):
                    middle = (low + high) / 2
                    if np.sum(a * np.exp(-middle / weights)) > mass[k]:
                        low = middle
                    else:
                        high = middle
            nu[k] = (low + high) / 2
    tilted = np.log(rows) - np.outer(1 / weights, nu)
    tilted = np.exp(tilted - tilted.max(axis=1, keepdims=True))
    return tilted / tilted.sum(axis=1, keepdims=True)


def test_filter_by_hand():
    # Two of column 0 and one of column 1 stay: 2.8 / 1.6 and 1.2 / 0.8, with 1e-6.
    kept = keep_largest(FOUR, [2.8, 1.2], keep_ratio=1.0)
    scales = (2.8 + 1e-6) / (1.6 + 1e-6), (1.2 + 1e-6) / (0.8 + 1e-6)
    np.testing.assert_allclose(scales, [1.749999531, 1.499999375], atol=1e-9)
    expected = np.array(
        [[0.9 * scales[0], 0], [0.7 * scales[0], 0], [0, 0], [0, 0.8 * scales[1]]]
    )
    expected += 1e-6
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(kept, expected, rtol=1e-12)
    np.testing.assert_array_equal(kept[2], [0.5, 0.5])
    # The most movable row of all: w = 1 / log K, but for the 1e-6.
    np.testing.assert_allclose(entropy_weights(kept)[2], 1 / np.log(2), rtol=1e-5)


def test_filter_is_that_of_the_released_code():
    table, mass = predictions(60, 4).round(2), long_tail(60, 4, 10)  # with ties
    np.testing.assert_allclose(
        keep_largest(table, mass), released_filter(table, mass, 2.0), rtol=1e-12
    )


def test_filter_sizes_are_not_lost_to_rounding():
    # 0.29 * 100 = 28.999999999999996 in float64.
    table = np.tile([[0.5, 0.5]], (100, 1))
    kept = keep_largest(table, [0.29 * 100, 0.0], keep_ratio=1.0)
    assert np.sum(kept[:, 0] > 0.9) == 29


def test_weights_by_hand():
    np.testing.assert_allclose(
        entropy_weights(ROWS), [3.076156656, 1.998399588, 1.485862758], atol=1e-8
    )
    # A one-hot row has a slightly negative entropy.
    assert entropy_weights([[1.0, 0.0]])[0] == pytest.approx(1e12)


def test_optimum_numbers():
    plan = darp_refine(ROWS, [1.5, 1.5], keep_ratio=None, solver="newton")
    expected = [0.790257776, 0.511485059, 0.198257165]
    np.testing.assert_allclose(plan.rows[:, 0], expected, rtol=0, atol=1e-7)
    plain = darp_refine(
        ROWS, [1.5, 1.5], keep_ratio=None, row_weights=np.ones(3), solver="newton"
    )
    expected = [0.703451696, 0.513211642, 0.283336662]
    np.testing.assert_allclose(plain.rows[:, 0], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("ratio", [None, 2.0])
def test_passes_are_those_of_the_paper(ratio):
    table, mass = predictions(80, 5), long_tail(80, 5, 20)
    rows = table if ratio is None else released_filter(table, mass, ratio)
    entropy = -np.sum(rows * np.log(rows + 1e-6), axis=1)
    expected = released_iteration(rows, 1 / entropy, mass, passes=4)
    plan = darp_refine(table, mass, keep_ratio=ratio, passes=4)
    np.testing.assert_allclose(plan.rows, expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(plan.rows.sum(axis=1), 1)


def test_filtered_rows_need_the_exact_solver():
    # The published ten passes stop far from the optimum; Newton is there in 15 steps.
    table, mass = predictions(3000, 10, scale=6.0), long_tail(3000, 10, 150)
    exact = darp_refine(table, mass, solver="newton")
    assert exact.converged and exact.violation <= 1e-10 and exact.iterations <= 15
    np.testing.assert_allclose(exact.rows.sum(axis=0), mass, rtol=0, atol=1e-10)
    early = darp_refine(table, mass)
    assert early.iterations == 10 and early.violation > 1.0
    assert np.max(np.abs(early.rows - exact.rows)) > 0.5


def test_masses_that_are_met_change_nothing():
    table = predictions(50, 4)
    plan = darp_refine(table, table.sum(axis=0), keep_ratio=None, solver="newton")
    np.testing.assert_allclose(plan.rows, table, atol=1e-12)


def test_zeros_stay_zeros_without_the_filter():
    table = predictions(50, 4)
    table[:25, 1] = 0
    plan = darp_refine(table, long_tail(50, 4, 4), keep_ratio=None, solver="newton")
    assert np.all(plan.rows[:25, 1] == 0) and plan.converged


def test_counts_of_the_labelled_set_will_do():
    table, mass = predictions(60, 4), long_tail(60, 4, 8)
    np.testing.assert_allclose(
        darp_refine(table, 17 * mass).rows, darp_refine(table, mass).rows, atol=1e-9
    )


def test_padding_takes_no_part():
    table, mass = predictions(60, 4), long_tail(60, 4, 8)
    padded = np.concatenate([table, np.zeros((4, 4))])
    where = np.arange(64) < 60
    plan = darp_refine(padded, mass, where=where)
    np.testing.assert_allclose(plan.rows[:60], darp_refine(table, mass).rows)
    assert not np.any(plan.rows[60:])


def test_a_class_without_mass_gets_none():
    plan = darp_refine(predictions(40, 3), [30.0, 10.0, 0.0], solver="newton")
    assert np.all(plan.rows[:, 2] == 0) and plan.converged
    np.testing.assert_allclose(plan.rows.sum(axis=0), [30, 10, 0], atol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: darp_refine(ROWS[0], [1, 1]), "darp_refine: probabilities has shape"),
        (lambda: darp_refine(ROWS, [1, 1, 1]), r"class_mass has shape \(3,\)"),
        (lambda: darp_refine(-ROWS, [1, 1]), "probabilities must be >= 0"),
        (lambda: darp_refine(ROWS * np.nan, [1, 1]), "probabilities must be >= 0"),
        (lambda: darp_refine(ROWS, [0, 0]), "class_mass is"),
        (lambda: darp_refine(ROWS, [1, 1], where=np.ones(3)), "where has shape"),
        (
            lambda: darp_refine(ROWS, [1, 1], row_weights=np.ones(2)),
            r"row_weights has shape \(2,\)",
        ),
        (lambda: keep_largest(ROWS, [1, 1], keep_ratio=-1), "keep_ratio is -1"),
        (lambda: entropy_weights(ROWS[0]), "probabilities has shape"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
