"""Files to predict: images and folders of them, and tables of features."""

import csv
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax.data.arrays import read_npy, read_npz
from ltjax.data.modalities import each_modality, element_of, told
from ltjax.data.readers import DataError, decode_image
from ltjax.data.signature import Signature, sizing_of
from ltjax.options import nearest

# What is taken from a folder; a file that is named itself may have any other ending.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm"),
)
TABLE_SUFFIXES = (".npz", ".npy", ".csv")


class Item(NamedTuple):
    """One input of many: how it is called, and the input or why there is none."""

    name: str
    value: Any


def find_files(paths: Sequence[str | os.PathLike]) -> list[pathlib.Path]:
    """The files that paths mean: each of them, or all images below a folder.

    Args:
        paths: files and folders. Folders are searched to any depth; hidden files and
            folders are left out.

    Returns:
        Paths in the given order, those of a folder by name, numbers in it by value
        ("a2" before "a10").

    Raises:
        FileNotFoundError: naming what does not exist.
        DataError: for a folder without images.
    """
    found = []
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            images = [
                file
                for file in path.rglob("*")
                if file.suffix.lower() in IMAGE_SUFFIXES
                and file.is_file()
                and not any(p.startswith(".") for p in file.relative_to(path).parts)
            ]
            if not images:
                raise DataError(
                    f"predict: the folder {path} holds no image, expected files with"
                    f" the endings {', '.join(IMAGE_SUFFIXES)}"
                )
            found += sorted(images, key=natural_key)
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(
                f"predict: path {path} does not exist, expected an image, a folder of"
                f" images, or features in {', '.join(TABLE_SUFFIXES)}"
            )
    return found


def natural_key(path: str | os.PathLike) -> list[tuple[int, int, str]]:
    """A key for sorting in which numbers count by value.

    Example:
        >>> sorted(["a10.png", "a2.png", "B1.png"], key=natural_key)
        ['a2.png', 'a10.png', 'B1.png']
    """
    parts = re.split(r"(\d+)", os.fspath(path).lower())
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def read_items(files: Sequence[pathlib.Path], signature: Signature) -> Iterator[Item]:
    """Inputs one after the other: an image from each file, or the rows of a table.

    Args:
        files: see `find_files`.
        signature: of the training examples.

    Yields:
        `Item`; for an image that cannot be used, why.

    Raises:
        DataError: for a table that cannot be used.
    """
    for file in files:
        if file.suffix.lower() in TABLE_SUFFIXES:
            inputs = read_table(file, signature)
            for row in range(len(jax.tree.leaves(inputs)[0])):
                value = each_modality(lambda x, row=row: x[row], inputs)
                yield Item(f"{file}:{row}", value)
        else:
            try:
                yield Item(str(file), read_image(file, signature))
            except DataError as error:
                yield Item(str(file), error)


def read_images(paths: Sequence[str | os.PathLike], signature: Signature) -> np.ndarray:
    """Images as the training images were read, [N, H, W, C] uint8.

    Raises:
        DataError: naming the first that cannot be used.
    """
    shape = (0, *signature.shape)
    images = [read_image(pathlib.Path(path), signature) for path in paths]
    return np.stack(images) if images else np.zeros(shape, signature.dtype)


def read_image(path: pathlib.Path, signature: Signature) -> np.ndarray:
    """One image, decoded, upright and brought to size, [H, W, C] uint8.

    Raises:
        DataError: naming the file, if it cannot be read or decoded, has another size
            where the training images were not brought to size either, or if the inputs
            are no images.
    """
    shape = signature.shape
    if signature.dtype != "uint8" or len(shape) != 3 or shape[-1] not in (1, 3):
        raise DataError(
            f"image {path} is not what this network takes: expected inputs of shape"
            f" {shape} and dtype {signature.dtype}, in {', '.join(TABLE_SUFFIXES)}"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror}") from error
    try:
        image = decode_image(data, sizing_of(signature), shape[-1])
    except DataError as error:
        raise DataError(f"image {path} {error}") from error
    if image.shape != shape:
        raise DataError(
            f"image {path} has {image.shape[0]}x{image.shape[1]} pixels, expected"
            f" {shape[0]}x{shape[1]} (height x width) as the training images had;"
            " resize it first"
        )
    return image


