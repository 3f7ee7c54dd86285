"""Repeat factors by hand, and how often their classes are drawn."""

import numpy as np
import pytest

from ltjax.resampling.repeat_factor import repeat_factor, repeat_factors


def test_factors_of_three_classes():
    """Shares .8, .16, .04 and t = .16: sqrt(.16/.8) < 1, 1, sqrt(4) = 2."""
    factors = repeat_factors([80, 16, 4], threshold=0.16)
    np.testing.assert_allclose(factors, [1, 1, 2])


def test_classes_are_drawn_by_count_times_factor():
    labels = np.repeat([0, 1, 2], [80, 16, 4])
    sampler = repeat_factor(labels, 3, 50, threshold=0.16)
    drawn = np.concatenate([labels[sampler(0, step)[0]] for step in range(400)])
    expected = np.array([80, 16, 8]) / 104
    found = np.bincount(drawn, minlength=3) / drawn.size
    np.testing.assert_allclose(found, expected, atol=0.01)  # 4 deviations: 0.0083


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="repeat_factors: threshold is 0"):
        repeat_factors([3, 1], threshold=0)
    with pytest.raises(ValueError, match="class_counts are all 0"):
        repeat_factors([0, 0], threshold=0.1)
    assert repeat_factors([3, 0], threshold=0.1).tolist() == [1, 1]
