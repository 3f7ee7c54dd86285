"""Label noise: published transition matrices, and draws that follow them."""

import numpy as np
import pytest

from ltjax.data.label_noise import (
    CIFAR10_CONFUSED_GROUPS,
    CIFAR10_CONFUSIONS,
    CIFAR100_CONFUSED_GROUPS,
    asymmetric_noise,
    corrupt_labels,
    group_noise,
    imbalanced_noise,
    proportional_noise,
    symmetric_noise,
)
from ltjax.data.long_tail import long_tail_counts

COUNTS = np.array([50, 30, 20])


def test_imbalanced_noise_numbers():
    matrix = imbalanced_noise(COUNTS, 0.4)
    expected = [
        [0.6, 0.24, 0.16],
        [0.285714286, 0.6, 0.114285714],
        [0.25, 0.15, 0.6],
    ]
    np.testing.assert_allclose(matrix, expected, atol=1e-9)
    noisy = COUNTS @ matrix
    np.testing.assert_allclose(noisy, [43.571429, 33, 23.428571], atol=1e-6)


def test_symmetric_noise_swamps_the_tail():
    counts = long_tail_counts(10, 5000, 100)
    assert counts.sum() == 12406
    noisy = counts @ symmetric_noise(10, 0.4)
    # 0.6 * 50 + 0.4 * (12406 - 50) / 9
    np.testing.assert_allclose(noisy[-1], 579.155556, atol=1e-6)
    # With noise in proportion to the sizes, a tail class of 50 stays small.
    assert (counts @ imbalanced_noise(counts, 0.4))[-1] < 60


def test_proportional_noise_keeps_the_counts():
    matrix = proportional_noise(COUNTS, 0.3)
    np.testing.assert_allclose(COUNTS @ matrix, COUNTS)
    wrong = COUNTS / 100 @ (1 - np.diagonal(matrix))
    np.testing.assert_allclose(wrong, 0.3)
    # 1 - 0.25 - 0.09 - 0.04: more cannot be wrong without losing the counts.
    with pytest.raises(ValueError, match=r"rate is 0.63, expected .*\[0, 0.62"):
        proportional_noise(COUNTS, 0.63)


def test_asymmetric_noise():
    pair = asymmetric_noise(3, 0.45)
    np.testing.assert_allclose(
        pair, [[0.55, 0.45, 0], [0, 0.55, 0.45], [0.45, 0, 0.55]]
    )
    cifar = asymmetric_noise(10, 0.4, CIFAR10_CONFUSIONS)
    # Truck -> automobile but not back; cat and dog both ways.
    assert cifar[9, 1] == 0.4 and cifar[1, 9] == 0 and cifar[1, 1] == 1
    assert cifar[3, 5] == cifar[5, 3] == 0.4
    np.testing.assert_allclose(cifar.sum(axis=1), 1)


def test_group_noise():
    matrix = group_noise(10, 0.4, CIFAR10_CONFUSED_GROUPS)
    assert matrix[1, 1] == 0.6 and matrix[1, 9] == 0.4 and matrix[0, 0] == 1
    matrix = group_noise(100, 0.4, CIFAR100_CONFUSED_GROUPS)
    np.testing.assert_allclose(matrix[8, [8, 13, 58, 90, 48]], [0.6, *[0.1] * 4])
    np.testing.assert_allclose(matrix.sum(axis=1), 1)


LABELS = np.repeat(np.arange(4), [8000, 4000, 2000, 1000])
BY_SIZE = np.array([8000, 4000, 2000, 1000])


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.7, 1.0])
def test_exact_selection_changes_exactly_that_many(rate):
    noisy = corrupt_labels(LABELS, imbalanced_noise(BY_SIZE, rate), seed=1)
    assert (noisy != LABELS).sum() == int(round(rate * LABELS.size))
    assert noisy.dtype == LABELS.dtype


@pytest.mark.parametrize(
    ("matrix", "selection"),
    [
        (imbalanced_noise(BY_SIZE, 0.4), "exact"),
        (symmetric_noise(4, 0.4), "exact"),
        (asymmetric_noise(4, 0.3, {0: 1, 2: 3}), "independent"),
        (proportional_noise(BY_SIZE, 0.3), "independent"),
    ],
)
def test_frequencies_follow_the_matrix(matrix, selection):
    noisy = corrupt_labels(LABELS, matrix, selection=selection, seed=2)
    for k in range(4):
        shares = np.bincount(noisy[LABELS == k], minlength=4) / BY_SIZE[k]
        # Five standard deviations of a share of 1,000 examples.
        np.testing.assert_allclose(shares, matrix[k], atol=0.08)
        assert np.all(shares[matrix[k] == 0] == 0)


def test_noise_is_a_function_of_the_seed():
    matrix = symmetric_noise(4, 0.4)
    a, b, c = (corrupt_labels(LABELS, matrix, seed=s) for s in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    clean = LABELS.copy()
    corrupt_labels(clean, matrix)
    assert np.array_equal(clean, LABELS)


def test_empty_class_receives_nothing():
    noisy = corrupt_labels([0] * 60 + [2] * 40, imbalanced_noise([60, 0, 40], 0.5))
    assert set(noisy) == {0, 2}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: symmetric_noise(1, 0.4), "num_classes is 1"),
        (lambda: symmetric_noise(3, 1.4), "rate is 1.4"),
        (lambda: imbalanced_noise([3, 0], 0.4), "two positive ones"),
        (lambda: imbalanced_noise([3, -1], 0.4), "class 1 has -1"),
        (lambda: asymmetric_noise(3, 0.1, {1: 1}), "confusions has 1 -> 1"),
        (lambda: asymmetric_noise(3, 0.1, {1: 3}), "confusions has 1 -> 3"),
        (lambda: group_noise(3, 0.1, [(0, 1), (1, 2)]), "disjoint groups"),
        (lambda: group_noise(3, 0.1, [(0,)]), "disjoint groups"),
        (lambda: corrupt_labels([0], np.ones((2, 3))), r"\(2, 3\), expected \[K, K\]"),
        (lambda: corrupt_labels([0], np.ones((2, 2))), "rows of sum 1"),
        (lambda: corrupt_labels([2], np.eye(2)), r"must lie in \[0, 2\)"),
        (
            lambda: corrupt_labels([0], asymmetric_noise(3, 0.1, {0: 1})),
            "rates from 0 to 0.1",
        ),
        (lambda: corrupt_labels([0], np.eye(2), selection="some"), "selection is"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
