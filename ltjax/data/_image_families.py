"""The few computations behind the image operations, on float32 pixels in [0, 255].

Under `vmap` a `lax.switch` over operations would compute all of them, so operations are
grouped: one nearest-neighbor warp for the geometric ones, one affine form per pixel for
the tonal ones, one 3x3 filter, one histogram. Each function leaves the image exactly as
it is when its parameters say so, so that the families can follow each other.

`whole` (static) says that pixels are whole numbers, as those of a uint8 image; results
are then rounded where Pillow rounds.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_rank, shape_of

# A fill color: one number, or one per channel.
Color = ArrayLike | tuple[float, ...]

LEVELS = 256
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def pixels(caller: str, image: ArrayLike) -> tuple[jax.Array, bool]:
    """`image` [H, W, C] as float32, and whether its pixels are whole numbers."""
    check_rank(caller, "image", image, 3, "[H, W, C]")
    dtype = jnp.result_type(image)
    if dtype != jnp.uint8 and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{caller}: image has dtype {dtype}, expected uint8, or floating point in"
            " [0, 255]"
        )
    return jnp.asarray(image).astype(jnp.float32), dtype == jnp.uint8


def image_like(values: jax.Array, whole: bool) -> jax.Array:
    return values.astype(jnp.uint8) if whole else values


def check_color(caller: str, image: ArrayLike) -> None:
    if shape_of(image)[-1] not in (1, 3):
        raise ValueError(
            f"{caller}: image has {shape_of(image)[-1]} channels, expected 3 (RGB) or 1"
        )


def clipped(values: jax.Array, whole: bool) -> jax.Array:
    """In [0, 255]; fractions are cut off, as a C cast does, if pixels are whole."""
    values = jnp.clip(values, 0.0, 255.0)
    return jnp.floor(values) if whole else values


def mixed(first: jax.Array, second: jax.Array, weight) -> jax.Array:
    """`first` at weight 0, `second` at 1, extrapolation outside; not yet clipped."""
    return first + weight * (second - first)


def blend(first: jax.Array, second: jax.Array, weight, whole: bool) -> jax.Array:
    return clipped(mixed(first, second, weight), whole)


def gray(x: jax.Array, whole: bool) -> jax.Array:
    """Luma [H, W, 1] of ITU-R BT.601 in Pillow's integer weights."""
    if x.shape[-1] == 1:
        return x
    red, green, blue = (x[..., i : i + 1] for i in range(3))
    # Every product and every sum stays below 2^24, where float32 counts exactly.
    luma = 19595 * red + 38470 * green + 7471 * blue
    return jnp.floor((luma + 32768) / 65536) if whole else luma / 65536


def mean_gray(x: jax.Array, whole: bool) -> jax.Array:
    """Scalar."""
    flat = gray(x, whole).reshape(-1)
    # A product with ones: on a CPU the same sum as a reduction takes 60 times as long.
    mean = jnp.dot(jnp.ones_like(flat), flat, precision="highest") / flat.size
    return jnp.floor(mean + 0.5) if whole else mean


def tone(x: jax.Array, slope, pivot, base) -> jax.Array:
    """`base + slope (x - pivot)`, not yet clipped; scalars or [C].

    Written with a pivot, as Pillow computes it: a product that is expanded rounds
    differently, and a whole result may then be cut off one level too low.
    """
    return _channel(base) + _channel(slope) * (x - _channel(pivot))


