"""Common corruptions: definitions by hand, determinism, and the split that has them."""

import numpy as np
import pytest

from ltjax.data import array_source
from ltjax.data.corruptions import (
    CORRUPTIONS,
    chosen,
    corrupt,
    corrupted,
    plasma,
)
from ltjax.data.readers import DataError
from ltjax.data.scenes import digit_glyphs
from ltjax.metrics.corruption_error import (
    CORRUPTION_NAMES,
    case_name,
    corruption_case,
)


def rgb(side=8):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_a_function_of_seed_and_index(name):
    image = rgb(16)
    first = corrupt(image, name, 5, seed=3, index=4)
    assert first.shape == image.shape and first.dtype == np.uint8
    assert (first != image).any()
    np.testing.assert_array_equal(first, corrupt(image, name, 5, seed=3, index=4))
    np.testing.assert_array_equal(corrupt(image, name, 0), image)
    if not CORRUPTIONS[name].color:
        gray = corrupt(image[..., :1], name, 5, seed=3)
        assert gray.shape == (16, 16, 1)


NOISES = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")


@pytest.mark.parametrize("name", (*NOISES, "motion_blur", "fog", "elastic"))
def test_random_ones_differ_from_image_to_image_and_by_seed(name):
    image = rgb(16)
    one, two, three = (
        corrupt(image, name, 5, seed=seed, index=index)
        for seed, index in ((0, 0), (0, 1), (1, 0))
    )
    assert (one != two).any() and (one != three).any()


def test_noise_has_its_published_size():
    gray = np.full((200, 200, 1), 128, np.uint8)
    x = 128 / 255
    for name, want in (
        ("gaussian_noise", 0.10),
        ("shot_noise", (x / 50) ** 0.5),
        ("speckle_noise", 0.2 * x),
    ):
        made = corrupt(gray, name, 5) / 255
        # Of 40,000 draws the deviation is known to 1.1 percent at three sigmas.
        assert made.std() == pytest.approx(want, rel=0.012), name
    salted = corrupt(gray, "impulse_noise", 5)
    share = [(salted == value).mean() for value in (0, 255)]
    np.testing.assert_allclose(share, 0.035, atol=0.003)


def test_colors_by_hand():
    image = np.array([[[51, 102, 204], [0, 0, 0]]], np.uint8)
    # Value 204/255 + 0.1, hue and saturation as before: all channels by 0.9/0.8.
    bright = corrupt(image, "brightness", 2)
    np.testing.assert_array_equal(bright[0, 0], np.rint([51 * 9 / 8, 114.75, 229.5]))
    np.testing.assert_array_equal(bright[0, 1], [26, 26, 26])
    # Saturation 0.75 times 0.1 around the value 204: 204 (1 - s (1 - c / max) / 0.75).
    dull = corrupt(image, "saturate", 2)
    np.testing.assert_array_equal(dull[0, 0], np.rint([204 * 0.925, 204 * 0.95, 204]))
    # As the standard library has it, gray and black pixels included.
    import colorsys

    image = np.concatenate([rgb(6).reshape(1, -1, 3), [[[0, 0, 0], [90, 90, 90]]]], 1)
    for name, change in (
        ("brightness", lambda h, s, v: (h, s, min(v + 0.3, 1))),
        ("saturate", lambda h, s, v: (h, min(2.5 * s + 0.2, 1), v)),
    ):
        made = corrupt(image.astype(np.uint8), name, 5)
        want = [
            colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel)))
            for pixel in image[0] / 255
        ]
        np.testing.assert_allclose(made[0], 255 * np.array(want), atol=0.51)
    two = np.array([[[0], [200]]], np.uint8)
    np.testing.assert_array_equal(
        corrupt(two, "contrast", 2).ravel(), [50, 150]
    )  # mean 100, half the distance


def test_pixelate_averages_boxes():
    image = np.arange(400, dtype=float).reshape(20, 20, 1) * 0.6
    image = np.rint(image).astype(np.uint8)
    made = corrupt(image, "pixelate", 5)  # 13 boxes a side
    assert len(np.unique(made[:, 0])) <= 13 and made.shape == image.shape
    assert made.mean() == pytest.approx(image.mean(), abs=2)


def test_blurs_keep_constants_and_spread_a_point():
    flat = np.full((32, 32, 1), 90, np.uint8)
    point = np.zeros((33, 33, 1), np.uint8)
    point[8, 20] = 255  # not at the center, which a zoom keeps
    for name in ("gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur"):
        np.testing.assert_array_equal(corrupt(flat, name, 5), flat)
        spread = corrupt(point, name, 5)[..., 0].astype(float)
        assert spread.max() < 255 and (spread > 0).sum() > 3, name
    # One standard deviation of the fifth Gaussian is a pixel: 1 / (2 pi) at the center.
    center = corrupt(point, "gaussian_blur", 5)[8, 20, 0] / 255
    assert center == pytest.approx(1 / (2 * np.pi), abs=0.005)


def test_fog_is_a_periodic_map_that_fills_its_range():
    cloud = plasma(16, 2.0, np.random.default_rng(1))
    assert cloud.shape == (16, 16) and cloud.min() == 0 and cloud.max() == 1
    # Midpoints lie around the mean of their corners, closer at finer scales.
    smooth = plasma(64, 8.0, np.random.default_rng(1))
    steps = np.abs(np.diff(smooth, axis=0)).mean()
    assert (
        steps
        < np.abs(np.diff(plasma(64, 1.0, np.random.default_rng(1)), axis=0)).mean()
    )


def test_numbers_of_cases():
    names = [*CORRUPTIONS]
    assert tuple(names) == CORRUPTION_NAMES
    assert case_name(0) == ("", 0)
    for name in names:
        for severity in range(1, 6):
            assert case_name(corruption_case(name, severity)) == (name, severity)
    assert corruption_case(names[-1], 5) == 5 * len(names)


def test_the_split_holds_every_case_of_the_same_images():
    source = digit_glyphs(2, num_digits=4, size=16, noise=0.0)
    made = corrupted(source, ("contrast", "brightness"), images=4, seed=1)
    rows = np.array([0, 2, 4, 7])  # evenly spaced in eight, rounded down
    clean = source.read(rows)
    case = made.columns["corruption"]
    np.testing.assert_array_equal(made.labels, np.tile(source.labels[rows], 11))
    np.testing.assert_array_equal(made.read(np.flatnonzero(case == 0)), clean)
    for name in ("contrast", "brightness"):
        place = np.flatnonzero(case == corruption_case(name, 4))
        want = [
            corrupt(x, name, 4, seed=1, index=i)
            for x, i in zip(clean, rows, strict=True)
        ]
        np.testing.assert_array_equal(made.read(place), want)


def test_what_cannot_be_corrupted_is_refused():
    with pytest.raises(DataError, match="inputs are float32 .* cannot be corrupted"):
        corrupted(array_source(np.zeros((2, 8, 8, 1), np.float32), [0, 1]), ("all",))
    with pytest.raises(ValueError, match="saturate"):
        chosen(("saturate",), 1)
    assert "saturate" not in chosen(("all",), 1)
    with pytest.raises(ValueError, match="name is 'frost'"):
        corrupt(rgb(), "frost", 1)
    with pytest.raises(ValueError, match="severity"):
        corrupt(rgb(), "fog", 6)
    with pytest.raises(ValueError, match=r"image is uint8 \(8, 8, 1\), expected"):
        corrupt(rgb()[..., :1], "saturate", 1)
