r"""Views of one image: the pipelines of contrastive and semi-supervised learning.

A view is a function `(key, image, **options)` of one image [H, W, C], uint8 or floating
in [0, 255]. `ltjax.data.views` maps pairs of them over a batch.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_rank, is_concrete, shape_of
from ltjax.data import _image_families as families
from ltjax.data import image_ops, photometric
from ltjax.data.randaugment import FIXMATCH, STANDARD, Change, rand_augment
from ltjax.data.transforms import flip, pad_crop, random_resized_crop

GRAY = 127.0

_CHANGES = ("brightness", "contrast", "saturation", "hue")


def contrastive_view(
    key: jax.Array,
    image: ArrayLike,
    *,
    size: int | None = None,
    area: tuple[float, float] = (0.08, 1.0),
    method: str = "bicubic",
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2),
    jitter_probability: ArrayLike = 0.8,
    gray_probability: ArrayLike = 0.2,
    blur_probability: ArrayLike = 0.5,
    blur_sigma: tuple[float, float] = (0.1, 2.0),
    solarize_probability: ArrayLike = 0.0,
    mirror: bool = True,
) -> jax.Array:
    """One view of SimCLR, MoCo v2 or BYOL.

    They differ in their options (`CONTRASTIVE`). In this order: random resized crop,
    flip with probability 1/2, color distortion, gray, Gaussian blur, solarization at
    1/2. The defaults are SimCLR's at strength 1.

    Args:
        key: of this view.
        image: [H, W, C], uint8 or floating in [0, 255]. Unless C is 3, there are no
            colors to distort or to drop.
        size: side of the view; None takes the smaller side of the image.
        area: smallest and largest crop, as fractions of the image.
        method: "bicubic" or "bilinear".
        jitter: strengths of brightness, contrast, saturation and hue.
        jitter_probability: of the color distortion.
        gray_probability: of dropping the color.
        blur_probability: of the blur; 0 leaves it out. Its kernel has about a tenth of
            the side: 23 pixels of 224.
        blur_sigma: smallest and largest standard deviation in pixels, uniform.
        solarize_probability: of inverting the pixels from 1/2 on; 0 leaves it out.
        mirror: False leaves the flip out, for digits and other signs.

    Returns:
        [size, size, C] float32 in [0, 1].

    Example:
        >>> image = jnp.zeros((8, 8, 3), jnp.uint8)
        >>> view = jax.jit(functools.partial(contrastive_view, size=4))
        >>> view(jax.random.key(0), image).shape
        (4, 4, 3)

    References:
        Chen et al., ICML 2020, app. A (SimCLR). Grill et al., "Bootstrap Your Own
        Latent", NeurIPS 2020, app. B. MoCo v2 flips last, which gives the same views
        with the same probabilities.
    """
    check_rank("contrastive_view", "image", image, 3, "[H, W, C]")
    if size is None:
        size = min(shape_of(image)[:2])
    keys = jax.random.split(key, 7)
    coins = jax.random.uniform(keys[0], (4,))
    x = random_resized_crop(keys[1], image, size=size, area=area, method=method)
    x = jnp.clip(x / 255, 0.0, 1.0)
    x = flip(keys[2], x) if mirror else x
    if x.shape[-1] == 3:
        distorted = photometric.distort_color(
            *(keys[3], x),
            **dict(zip(_CHANGES, jitter, strict=True)),
        )
        x = jnp.where(coins[0] < jitter_probability, distorted, x)
        x = jnp.where(coins[1] < gray_probability, photometric.to_gray(x), x)
    if _is_on(blur_probability):
        low, high = blur_sigma
        sigma = jax.random.uniform(keys[4], minval=low, maxval=high)
        blurred = photometric.gaussian_blur(x, sigma, size=2 * (size // 20) + 1)
        x = jnp.where(coins[2] < blur_probability, blurred, x)
    if _is_on(solarize_probability):
        inverted = jnp.where(x < 0.5, x, 1 - x)
        x = jnp.where(coins[3] < solarize_probability, inverted, x)
    return x


def _is_on(probability: ArrayLike) -> bool:
    """False if a step can be left out of the program."""
    return not is_concrete(probability) or bool(probability != 0)


_LONG_TAILED = dict(jitter=(0.4, 0.4, 0.4, 0.1))
_CIFAR = dict(area=(0.1, 1.0), blur_probability=0.0, **_LONG_TAILED)
_MOCO = dict(area=(0.2, 1.0), method="bilinear", **_LONG_TAILED)
_SIMSIAM_CIFAR = dict(blur_probability=0.0, **_MOCO)
_BYOL = dict(jitter=(0.4, 0.4, 0.2, 0.1))

CONTRASTIVE: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "simclr": ({}, {}),
    "simclr_lt": (_LONG_TAILED, _LONG_TAILED),
    "simclr_cifar": (_CIFAR, _CIFAR),
    "moco_v2": (_MOCO, _MOCO),
    "simsiam_cifar": (_SIMSIAM_CIFAR, _SIMSIAM_CIFAR),
    "byol": (
        dict(blur_probability=1.0, **_BYOL),
        dict(blur_probability=0.1, solarize_probability=0.2, **_BYOL),
    ),
}
"""Options of the first and the second `contrastive_view`, by recipe."""


def shifted_view(
    key: jax.Array,
    image: ArrayLike,
    *,
    pad: int | None = None,
    border: str = "reflect",
    mirror: bool = True,
) -> jax.Array:
    """FixMatch's weak view: mirrored with probability 1/2, moved by up to an eighth.

    Args:
        key: of this view.
        image: [H, W, C].
        pad: largest shift in pixels; None takes an eighth of the smaller side.
        border: "reflect" or "zero".
        mirror: False for digits and other signs.

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> shifted_view(jax.random.key(0), jnp.ones((16, 16, 3), jnp.uint8)).shape
        (16, 16, 3)

    References:
        Sohn et al., NeurIPS 2020, sec. 2.3: 12.5 %, 4 of 32 pixels. Its released code
        reflects; the codes of DARP and ABC pad with zeros.
    """
    check_rank("shifted_view", "image", image, 3, "[H, W, C]")
    if pad is None:
        pad = min(shape_of(image)[:2]) // 8
    flip_key, crop_key = jax.random.split(key)
    x = flip(flip_key, image) if mirror else jnp.asarray(image)
    return pad_crop(crop_key, x, pad=pad, border=border)


def resized_view(
    key: jax.Array,
    image: ArrayLike,
    *,
    area: tuple[float, float] = (0.2, 1.0),
    size: int | None = None,
    mirror: bool = True,
) -> jax.Array:
    """A random resized crop, mirrored with probability 1/2.

    Args:
        key: of this view.
        image: [H, W, C].
        area: smallest and largest crop, as fractions of the image.
        size: side of the view; None takes the smaller side of the image.
        mirror: False for digits and other signs.

    Returns:
        [size, size, C] float32 in the units of the image.

    Example:
        >>> resized_view(jax.random.key(0), jnp.ones((8, 8, 3), jnp.uint8)).shape
        (8, 8, 3)
    """
    check_rank("resized_view", "image", image, 3, "[H, W, C]")
    if size is None:
        size = min(shape_of(image)[:2])
    flip_key, crop_key = jax.random.split(key)
    x = random_resized_crop(crop_key, image, size=size, area=area)
    return flip(flip_key, x) if mirror else x


def strong_view(
    key: jax.Array,
    image: ArrayLike,
    *,
    base: Callable[..., jax.Array] = shifted_view,
    cutout: tuple[float, float] = (0.5, 0.5),
    cutout_fill: families.Color = GRAY,
    pool: Sequence[Change] = FIXMATCH,
    mirror: bool = True,
    **options,
) -> jax.Array:
    """FixMatch's strong view: a weak one, then RandAugment, then Cutout.

    Args:
        key: of this view.
        image: [H, W, C], uint8 or floating in [0, 255].
        base: (key, image) -> image, what comes first.
        cutout: smallest and largest side of the square, as fractions of the smaller
            side of the image; uniform in between, (0, 0) for none.
        cutout_fill: its color, scalar or [C].
        pool: of RandAugment.
        mirror: False for digits and other signs; then of `base` as well.
        **options: of `rand_augment`: `layers`, `probability`, `level`, `levels`,
            `fill`, `patch`.

    Returns:
        [H, W, C] of the same dtype (float32 if `base` makes it so).

    Example:
        >>> view = jax.jit(functools.partial(strong_view, layers=1))
        >>> view(jax.random.key(0), jnp.ones((8, 8, 3), jnp.uint8)).dtype
        dtype('uint8')

    References:
        Sohn et al., NeurIPS 2020, app. D.
    """
    base_key, change_key, size_key, place_key = jax.random.split(key, 4)
    x = base(base_key, image, **({} if mirror else {"mirror": False}))
    x = rand_augment(change_key, x, pool=pool, **options)
    if not any(cutout):
        return x
    low, high = (part * min(x.shape[:2]) for part in cutout)
    side = low + (high - low) * jax.random.uniform(size_key)
    place = jax.random.uniform(place_key, (2,)) * jnp.asarray(x.shape[:2])
    center = jnp.floor(place).astype(jnp.int32)
    if x.shape[-1] == 1 and not isinstance(cutout_fill, (int, float)):
        cutout_fill = jnp.mean(jnp.asarray(cutout_fill, jnp.float32))
    return image_ops.erase(x, center, side, fill=cutout_fill)


def _distorted_view(key: jax.Array, image: ArrayLike, **options) -> jax.Array:
    """RECORDS' weak view: crop, flip, colors and gray, in [0, 255]."""
    own = dict(area=(0.2, 1.0), method="bilinear", blur_probability=0.0)
    return 255 * contrastive_view(key, image, **{**own, **_LONG_TAILED, **options})


_FROM_BLACK = functools.partial(shifted_view, border="zero")
_RANGE = dict(
    **dict(layers=3, probability=1.0, levels=None),
    **dict(cutout=(0.0, 0.5), cutout_fill=image_ops.MEAN_COLOR),
)

CONSISTENCY: dict[str, tuple[Callable[..., jax.Array], Callable[..., jax.Array]]] = {
    "fixmatch": (shifted_view, strong_view),
    "standard": (
        _FROM_BLACK,
        functools.partial(
            strong_view,
            base=_FROM_BLACK,
            **dict(pool=STANDARD, layers=3, probability=1.0, level=4 / 30),
        ),
    ),
    "range": (
        _FROM_BLACK,
        functools.partial(strong_view, base=_FROM_BLACK, **_RANGE),
    ),
    "range_resized": (
        _distorted_view,
        functools.partial(strong_view, base=resized_view, **_RANGE),
    ),
}
"""The weak and the strong view of a recipe."""
