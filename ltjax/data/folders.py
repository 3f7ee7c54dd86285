"""Image folders with list files: ImageNet-LT, Places-LT, iNaturalist and the like.

A list has one image per line, `relative/path label`, separated by spaces or a tab.
"""

import os
import pathlib
from typing import NamedTuple

import numpy as np

from ltjax.class_stats import infer_num_classes
from ltjax.data.readers import (
    Contents,
    DataError,
    FileReader,
    MissingDataError,
    Sizing,
    beside,
)


class ImageList(NamedTuple):
    """Content of a list file: N relative paths and labels int32 [N]."""

    paths: tuple[str, ...]
    labels: np.ndarray


_LARGEST_LABEL = 2**31 - 1


def _columns(line: str) -> tuple[str | None, str]:
    """Path and label of a line; no path where they cannot be told apart."""
    tabbed = line.strip().rsplit("\t", 1)
    columns = tabbed if len(tabbed) == 2 else line.rsplit(maxsplit=1)
    if len(columns) != 2:
        return None, ""
    image, label = (column.strip() for column in columns)
    ambiguous = len(tabbed) != 2 and len(parts := image.split()) > 1
    if not image or (ambiguous and parts[-1].isdecimal()):
        return None, ""
    return image, label


def read_image_list(path: str | pathlib.Path) -> ImageList:
    """Reads a list of `relative/path label` lines.

    The label is the last column, so that a path may contain spaces. A path that ends in
    a number of its own ("a 1") needs a tab before the label, or it would be a guess.

    Args:
        path: the list file, UTF-8 with or without byte order mark. Empty lines are
            skipped.

    Returns:
        ImageList with paths and labels in the order of the file.

    Raises:
        MissingDataError: if there is no such file.
        DataError: naming the line that does not have a path and an integer label in
            [0, 2^31), or if the list is empty or not text.

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
    if not path.is_file():
        raise MissingDataError(
            f"read_image_list: there is no file {path}{beside(path)}"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"read_image_list: {path} is not a UTF-8 text file") from None
    paths, labels = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        image, label = _columns(line)
        if image is None or not label.isdecimal():
            raise DataError(
                f"read_image_list: line {number} of {path} is {line!r}, expected"
                " 'relative/path label' with an integer label >= 0"
            )
        if len(label) > 10 or int(label) > _LARGEST_LABEL:
            raise DataError(
                f"read_image_list: line {number} of {path} has the label {label},"
                f" expected at most {_LARGEST_LABEL}"
            )
        paths.append(image)
        labels.append(int(label))
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
    outside_root: bool = False,
) -> Contents:
    """Opens one list of an image folder; no image but the first is read.

    Args:
        split: name of the split, for messages.
        list_file: the list of this split.
        image_root: folder that the paths in the list are relative to.
        num_classes: K, or None for the largest label + 1.
        resize: shorter side in pixels, or None to keep the size of the files.
        crop: side of the center crop in pixels, or None for no crop.
        outside_root: allow paths that lead out of `image_root` (absolute ones, or with
            "..").

    Returns:
        Contents of RGB images, uint8.

    Raises:
        MissingDataError: if the list or its first image does not exist.
        DataError: for a malformed list, or one that leaves `image_root`.
    """
    if not pathlib.Path(list_file).is_file():
        raise MissingDataError(
            f"the image list of split {split!r} is expected at {list_file}; put the"
            " published list there or pass list_file"
        )
    paths, labels = read_image_list(list_file)
    if not outside_root:
        _check_inside(list_file, image_root, paths)
    if num_classes is None:
        num_classes = infer_num_classes(f"image list {list_file}", labels)
    reader = FileReader(str(image_root), paths, Sizing(resize, crop))
    shape = reader(np.array([0])).shape[1:]
    return Contents(
        labels=labels,
        reader=reader,
        shape=shape,
        dtype=np.dtype(np.uint8),
        num_classes=num_classes,
    )


def _check_inside(list_file, image_root, paths: tuple[str, ...]) -> None:
    """Refuses paths that lead out of the root, as written: links may lead anywhere."""
    for entry, path in enumerate(paths):
        plain = os.path.normpath(path)
        if os.path.isabs(plain) or plain.split(os.sep)[0] == os.pardir:
            raise DataError(
                f"image list {list_file}: entry {entry} (0-based) is {path!r}, which"
                f" leads out of image_root {image_root}; pass outside_root=True if it"
                " should"
            )
