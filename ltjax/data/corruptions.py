r"""Common corruptions of small images at five severities, on the host.

Severities are those published for 32 x 32 images (CIFAR-10-C); other small images take
them as they are, and elastic displacements scale with the side. Three are not bit for
bit the published ones, which call image libraries: motion blur weighs the pixels along
a line one by one, fog is a diamond-square map of the next power of two, and elastic
images are reflected at the border. Glass blur, snow, frost and spatter are left out:
they need assets or more libraries.

References:
    Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations", ICLR 2019; released code for CIFAR-10-C.
"""

import dataclasses
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax._checks import check_choice, check_range
from ltjax.data.readers import DataError
from ltjax.data.source import Source
from ltjax.metrics.corruption_error import SEVERITIES, corruption_case


class Corruption(NamedTuple):
    """A way to spoil an image.

    Attributes:
        fn: (image float64 [H, W, C] in [0, 1], level, generator) -> image.
        levels: of the five severities.
        color: whether it needs three channels.
    """

    fn: Callable[..., np.ndarray]
    levels: tuple[Any, ...]
    color: bool = False


def corrupt(
    image: np.ndarray, name: str, severity: int, *, seed: int = 0, index: int = 0
) -> np.ndarray:
    """One image, spoiled.

    Args:
        image: uint8 [H, W, C] with C of 1 or 3.
        name: a key of `CORRUPTIONS`.
        severity: 1 to 5; 0 gives the image.
        seed: of the randomness; with name, severity and index it decides everything.
        index: of the image.

    Returns:
        uint8 [H, W, C].

    Raises:
        ValueError: for an unknown name, another severity, or an image that the
            corruption does not fit.

    Example:
        >>> gray = np.full((8, 8, 1), 100, np.uint8)
        >>> corrupt(gray, "brightness", 2)[0, 0].tolist()
        [126]
    """
    check_choice("corrupt", "name", name, CORRUPTIONS)
    check_range("corrupt", "severity", severity, low=0, high=5)
    image, found = np.asarray(image), CORRUPTIONS[name]
    channels = (3,) if found.color else (1, 3)
    if image.ndim != 3 or image.dtype != np.uint8 or image.shape[2] not in channels:
        raise ValueError(
            f"corrupt: the image is {image.dtype} {image.shape}, expected uint8"
            f" [H, W, {' or '.join(map(str, channels))}] for {name!r}"
        )
    if severity == 0:
        return image
    key = [seed, zlib.crc32(name.encode()), severity, index]
    made = found.fn(image / 255, found.levels[severity - 1], np.random.default_rng(key))
    return np.rint(255 * np.clip(made, 0, 1)).astype(np.uint8)


# ---------------------------------------------------------------------------- noise


def _gaussian_noise(x, level, rng):
    return x + level * rng.standard_normal(x.shape)


def _shot_noise(x, level, rng):
    return rng.poisson(level * x) / level


def _impulse_noise(x, level, rng):
    draw = rng.random(x.shape)
    return np.where(draw < level / 2, 0.0, np.where(draw < level, 1.0, x))


def _speckle_noise(x, level, rng):
    return x + level * x * rng.standard_normal(x.shape)


# ----------------------------------------------------------------------------- blur


def _gaussian_blur(x, level, rng):
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(x, (level, level, 0), mode="nearest")


def _defocus_blur(x, level, rng):
    """A disk, its edge smoothed by three by three Gaussian weights."""
    from scipy.ndimage import convolve

    radius, smooth = level
    place = np.arange(-8, 9)
    disk = (place[:, None] ** 2 + place[None, :] ** 2 <= radius**2) * 1.0
    weights = np.exp(-(np.arange(-1, 2) ** 2) / (2 * smooth**2))
    weights = np.outer(weights, weights)
    kernel = convolve(disk / disk.sum(), weights / weights.sum(), mode="constant")
    return convolve(x, kernel[..., None], mode="mirror")


