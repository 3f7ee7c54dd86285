"""Arrays: inputs and labels that are already in memory, or in a .npz file."""

import pathlib
import zipfile

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_integers, dtype_of
from ltjax.class_stats import infer_num_classes
from ltjax.data.readers import ArrayReader, Contents, DataError, MissingDataError


def array_contents(
    caller: str, inputs: ArrayLike, labels: ArrayLike, num_classes: int | None
) -> Contents:
    """Checks arrays in memory and wraps them; float inputs become float32.

    Args:
        caller: who asks, for messages.
        inputs: [N, ...] uint8 or floating.
        labels: [N] int.
        num_classes: K, or None for the largest label + 1.

    Returns:
        Contents held in memory.

    Raises:
        DataError: if the lengths differ or a float input is not finite.
        TypeError: if labels are not integers or inputs neither uint8 nor floating.
    """
    check_integers(caller, "labels", labels)
    dtype_of(caller, "inputs", inputs)
    inputs, labels = np.asarray(inputs), np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"{caller}: labels have dtype {labels.dtype} and shape {labels.shape},"
            " expected integers [N]"
        )
    if inputs.ndim < 1 or len(inputs) != len(labels):
        raise DataError(
            f"{caller}: inputs have shape {inputs.shape}, but there are {len(labels)}"
            " labels, expected the same length"
        )
    if np.issubdtype(inputs.dtype, np.floating):
        inputs = inputs.astype(np.float32)
        check_finite(caller, inputs)
    elif inputs.dtype != np.uint8:
        raise TypeError(
            f"{caller}: inputs have dtype {inputs.dtype}, expected uint8 or floating"
        )
    if num_classes is None:
        num_classes = max(1, infer_num_classes(caller, labels))
    return Contents(
        labels, ArrayReader(inputs), inputs.shape[1:], inputs.dtype, num_classes
    )


def check_finite(
    caller: str, inputs: np.ndarray, indices: np.ndarray | None = None
) -> None:
    """Refuses float inputs that contain NaN or infinities.

    Args:
        caller: who asks, for messages.
        inputs: [n, ...] of any dtype.
        indices: [n] their numbers, if these are not 0 ... n - 1.

    Raises:
        DataError: naming the first example that is not finite.
    """
    if not np.issubdtype(inputs.dtype, np.floating):
        return
    finite = np.isfinite(inputs).all(axis=tuple(range(1, inputs.ndim)))
    if not finite.all():
        first = int(np.argmin(finite))
        raise DataError(
            f"{caller}: input {first if indices is None else indices[first]} is not"
            f" finite ({int((~finite).sum())} such example(s)); remove or repair it"
        )


def open_npz(
    split: str,
    *,
    path: str,
    data_dir: str | None = None,
    num_classes: int | None = None,
) -> Contents:
    """Opens a .npz file with the arrays `inputs` (or `images`) and `labels`.

    Args:
        split: replaces "{split}" in the path.
        path: of the file, absolute or relative to the working or data directory.
        data_dir: data directory, or None.
        num_classes: K, or None for the largest label + 1.

    Returns:
        Contents held in memory. Pickled objects in the file are refused.

    Raises:
        MissingDataError: if there is no such file.
        DataError: if the file is no archive, an array is missing, or the arrays do not
            fit together.
    """
    file = pathlib.Path(path.format(split=split))
    if not file.is_file() and data_dir is not None:
        file = pathlib.Path(data_dir, file)
    if not file.is_file():
        raise MissingDataError(f"npz: there is no file {file}")
    if not zipfile.is_zipfile(file):
        raise DataError(f"npz: {file} is no .npz archive, or a damaged one")
    with np.load(file, allow_pickle=False) as arrays:
        key = "inputs" if "inputs" in arrays else "images"
        if key not in arrays or "labels" not in arrays:
            raise DataError(
                f"npz: {file} holds {sorted(arrays)}, expected 'inputs' (or 'images')"
                " and 'labels'"
            )
        return array_contents(f"npz {file}", arrays[key], arrays["labels"], num_classes)
