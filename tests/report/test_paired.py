import math

import numpy as np
import pytest

from ltjax.metrics.column import CLASSIFICATION, Column
from ltjax.report import read_run
from ltjax.report.paired import (
    paired_difference,
    run_differences,
    t_probability,
    t_quantile,
)


@pytest.mark.parametrize("freedom", range(1, 9))
@pytest.mark.parametrize("t", [0.3, 1.0, 2.5, 12.0])
def test_the_series_is_the_integral_of_the_density(t, freedom):
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2)
    scale /= math.sqrt(freedom * math.pi)
    x = np.linspace(0, t, 200_001)
    density = scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    total = 2 * np.trapezoid(density, x)
    assert t_probability(t, freedom) == pytest.approx(total, rel=1e-9)


def test_quantiles_invert_the_probability():
    # P(|T| < t) = t / sqrt(2 + t^2) for two degrees of freedom.
    expected = 0.95 * math.sqrt(2 / (1 - 0.95**2))
    assert t_quantile(0.95, 2) == pytest.approx(expected, rel=1e-10)
    # For one, it is 2 / pi * atan t.
    assert t_quantile(0.9, 1) == pytest.approx(math.tan(0.45 * math.pi), rel=1e-10)


def test_a_difference_by_hand():
    # Gaps 1, 2, 3: mean 2, deviation 1, error 1 / sqrt 3.
    found = paired_difference([11.0, 12.0, 13.0], [10.0, 10.0, 10.0])
    reach = 0.95 * math.sqrt(2 / (1 - 0.95**2)) / math.sqrt(3)
    assert found.mean == 2 and found.seeds == 3 and not found.beyond
    assert found.low == pytest.approx(2 - reach) and found.high == pytest.approx(
        2 + reach
    )
    less = paired_difference([10.0, 10.0], [12.0, 12.0])
    assert (less.low, less.high, less.beyond) == (-2, -2, True)


def test_what_is_not_known():
    assert paired_difference([1.0], [0.5])[:3] == (0.5, None, None)
    assert paired_difference([1.0, np.nan], [0.5, 0.5])[:3] == (None, None, None)
    assert paired_difference([], [])[:3] == (None, None, None)
    with pytest.raises(ValueError, match="ours has shape"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="level is 1.0"):
        t_quantile(1.0, 3)
    with pytest.raises(ValueError, match="freedom is 0"):
        t_quantile(0.95, 0)


def test_seeds_are_matched_by_their_numbers(judged_workdir):
    column = Column("miou", "mIoU", "max", "mean IoU")

    def make(name, seeds, values):
        return read_run(
            judged_workdir(
                name,
                method=name,
                columns=[column._asdict()],
                seeds=seeds,
                summary={"miou": values},
            )
        )

    ours = make("ours", [3, 1, 2], [0.9, 0.5, 0.7])
    theirs = make("theirs", [1, 2, 4], [0.25, 0.25, 0.0])
    (found,) = run_differences(ours, theirs, [column])
    assert found.seeds == 2
    assert found.mean == pytest.approx(100 * (0.25 + 0.45) / 2)
    (unknown,) = run_differences(ours, theirs, [CLASSIFICATION[0]])
    assert unknown == (None, None, None, 0)