def _motion_blur(x, level, rng):
    """Pixels along a line of a random direction, with one side of a Gaussian."""
    from scipy.ndimage import shift

    radius, sigma = level
    angle = np.deg2rad(rng.uniform(-45, 45))
    taps = np.arange(radius + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    moved = [
        shift(x, (t * np.sin(angle), t * np.cos(angle), 0), order=1, mode="nearest")
        for t in taps
    ]
    return np.tensordot(weights / weights.sum(), np.stack(moved), axes=1)


def _zoom_blur(x, level, rng):
    """The mean of the image and its enlargements around the center."""
    factors = np.arange(1, level, 0.01)
    center = (np.asarray(x.shape[:2]) - 1) / 2
    grid = np.stack(np.meshgrid(*map(np.arange, x.shape[:2]), indexing="ij"))
    away = grid - center[:, None, None]
    zoomed = [_sample(x, center[:, None, None] + away / f, "nearest") for f in factors]
    return (x + sum(zoomed)) / (1 + len(factors))


# -------------------------------------------------------------------------- weather


def _fog(x, level, rng):
    height, decay = level
    side = 1 << (max(x.shape[:2]) - 1).bit_length()
    cloud = plasma(side, decay, rng)[: x.shape[0], : x.shape[1], None]
    return (x + height * cloud) * x.max() / (x.max() + height)


def plasma(side: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """A height map in [0, 1] by the diamond-square algorithm, periodic.

    Args:
        side: a power of two.
        decay: by which the randomness shrinks from one scale to the next.
        rng: generator.

    Returns:
        [side, side].
    """
    heights, step, rough = np.zeros((side, side)), side, 1.0

    def middle(total: np.ndarray) -> np.ndarray:
        return total / 4 + rough * rng.uniform(-1, 1, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=0)
        heights[half::step, half::step] = middle(pairs + np.roll(pairs, -1, axis=1))
        squares = heights[half::step, half::step]
        beside = squares + np.roll(squares, 1, axis=0)
        across = corners + np.roll(corners, -1, axis=1)
        heights[::step, half::step] = middle(beside + across)
        beside = squares + np.roll(squares, 1, axis=1)
        down = corners + np.roll(corners, -1, axis=0)
        heights[half::step, ::step] = middle(beside + down)
        step, rough = half, rough / decay
    heights -= heights.min()
    return heights / max(heights.max(), 1e-12)


# ---------------------------------------------------------------- color and digital


def _brightness(x, level, rng):
    if x.shape[2] == 1:
        return x + level
    # The value of a pixel is its largest channel; hue and saturation stay.
    value = x.max(axis=2, keepdims=True)
    raised = np.minimum(value + level, 1)
    return np.where(value > 0, x * (raised / np.where(value > 0, value, 1)), raised)


def _saturate(x, level, rng):
    factor, shift = level
    value, smallest = (f(x, axis=2, keepdims=True) for f in (np.max, np.min))
    gray = value == smallest
    old = np.where(gray, 1, (value - smallest) / np.where(value > 0, value, 1))
    new = np.clip(factor * np.where(gray, 0, old) + shift, 0, 1)
    # A gray pixel has no hue and counts as red.
    below = np.where(gray, value * np.array([0.0, 1.0, 1.0]), (value - x) / old)
    return value - new * below


def _contrast(x, level, rng):
    mean = x.mean(axis=(0, 1), keepdims=True)
    return (x - mean) * level + mean


def _pixelate(x, level, rng):
    import PIL.Image

    height, width = x.shape[:2]
    small = _picture(x).resize(
        (max(int(width * level), 1), max(int(height * level), 1)),
        PIL.Image.Resampling.BOX,
    )
    return _pixels(small.resize((width, height), PIL.Image.Resampling.BOX), x)


def _jpeg(x, level, rng):
    import PIL.Image

    stored = io.BytesIO()
    _picture(x).save(stored, "JPEG", quality=level)
    with PIL.Image.open(stored) as image:
        return _pixels(image, x)


def _picture(x: np.ndarray) -> Any:
    import PIL.Image

    pixels = np.rint(255 * x).astype(np.uint8)
    return PIL.Image.fromarray(pixels[..., 0] if x.shape[2] == 1 else pixels)


def _pixels(image: Any, like: np.ndarray) -> np.ndarray:
    return np.asarray(image, np.float64).reshape(like.shape) / 255


def _elastic(x, level, rng):
    """A random affine map of three points, and a smooth random displacement."""
    from scipy.ndimage import gaussian_filter

    sides = np.asarray(x.shape[:2], float)
    push, smooth, jitter = (share * sides[0] for share in level)
    center, reach = sides // 2, min(x.shape[:2]) // 3
    corners = center + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + rng.uniform(-jitter, jitter, corners.shape)
    # What lies at a moved corner comes from the corner itself.
    ones = np.ones((3, 1))
    affine = np.linalg.solve(np.hstack([moved, ones]), corners)
    grid = np.stack(np.meshgrid(*map(np.arange, x.shape[:2]), indexing="ij"), axis=-1)
    rows = np.concatenate([grid, np.ones((*x.shape[:2], 1))], axis=-1)
    bent = _sample(x, np.moveaxis(rows @ affine, -1, 0), "mirror")
    if not push:
        return bent
    field = rng.uniform(-1, 1, (2, *x.shape[:2]))
    field = push * gaussian_filter(
        field, (0, smooth, smooth), mode="reflect", truncate=3
    )
    return _sample(bent, np.moveaxis(grid, -1, 0) + field, "reflect")


def _sample(x: np.ndarray, places: np.ndarray, mode: Any) -> np.ndarray:
    """Bilinear values of every channel at [2, H, W] positions."""
    from scipy.ndimage import map_coordinates

    channels = [
        map_coordinates(c, places, order=1, mode=mode) for c in x.transpose(2, 0, 1)
    ]
    return np.stack(channels, axis=-1)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption(_shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": Corruption(_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": Corruption(_speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian_blur": Corruption(_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "defocus_blur": Corruption(
        _defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
    ),
    "motion_blur": Corruption(
        _motion_blur, ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
    ),
    "zoom_blur": Corruption(_zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "fog": Corruption(_fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": Corruption(_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Corruption(_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "saturate": Corruption(
        _saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)), color=True
    ),
    "pixelate": Corruption(_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg": Corruption(_jpeg, (80, 65, 58, 50, 40)),
    "elastic": Corruption(
        _elastic,
        (
            (0.0, 0.0, 0.08),
            (0.05, 0.2, 0.07),
            (0.08, 0.06, 0.06),
            (0.1, 0.04, 0.05),
            (0.1, 0.03, 0.03),
        ),
    ),
}


def fitting(channels: int) -> tuple[str, ...]:
    """The corruptions that apply to images with this number of channels.

    Example:
        >>> "saturate" in fitting(1), "saturate" in fitting(3)
        (False, True)
    """
    return tuple(n for n, one in CORRUPTIONS.items() if channels == 3 or not one.color)


def corrupted(
    source: Source, names: Sequence[str], *, images: int = 0, seed: int = 0
) -> Source:
    """A split that holds every image clean and at every severity of each corruption.

    Args:
        source: of uint8 images with one or three channels; they are read once.
        names: keys of `CORRUPTIONS`; "all" stands for all that fit the images.
        images: evenly spaced examples of the source that are taken; 0 = all.
        seed: of the randomness.

    Returns:
        `Source` with the column "corruption" int32 [M], see
        `ltjax.metrics.corruption_error`.

    Raises:
        DataError: if the source does not hold such images.
        ValueError: for an unknown name, or one that needs colors.
    """
    channels = source.shape[-1] if len(source.shape) == 3 else 0
    if source.dtype != np.uint8 or channels not in (1, 3):
        raise DataError(
            f"Source {source.name}: inputs are {source.dtype} {source.shape}, which"
            " cannot be corrupted, expected uint8 images [H, W, 1 or 3]"
        )
    names = sorted(chosen(names, channels), key=[*CORRUPTIONS].index)
    count = min(images or len(source), len(source))
    rows = np.unique(np.linspace(0, len(source) - 1, count).astype(np.int64))
    part = source.select(rows)
    clean = part.read(np.arange(len(part)))
    sets, cases = [clean], [0]
    for name in names:
        for severity in SEVERITIES:
            cases.append(corruption_case(name, severity))
            made = [
                corrupt(image, name, severity, seed=seed, index=int(index))
                for image, index in zip(clean, rows, strict=True)
            ]
            sets.append(np.stack(made))
    stored = np.concatenate(sets)
    repeated: Mapping[str, np.ndarray] = {
        name: np.concatenate([column] * len(sets))
        for name, column in part.columns.items()
    }
    case = np.repeat(np.asarray(cases, np.int32), len(part))
    return dataclasses.replace(
        part,
        labels=np.tile(part.labels, len(sets)),
        reader=stored.__getitem__,
        origin=np.arange(len(stored)),
        split=f"{source.split}, corrupted",
        columns={**repeated, "corruption": case},
    )


def chosen(names: Sequence[str], channels: int) -> tuple[str, ...]:
    """`names` with "all" replaced by what fits the channels.

    Raises:
        ValueError: for an unknown name, or one that needs colors.
    """
    fit = fitting(channels)
    if tuple(names) == ("all",):
        return fit
    for name in names:
        check_choice("corrupted", "corruption", name, fit)
    return tuple(names)
