"""Readers: random access to the inputs of a split, in memory or on disk.

A reader is called with an array of positions and returns the inputs there as one
array. Readers can be pickled (the worker processes of the streaming feed get a copy)
and open their files on first use.
"""

import dataclasses
import difflib
import io
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax.data.modalities import DType, Shape, each_modality


class DataError(ValueError):
    """Data on disk or in memory that are damaged or do not fit together."""


class MissingDataError(DataError, FileNotFoundError):
    """Data that are not where they are expected."""


def beside(path: str | os.PathLike) -> str:
    """A hint for a path that is no file: where it was looked for, the nearest name.

    Example:
        >>> beside("/nowhere/at/all")
        ', nor a folder /nowhere/at'
    """
    place = pathlib.Path(path).absolute()
    if not place.parent.is_dir():
        return f", nor a folder {place.parent}"
    if place.is_dir():
        return ": it is a folder"
    below = "" if pathlib.Path(path).is_absolute() else f" below {pathlib.Path.cwd()}"
    names = sorted(os.listdir(place.parent))
    near = difflib.get_close_matches(place.name, names, n=1, cutoff=0.5)
    if near:
        return f"{below}; did you mean {near[0]!r}?"
    return f"{below}; {place.parent} holds {', '.join(names[:20])}" if names else below


class Contents(NamedTuple):
    """What opening a split yields, before validation.

    Attributes:
        labels: [N] int, -1 where there is none.
        reader: positions [n] -> inputs [n, *shape].
        shape: shape of one input; of several modalities a dict of shapes by name.
        dtype: uint8 or float32; likewise.
        num_classes: K.
        class_names: K names, or None.
        features: names of the F features of a table, in order, or None.
        targets: uint8 [N, K] of 0 and 1, where an example has several labels. Its
            label is the rarest of them then.
        candidates: bool [N, K], where one of several labels is true and nobody says
            which. There are no labels then.
        truth: [N] int, the clean labels where they are known apart from these.
    """

    labels: np.ndarray
    reader: Callable[[np.ndarray], Any]
    shape: Shape
    dtype: DType
    num_classes: int
    class_names: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    targets: np.ndarray | None = None
    candidates: np.ndarray | None = None
    truth: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayReader:
    """Inputs held in memory, [N, ...], or a dict of them by modality."""

    inputs: Any

    def __call__(self, positions: np.ndarray) -> Any:
        """The inputs at `positions`, a copy."""
        return each_modality(lambda stored: stored[positions], self.inputs)


@dataclasses.dataclass(frozen=True)
class Sizing:
    """How an image is brought to a fixed size when it is read.

    Attributes:
        resize: length of the shorter side in pixels, or None to keep the size.
        crop: side of the square cut from the center, or None for no crop.
    """

    resize: int | None = None
    crop: int | None = None

    def __post_init__(self):
        for name, value in (("resize", self.resize), ("crop", self.crop)):
            if value is not None and value < 1:
                raise ValueError(f"Sizing: {name} is {value}, expected at least 1")
        if self.resize and self.crop and self.crop > self.resize:
            raise ValueError(
                f"Sizing: crop {self.crop} exceeds the shorter side {self.resize}"
            )

    def __bool__(self) -> bool:
        return self.resize is not None or self.crop is not None


@dataclasses.dataclass(frozen=True, eq=False)
class FileReader:
    """Image files below a folder, decoded when they are read.

    Attributes:
        root: folder that the paths are relative to.
        paths: N relative paths.
        sizing: resize and center crop.
    """

    root: str
    paths: Sequence[str]
    sizing: Sizing

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """uint8 [n, height, width, 3]."""
        return stack_images([self._read(int(i)) for i in positions], "image files")

    def _read(self, position: int) -> np.ndarray:
        path = pathlib.Path(self.root, self.paths[position])
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise MissingDataError(
                f"image {path} does not exist, but entry {position} (0-based) of the"
                " image list names it"
            ) from error
        except (OSError, ValueError) as error:  # or a name that no file can have
            raise DataError(f"image {path} cannot be read: {error}") from error
        try:
            return decode_image(data, self.sizing)
        except DataError as error:
            raise DataError(f"image {path} {error}") from error


def stack_images(
    images: list[np.ndarray], what: str, remedy: str = "resize and crop"
) -> np.ndarray:
    """Stacks decoded images [h, w, c] and says so if their sizes differ."""
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise DataError(
            f"{what} have different shapes {sorted(shapes)}; pass {remedy} to bring"
            " them to one size"
        )
    return np.stack(images)


