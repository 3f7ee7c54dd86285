"""Classes of pixels, as a column of a source: as large as the images, and classes."""

import numpy as np

from ltjax.data.readers import DataError
from ltjax.metrics.segmentation import IGNORED

_ROWS = 256  # examples that are looked at together


def check_pixel_targets(
    caller: str, targets: np.ndarray, num_classes: int, sides: tuple[int, ...]
) -> None:
    """Refuses masks of another size than the images, and pixels of unknown classes.

    Args:
        caller: whose masks these are, for messages.
        targets: [N, H, W].
        num_classes: K.
        sides: height and width of the images.

    Raises:
        DataError: if H and W are others, the dtype is no integer, or a pixel is neither
            in [0, K) nor 255 (ignored).

    Example:
        >>> check_pixel_targets("x", np.full((1, 2, 2), 7), 5, (2, 2))
        Traceback (most recent call last):
        ltjax.data.readers.DataError: x: the mask of example 0 has a pixel of class 7, \
expected [0, 5) or 255 (ignored)
    """
    if targets.shape[1:] != tuple(sides):
        raise DataError(
            f"{caller}: masks have {targets.shape[1]} x {targets.shape[2]} pixels, but"
            f" the images {' x '.join(map(str, sides))}, expected the same"
        )
    if not np.issubdtype(targets.dtype, np.integer):
        raise DataError(
            f"{caller}: masks have dtype {targets.dtype}, expected integers"
        )
    for first in range(0, len(targets), _ROWS):
        part = targets[first : first + _ROWS]
        bad = (part != IGNORED) & ((part < 0) | (part >= num_classes))
        if bad.any():
            example = int(np.flatnonzero(bad.any(axis=(1, 2)))[0])
            raise DataError(
                f"{caller}: the mask of example {first + example} has a pixel of class"
                f" {part[bad][0]}, expected [0, {num_classes}) or {IGNORED} (ignored)"
            )
