r"""Random transforms of one signal [T, C] on the device: pure functions of a key.

What keeps the class of an image need not keep that of a signal: stretching MNIST-1D in
time or amplitude destroys the cues by which its digits differ, while circular shifts,
ramps and smooth noise do not. Every strength may be traced, one per example under
`vmap`, and 0 leaves the signal as it is.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_range, check_rank


def shift(
    key: jax.Array, signal: ArrayLike, *, most: ArrayLike, edge: str = "wrap"
) -> jax.Array:
    """Moves the signal in time by a whole number of samples, all equally likely.

    Args:
        key: of this example.
        signal: [T, C].
        most: largest shift as a fraction of the length, in either direction; 0.5 and
            "wrap" make every circular shift possible.
        edge: "wrap" brings in at one end what leaves at the other, "zero" zeros.

    Returns:
        [T, C] float32.

    Example:
        >>> shift(jax.random.key(0), jnp.ones((4, 1)), most=0.5).ravel().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    check_choice("shift", "edge", edge, ("wrap", "zero"))
    x = _signal("shift", signal)
    length = x.shape[0]
    reach = jnp.floor(jnp.asarray(most, jnp.float32) * length + 1e-4)
    offset = jnp.floor(jax.random.uniform(key) * (2 * reach + 1)) - reach
    source = jnp.arange(length) - offset.astype(jnp.int32)
    moved = x[source % length]
    if edge == "wrap":
        return moved
    return jnp.where(((source >= 0) & (source < length))[:, None], moved, 0.0)


