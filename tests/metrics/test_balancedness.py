"""Group means and deviations, with the numbers of a published table."""

import numpy as np
import pytest

from ltjax.class_stats import third_groups
from ltjax.metrics import balancedness


def test_deviation_of_a_published_row():
    """Many, medium, few of 54.97, 49.39, 47.67 (SimCLR, CIFAR-100-LT)."""
    groups = {
        name: np.arange(3) == k for k, name in enumerate(("many", "medium", "few"))
    }
    result = balancedness([54.97, 49.39, 47.67], groups)
    np.testing.assert_allclose(result.group_std, 3.816298, atol=5e-7)
    np.testing.assert_allclose(result.group_std_population, 3.115995, atol=5e-7)
    np.testing.assert_allclose(result.class_std, result.group_std_population)


def test_average_is_over_classes_not_groups():
    counts = [500, 300, 100, 50, 20, 10, 5]
    groups = third_groups(counts)
    assert [int(m.sum()) for m in groups.values()] == [3, 2, 2]
    recall = np.array([[0.9, 0.9, 0.9, 0.5, 0.5, 0.2, 0.2], [0.5] * 6 + [np.nan]])
    result = balancedness(recall, groups)
    np.testing.assert_allclose(result.average, [4.1 / 7, 0.5])
    np.testing.assert_allclose(result.groups["few"], [0.2, 0.5])
    np.testing.assert_allclose(result.group_std[0], np.std([0.9, 0.5, 0.2], ddof=1))
    np.testing.assert_allclose(result.group_std[1], 0, atol=1e-15)
    np.testing.assert_allclose(result.class_std[0], np.std(recall[0]))
    alone = balancedness(recall, {"all": np.ones(7, bool)})
    assert np.all(np.isnan(alone.group_std)) and not np.any(alone.group_std_population)


def test_sizes_and_order_of_thirds():
    """33, 33, 34 of 100 and 3, 3, 4 of 10; equal counts go by the index."""
    for classes, sizes in ((100, (34, 33, 33)), (10, (4, 3, 3))):
        counts = np.floor(500 * 0.01 ** (np.arange(classes) / (classes - 1)))
        groups = third_groups(counts[::-1])
        assert tuple(int(m.sum()) for m in groups.values()) == sizes
        assert groups["few"][: sizes[2]].all() and groups["many"][-sizes[0] :].all()
    assert third_groups([4, 4, 4])["few"].tolist() == [True, False, False]
    with pytest.raises(ValueError, match="third_groups: 2 classes"):
        third_groups([4, 4])
