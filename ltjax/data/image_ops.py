r"""Image operations of RandAugment and CTAugment, one image at a time, on the device.

Images are [H, W, C], uint8 or floating in [0, 255]. On uint8 images the results are
those of Pillow: table and geometric operations to the bit, blends within one level. On
floating images the same formulas run without rounding, and the result is float32.
Arguments may be traced, so that under `vmap` every example has its own.

Those that move pixels or cover them stand in `ltjax.data.image_geometry`.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.data import _image_families as families
from ltjax.data.image_geometry import (
    erase,
    rotate,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)

__all__ = [
    "MEAN_COLOR",
    "autocontrast",
    "blur",
    "brightness",
    "color",
    "contrast",
    "equalize",
    "erase",
    "invert",
    "posterize",
    "rotate",
    "sharpness",
    "shear_x",
    "shear_y",
    "smooth",
    "solarize",
    "solarize_add",
    "translate_x",
    "translate_y",
]

# Fill color of the RandAugment family for RGB: about the mean color of ImageNet.
MEAN_COLOR = (125.0, 123.0, 114.0)


def autocontrast(image: ArrayLike) -> jax.Array:
    r"""Stretches every channel linearly to [0, 255].

    .. math:: x \mapsto 255 \, (x - \min_c) / (\max_c - \min_c)

    Args:
        image: [H, W, C]; a channel of one value stays as it is.

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> autocontrast(jnp.array([[[10], [20], [30]]], jnp.uint8))[0, :, 0].tolist()
        [0, 127, 255]

    References:
        Pillow, `ImageOps.autocontrast` with cutoff 0.
    """
    x, whole = families.pixels("autocontrast", image)
    slope, pivot = families.stretch(x)
    stretched = families.clipped(families.tone(x, slope, pivot, 0.0), whole)
    return families.image_like(stretched, whole)


def equalize(image: ArrayLike) -> jax.Array:
    """Maps every channel so that its 256 levels are about equally frequent.

    Args:
        image: [H, W, C]; floating pixels are counted in the level below them. A channel
            with fewer than 255 pixels darker than its brightest level stays as it is.

    Returns:
        [H, W, C] of the same dtype, in whole levels.

    Example:
        >>> equalize(jnp.full((4, 4, 1), 7, jnp.uint8)).max().item()
        7

    References:
        Pillow, `ImageOps.equalize`.
    """
    x, whole = families.pixels("equalize", image)
    return families.image_like(families.equalized(x), whole)


def invert(image: ArrayLike) -> jax.Array:
    """255 - x.

    Args:
        image: [H, W, C].

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> invert(jnp.array([[[0], [200]]], jnp.uint8))[0, :, 0].tolist()
        [255, 55]

    References:
        Pillow, `ImageOps.invert`.
    """
    x, whole = families.pixels("invert", image)
    return families.image_like(255.0 - x, whole)


def posterize(image: ArrayLike, bits: ArrayLike) -> jax.Array:
    """Keeps the highest `bits` bits of every pixel.

    Args:
        image: [H, W, C].
        bits: whole number in [1, 8], scalar; others are brought into the interval.

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> posterize(jnp.array([[[255], [100]]], jnp.uint8), 2)[0, :, 0].tolist()
        [192, 64]

    References:
        Pillow, `ImageOps.posterize`.
    """
    x, whole = families.pixels("posterize", image)
    return families.image_like(families.coarse(x, families.posterize_step(bits)), whole)


def solarize(image: ArrayLike, threshold: ArrayLike) -> jax.Array:
    """Inverts the pixels that are not below the threshold.

    Args:
        image: [H, W, C].
        threshold: scalar; 256 changes nothing, 0 inverts everything.

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> solarize(jnp.array([[[100], [200]]], jnp.uint8), 128)[0, :, 0].tolist()
        [100, 55]

    References:
        Pillow, `ImageOps.solarize`.
    """
    x, whole = families.pixels("solarize", image)
    return families.image_like(jnp.where(x < threshold, x, 255.0 - x), whole)


def solarize_add(
    image: ArrayLike, amount: ArrayLike, *, threshold: ArrayLike = 128.0
) -> jax.Array:
    """Adds to the pixels below the threshold.

    Args:
        image: [H, W, C].
        amount: scalar, whole for uint8 images (its fraction is cut off).
        threshold: scalar.

    Returns:
        [H, W, C] of the same dtype, clipped to [0, 255].

    Example:
        >>> solarize_add(jnp.array([[[100], [200]]], jnp.uint8), 60)[0, :, 0].tolist()
        [160, 200]

    References:
        Cubuk et al., "RandAugment", NeurIPS 2020, released code.
    """
    x, whole = families.pixels("solarize_add", image)
    added = families.clipped(x + _scalar(amount), whole)
    return families.image_like(jnp.where(x < threshold, added, x), whole)


def brightness(image: ArrayLike, factor: ArrayLike) -> jax.Array:
    """Mixes the image with black: 0 is black, 1 the image, more is brighter.

    Args:
        image: [H, W, C].
        factor: scalar.

    Returns:
        [H, W, C] of the same dtype, clipped to [0, 255].

    Example:
        >>> brightness(jnp.array([[[100], [200]]], jnp.uint8), 1.5)[0, :, 0].tolist()
        [150, 255]

    References:
        Pillow, `ImageEnhance.Brightness`.
    """
    x, whole = families.pixels("brightness", image)
    return families.image_like(families.clipped(x * _scalar(factor), whole), whole)


def contrast(image: ArrayLike, factor: ArrayLike) -> jax.Array:
    """Mixes the image with its mean gray: 0 is uniform gray, 1 the image.

    Args:
        image: [H, W, C] with 3 channels (RGB) or one.
        factor: scalar.

    Returns:
        [H, W, C] of the same dtype, clipped to [0, 255].

    Raises:
        ValueError: for another number of channels.

    Example:
        >>> contrast(jnp.array([[[100], [200]]], jnp.uint8), 0.5)[0, :, 0].tolist()
        [125, 175]

    References:
        Pillow, `ImageEnhance.Contrast`.
    """
    families.check_color("contrast", image)
    x, whole = families.pixels("contrast", image)
    mean = families.mean_gray(x, whole)
    return families.image_like(families.blend(mean, x, _scalar(factor), whole), whole)


def color(image: ArrayLike, factor: ArrayLike) -> jax.Array:
    """Mixes the image with its gray version: 0 is gray, 1 the image.

    Args:
        image: [H, W, C] with 3 channels (RGB) or one, which has no color to change.
        factor: scalar.

    Returns:
        [H, W, C] of the same dtype, clipped to [0, 255].

    Raises:
        ValueError: for another number of channels.

    Example:
        >>> color(jnp.array([[[255, 0, 0]]], jnp.uint8), 0.0)[0, 0].tolist()
        [76, 76, 76]

    References:
        Pillow, `ImageEnhance.Color`.
    """
    families.check_color("color", image)
    x, whole = families.pixels("color", image)
    gray = jnp.broadcast_to(families.gray(x, whole), x.shape)
    return families.image_like(families.blend(gray, x, _scalar(factor), whole), whole)


def sharpness(image: ArrayLike, factor: ArrayLike) -> jax.Array:
    """Mixes the image with a smoothed one: 0 is smooth, 1 the image, more is sharper.

    Args:
        image: [H, W, C].
        factor: scalar.

    Returns:
        [H, W, C] of the same dtype, clipped to [0, 255].

    Example:
        >>> sharpness(jnp.full((3, 3, 1), 9, jnp.uint8), 2.0)[1, 1].tolist()
        [9]

    References:
        Pillow, `ImageEnhance.Sharpness`.
    """
    x, whole = families.pixels("sharpness", image)
    smoothed = families.smooth(x, whole)
    sharp = families.blend(smoothed, x, _scalar(factor), whole)
    return families.image_like(sharp, whole)


def smooth(image: ArrayLike) -> jax.Array:
    """Means of 3x3 pixels in which the center counts five times.

    Args:
        image: [H, W, C]; the outermost pixels stay as they are.

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> dot = jnp.zeros((3, 3, 1), jnp.uint8).at[1, 1].set(130)
        >>> smooth(dot)[1, 1].item()
        50

    References:
        Pillow, `ImageFilter.SMOOTH`.
    """
    x, whole = families.pixels("smooth", image)
    return families.image_like(families.smooth(x, whole), whole)


def blur(image: ArrayLike) -> jax.Array:
    """Means of the 16 pixels on the border of a 5x5 square.

    Args:
        image: [H, W, C]; the outermost two pixels stay as they are.

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> dot = jnp.zeros((5, 5, 1), jnp.uint8).at[0, 0].set(160)
        >>> blur(dot)[2, 2].item()
        10

    References:
        Pillow, `ImageFilter.BLUR`.
    """
    x, whole = families.pixels("blur", image)
    return families.image_like(families.ring_blur(x, whole), whole)


def _scalar(value: ArrayLike) -> jax.Array:
    return jnp.asarray(value, jnp.float32)