def decode_image(data: bytes, sizing: Sizing, channels: int = 3) -> np.ndarray:
    """Decodes a JPEG, PNG, ... and brings it to size.

    The image is turned upright as its EXIF orientation says. Then the shorter side is
    resized with an antialiased bilinear filter and the center is cut out, the usual
    evaluation transform of ImageNet.

    Gray images of more than 8 bits are scaled by their range, and not by their
    brightest pixel, so that images of one data set stay comparable: integers of 16 (or
    32) bits from [0, 65535], floating point from [0, 1].

    Args:
        data: content of the image file.
        sizing: resize and center crop.
        channels: 1 (gray) or 3 (RGB).

    Returns:
        uint8 [height, width, channels].

    Raises:
        DataError: if the image cannot be decoded, has more than 8 bits and numbers
            outside those ranges, or is smaller than the crop. The message starts with
            the verb; callers put the name of the image in front.
    """
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(data)) as opened:
            if opened.format == "PNG" and not getattr(opened, "tile", True):
                raise DataError("cannot be decoded: there are no pixels in the file")
            check_frames(opened)
            return size_image(opened, sizing, channels)
    except DataError:
        raise
    except Exception as error:  # PIL's plugins raise whatever they stumble over
        reason = str(error) or type(error).__name__
        raise DataError(f"cannot be decoded: {reason}") from error


def check_frames(image: Any) -> None:
    """Refuses a PIL image that is an animation or has pages.

    Raises:
        DataError: with the number of frames. The message starts with the verb.
    """
    frames = getattr(image, "n_frames", 1)
    # A camera's MPO holds the picture and previews of it.
    if frames > 1 and image.format != "MPO":
        raise DataError(
            f"is animated or has pages ({frames} frames), expected one picture; save"
            " the frame that is meant"
        )


def size_image(image: Any, sizing: Sizing, channels: int = 3) -> np.ndarray:
    """The pixels of a PIL image, upright, in 8 bits and brought to size.

    Transparent pixels are shown on white, as a viewer does; CMYK becomes RGB.

    Args:
        image: a PIL image.
        sizing: see `decode_image`.
        channels: likewise.

    Returns:
        uint8 [height, width, channels].

    Raises:
        DataError: see `decode_image`.
    """
    import PIL.Image

    image = _opaque(_eight_bits(_upright(image)))
    image = image.convert("RGB" if channels == 3 else "L")
    width, height = image.size
    if sizing.resize is not None:
        short = min(width, height)
        # The longer side is truncated, as torchvision does.
        width = sizing.resize * width // short
        height = sizing.resize * height // short
        image = image.resize((width, height), PIL.Image.Resampling.BILINEAR)
    if sizing.crop is not None:
        if sizing.crop > min(width, height):
            raise DataError(
                f"has {height}x{width} pixels, which is smaller than the crop"
                f" {sizing.crop}; pass resize >= crop"
            )
        left = round((width - sizing.crop) / 2)
        top = round((height - sizing.crop) / 2)
        image = image.crop((left, top, left + sizing.crop, top + sizing.crop))
    pixels = np.asarray(image, np.uint8)
    return pixels if channels == 3 else pixels[..., None]


def _opaque(image):
    """The image on white if it is transparent anywhere, otherwise as it is."""
    import PIL.Image

    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    if image.getextrema()[-1][0] == 255:
        return image
    white = PIL.Image.new("RGBA", image.size, "white")
    return PIL.Image.alpha_composite(white, image)


def _upright(image):
    """The image as a viewer shows it."""
    import PIL.ImageOps

    try:
        return PIL.ImageOps.exif_transpose(image)
    except Exception:
        # Viewers ignore damaged tags, which are common. Pixels that cannot be decoded
        # fail again, and for good, when they are converted.
        return image


def _eight_bits(image):
    """Gray images of 16 or 32 bits with 8; PIL itself would clip them to white."""
    import PIL.Image

    if image.mode == "F":
        highest, kind = 1.0, "floating-point numbers in [0, 1]"
    elif image.mode == "I" or image.mode.startswith("I;"):
        highest, kind = 65535.0, "integers in [0, 65535]"
    else:
        return image
    numbers = np.asarray(image, np.float64)
    low, high = numbers.min(), numbers.max()
    if not (low >= 0 and high <= highest):
        raise DataError(
            f"has numbers from {low:g} to {high:g} (mode {image.mode}), expected 8 bits"
            f" or {kind}; convert it first"
        )
    scaled = np.rint(numbers * (255 / highest)).astype(np.uint8)
    return PIL.Image.fromarray(scaled)
