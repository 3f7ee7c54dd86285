r"""Image operations that move pixels or cover them, see `ltjax.data.image_ops`.

Moved pixels are the nearest of the source, as Pillow takes them by default.
"""

import jax
from jax.typing import ArrayLike

from ltjax.data import _image_families as families


def rotate(
    image: ArrayLike, degrees: ArrayLike, *, fill: families.Color = 0.0
) -> jax.Array:
    """Turns the image counterclockwise around its center.

    Args:
        image: [H, W, C].
        degrees: scalar.
        fill: color of what comes into view, scalar or [C].

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> image = jnp.array([[[1], [2]], [[3], [4]]], jnp.uint8)
        >>> rotate(image, 90.0)[..., 0].tolist()
        [[2, 4], [1, 3]]

    References:
        Pillow, `Image.rotate`. A coordinate of the source within 2^-16 of a border
        between pixels may fall on its other side.
    """
    x, whole = families.pixels("rotate", image)
    turned = families.warp(x, families.rotation(x.shape, degrees), fill)
    return families.image_like(turned, whole)


def shear_x(
    image: ArrayLike, amount: ArrayLike, *, fill: families.Color = 0.0
) -> jax.Array:
    """Takes row v from `amount * v` pixels to the right, v counted from the top edge.

    Args:
        image: [H, W, C].
        amount: scalar, pixels per row.
        fill: color of what comes into view, scalar or [C].

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> image = jnp.array([[[1], [2]], [[3], [4]]], jnp.uint8)
        >>> shear_x(image, 0.5)[..., 0].tolist()
        [[1, 2], [4, 0]]

    References:
        Pillow, `Image.transform` with the matrix (1, amount, 0, 0, 1, 0).
    """
    x, whole = families.pixels("shear_x", image)
    sheared = families.warp(x, families.shearing_x(amount), fill)
    return families.image_like(sheared, whole)


def shear_y(
    image: ArrayLike, amount: ArrayLike, *, fill: families.Color = 0.0
) -> jax.Array:
    """Takes column u from `amount * u` pixels below, u counted from the left edge.

    Args:
        image: [H, W, C].
        amount: scalar, pixels per column.
        fill: color of what comes into view, scalar or [C].

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> image = jnp.array([[[1], [2]], [[3], [4]]], jnp.uint8)
        >>> shear_y(image, 0.5)[..., 0].tolist()
        [[1, 4], [3, 0]]

    References:
        Pillow, `Image.transform` with the matrix (1, 0, 0, amount, 1, 0).
    """
    x, whole = families.pixels("shear_y", image)
    sheared = families.warp(x, families.shearing_y(amount), fill)
    return families.image_like(sheared, whole)


def translate_x(
    image: ArrayLike, amount: ArrayLike, *, fill: families.Color = 0.0
) -> jax.Array:
    """Takes every pixel from `amount` pixels to the right: the image moves left.

    Args:
        image: [H, W, C].
        amount: pixels, scalar; rounded to the nearest whole one.
        fill: color of what comes into view, scalar or [C].

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> translate_x(jnp.array([[[1], [2], [3]]], jnp.uint8), 1)[0, :, 0].tolist()
        [2, 3, 0]

    References:
        Pillow, `Image.transform` with the matrix (1, 0, amount, 0, 1, 0).
    """
    x, whole = families.pixels("translate_x", image)
    moved = families.warp(x, families.translation(amount, 0.0), fill)
    return families.image_like(moved, whole)


def translate_y(
    image: ArrayLike, amount: ArrayLike, *, fill: families.Color = 0.0
) -> jax.Array:
    """Takes every pixel from `amount` pixels below: the image moves up.

    Args:
        image: [H, W, C].
        amount: pixels, scalar; rounded to the nearest whole one.
        fill: color of what comes into view, scalar or [C].

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> translate_y(jnp.array([[[1]], [[2]]], jnp.uint8), 1)[:, 0, 0].tolist()
        [2, 0]

    References:
        Pillow, `Image.transform` with the matrix (1, 0, 0, 0, 1, amount).
    """
    x, whole = families.pixels("translate_y", image)
    moved = families.warp(x, families.translation(0.0, amount), fill)
    return families.image_like(moved, whole)


def erase(
    image: ArrayLike, center: ArrayLike, size: ArrayLike, *, fill: families.Color = 0.0
) -> jax.Array:
    """Fills a square: Cutout at a given place. It may reach over the border.

    Args:
        image: [H, W, C].
        center: [2], row and column in pixels; whole numbers.
        size: side in pixels, scalar; its fraction is cut off, and 0 changes nothing.
        fill: scalar or [C].

    Returns:
        [H, W, C] of the same dtype; rows `center - size // 2` to
        `center - size // 2 + size - 1` are filled, columns likewise.

    Example:
        >>> import jax.numpy as jnp
        >>> erase(jnp.ones((1, 4, 1)), jnp.array([0, 1]), 2)[0, :, 0].tolist()
        [0.0, 0.0, 1.0, 1.0]

    References:
        DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks
        with Cutout", 2017.
    """
    x, whole = families.pixels("erase", image)
    erased = families.erased(x, center, size, fill)
    return families.image_like(erased, whole)
