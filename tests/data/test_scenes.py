"""Procedural scenes: dense targets, and the same as several labels."""

import numpy as np

from ltjax.data.scenes import digit_glyphs, digit_scenes, digit_sets, glyph


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


def test_glyphs_are_digits_that_were_stretched_and_moved():
    clean = digit_glyphs(4, num_digits=3, noise=0.0, seed=1)
    images = clean.read(np.arange(12)).astype(int)[..., 0]
    assert images.shape == (12, 16, 16) and clean.class_counts.tolist() == [4, 4, 4]
    for image, label in zip(images, clean.labels, strict=True):
        bright = image > 120  # dots have 0.5 to 1, the background at most 0.25
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        cut = bright[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if label == 1:
            continue  # it does not fill its box
        height, width = cut.shape
        assert 9 <= height <= 14 and 6 <= width <= 11
        down, across = np.arange(height) * 7 // height, np.arange(width) * 5 // width
        np.testing.assert_array_equal(cut, glyph(int(label))[down][:, across])
    other = digit_glyphs(4, num_digits=3, noise=0.0, seed=1, split="test")
    assert (other.read(np.arange(12)) != clean.read(np.arange(12))).any()
    again = digit_glyphs(4, num_digits=3, noise=0.0, seed=1)
    np.testing.assert_array_equal(again.read(np.arange(12)), clean.read(np.arange(12)))
