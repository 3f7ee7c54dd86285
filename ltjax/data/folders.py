"""Image folders with list files: ImageNet-LT, Places-LT, iNaturalist and the like.

A list has one image per line, `relative/path label`, separated by one space.
"""

import pathlib
from typing import NamedTuple

import numpy as np

from ltjax.data.readers import (
    Contents,
    DataError,
    FileReader,
    MissingDataError,
    Sizing,
)


class ImageList(NamedTuple):
    """Content of a list file: N relative paths and labels int32 [N]."""

    paths: tuple[str, ...]
    labels: np.ndarray


def read_image_list(path: str | pathlib.Path) -> ImageList:
    """Reads a list of `relative/path label` lines.

    Args:
        path: the list file. Empty lines are skipped.

    Returns:
        ImageList with paths and labels in the order of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: naming the line that does not have exactly a path and a
            non-negative integer label, or if the list is empty or not text.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp(), "train.txt")
        >>> _ = file.write_text("n01440764/a.jpg 0\\nn01443537/b.jpg 1\\n")
        >>> read_image_list(file).labels.tolist()
        [0, 1]

    References:
        Liu et al., CVPR 2019, and Kang et al., ICLR 2020: the released list files.
    """
    path = pathlib.Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"read_image_list: {path} is not a UTF-8 text file") from None
    paths, labels = [], []
    for number, line in enumerate(lines, start=1):
        columns = line.split()
        if not columns:
            continue
        if len(columns) != 2 or not columns[1].isdecimal():
            raise DataError(
                f"read_image_list: line {number} of {path} is {line!r}, expected"
                " 'relative/path label' with an integer label >= 0"
            )
        paths.append(columns[0])
        labels.append(int(columns[1]))
    if not paths:
        raise DataError(f"read_image_list: {path} lists no image")
    return ImageList(tuple(paths), np.array(labels, np.int32))


def open_folder(
    split: str,
    *,
    list_file: str | pathlib.Path,
    image_root: str | pathlib.Path,
    num_classes: int | None = None,
    resize: int | None = 256,
    crop: int | None = 256,
) -> Contents:
    """Opens one list of an image folder; no image but the first is read.

    Args:
        split: name of the split, for messages.
        list_file: the list of this split.
        image_root: folder that the paths in the list are relative to.
        num_classes: K, or None for the largest label + 1.
        resize: shorter side in pixels, or None to keep the size of the files.
        crop: side of the center crop in pixels, or None for no crop.

    Returns:
        Contents of RGB images, uint8.

    Raises:
        MissingDataError: if the list or its first image does not exist.
        DataError: for a malformed list.
    """
    if not pathlib.Path(list_file).is_file():
        raise MissingDataError(
            f"the image list of split {split!r} is expected at {list_file}; put the"
            " published list there or pass list_file"
        )
    paths, labels = read_image_list(list_file)
    reader = FileReader(str(image_root), paths, Sizing(resize, crop))
    shape = reader(np.array([0])).shape[1:]
    return Contents(
        labels=labels,
        reader=reader,
        shape=shape,
        dtype=np.dtype(np.uint8),
        num_classes=int(labels.max()) + 1 if num_classes is None else num_classes,
    )
