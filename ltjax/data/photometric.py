r"""Color changes of contrastive learning: one image in [0, 1], on the device."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_rank, shape_of

# Luma weights of ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


def to_gray(image: ArrayLike) -> jax.Array:
    """Replaces every channel by the luma 0.299 R + 0.587 G + 0.114 B.

    Args:
        image: [H, W, 3] floating.

    Returns:
        [H, W, 3] float32.

    Example:
        >>> gray = to_gray(jnp.array([[[0.0, 0.0, 1.0]]]))[0, 0]
        >>> [round(value, 3) for value in gray.tolist()]
        [0.114, 0.114, 0.114]
    """
    x = _rgb("to_gray", image)
    return jnp.broadcast_to(_luma(x), x.shape)


def shift_hue(image: ArrayLike, turn: ArrayLike) -> jax.Array:
    """Turns the hue of every pixel; value and saturation stay.

    Args:
        image: [H, W, 3] floating in [0, 1].
        turn: scalar, fraction of the full circle: 1/3 makes red green.

    Returns:
        [H, W, 3] float32.

    Example:
        >>> shift_hue(jnp.array([[[1.0, 0.0, 0.0]]]), 1 / 3)[0, 0].tolist()
        [0.0, 1.0, 0.0]
    """
    x = _rgb("shift_hue", image)
    red, green, blue = (x[..., i] for i in range(3))
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    over = 1 / jnp.where(chroma > 0, chroma, 1.0)
    # Hue in sixths of the circle. A gray pixel has none, and no use for one below.
    sixth = jnp.where(
        value == red,
        (green - blue) * over,
        jnp.where(value == green, (blue - red) * over + 2, (red - green) * over + 4),
    )
    sixth = sixth + 6 * jnp.asarray(turn, jnp.float32)

    def channel(offset):
        place = (sixth + offset) % 6
        return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0.0, 1.0)

    return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


def distort_color(
    key: jax.Array,
    image: ArrayLike,
    *,
    brightness: ArrayLike = 0.4,
    contrast: ArrayLike = 0.4,
    saturation: ArrayLike = 0.4,
    hue: ArrayLike = 0.1,
) -> jax.Array:
    """Changes brightness, contrast, saturation and hue in random order.

    The factors of the first three are uniform in [max(0, 1 - s), 1 + s] and mix the
    image with black, its mean gray and its gray version; the hue turns by a fraction of
    the circle uniform in [-hue, hue]. Values are clipped to [0, 1] after each change.
    All 24 orders are equally likely.

    Args:
        key: of this example.
        image: [H, W, 3] floating in [0, 1].
        brightness: s for brightness.
        contrast: s for contrast.
        saturation: s for saturation.
        hue: largest turn in either direction, up to 0.5.

    Returns:
        [H, W, 3] float32 in [0, 1].

    Raises:
        ValueError: if there are not three channels.

    Example:
        >>> distort_color(jax.random.key(0), jnp.zeros((2, 2, 3))).shape
        (2, 2, 3)

    References:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual
        Representations", ICML 2020, app. A. Factors and blends as in torchvision, which
        the long-tailed studies use; the first released code added to the brightness.
    """
    x = _rgb("distort_color", image)
    order_key, place_key, factor_key, hue_key = jax.random.split(key, 4)
    order = jax.random.permutation(order_key, 3)
    strengths = jnp.asarray([brightness, contrast, saturation], jnp.float32)
    low = jnp.maximum(0.0, 1 - strengths)
    factors = low + (1 + strengths - low) * jax.random.uniform(factor_key, (3,))
    turn = hue * jax.random.uniform(hue_key, minval=-1.0, maxval=1.0)
    # A turn costs several times what a blend does. It is computed once, with room for
    # all three blends before it and after it, not once in each of four rounds.
    place = jax.random.randint(place_key, (), 0, 4)

    def blends(x, active):
        for number, which in enumerate(order):
            gray = _luma(x)
            other = jnp.where(which == 1, _mean(gray), gray)
            other = jnp.where(which == 0, 0.0, other)
            mixed = jnp.clip(other + factors[which] * (x - other), 0.0, 1.0)
            x = jnp.where(active(number), mixed, x)
        return x

    x = blends(x, lambda number: number < place)
    x = jnp.clip(shift_hue(x, turn), 0.0, 1.0)
    return blends(x, lambda number: number >= place)


def gaussian_blur(image: ArrayLike, sigma: ArrayLike, *, size: int) -> jax.Array:
    r"""Weighs neighbors by :math:`e^{-d^2 / 2 \sigma^2}` along rows and columns.

    Args:
        image: [H, W, C] floating.
        sigma: scalar in pixels, > 0.
        size: number of weights along each axis, odd.

    Returns:
        [H, W, C] float32; pixels beyond the border are those on it.

    Raises:
        ValueError: if the size is even.

    Example:
        >>> float(gaussian_blur(jnp.ones((4, 4, 1)), 1.0, size=3).min().round(4))
        1.0

    References:
        Chen et al., ICML 2020, app. A: size about a tenth of the side, sigma in
        [0.1, 2]. There the border is padded with black.
    """
    check_rank("gaussian_blur", "image", image, 3, "[H, W, C]")
    if size < 1 or size % 2 == 0:
        raise ValueError(f"gaussian_blur: size is {size}, expected an odd number >= 1")
    x = jnp.asarray(image).astype(jnp.float32)
    reach = size // 2
    offsets = jnp.arange(-reach, reach + 1, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * (offsets / sigma) ** 2)
    weights = weights / jnp.sum(weights)
    for axis in (0, 1):
        padding = [(0, 0)] * 3
        padding[axis] = (reach, reach)
        padded = jnp.pad(x, padding, mode="edge")
        x = jnp.zeros_like(x)
        for i in range(size):
            part = jax.lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis)
            x = x + weights[i] * part
    return x


def _rgb(caller: str, image: ArrayLike) -> jax.Array:
    check_rank(caller, "image", image, 3, "[H, W, 3]")
    if shape_of(image)[-1] != 3:
        raise ValueError(
            f"{caller}: image has {shape_of(image)[-1]} channels, expected 3 (RGB)"
        )
    return jnp.asarray(image).astype(jnp.float32)


def _luma(x: jax.Array) -> jax.Array:
    """[H, W, 1]."""
    red, green, blue = (x[..., i : i + 1] for i in range(3))
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _mean(gray: jax.Array) -> jax.Array:
    # As a product with ones, which a CPU computes faster than a reduction.
    flat = gray.reshape(-1)
    return jnp.dot(jnp.ones_like(flat), flat, precision="highest") / flat.size
