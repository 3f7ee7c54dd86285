"""Averages over classes take the confusion matrix, and nothing that looks like one."""

import numpy as np
import pytest
from imblearn.metrics import geometric_mean_score

from ltjax import metrics as M


def test_a_square_matrix_is_one_table_of_counts_and_not_two_replicas():
    # Recalls 8/10 and 5/10. As a [2, 2] stack of recalls this was [5, 5].
    matrix = [[8, 2], [5, 5]]
    assert M.balanced_accuracy(matrix) == pytest.approx(0.65)
    assert M.worst_class(matrix) == 0.5
    assert M.g_mean(matrix) == pytest.approx(0.4**0.5)
    # 1 / (1/0.8 + 1/0.5) * 2
    assert M.harmonic_mean(matrix) == pytest.approx(2 / 3.25)
    np.testing.assert_allclose(M.specificity(matrix), [0.5, 0.8])


@pytest.mark.parametrize("correction", [0.0, 0.001, 0.3])
def test_corrected_g_mean(correction):
    y, guess = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 0, 0, 1])
    matrix = M.confusion_matrix(y, guess, 3)  # recalls 1, 1/2, 0
    expected = (0.5 * correction) ** (1 / 3)
    assert M.g_mean(matrix, correction=correction) == pytest.approx(expected)
    peer = geometric_mean_score(y, guess, correction=correction)
    assert M.g_mean(matrix, correction=correction) == pytest.approx(peer)
