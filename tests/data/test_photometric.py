"""Color changes: hue against colorsys, orders of the distortion, blur by definition."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import matplotlib.colors
import numpy as np
import pytest

from ltjax.data import photometric

KEYS = jax.random.split(jax.random.key(0), 3000)


def pixels() -> np.ndarray:
    """[1, N, 3] in [0, 1]: random colors, and grays and corners of the cube."""
    rng = np.random.default_rng(0)
    corners = np.array(list(itertools.product([0, 1], repeat=3)), float)
    grays = np.full((3, 3), [[0.1], [0.5], [0.9]])
    return np.concatenate([rng.random((60, 3)), corners, grays])[None].astype(
        np.float32
    )


def turned(image, turn):
    """By the hue, saturation, value coordinates of the standard library."""
    out = np.empty(image.shape)
    for place in np.ndindex(image.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*map(float, image[place]))
        out[place] = colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value)
    return out


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.07, 1 / 3])
def test_hue_turns_as_in_hsv(turn):
    out = jax.jit(photometric.shift_hue)(pixels(), turn)
    np.testing.assert_allclose(out, turned(pixels(), turn), atol=2e-6)


def test_gray_is_the_luma():
    out = np.asarray(photometric.to_gray(pixels()))
    luma = pixels().astype(float) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(out, np.stack([luma] * 3, -1), atol=1e-6)


@jax.jit
def distorted(keys, image, sizes):
    """Views [N, 2, 2, 3] of an image [2, 2, 3]; sizes [4], traced."""
    brightness, contrast, saturation, hue = sizes
    one = lambda key: photometric.distort_color(
        *(key, image),
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=hue,
    )
    return jax.vmap(one)(keys)


NAMES = ("brightness", "contrast", "saturation", "hue")


def only(name, size):
    return np.float32([size * (other == name) for other in NAMES])


def changed(image, name, amount):
    """By the definition: images [..., 2, 2, 3], amounts [...]."""
    amount = np.asarray(amount)[..., None, None, None]
    if name == "hue":
        hsv = matplotlib.colors.rgb_to_hsv(image)
        hsv[..., 0] = (hsv[..., 0] + amount[..., 0]) % 1.0
        return matplotlib.colors.hsv_to_rgb(hsv)
    gray = (image @ [0.299, 0.587, 0.114])[..., None]
    mean = gray.mean((-3, -2, -1), keepdims=True)
    other = {"brightness": 0.0, "contrast": mean, "saturation": gray}[name]
    return np.clip(other + amount * (image - other), 0, 1)


def amounts(name, size, keys):
    """What a key draws, read from a run in which nothing else changes."""
    image = np.float32([[[0.5, 0.3, 0.3], [0.5, 0.6, 0.5]]] * 2)
    out = np.asarray(distorted(keys, image, only(name, size)))
    if name == "hue":
        turned = matplotlib.colors.rgb_to_hsv(out.clip(0, 1))[:, 0, 0, 0]
        return (turned + 0.5) % 1 - 0.5  # the first pixel has hue 0
    at_0 = changed(image, name, 0.0)[0, 0, 0]
    return (out[:, 0, 0, 0] - at_0) / (image[0, 0, 0] - at_0)


@pytest.mark.parametrize("name", NAMES)
def test_each_change_alone_is_its_definition_with_a_uniform_size(name):
    image = 0.3 + 0.2 * np.random.default_rng(0).random((2, 2, 3))
    sizes = amounts(name, 0.2, KEYS)
    out = distorted(KEYS, image.astype(np.float32), only(name, 0.2))
    many = np.broadcast_to(image, (len(KEYS), *image.shape)).copy()
    np.testing.assert_allclose(out, changed(many, name, sizes), atol=1e-4)
    center = 0.0 if name == "hue" else 1.0
    assert abs(sizes.min() - (center - 0.2)) < 4e-3
    assert abs(sizes.max() - (center + 0.2)) < 4e-3
    assert abs(sizes.mean() - center) < 4 * 0.4 / np.sqrt(12 * len(KEYS))


def test_all_24_orders_are_about_equally_likely():
    """With large sizes the order shows, as values are clipped in between."""
    image = np.array([[[0.7, 0.4, 0.3], [0.2, 0.5, 0.85]], [[0.9, 0.1, 0.2]] * 2])
    sizes = dict(zip(NAMES, (0.5, 0.5, 0.5, 0.4), strict=True))
    drawn = {name: amounts(name, size, KEYS) for name, size in sizes.items()}
    out = distorted(KEYS, image.astype(np.float32), np.float32(list(sizes.values())))
    orders = list(itertools.permutations(NAMES))
    gaps = []
    for order in orders:
        x = np.broadcast_to(image, out.shape).copy()
        for name in order:
            x = changed(x, name, drawn[name])
        gaps.append(np.abs(x - out).max((1, 2, 3)))
    close = np.array(gaps) < 1e-3
    assert close.any(0).all()
    # Each order that fits a view gets its part of it.
    counts = (close / close.sum(0)).sum(1)
    expected = len(KEYS) / 24
    assert counts.min() > 0.5 * expected and counts.max() < 1.5 * expected


def test_zero_sizes_change_nothing():
    image = pixels()[0, :4].reshape(2, 2, 3)
    out = distorted(KEYS, image, np.zeros(4, np.float32))
    np.testing.assert_allclose(out, np.broadcast_to(image, out.shape), atol=2e-6)


def test_blur_is_the_gaussian_of_each_axis():
    rng = np.random.default_rng(0)
    image = rng.random((7, 9, 2)).astype(np.float32)
    for sigma in (0.1, 0.8, 2.0):
        offsets = np.arange(-2, 3)
        weights = np.exp(-(offsets**2) / (2 * sigma**2))
        weights /= weights.sum()
        padded = np.pad(image.astype(float), ((2, 2), (2, 2), (0, 0)), mode="edge")
        expected = np.zeros(image.shape)
        for i, j in itertools.product(range(5), repeat=2):
            expected += weights[i] * weights[j] * padded[i : i + 7, j : j + 9]
        out = jax.jit(photometric.gaussian_blur, static_argnames="size")(
            image, sigma, size=5
        )
        np.testing.assert_allclose(out, expected, atol=1e-6)


def test_bad_images_and_sizes_are_refused():
    with pytest.raises(ValueError, match="shift_hue: image has 1 channels"):
        photometric.shift_hue(jnp.zeros((2, 2, 1)), 0.1)
    with pytest.raises(ValueError, match="gaussian_blur: size is 4"):
        photometric.gaussian_blur(jnp.zeros((2, 2, 1)), 1.0, size=4)
