"""Image folders by class: DIR/<class>/*.png, or DIR/train/<class>/* and DIR/test/...

Classes are the folders in natural order ("class2" before "class10"), images are found
at any depth below them, in the same order.
"""

import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ltjax.data.class_labels import natural_key
from ltjax.data.readers import (
    Contents,
    DataError,
    FileReader,
    MissingDataError,
    Sizing,
    beside,
)
from ltjax.options import nearest

IMAGE_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".gif", ".tif", ".tiff"),
    *(".webp", ".ppm", ".pgm", ".pbm"),
}
LABEL_TABLE = "labels.csv"
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}


UNLABELLED_FOLDERS = ("unlabelled", "unlabeled")


class Listing(NamedTuple):
    """What a folder of classes holds.

    Attributes:
        names: K classes.
        paths: N paths of images below the folder.
        labels: int32 [N].
        other: suffix -> number of files that are not images.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: np.ndarray
    other: dict[str, int]


def split_folders(folder: str | os.PathLike) -> dict[str, pathlib.Path]:
    """Where the splits of a folder lie: the folder itself without a "train" in it.

    Args:
        folder: of classes, or of "train" and "test" or "val" (or their longer names,
            in any case).

    Returns:
        "train" -> folder, and "test" and "val" where there are such.

    Raises:
        MissingDataError: if there is no such folder.
        DataError: if it is a file.
    """
    folder = pathlib.Path(folder)
    if not folder.exists():
        raise MissingDataError(f"there is no folder {folder}{beside(folder)}")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, expected a folder with one per class")
    below = {path.name.casefold(): path for path in _subfolders(folder)}
    found = {
        split: below[name]
        for split, names in SPLIT_FOLDERS.items()
        for name in names
        if name in below
    }
    return found if "train" in found else {"train": folder}


def label_tables(folder: str | os.PathLike) -> dict[str, pathlib.Path]:
    """The tables of images and their labels in a folder, or in those of its splits.

    Args:
        folder: with "labels.csv", or of "train" (and "test" or "val") with one each.

    Returns:
        Split -> table; {} if there is none for training.

    Raises:
        MissingDataError, DataError: see `split_folders`.
    """
    found = {
        split: place / LABEL_TABLE for split, place in split_folders(folder).items()
    }
    found = {split: table for split, table in found.items() if table.is_file()}
    return found if "train" in found else {}


def unlabelled_folder(
    folder: str | os.PathLike, train: str | os.PathLike
) -> pathlib.Path | None:
    """Where images without a class lie: "unlabelled" beside the classes or "train".

    Args:
        folder: the whole data set.
        train: its folder of training classes; may be the same.

    Returns:
        The folder, or None if there is none.

    Raises:
        DataError: if there are two, or one with the folder of a class in it.
    """
    places = dict.fromkeys(map(pathlib.Path, (folder, train)))
    found = [
        path
        for place in places
        for path in _subfolders(place)
        if path.name.casefold() in UNLABELLED_FOLDERS
    ]
    if len(found) > 1:
        raise DataError(
            f"{found[0]} and {found[1]} both hold images without a class, expected one"
            " such folder"
        )
    if not found:
        return None
    below = {path.name for path in _subfolders(found[0])}
    classes = [path.name for path in _subfolders(pathlib.Path(train))]
    labelled = [name for name in classes if name in below]
    if labelled:
        raise DataError(
            f"{found[0]} has a folder {labelled[0]!r}, which is a class: images there"
            f" would have a label; expected them in {pathlib.Path(train, labelled[0])},"
            f" or directly in {found[0]}"
        )
    return found[0]


def list_classes(folder: str | os.PathLike, names: Sequence[str] = ()) -> Listing:
    """The classes and images of a folder, without opening an image.

    Hidden files and folders are not looked at, nor is one of `UNLABELLED_FOLDERS` among
    the classes of the training data.

    Args:
        folder: with a folder per class.
        names: of the classes of the training data, for other splits.

    Returns:
        `Listing`.

    Raises:
        DataError: if there are fewer than two classes, a class without an image, or one
            that the training data do not have.
    """
    folder = pathlib.Path(folder)
    classes = sorted((p.name for p in _subfolders(folder)), key=natural_key)
    if not names:
        classes = [c for c in classes if c.casefold() not in UNLABELLED_FOLDERS]
    found, other = {}, Counter()
    for name in classes:
        found[name], rest = _images(folder, name)
        other += rest
    if names:
        strange = [name for name in classes if name not in names]
        if strange:
            raise DataError(
                f"{folder} has a folder {strange[0]!r}, which is not a class of the"
                f" training data{nearest(strange[0], list(names)[:30])}"
            )
        classes = [name for name in names if name in found]
    else:
        _check_classes(folder, found)
    paths = tuple(path for name in classes for path in found[name])
    if not paths:
        raise DataError(f"{folder} holds no image, expected {folder}/<class>/<image>")
    numbers = {name: k for k, name in enumerate(names or classes)}
    labels = [numbers[name] for name in classes for _ in found[name]]
    loose = sum(_is_image(path.name) for path in folder.iterdir() if path.is_file())
    if loose:
        other["images outside of the class folders"] = loose
    return Listing(
        tuple(names or classes), paths, np.array(labels, np.int32), dict(other)
    )


def open_class_folder(
    folder: str | os.PathLike,
    *,
    names: Sequence[str] = (),
    unlabelled: pathlib.Path | None = None,
    resize: int | None = None,
    crop: int | None = None,
) -> Contents:
    """Opens a folder of classes; no image but the first is read.

    Args:
        folder: with a folder per class.
        names: of the classes of the training data, for other splits.
        unlabelled: folder of images without a class, which come last with the label -1.
        resize: shorter side in pixels, or None to keep the size of the files.
        crop: side of the center crop in pixels, or None for no crop.

    Returns:
        Contents of RGB images, uint8, with the names of the folders.

    Raises:
        DataError: see `list_classes`; if the first image cannot be decoded, or there is
            none without a class.
    """
    listing = list_classes(folder, names)
    more = _unlabelled_images(folder, unlabelled) if unlabelled else []
    paths = (*listing.paths, *more)
    reader = FileReader(os.fspath(folder), paths, Sizing(resize, crop))
    return Contents(
        labels=np.concatenate([listing.labels, np.full(len(more), -1, np.int32)]),
        reader=reader,
        shape=reader(np.array([0])).shape[1:],
        dtype=np.dtype(np.uint8),
        num_classes=len(listing.names),
        class_names=listing.names,
    )


def _unlabelled_images(folder: str | os.PathLike, place: pathlib.Path) -> list[str]:
    """Paths below `folder`, or beside it, of the images in `place`."""
    images, _ = _images(place.parent, place.name)
    if not images:
        raise DataError(
            f"{place} holds no image, expected images without a class, or no such"
            " folder"
        )
    above = os.path.relpath(place.parent, folder)
    return [pathlib.PurePath(above, image).as_posix() for image in images]


def _check_classes(folder: pathlib.Path, found: dict[str, list[str]]) -> None:
    if len(found) < 2:
        deeper = [
            path
            for path in _subfolders(folder)
            if sum(any(_images(path, p.name)[0]) for p in _subfolders(path)) > 1
        ]
        hint = f"; did you mean {deeper[0]}?" if deeper else ""
        raise DataError(
            f"{folder} has {len(found)} folder(s), expected one per class, at least"
            f" two, with the images of the class in it{hint}"
        )
    empty = [name for name, images in found.items() if not images]
    if empty:
        raise DataError(
            f"{folder / empty[0]} holds no image ({len(empty)} of {len(found)} classes"
            f" are empty); expected files such as"
            f" {', '.join(sorted(IMAGE_SUFFIXES)[:4])}, or no such folder"
        )


def _images(folder: pathlib.Path, name: str) -> tuple[list[str], Counter]:
    """(paths of the images of a class below `folder`, suffixes of other files)."""
    images, other = [], Counter()
    for place, folders, files in os.walk(folder / name):
        folders[:] = [one for one in folders if not one.startswith(".")]
        for file in files:
            if file.startswith(".") or file == "Thumbs.db":
                continue
            if _is_image(file):
                path = pathlib.Path(place, file).relative_to(folder)
                images.append(path.as_posix())
            else:
                other[pathlib.Path(file).suffix or "no suffix"] += 1
    return sorted(images, key=natural_key), other


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    skipped = ("__MACOSX",)
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".") and path.name not in skipped
    ]
