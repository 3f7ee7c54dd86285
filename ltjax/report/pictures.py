"""Pictures that an evaluator kept, such as segmented scenes, as one sheet."""

import colorsys
import io

import numpy as np
from numpy.typing import ArrayLike

from ltjax.report.runs import Run

# Of an evaluation file: uint8 [R, n, H, W], numbers of classes, or [R, n, H, W, 3].
PICTURES = "pictures/"
_GAP = 4  # pixels between pictures
_TURN = 0.618034  # of the color wheel between neighboring classes


def class_colors(num_classes: int) -> np.ndarray:
    """A color for each class, then grey for numbers that are no class.

    Args:
        num_classes: K.

    Returns:
        uint8 [256, 3]; rows from K on are grey, as pixels without a label have it.
    """
    table = np.full((256, 3), 128, np.uint8)
    for k in range(min(num_classes, 256)):
        value = (0.95, 0.7)[k // 2 % 2]
        rgb = colorsys.hsv_to_rgb(k * _TURN % 1, 0.65, value)
        table[k] = np.round(255 * np.asarray(rgb))
    return table


def picture_sheet(rows: list[ArrayLike], num_classes: int) -> np.ndarray:
    """Pictures side by side, a row for each entry.

    Args:
        rows: uint8 [n, H, W] numbers of classes, or [n, H, W, 3] colors.
        num_classes: K, of the numbers.

    Returns:
        uint8 [height, width, 3], white between the pictures.

    Raises:
        ValueError: if a row has another shape.
    """
    colors = class_colors(num_classes)
    strips = []
    for row in rows:
        pixels = np.asarray(row)
        if pixels.ndim == 3:
            pixels = colors[np.minimum(pixels, 255)]
        if pixels.ndim != 4 or pixels.shape[-1] != 3:
            raise ValueError(
                f"picture_sheet: a row has shape {np.shape(row)}, expected [n, H, W] or"
                " [n, H, W, 3]"
            )
        padded = np.pad(
            pixels, ((0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=255
        )
        strips.append(np.concatenate(list(padded), axis=1))
    width = max(strip.shape[1] for strip in strips)
    fill = [((0, 0), (0, width - strip.shape[1]), (0, 0)) for strip in strips]
    padded = [
        np.pad(s, f, constant_values=255) for s, f in zip(strips, fill, strict=True)
    ]
    return np.concatenate(padded)[:-_GAP, :-_GAP]


def picture_png(run: Run) -> tuple[bytes, list[str]] | None:
    """The pictures of a run's first replica.

    Args:
        run: whose evaluation file may hold "pictures/<name>".

    Returns:
        (PNG, names of the rows from top to bottom), or None if there are none.
    """
    from matplotlib.image import imsave

    found = {
        name.removeprefix(PICTURES): value[0]
        for name, value in run.arrays.items()
        if name.startswith(PICTURES)
    }
    if not found or run.diverged[0]:
        return None
    buffer = io.BytesIO()
    imsave(buffer, picture_sheet(list(found.values()), len(run.class_counts)))
    return buffer.getvalue(), list(found)
