"""The sizes of image files, from their headers."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from ltjax.data.readers import DataError, check_frames

_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_ORIENTATION = 0x0112


class ImageSizes(NamedTuple):
    """What the headers of image files say.

    Attributes:
        smallest: height and width, each of its own, in pixels.
        largest: likewise.
        checked: how many headers were read.
    """

    smallest: tuple[int, int]
    largest: tuple[int, int]
    checked: int

    @property
    def equal(self) -> bool:
        """Whether all images have one size."""
        return self.smallest == self.largest


def joined(sizes: Sequence[tuple[int, int]]) -> ImageSizes:
    """The extremes of (height, width) pairs, at least one.

    Example:
        >>> joined([(3, 9), (5, 7)])
        ImageSizes(smallest=(3, 7), largest=(5, 9), checked=2)
    """
    heights, widths = zip(*sizes, strict=True)
    return ImageSizes(
        (min(heights), min(widths)), (max(heights), max(widths)), len(sizes)
    )


def image_sizes(
    root: str, paths: Sequence[str], *, at_most: int = 20_000
) -> ImageSizes:
    """Reads the headers of image files; sizes are those of the upright images.

    Args:
        root: that the paths are relative to.
        paths: of images.
        at_most: headers that are read, at even distances.

    Returns:
        `ImageSizes`.

    Raises:
        DataError: naming the files that are no images.
    """
    step = max(1, -(-len(paths) // at_most))
    sizes, damaged = [], []
    for path in paths[::step]:
        try:
            sizes.append(_size(pathlib.Path(root, path)))
        except Exception as error:  # PIL's plugins raise whatever they stumble over
            reason = str(error).partition(" '")[0]  # PIL repeats the path
            damaged.append(f"{pathlib.Path(root, path)} {reason}")
    if damaged:
        more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
        raise DataError(
            f"{len(damaged)} image(s) cannot be used; repair or remove them:"
            f" {'; '.join(damaged[:5])}{more}"
        )
    return joined(sizes)


def _size(path: pathlib.Path) -> tuple[int, int]:
    import PIL.Image

    with PIL.Image.open(path) as image:
        check_frames(image)
        width, height = image.size
        sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
    return (width, height) if sideways else (height, width)
