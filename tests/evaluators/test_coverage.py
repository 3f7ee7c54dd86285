"""Coverage of classes whose features are given, by hand."""

import numpy as np
import pytest


def on_circle(degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_a_class_that_was_hardly_seen_is_not_covered(given):
    """Class 0 at 0 to 20 degrees, class 1 at 90 to 110, 10 degrees apart; no class 2.

    The training example at 95 is within that of 90 and of 100, not of 110.
    """
    one = given.evaluator("coverage", [9, 2, 3], k=1, block=3)
    test = given.batch(on_circle([0, 10, 20, 90, 100, 110]), [0, 0, 0, 1, 1, 1])
    train = given.batch(on_circle([4, 14, 95]), [0, 0, 1])
    found, bank = (
        given.with_replica(sweep.fn(given.state, batch, None))
        for sweep, batch in ((one.judge, test), (one.bank, train))
    )
    arrays = one.arrays(found, one.digest(bank), None)
    per_class = arrays["feature_coverage"]
    np.testing.assert_allclose(per_class, [[1, 2 / 3, np.nan]], rtol=1e-6)
    values = {name: np.ravel(x)[0] for name, x in one.summarize(arrays).items()}
    assert values["feature_coverage"] == pytest.approx(5 / 6)
    assert values["feature_coverage_many"] == 1
    assert values["feature_coverage_few"] == pytest.approx(2 / 3)
    assert values["feature_coverage_std"] == pytest.approx(np.sqrt(2) / 6)
    assert {column.key for column in one.columns} <= values.keys()