def stretch(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(slope, pivot) [C] that bring the range of every channel to [0, 255]."""
    low, high = -_channel_max(-x), _channel_max(x)
    flat = high <= low
    # A little more than the quotient, so that the brightest pixel reaches 255.
    slope = jnp.float32(255 * (1 + 2e-7)) / jnp.where(flat, 1.0, high - low)
    return jnp.where(flat, 1.0, slope), jnp.where(flat, 0.0, low)


def _channel_max(x: jax.Array) -> jax.Array:
    """[C]. One axis after the other in windows, which a CPU vectorizes."""
    height, width, channels = x.shape
    for window in ((height, 1, 1), (1, width, 1)):
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
    return x.reshape(channels)


def _channel(value) -> jax.Array:
    value = jnp.asarray(value, jnp.float32)
    return value.reshape(1, 1, -1) if value.ndim else value


def posterize_step(bits) -> jax.Array:
    """Distance of the levels that `bits` bits can tell apart."""
    bits = jnp.clip(jnp.floor(jnp.asarray(bits, jnp.float32)), 1, 8)
    # Shifted, not exp2, which is not exact on every backend.
    return (1 << (8 - bits.astype(jnp.int32))).astype(jnp.float32)


def coarse(x: jax.Array, step) -> jax.Array:
    """Multiples of `step` (a power of two); 1 leaves fractions alone."""
    return jnp.where(step > 1, jnp.floor(x * (1 / step)) * step, x)


def shearing_x(amount) -> list:
    amount = jnp.asarray(amount, jnp.float32)
    return [1.0, amount, amount / 2, 0.0, 1.0, 0.0]


def shearing_y(amount) -> list:
    amount = jnp.asarray(amount, jnp.float32)
    return [1.0, 0.0, 0.0, amount, 1.0, amount / 2]


def translation(columns, rows) -> list:
    return [1.0, 0.0, columns, 0.0, 1.0, rows]


def rotation(shape: tuple[int, ...], degrees) -> list:
    """Inverse map of a counterclockwise turn around the center, as `warp` takes it."""
    height, width = shape[:2]
    radians = jnp.asarray(degrees, jnp.float32) * np.float32(np.pi / 180)
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    # 1 - cos without cancellation: the fixed point below rounds to 2^-16 pixels.
    lost = 2 * jnp.sin(radians / 2) ** 2
    half_x, half_y = (width - 1) / 2, (height - 1) / 2
    return [
        *(cos, -sin, lost * half_x + sin * half_y),
        *(sin, cos, lost * half_y - sin * half_x),
    ]


def warp(x: jax.Array, matrix, fill: Color) -> jax.Array:
    """Nearest-neighbor affine warp.

    Args:
        x: [H, W, C].
        matrix: (a, b, c, d, e, f), scalars: the pixel of column u and row v comes from
            column a u + b v + c and row d u + e v + f, all counted from pixel centers.
        fill: for pixels from outside; scalar or [C].
    """
    height, width, channels = x.shape
    a, b, c, d, e, f = (jnp.asarray(value, jnp.float32) for value in matrix)
    # Pillow counts in units of 2^-16. Integers make ties (a shear of 0.3 has many at
    # whole coordinates) fall on the same side.
    across, down = _fixed(a), _fixed(b)
    across_row, down_row = _fixed(d), _fixed(e)
    u = jnp.arange(width, dtype=jnp.int32)[None, :]
    v = jnp.arange(height, dtype=jnp.int32)[:, None]
    column = (_fixed(c + 0.5) + across * u + down * v) >> 16
    row = (_fixed(f + 0.5) + across_row * u + down_row * v) >> 16
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = jnp.where(inside, row * width + column, 0)
    flat = x.reshape(height * width, channels)
    taken = flat.at[place].get(mode="promise_in_bounds")
    outside = jnp.broadcast_to(jnp.asarray(fill, x.dtype), x.shape[-1:])
    return jnp.where(inside[..., None], taken, outside.reshape(1, 1, channels))


def _fixed(value: jax.Array) -> jax.Array:
    limit = 2.0**13  # beyond any image; keeps the sums inside of 32 bits
    value = jnp.clip(value, -limit, limit)
    return jnp.floor(value * 65536.0 + 0.5).astype(jnp.int32)


def erased(x: jax.Array, center, size, fill: Color) -> jax.Array:
    """A square of `size` pixels around `center` (row, column) in the color `fill`."""
    height, width, channels = x.shape
    size = jnp.floor(jnp.asarray(size, jnp.float32)).astype(jnp.int32)
    top, left = (jnp.asarray(center[i]).astype(jnp.int32) - size // 2 for i in (0, 1))
    row = jnp.arange(height, dtype=jnp.int32)[:, None, None] - top
    column = jnp.arange(width, dtype=jnp.int32)[None, :, None] - left
    inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
    color = jnp.broadcast_to(jnp.asarray(fill, x.dtype), (channels,))
    return jnp.where(inside, color.reshape(1, 1, channels), x)


def smooth(x: jax.Array, whole: bool) -> jax.Array:
    """Pillow's SMOOTH: 3x3 of ones around a five, border pixels as they are.

    Writing the inner pixels into the image also keeps XLA from merging all families
    into one loop, which a CPU then runs pixel by pixel, half again as long.
    """
    if min(x.shape[:2]) < 3:
        return x
    rows = x[:-2] + x[1:-1] + x[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = (around + 4 * x[1:-1, 1:-1]) * np.float32(1 / 13)
    return x.at[1:-1, 1:-1].set(jnp.floor(inner + 0.5) if whole else inner)


def ring_blur(x: jax.Array, whole: bool) -> jax.Array:
    """Pillow's BLUR: mean of the border of a 5x5 square, two border pixels kept."""
    three_rows, five_rows = _windows(x, 0, 2)
    three, five = _windows(three_rows, 1, 2)[0], _windows(five_rows, 1, 2)[1]
    inner = (five - three) / 16
    inner = jnp.floor(inner + 0.5) if whole else inner
    return jnp.where(_inside(x.shape, 2), inner, x)


def _windows(x: jax.Array, axis: int, reach: int) -> list[jax.Array]:
    """Sums of 3, 5, ... values around each one along an axis, zeros beyond the border.

    Sums of slices: a convolution of [H, W, 3] images has no fast form on a CPU.
    """
    size = x.shape[axis]
    padding = [(0, 0)] * x.ndim
    padding[axis] = (reach, reach)
    padded = jnp.pad(x, padding)

    def moved(offset):
        start = reach + offset
        return jax.lax.slice_in_dim(padded, start, start + size, axis=axis)

    sums, total = [], x
    for offset in range(1, reach + 1):
        total = total + moved(offset) + moved(-offset)
        sums.append(total)
    return sums


def _inside(shape: tuple[int, ...], border: int) -> jax.Array:
    """[H, W, 1], False on the outermost `border` rows and columns."""
    row = jnp.arange(shape[0])[:, None, None]
    column = jnp.arange(shape[1])[None, :, None]
    rows = (row >= border) & (row < shape[0] - border)
    return rows & (column >= border) & (column < shape[1] - border)


def equalized(x: jax.Array) -> jax.Array:
    """Every channel through the table that flattens its histogram.

    What is looked up is the number of darker pixels; the division, which a CPU
    vectorizes, comes after it.
    """
    height, width, channels = x.shape
    size = height * width
    # Levels of all channels count in one flat histogram, which scatters fastest.
    shift = LEVELS * jnp.arange(channels, dtype=jnp.int32).reshape(1, 1, channels)
    level = (jnp.clip(x, 0, 255).astype(jnp.int32) + shift).reshape(-1)
    counts = jnp.zeros((channels * LEVELS,), jnp.int32)
    counts = counts.at[level].add(1, mode="promise_in_bounds")
    counts = counts.reshape(channels, LEVELS)
    up_to = jnp.cumsum(counts, axis=1)
    # All pixels but those of the brightest level that occurs, over 255.
    step = jnp.max(jnp.where(up_to < size, up_to, 0), axis=1) // (LEVELS - 1)
    darker = (up_to - counts).reshape(-1).at[level].get(mode="promise_in_bounds")
    step = step.astype(jnp.float32).reshape(1, 1, channels)
    # The half keeps the quotient of whole numbers clear of the next whole one, also as
    # a product with the reciprocal, up to about a million pixels.
    places = darker.reshape(x.shape) + (jnp.floor(step / 2) + 0.5)
    changed = jnp.minimum(jnp.floor(places * (1 / jnp.maximum(step, 1.0))), 255.0)
    # A channel with too few pixels to flatten keeps its fractions too.
    return jnp.where(step > 0, changed, x)


def zoomed(x: jax.Array, margin, kernel, whole: bool) -> jax.Array:
    """The center of the image, enlarged to its size.

    Args:
        x: [H, W, C].
        margin: fraction of each side that is cut off on either end, below 1/2.
        kernel: index into `KERNELS`; traced.
        whole: see the module.
    """
    height, width = x.shape[:2]
    rows = _resampling(height, margin, kernel)
    columns = _resampling(width, margin, kernel)
    # Pillow resizes along the rows first and rounds in between.
    across = jnp.einsum("hwc,vw->hvc", x, columns, precision="highest")
    across = clipped(across + 0.5, True) if whole else across
    down = jnp.einsum("hvc,uh->uvc", across, rows, precision="highest")
    return clipped(down + 0.5 if whole else down, whole)


def _lanczos(t):
    return jnp.where(jnp.abs(t) < 3, jnp.sinc(t) * jnp.sinc(t / 3), 0.0)


def _cubic(t):
    # Keys' kernel with a = -1/2.
    t = jnp.abs(t)
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return jnp.where(t < 1, near, jnp.where(t < 2, far, 0.0))


def _hamming(t):
    window = 0.54 + 0.46 * jnp.cos(np.pi * t)
    return jnp.where(jnp.abs(t) < 1, jnp.sinc(t) * window, 0.0)


KERNELS = {
    "lanczos": _lanczos,
    "bicubic": _cubic,
    "bilinear": lambda t: jnp.maximum(1 - jnp.abs(t), 0.0),
    "box": lambda t: jnp.where((t > -0.5) & (t <= 0.5), 1.0, 0.0),
    "hamming": _hamming,
    "nearest": lambda t: jnp.where((t > -0.5) & (t <= 0.5), 1.0, 0.0),
}


def _resampling(size: int, margin, kernel) -> jax.Array:
    """[size, size] weights, rows of sum one, that enlarge the window to `size`."""
    low = jnp.round(jnp.asarray(margin, jnp.float32) * size)
    high = jnp.round(size - jnp.asarray(margin, jnp.float32) * size)
    at = jnp.arange(size, dtype=jnp.float32)
    center = low + (at + 0.5) * (high - low) / size
    distance = at[None, :] + 0.5 - center[:, None]
    weights = jnp.zeros((size, size), jnp.float32)
    for number, function in enumerate(KERNELS.values()):
        weights = jnp.where(kernel == number, function(distance), weights)
    inside = (at >= low) & (at < high)
    weights = jnp.where(inside[None, :], weights, 0.0)
    return weights / jnp.sum(weights, axis=1, keepdims=True)
