"""Procedural scenes: dense targets, and the same as several labels."""

import numpy as np

from ltjax.data.scenes import digit_scenes, digit_sets


def test_labels_are_the_digits_that_are_visible():
    options = {"num_digits": 4, "imbalance_factor": 5.0, "seed": 3}
    dense, sets = (make(12, **options) for make in (digit_scenes, digit_sets))
    rows = np.arange(12)
    np.testing.assert_array_equal(dense.read(rows), sets.read(rows))
    targets = sets.columns["targets"]
    for pixels, row, label in zip(
        dense.columns["targets"], targets, sets.labels, strict=True
    ):
        visible = sorted(set(pixels.ravel().tolist()) - {0, 255})
        assert np.flatnonzero(row).tolist() == [d - 1 for d in visible]
        assert label == visible[-1] - 1  # the rarest
    assert sets.num_classes == 4
    np.testing.assert_array_equal(sets.class_counts, targets.sum(0))