def crop_stretch(
    key: jax.Array, signal: ArrayLike, *, smallest: ArrayLike
) -> jax.Array:
    """Cuts out a window of random length and stretches it to the whole length.

    Args:
        key: of this example.
        signal: [T, C].
        smallest: length of the shortest window as a fraction in (0, 1]; lengths and
            positions are uniform.

    Returns:
        [T, C] float32, interpolated linearly.

    Example:
        >>> line = jnp.arange(5.0)[:, None]
        >>> crop_stretch(jax.random.key(0), line, smallest=1.0).ravel().tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    x = _signal("crop_stretch", signal)
    check_range("crop_stretch", "smallest", smallest, low=0, high=1, open_low=True)
    length_key, place_key = jax.random.split(key)
    last = x.shape[0] - 1
    part = 1 - jax.random.uniform(length_key) * (1 - smallest)
    start = jax.random.uniform(place_key) * (1 - part) * last
    at = start + jnp.arange(x.shape[0]) * part
    low = jnp.clip(jnp.floor(at), 0, max(last - 1, 0)).astype(jnp.int32)
    above = jnp.minimum(low + 1, last)
    weight = (at - low)[:, None]
    return (1 - weight) * x[low] + weight * x[above]


def scale(key: jax.Array, signal: ArrayLike, *, deviation: ArrayLike) -> jax.Array:
    r"""Multiplies the signal by :math:`e^{\sigma g}`, g standard normal.

    Args:
        key: of this example.
        signal: [T, C].
        deviation: :math:`\sigma`, of the logarithm.

    Returns:
        [T, C] float32; all channels by the same factor.

    Example:
        >>> scale(jax.random.key(0), jnp.ones((2, 1)), deviation=0.0).ravel().tolist()
        [1.0, 1.0]
    """
    x = _signal("scale", signal)
    return x * jnp.exp(deviation * jax.random.normal(key))


def ramp(key: jax.Array, signal: ArrayLike, *, deviation: ArrayLike) -> jax.Array:
    """Adds a straight line of random slope that is 0 in the middle.

    Args:
        key: of this example.
        signal: [T, C].
        deviation: standard deviation of the rise from the first to the last sample.

    Returns:
        [T, C] float32; the same line in all channels.

    Example:
        >>> out = ramp(jax.random.key(0), jnp.zeros((3, 1)), deviation=1.0)
        >>> float(out[1, 0]), bool(out[0, 0] == -out[2, 0])
        (0.0, True)
    """
    x = _signal("ramp", signal)
    line = jnp.linspace(-0.5, 0.5, x.shape[0])[:, None]
    return x + deviation * jax.random.normal(key) * line


def jitter(key: jax.Array, signal: ArrayLike, *, deviation: ArrayLike) -> jax.Array:
    """Adds independent normal noise to every sample.

    Args:
        key: of this example.
        signal: [T, C].
        deviation: standard deviation of the noise.

    Returns:
        [T, C] float32.

    Example:
        >>> jitter(jax.random.key(0), jnp.ones((2, 1)), deviation=0.0).ravel().tolist()
        [1.0, 1.0]
    """
    x = _signal("jitter", signal)
    return x + deviation * jax.random.normal(key, x.shape)


def smooth_noise(
    key: jax.Array, signal: ArrayLike, *, deviation: ArrayLike, width: float = 2.0
) -> jax.Array:
    """Adds normal noise whose samples are correlated over a few neighbors.

    Args:
        key: of this example.
        signal: [T, C].
        deviation: standard deviation of the noise at every sample.
        width: of the Gaussian window that averages white noise, in samples; > 0. The
            correlation of two samples falls to exp(-1/4) at this distance.

    Returns:
        [T, C] float32.

    Example:
        >>> smooth_noise(jax.random.key(0), jnp.ones((2, 1)), deviation=0.0).tolist()
        [[1.0], [1.0]]
    """
    check_range("smooth_noise", "width", width, low=0, open_low=True)
    x = _signal("smooth_noise", signal)
    length, channels = x.shape
    reach = int(np.ceil(3 * width))
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    window /= np.sqrt(np.sum(window**2))
    # White noise reaches beyond both ends, so that the deviation is the same there.
    white = jax.random.normal(key, (length + 2 * reach, channels))
    noise = sum(w * white[i : i + length] for i, w in enumerate(window.tolist()))
    return x + deviation * noise


def magnitude_warp(
    key: jax.Array, signal: ArrayLike, *, deviation: ArrayLike, knots: int = 4
) -> jax.Array:
    """Multiplies the signal by a smooth random curve around 1.

    Args:
        key: of this example.
        signal: [T, C].
        deviation: standard deviation of the curve at its knots.
        knots: number of independent values, spread evenly and joined by cubics.

    Returns:
        [T, C] float32; every channel has its own curve.

    Example:
        >>> magnitude_warp(jax.random.key(0), jnp.ones((2, 1)), deviation=0.0).tolist()
        [[1.0], [1.0]]

    References:
        Um et al., "Data Augmentation of Wearable Sensor Data for Parkinson's Disease
        Monitoring using Convolutional Neural Networks", ICMI 2017.
    """
    x = _signal("magnitude_warp", signal)
    values = jax.random.normal(key, (knots, x.shape[1]))
    curve = jax.image.resize(values, x.shape, "cubic", antialias=False)
    return x * (1 + deviation * curve)


def mask(key: jax.Array, signal: ArrayLike, *, fraction: ArrayLike) -> jax.Array:
    """Sets a window of samples at a random place to zero: Cutout in time.

    Args:
        key: of this example.
        signal: [T, C].
        fraction: length of the window, which may go on at the other end, over T.

    Returns:
        [T, C] float32.

    Example:
        >>> mask(jax.random.key(0), jnp.ones((4, 1)), fraction=0.5).sum().item()
        2.0
    """
    x = _signal("mask", signal)
    length = x.shape[0]
    start = jax.random.randint(key, (), 0, length)
    gap = (jnp.arange(length) - start) % length
    # 0.1 * 40 is not quite 4 in float32, hence the small excess.
    inside = gap < jnp.floor(jnp.asarray(fraction, jnp.float32) * length + 1e-4)
    return jnp.where(inside[:, None], 0.0, x)


def _signal(caller: str, signal: ArrayLike) -> jax.Array:
    check_rank(caller, "signal", signal, 2, "[T, C]")
    return jnp.asarray(signal).astype(jnp.float32)
