r"""Transforms of one image on the device: pure functions of a key and the image.

Images are [H, W, C]. Crops and flips keep uint8, `normalize` makes float32. The
pipelines that map them over a batch are in `ltjax.data.augment`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_rank, shape_of

# Luma weights of ITU-R BT.601, as PIL and torchvision convert to gray.
_LUMA = (0.299, 0.587, 0.114)
_CROP_ATTEMPTS = 10
# "cubic" is Keys' kernel with a = -1/2, Pillow's bicubic filter.
_RESIZING = {"bilinear": "linear", "bicubic": "cubic"}


def normalize(images: ArrayLike, *, mean: ArrayLike, std: ArrayLike) -> jax.Array:
    r"""Scales pixels to [0, 1], then subtracts the mean and divides by the deviation.

    .. math:: x \mapsto (x / 255 - \mu_c) / \sigma_c

    Args:
        images: [..., C] uint8, or floating with values already in [0, 1].
        mean: [C], per channel, of pixels in [0, 1].
        std: [C].

    Returns:
        [..., C] float32.

    Raises:
        ValueError: if mean or std do not have one number per channel.

    Example:
        >>> white = np.full((1, 1, 1), 255, np.uint8)
        >>> normalize(white, mean=[0.5], std=[0.5]).tolist()
        [[[1.0]]]
    """
    channels = shape_of(images)[-1:]
    for name, value in (("mean", mean), ("std", std)):
        if shape_of(value) != channels:
            raise ValueError(
                f"normalize: {name} has shape {shape_of(value)}, but the images have"
                f" {channels} channels (last axis)"
            )
    images = jnp.asarray(images)
    scale = 255.0 if images.dtype == jnp.uint8 else 1.0
    leading = (1,) * (images.ndim - 1)
    mean = jnp.asarray(mean, jnp.float32).reshape(*leading, -1)
    std = jnp.asarray(std, jnp.float32).reshape(*leading, -1)
    return (images.astype(jnp.float32) / scale - mean) / std


def pad_crop(
    key: jax.Array, image: ArrayLike, *, pad: int = 4, border: str = "zero"
) -> jax.Array:
    """Pads and cuts out a random window of the original size.

    Apply it before `normalize`: zero padding is black and becomes -mean/std, not 0.

    Args:
        key: of this example.
        image: [H, W, C].
        pad: pixels added on every side.
        border: "zero", or "reflect" to mirror the image at its outermost pixels.

    Returns:
        [H, W, C] of the same dtype; the (2 pad + 1)^2 offsets are equally likely.

    Example:
        >>> pad_crop(jax.random.key(0), np.ones((8, 8, 3), np.uint8), pad=2).shape
        (8, 8, 3)

    References:
        Cao et al., NeurIPS 2019, released code (32x32 crop after padding by 4);
        reflection as in FixMatch's.
    """
    check_rank("pad_crop", "image", image, 3, "[H, W, C]")
    check_choice("pad_crop", "border", border, ("zero", "reflect"))
    image = jnp.asarray(image)
    mode = "constant" if border == "zero" else "reflect"
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
    top, left = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def flip(key: jax.Array, image: ArrayLike) -> jax.Array:
    """Mirrors left and right with probability 1/2.

    Args:
        key: of this example.
        image: [H, W, C].

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> flip(jax.random.key(0), np.zeros((2, 2, 1), np.uint8)).shape
        (2, 2, 1)
    """
    check_rank("flip", "image", image, 3, "[H, W, C]")
    image = jnp.asarray(image)
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def random_resized_crop(
    key: jax.Array,
    image: ArrayLike,
    *,
    size: int,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    method: str = "bilinear",
) -> jax.Array:
    """Cuts out a window of random area and shape and resizes it to a square.

    The window has a uniform area and a log-uniform ratio of width to height. Of ten
    proposals the first that fits is taken, else the largest centered window whose ratio
    is allowed.

    Args:
        key: of this example.
        image: [H, W, C].
        size: side of the result in pixels.
        area: smallest and largest window, as fractions of the image.
        ratio: narrowest and widest window, width / height.
        method: "bilinear" or "bicubic", which may overshoot the range of the pixels.

    Returns:
        [size, size, C] float32 in the units of the image, resized with an antialiased
        filter.

    Example:
        >>> image = np.ones((16, 16, 3), np.uint8)
        >>> random_resized_crop(jax.random.key(0), image, size=8).shape
        (8, 8, 3)

    References:
        Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, sec. 6; the
        proposals follow torchvision. There the window is cut out before it is resized;
        here pixels just outside of it may enter the outermost ones.
    """
    check_rank("random_resized_crop", "image", image, 3, "[H, W, C]")
    check_choice("random_resized_crop", "method", method, _RESIZING)
    image = jnp.asarray(image).astype(jnp.float32)
    rows, columns, channels = image.shape
    top, left, height, width = _crop_window(key, rows, columns, area, ratio)
    scale = jnp.stack([size / height, size / width])
    return jax.image.scale_and_translate(
        image,
        (size, size, channels),
        (0, 1),
        scale,
        -jnp.stack([top, left]) * scale,
        method=_RESIZING[method],
    )


def _crop_window(
    key: jax.Array,
    rows: int,
    columns: int,
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[jax.Array, ...]:
    """(top, left, height, width) of a window in whole pixels, as float32 scalars."""
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    attempts = (_CROP_ATTEMPTS,)
    pixels = (
        rows
        * columns
        * jax.random.uniform(area_key, attempts, minval=area[0], maxval=area[1])
    )
    low, high = np.log(ratio)
    log_ratio = jax.random.uniform(ratio_key, attempts, minval=low, maxval=high)
    widths = jnp.round(jnp.sqrt(pixels * jnp.exp(log_ratio)))
    heights = jnp.round(jnp.sqrt(pixels * jnp.exp(-log_ratio)))
    fits = (widths >= 1) & (heights >= 1) & (widths <= columns) & (heights <= rows)
    first = jnp.argmax(fits)
    found = fits[first]
    width = jnp.where(found, widths[first], round(min(columns, rows * ratio[1])))
    height = jnp.where(found, heights[first], round(min(rows, columns / ratio[0])))
    spare = jnp.stack([rows - height, columns - width])
    place = jnp.floor(jax.random.uniform(place_key, (2,)) * (spare + 1))
    top, left = jnp.where(found, place, jnp.floor(spare / 2))
    return top, left, height, width


def color_jitter(
    key: jax.Array,
    image: ArrayLike,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
) -> jax.Array:
    """Changes brightness, contrast and saturation by random factors in random order.

    Each factor is uniform in [max(0, 1 - s), 1 + s]. Brightness mixes the image with
    black, contrast with its mean gray, saturation with its gray version; values are
    clipped to [0, 1] after each change.

    Args:
        key: of this example.
        image: [H, W, 3] floating in [0, 1].
        brightness: s for brightness.
        contrast: s for contrast.
        saturation: s for saturation.

    Returns:
        [H, W, 3] float32 in [0, 1].

    Raises:
        ValueError: if there are not three channels.

    Example:
        >>> color_jitter(jax.random.key(0), np.ones((2, 2, 3), np.float32)).shape
        (2, 2, 3)

    References:
        Recipe of Kang et al., ICLR 2020; factors and blends as in torchvision.
    """
    check_rank("color_jitter", "image", image, 3, "[H, W, 3]")
    if shape_of(image)[-1] != 3:
        raise ValueError(
            f"color_jitter: image has {shape_of(image)[-1]} channels, expected 3 (RGB)"
        )
    jittered = jnp.asarray(image).astype(jnp.float32)
    order_key, factor_key = jax.random.split(key)
    strengths = jnp.asarray([brightness, contrast, saturation], jnp.float32)
    low = jnp.maximum(0.0, 1 - strengths)
    factors = low + (1 + strengths - low) * jax.random.uniform(factor_key, (3,))

    def toward(other, image, factor):
        return jnp.clip(other(image) + factor * (image - other(image)), 0.0, 1.0)

    changes = (
        functools.partial(toward, jnp.zeros_like),
        functools.partial(toward, lambda x: jnp.full_like(x, jnp.mean(_gray(x)))),
        functools.partial(toward, lambda x: jnp.broadcast_to(_gray(x), x.shape)),
    )
    for which in jax.random.permutation(order_key, 3):
        jittered = jax.lax.switch(which, changes, jittered, factors[which])
    return jittered


def _gray(image: jax.Array) -> jax.Array:
    luma = jnp.asarray(_LUMA, image.dtype).reshape(1, 1, 3)
    return jnp.sum(image * luma, axis=-1, keepdims=True)


def cutout(key: jax.Array, image: ArrayLike, *, size: int = 16) -> jax.Array:
    """Sets a square around a random pixel to zero; it may reach over the border.

    Args:
        key: of this example.
        image: [H, W, C]; before `normalize`, so that the square is black.
        size: side of the square in pixels; 0 leaves the image as it is.

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> int(cutout(jax.random.key(0), np.ones((4, 4, 1), np.uint8), size=8).sum())
        0

    References:
        DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks
        with Cutout", 2017. Rows center - size // 2 to center + size // 2 - 1, as in the
        released code.
    """
    check_rank("cutout", "image", image, 3, "[H, W, C]")
    image = jnp.asarray(image)
    rows, columns = image.shape[:2]
    row_key, column_key = jax.random.split(key)
    center_row = jax.random.randint(row_key, (), 0, rows)
    center_column = jax.random.randint(column_key, (), 0, columns)
    half = size // 2
    row_offset = jnp.arange(rows)[:, None, None] - center_row
    column_offset = jnp.arange(columns)[None, :, None] - center_column
    inside_rows = (row_offset >= -half) & (row_offset < half)
    inside_columns = (column_offset >= -half) & (column_offset < half)
    return jnp.where(inside_rows & inside_columns, jnp.zeros_like(image), image)


def center_crop(images: ArrayLike, *, size: int) -> jax.Array:
    """Cuts the central square out of a batch of images.

    Args:
        images: [B, H, W, C].
        size: side in pixels.

    Returns:
        [B, size, size, C] of the same dtype.

    Raises:
        ValueError: if the images are smaller.

    Example:
        >>> center_crop(np.zeros((2, 8, 8, 3), np.uint8), size=6).shape
        (2, 6, 6, 3)
    """
    check_rank("center_crop", "images", images, 4, "[B, H, W, C]")
    height, width = shape_of(images)[1:3]
    if min(height, width) < size:
        raise ValueError(
            f"center_crop: images have {height}x{width} pixels, expected at least"
            f" {size}x{size}"
        )
    top, left = round((height - size) / 2), round((width - size) / 2)
    return jnp.asarray(images)[:, top : top + size, left : left + size]
