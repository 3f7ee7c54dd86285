"""Digits as image and signal: seeded, absent modalities, strengths."""

import numpy as np
import pytest

from ltjax.data.mnist1d import open_mnist1d
from ltjax.data.multimodal_digits import multimodal_digits
from ltjax.data.scenes import glyph

SMALL = {"train_per_class": 8, "test_per_class": 4}


def test_image_and_signal_are_of_the_same_digit():
    digits = multimodal_digits("test", size=12, noise=0.0, **SMALL)
    stored = open_mnist1d("test", **SMALL)
    rows = digits.read(np.arange(40))
    np.testing.assert_array_equal(rows["signal"], stored.reader(np.arange(40)))
    np.testing.assert_array_equal(digits.labels, stored.labels)
    for image, label in zip(rows["image"][..., 0], digits.labels, strict=True):
        on = image > 0
        top, left = np.argwhere(on.any(1))[0, 0], np.argwhere(on.any(0))[0, 0]
        found = on[top : top + 7, left : left + 5]
        wide = glyph(int(label))[:, glyph(int(label)).any(0)]
        np.testing.assert_array_equal(found[:, : wide.shape[1]], wide)
        assert on.sum() == glyph(int(label)).sum()
    assert digits.class_counts.tolist() == [4] * 10


def test_the_same_seed_makes_the_same_digits_and_splits_differ():
    rows = np.arange(40)
    first, again = (multimodal_digits("test", **SMALL).read(rows) for _ in range(2))
    other = multimodal_digits("test", seed=1, **SMALL).read(rows)
    train = multimodal_digits("train", **SMALL).read(rows)
    for name in ("image", "signal"):
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])
        assert not np.array_equal(first[name], train[name])


def test_no_example_lacks_both_modalities():
    options = {"absent_image": 0.5, "absent_signal": 0.6, "absent": "zeros"}
    rows = multimodal_digits("train", noise=0.1, **options, **SMALL).read(np.arange(80))
    blind = ~rows["image"].any(axis=(1, 2, 3))
    deaf = ~rows["signal"].any(axis=(1, 2))
    assert not (blind & deaf).any()
    assert 24 <= blind.sum() <= 56  # 40 +- 3.6 standard deviations
    assert 12 <= deaf.sum() <= 36  # 24 +- 2.9


def test_noise_takes_the_place_of_a_digit():
    whole = multimodal_digits("train", **SMALL).read(np.arange(80))["image"]
    options = {"absent_image": 1.0, "noise": 0.3}
    noise = multimodal_digits("train", **options, **SMALL).read(np.arange(80))["image"]
    assert whole.max() > 1.2 and noise.std() == pytest.approx(0.3, rel=0.02)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="absent is 'gone'"):
        multimodal_digits(absent="gone")
    with pytest.raises(ValueError, match="size is 7"):
        multimodal_digits(size=7)
    with pytest.raises(ValueError, match="split is 'val', expected 'train' or"):
        multimodal_digits("val", **SMALL)
