"""The distance of an estimated class distribution from the true one."""

import numpy as np
import pytest

from ltjax.methods.prior_distance import prior_distance

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])  # shares 0.3, 0.2, 0.5


@pytest.mark.parametrize(
    ("estimate", "distance"),
    [
        ([3.0, 2.0, 5.0], 0.0),  # counts will do
        ([0.5, 0.3, 0.2], 0.3),  # three tenths of the examples are of another class
        ([0.0, 0.0, 7.0], 0.5),
        ([0.0, 0.0, 0.0], 0.5),  # nobody knows anything: no division by zero
    ],
)
def test_it_is_the_share_of_examples_of_another_class(estimate, distance):
    total, count = prior_distance(estimate, LABELS)["prior_distance"]
    assert count == 1
    np.testing.assert_allclose(total, distance, atol=1e-6)


def test_nobody_measures_without_true_labels():
    assert prior_distance([1.0, 1.0], None) == {}
