"""The mean corruption error, by hand."""

import numpy as np
import pytest

from ltjax.metrics.corruption_error import mean_corruption_error


def test_errors_are_summed_over_severities_before_they_are_divided():
    ours = np.array([[[0.1, 0.5], [0.2, 0.4]], [[0.2, 1.0], [0.4, 0.8]]])
    base = np.array([[0.2, 0.2], [0.3, 0.9]])
    # 0.6 / 0.4 and 0.6 / 1.2; twice the errors are twice the mean.
    np.testing.assert_allclose(mean_corruption_error(ours, base), [1.0, 2.0])
    np.testing.assert_allclose(mean_corruption_error(base, base), 1.0)


def test_shapes_that_disagree():
    with pytest.raises(ValueError, match="expected .* 2, 5. as the baseline"):
        mean_corruption_error(np.ones((3, 5)), np.ones((2, 5)))
