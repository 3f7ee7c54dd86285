"""Image transforms: exact effects, distributions of the random ones, fallbacks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from ltjax.data import transforms

KEYS = jax.random.split(jax.random.key(0), 2000)


def over_keys(one, keys=KEYS):
    return np.asarray(jax.jit(jax.vmap(one))(keys))


def coordinates(height, width, dtype=np.uint8):
    """[height, width, 2]: row + 1 and column + 1, so that 0 marks padding."""
    rows, columns = np.mgrid[1 : height + 1, 1 : width + 1]
    return np.stack([rows, columns], axis=-1).astype(dtype)


def test_normalize_uint8_and_unit_floats():
    # (51 / 255 - 0.4) / 0.1 = -2 and (255 / 255 - 0.4) / 0.1 = 6.
    images = np.array([[[51], [255]]], np.uint8)
    expected = np.array([[[-2.0], [6.0]]])
    statistics = {"mean": np.array([0.4]), "std": np.array([0.1])}
    out = transforms.normalize(images, **statistics)
    assert out.dtype == jnp.float32
    assert np.allclose(out, expected, atol=1e-5)
    same = transforms.normalize(images.astype(np.float32) / 255, **statistics)
    assert np.allclose(same, expected, atol=1e-5)


def test_normalize_treats_channels_separately():
    image = np.full((1, 1, 3), 255, np.uint8)
    out = transforms.normalize(image, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))
    assert np.allclose(out[0, 0], [1.0, 1.0, 0.0])
    with pytest.raises(ValueError, match=r"mean has shape \(2,\).*\(3,\) channels"):
        transforms.normalize(image, mean=(0.0, 0.5), std=(1.0, 0.5, 2.0))


def test_pad_crop_draws_every_window_alike():
    image = coordinates(5, 5)
    crops = over_keys(lambda key: transforms.pad_crop(key, image, pad=1))
    assert crops.dtype == np.uint8
    center = crops[:, 2, 2].astype(int) - 3  # offset of the window, -1 ... 1
    counts = np.zeros((3, 3))
    np.add.at(counts, tuple((center + 1).T), 1)
    # Chi-square, 8 degrees of freedom, 1e-4 quantile.
    assert np.sum((counts - 2000 / 9) ** 2) / (2000 / 9) < 31.83
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    for crop, (row, column) in zip(crops[:50], center[:50] + 1, strict=True):
        assert np.array_equal(crop, padded[row : row + 5, column : column + 5])


def test_flip_mirrors_columns_half_of_the_time():
    image = coordinates(2, 3)
    flipped = over_keys(lambda key: transforms.flip(key, image))
    mirrored = np.all(flipped == image[:, ::-1], axis=(1, 2, 3))
    assert np.all(mirrored | np.all(flipped == image, axis=(1, 2, 3)))
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / np.sqrt(2000)


def windows_of(crops, size):
    """Recovers (top, left, height, width) from crops of `coordinates`.

    Away from the border the result is affine in the row number i up to the unevenness
    of the sampled filter: crop[i] - 1 = top + (i + 1/2) height / size - 1/2.
    """
    i = np.arange(2, size - 2)
    middle, deviation = i.mean(), i - i.mean()
    starts, lengths = [], []
    for line in (crops[:, i, size // 2, 0], crops[:, size // 2, i, 1]):
        slope = (line @ deviation) / (deviation @ deviation)
        lengths.append(slope * size)
        starts.append(line.mean(axis=1) - 1 - (middle + 0.5) * slope + 0.5)
    return *starts, *lengths


def test_random_resized_crop_windows():
    image = coordinates(64, 64, np.float32)
    crop = functools.partial(transforms.random_resized_crop, image=image, size=16)
    crops = over_keys(lambda key: crop(key))
    assert crops.shape == (2000, 16, 16, 2) and crops.dtype == np.float32
    top, left, height, width = windows_of(crops, 16)
    for value in (top, left, height, width):
        assert np.allclose(value, np.round(value), atol=0.15)  # whole pixels
    assert top.min() > -0.1 and (top + height).max() < 64.1
    assert left.min() > -0.1 and (left + width).max() < 64.1
    # A side is rounded by up to half a pixel, of at least 64 sqrt(.08 * 3/4) = 15.7.
    area, ratio = height * width / 64**2, width / height
    assert 0.08 * 0.93 < area.min() < 0.1 and 0.9 < area.max() < 1.01
    assert 0.75 * 0.93 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.33 * 1.07
    assert abs(np.log(ratio).mean()) < 0.02  # log-uniform and symmetric
    # Every fitting place is as likely: the relative place is 1/2 on average.
    for start, length in ((top, height), (left, width)):
        free = length < 56
        assert abs((start[free] / (64 - length[free])).mean() - 0.5) < 0.03
    # A proposal that does not fit is replaced by another, not by the whole image.
    assert np.mean(area > 0.99) < 0.02


def test_random_resized_crop_reaches_every_place():
    # 49/64 of 8x8 pixels is 7x7: without scaling, one of four windows.
    image = coordinates(8, 8)
    crop = functools.partial(
        transforms.random_resized_crop,
        image=image,
        size=7,
        area=(49 / 64, 49 / 64),
        ratio=(1.0, 1.0),
    )
    crops = over_keys(lambda key: crop(key), KEYS[:400])
    windows = [image[i : i + 7, j : j + 7] for i in (0, 1) for j in (0, 1)]
    equal = [np.isclose(crops, w, atol=1e-4).all(axis=(1, 2, 3)) for w in windows]
    assert np.sum(equal) == 400
    # Chi-square, 3 degrees of freedom, 1e-4 quantile.
    assert np.sum((np.sum(equal, axis=1) - 100) ** 2) / 100 < 21.11


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_random_resized_crop_of_everything_is_a_plain_resize(method):
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    crop = functools.partial(
        transforms.random_resized_crop,
        image=image,
        size=8,
        area=(1.0, 1.0),
        ratio=(1.0, 1.0),
        method=method,
    )
    out = over_keys(lambda key: crop(key), KEYS[:1])[0].clip(0, 255)
    filter = PIL.Image.Resampling[method.upper()]
    small = PIL.Image.fromarray(image).resize((8, 8), filter)
    assert np.allclose(out, np.asarray(small), atol=1.01)  # Pillow rounds twice


@pytest.mark.parametrize(
    "height, width, expected",
    # No window of the whole area has an allowed ratio, so the largest centered one is
    # taken: as high as the image and 4/3 as wide, or as wide and 4/3 as high.
    [(12, 60, (0, 22, 12, 16)), (60, 12, (22, 0, 16, 12))],
)
def test_random_resized_crop_falls_back_to_the_center(height, width, expected):
    image = coordinates(height, width, np.float32)
    crop = functools.partial(
        transforms.random_resized_crop, image=image, size=16, area=(1.0, 1.0)
    )
    out = over_keys(lambda key: crop(key), KEYS[:1])
    assert np.allclose(np.stack(windows_of(out, 16))[:, 0], expected, atol=0.1)


IMAGE = np.random.default_rng(1).uniform(0.2, 0.6, (4, 5, 3)).astype(np.float32)
GRAY = IMAGE @ np.array([0.299, 0.587, 0.114], np.float32)


def jitter(**strengths):
    zero = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    one = functools.partial(transforms.color_jitter, image=IMAGE, **(zero | strengths))
    return over_keys(lambda key: one(key), KEYS[:500])


def check_uniform(values, low, high):
    assert low <= values.min() and values.max() <= high
    spread = (high - low) / np.sqrt(12 * len(values))
    assert abs(values.mean() - (low + high) / 2) < 4 * spread
    assert values.min() < low + (high - low) / 20
    assert values.max() > high - (high - low) / 20


def test_color_jitter_without_strength_is_the_identity():
    assert np.allclose(jitter(), IMAGE[None].repeat(500, 0), atol=1e-6)


def test_brightness_scales_all_pixels():
    factors = jitter(brightness=0.4) / IMAGE
    assert np.allclose(factors, factors[:, :1, :1, :1], rtol=1e-4)
    check_uniform(factors[:, 0, 0, 0], 0.6, 1.4)


def test_contrast_scales_the_distance_from_the_mean_gray():
    mean = GRAY.mean()
    factors = (jitter(contrast=0.4) - mean) / (IMAGE - mean)
    far = np.abs(IMAGE - mean) > 0.05
    assert np.allclose(factors[:, far], factors[:, far][:, :1], rtol=1e-3)
    check_uniform(factors[:, far][:, 0], 0.6, 1.4)


def test_saturation_scales_the_distance_from_the_own_gray():
    gray = GRAY[..., None]
    factors = (jitter(saturation=0.4) - gray) / (IMAGE - gray)
    far = np.abs(IMAGE - gray) > 0.05
    assert np.allclose(factors[:, far], factors[:, far][:, :1], rtol=1e-3)
    check_uniform(factors[:, far][:, 0], 0.6, 1.4)


def test_color_jitter_clips():
    out = jitter(brightness=3.0)
    assert out.min() >= 0 and out.max() == 1.0
    # Factors are uniform in [0, 4]; in [-2, 4] a third of the images would be black.
    assert np.mean(out.max(axis=(1, 2, 3)) == 0) < 0.02


def test_color_jitter_changes_the_order():
    """Clipping makes the order visible: each of the six occurs about as often."""
    key = jax.random.key(3)
    image = np.array([[[0.9, 0.5, 0.1], [0.05, 0.95, 0.7]]], np.float32)
    luma = np.array([0.299, 0.587, 0.114])

    def gray_of(x):
        return (x @ luma)[..., None]

    others = (lambda x: 0.0, lambda x: gray_of(x).mean(), gray_of)

    def apply(order, factors):
        x = image.astype(np.float64)
        for which in order:
            other = others[which](x)
            x = np.clip(other + factors[which] * (x - other), 0, 1)
        return x

    # Factors are drawn with the second half of the key, uniformly in [0, 2].
    one = functools.partial(
        transforms.color_jitter, image=image, brightness=1, contrast=1, saturation=1
    )
    keys = jax.random.split(key, 300)
    outputs = over_keys(lambda k: one(k), keys)
    factors = 2 * over_keys(
        lambda k: jax.random.uniform(jax.random.split(k)[1], (3,)), keys
    )
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    counts = np.zeros(6)
    for out, f in zip(outputs, factors, strict=True):
        fits = [np.allclose(out, apply(order, f), atol=1e-5) for order in orders]
        assert any(fits)
        if sum(fits) == 1:
            counts[np.argmax(fits)] += 1
    assert counts.min() > 0.5 * counts.sum() / 6


def test_color_jitter_needs_three_channels():
    with pytest.raises(ValueError, match="1 channels, expected 3"):
        transforms.color_jitter(KEYS[0], IMAGE[..., :1])


def test_cutout_blacks_out_one_square():
    image = np.full((9, 9, 2), 7, np.uint8)
    cut = over_keys(lambda key: transforms.cutout(key, image, size=4)) == 0
    assert np.array_equal(cut[..., 0], cut[..., 1])
    rows, columns = cut[..., 0].any(axis=2), cut[..., 0].any(axis=1)
    # The square spans center - 2 ... center + 1, cut off at the border.
    squares = rows[:, :, None] & columns[:, None, :]
    assert np.array_equal(cut[..., 0], squares)
    lengths = rows.sum(axis=1)
    # Centers 0, 1 and 8 lose two, one and one of the four rows.
    frequencies = np.bincount(lengths, minlength=5) / 2000
    assert np.allclose(frequencies, [0, 0, 1 / 9, 2 / 9, 6 / 9], atol=0.05)
    assert frequencies[:2].sum() == 0


def test_cutout_of_size_0_keeps_the_image():
    image = coordinates(4, 4)
    assert np.array_equal(transforms.cutout(KEYS[0], image, size=0), image)


def test_center_crop():
    images = coordinates(6, 9)[None]
    out = transforms.center_crop(images, size=4)
    assert np.array_equal(out, images[:, 1:5, 2:6])
    assert np.array_equal(
        transforms.center_crop(images[:, :, :6], size=6), images[:, :, :6]
    )
    with pytest.raises(ValueError, match="6x9 pixels, expected at least 7x7"):
        transforms.center_crop(images, size=7)


@pytest.mark.parametrize(
    "name, options",
    [
        ("pad_crop", {}),
        ("flip", {}),
        ("cutout", {}),
        ("color_jitter", {}),
        ("random_resized_crop", {"size": 2}),
    ],
)
def test_a_batch_is_refused(name, options):
    with pytest.raises(ValueError, match=rf"{name}: image has shape \(2, 4, 4, 3\)"):
        getattr(transforms, name)(KEYS[0], np.zeros((2, 4, 4, 3), np.uint8), **options)


def test_unknown_borders_and_filters_are_refused():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="pad_crop: border is 'wrap'"):
        transforms.pad_crop(KEYS[0], image, border="wrap")
    with pytest.raises(ValueError, match="random_resized_crop: method is 'linear'"):
        transforms.random_resized_crop(KEYS[0], image, size=2, method="linear")