def read_table(file: pathlib.Path, signature: Signature) -> Any:
    """The examples of a .npz, .npy or .csv file, [N, *shape].

    Args:
        file: .npz with "inputs" (or "images"; of several modalities an array for each,
            by its name), .npy with them, or .csv with one row of
            numbers for each example (in C order), under a line of names or none. Where
            the features of the training table have names, so must these: they are taken
            by name, and other columns are left out.
        signature: of the training examples.

    Returns:
        Inputs of the shape and dtype of the signature; floating point of any width
        becomes float32.

    Raises:
        DataError: naming the file, if it is damaged or holds something else.
    """
    if isinstance(signature.shape, Mapping):
        return _read_modalities(file, signature)
    shape, dtype = signature.shape, np.dtype(signature.dtype)
    if file.suffix.lower() == ".npz":
        inputs = read_npz(file)["inputs"]
    elif file.suffix.lower() == ".npy":
        inputs = read_npy(file)
    else:
        if dtype == np.uint8:
            raise DataError(
                f"{file} holds features, but this network takes images of shape"
                f" {shape}; expected image files, .npz or .npy"
            )
        lines = _csv_lines(file)
        if signature.features is not None:
            lines = _by_name(file, lines, signature.features)
        inputs = _numbers(file, lines, int(np.prod(shape))).reshape(-1, *shape)
    return _fitting(file, "inputs", inputs, element_of(shape, dtype))


def _read_modalities(file: pathlib.Path, signature: Signature) -> dict[str, np.ndarray]:
    """The arrays of each modality in a .npz file, by name."""
    element = element_of(signature.shape, each_modality(np.dtype, signature.dtype))
    if file.suffix.lower() != ".npz":
        raise DataError(
            f"{file} holds one array, but this network takes several modalities;"
            f" expected an .npz file with {told(element, letter='N')}"
        )
    first, *others = element
    arrays = read_npz(file, *others, inputs=(first,))
    found = {
        name: _fitting(file, name, arrays[name], one) for name, one in element.items()
    }
    if len({len(one) for one in found.values()}) > 1:
        raise DataError(
            f"{file} holds {', '.join(f'{len(x)} of {k}' for k, x in found.items())},"
            " expected the same number of each"
        )
    return found


def _fitting(file: pathlib.Path, name: str, inputs: np.ndarray, one: Any) -> np.ndarray:
    """Inputs of this shape and dtype; floating point of any width becomes float32."""
    floats = np.issubdtype(inputs.dtype, np.floating) and one.dtype != np.uint8
    if (
        inputs.shape[1:] != one.shape
        or inputs.ndim == 0
        or not (floats or inputs.dtype == one.dtype)
    ):
        raise DataError(
            f"{file} holds {name} of shape {inputs.shape} and dtype {inputs.dtype},"
            f" expected {told(one, letter='N')}"
        )
    return inputs.astype(one.dtype, copy=False)


def _csv_lines(file: pathlib.Path) -> list[list[str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            return [line for line in csv.reader(opened) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as CSV: {error}") from error


def _by_name(
    file: pathlib.Path, lines: list[list[str]], names: Sequence[str]
) -> list[list[str]]:
    """The columns of these names in their order, below the line of names."""
    head = [cell.strip() for cell in lines[0]] if lines else []
    missing = [name for name in names if name not in head]
    if missing:
        raise DataError(
            f"{file} has no column {missing[0]!r}{nearest(missing[0], head)}, a feature"
            f" of the training table; its first line is {head[:10]}, expected"
            f" {', '.join(names[:10])}"
        )
    place = [head.index(name) for name in names]
    for number, line in enumerate(lines):
        if len(line) != len(head):
            raise DataError(
                f"{file}: row {number + 1} has {len(line)} cells, expected {len(head)}"
            )
    return [[line[k] for k in place] for line in lines]


def _numbers(file: pathlib.Path, lines: list[list[str]], width: int) -> np.ndarray:
    """[N, width] float64."""
    rows = []
    for number, line in enumerate(lines):
        try:
            row = [float(cell) for cell in line]
        except ValueError:
            if number == 0:  # the names of the columns
                continue
            bad = next(cell for cell in line if not _is_number(cell))
            raise DataError(
                f"{file}: row {number + 1} has {bad!r}, expected {width} numbers and"
                " nothing else"
            ) from None
        if len(row) != width:
            raise DataError(
                f"{file}: row {number + 1} has {len(row)} columns, expected {width},"
                " one for each feature (no label)"
            )
        rows.append(row)
    return np.asarray(rows, np.float64).reshape(-1, width)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
