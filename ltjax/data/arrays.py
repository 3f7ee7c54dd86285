"""Arrays: inputs and labels that are already in memory, or in a .npz file."""

import math
import pathlib
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from jax.typing import ArrayLike

from ltjax._archives import check_members
from ltjax._checks import check_integers, dtype_of
from ltjax.class_stats import infer_num_classes
from ltjax.data.class_labels import encode_labels
from ltjax.data.readers import (
    ArrayReader,
    Contents,
    DataError,
    MissingDataError,
    beside,
)


def array_contents(
    caller: str, inputs: Any, labels: ArrayLike, num_classes: int | None
) -> Contents:
    """Checks arrays in memory and wraps them; float inputs become float32.

    Args:
        caller: who asks, for messages.
        inputs: [N, ...] uint8 or floating; of several modalities a dict of such arrays.
        labels: [N] int.
        num_classes: K, or None for the largest label + 1.

    Returns:
        Contents held in memory.

    Raises:
        DataError: if the lengths differ or a float input is not finite.
        TypeError: if labels are not integers or inputs neither uint8 nor floating.
    """
    if isinstance(inputs, Mapping):
        return _modality_contents(caller, inputs, labels, num_classes)
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


def _modality_contents(
    caller: str, inputs: Mapping[str, Any], labels: ArrayLike, num_classes: int | None
) -> Contents:
    if not inputs:
        raise DataError(f"{caller}: inputs are an empty dict, expected modalities")
    each = {
        name: array_contents(f"{caller}, {name}", one, labels, num_classes)
        for name, one in sorted(inputs.items())
    }
    readers: dict[str, Any] = {name: one.reader for name, one in each.items()}
    return next(iter(each.values()))._replace(
        reader=ArrayReader({name: one.inputs for name, one in readers.items()}),
        shape={name: one.shape for name, one in each.items()},
        dtype={name: one.dtype for name, one in each.items()},
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
    names: tuple[str, ...] | None = None,
) -> Contents:
    """Opens a .npz file with the arrays `inputs` (or `images`) and `labels`.

    Labels are class indices, which an array `class_names` may name, or words; -1 or ""
    where there is none. An array `candidates` [N, K] of bool, or of 0 and 1, holds
    candidate sets; labels beside it are the clean ones, as is an array `truth`.

    Args:
        split: replaces "{split}" in the path; other braces are left alone.
        path: of the file, absolute or relative to the working or data directory.
        data_dir: data directory, or None.
        num_classes: K, or None for the number of names, else the largest label + 1.
        names: of the classes of the training data, for labels that are words.

    Returns:
        Contents held in memory. Pickled objects in the file are refused.

    Raises:
        MissingDataError: if there is no such file.
        DataError: naming the file, if it is no archive or damaged in any way, an array
            is missing, or the arrays do not fit together.
    """
    # Not str.format: a folder may have braces in its name.
    file = find_npz_file(path.replace("{split}", split), data_dir)
    needed = () if has_candidates(file) else ("labels",)
    arrays = read_npz(
        file, *needed, optional=("class_names", "labels", "candidates", "truth")
    )
    caller = f"npz {file}"
    own_names = tuple(map(str, arrays.get("class_names", ())))
    known = own_names or names
    told, sets = {}, arrays.get("candidates")
    words = [key for key in ("labels", "truth") if _are_words(arrays.get(key))]
    if sets is not None and words and not known:
        raise DataError(
            f"{caller}: {words[0]} are words, but nothing says which column of the"
            " candidates is which class; expected an array 'class_names'"
        )
    for key in ("labels", "truth"):
        if key in arrays:
            told[key], known = _class_indices(caller, key, arrays[key], known)
    if sets is not None:
        told = _candidate_labels(caller, len(arrays["inputs"]), sets, told)
        num_classes = num_classes or sets.shape[1]
    if known and num_classes is None:
        num_classes = len(known)
    if num_classes is None and "truth" in told:
        num_classes = int(max(told["labels"].max(), told["truth"].max())) + 1
    contents = array_contents(
        caller, arrays["inputs"], told.pop("labels"), num_classes
    )._replace(**told)
    if known and len(known) == contents.num_classes:
        return contents._replace(class_names=known)
    return contents


def _class_indices(
    caller: str, key: str, labels: np.ndarray, names: tuple[str, ...] | None
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """(indices [N], names of the classes if they are known)."""
    if not _are_words(labels):
        check_integers(caller, key, labels)
        return labels, names
    return encode_labels(
        f"{caller}, {key}", labels.tolist(), names, unlabelled=key == "labels"
    )


def _are_words(labels: np.ndarray | None) -> bool:
    return labels is not None and labels.dtype.kind in "US"


def _candidate_labels(
    caller: str, count: int, sets: np.ndarray, told: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Fields of `Contents` of candidate sets, and of the clean labels beside them."""
    if sets.ndim != 2 or len(sets) != count or not np.isin(sets, (0, 1)).all():
        raise DataError(
            f"{caller}: candidates have dtype {sets.dtype} and shape {sets.shape},"
            f" expected true and false (or 1 and 0) for each class, [{count}, K]"
        )
    truth = told.get("truth", told.get("labels"))
    found = {"labels": np.full(count, -1, np.int32), "candidates": sets.astype(bool)}
    if truth is None or (truth == -1).all():
        return found
    unknown = np.flatnonzero(truth < 0)
    if unknown.size:
        raise DataError(
            f"{caller}: label {unknown[0]} is {truth[unknown[0]]}, but others are"
            " classes; labels beside candidates are the clean ones, expected all of"
            " them or none"
        )
    return {**found, "truth": truth}


def has_candidates(file: pathlib.Path) -> bool:
    """Whether a .npz file holds an array "candidates"; False for what is no archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            return "candidates.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return False  # reading the whole file says better what is wrong with it


def find_npz_file(path: str, data_dir: str | None) -> pathlib.Path:
    """A .npz file as given, or below the data directory.

    Raises:
        MissingDataError: if there is no such file.
    """
    given = file = pathlib.Path(path).expanduser()
    if not file.is_file() and data_dir is not None:
        file = pathlib.Path(data_dir, file)
    if not file.is_file():
        second = f", nor {file}" if file != given else ""
        raise MissingDataError(f"npz: there is no file {given}{beside(given)}{second}")
    return file


def npz_class_names(path: str, data_dir: str | None) -> tuple[str, ...] | None:
    """The classes of a .npz file whose labels are words; None if they are indices.

    The inputs are not read.
    """
    file = find_npz_file(path, data_dir)
    try:
        check_members(file)
        with np.load(file, allow_pickle=False) as arrays:
            if "class_names" in arrays.files:
                return tuple(map(str, arrays["class_names"]))
            labels = arrays["labels"]
    except Exception:  # which reading the whole file says better
        return None
    if labels.dtype.kind not in "US":
        return None
    return encode_labels(f"npz {file}", labels.tolist(), unlabelled=True)[1]


def read_npz(
    file: pathlib.Path,
    *others: str,
    inputs: tuple[str, ...] = ("inputs", "images"),
    optional: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Reads the inputs of a .npz file, and other arrays.

    Args:
        file: holds "inputs" (or "images").
        *others: names of further arrays that must be there.
        inputs: names of the first array, which is called by the first of them.
        optional: names of arrays that may be there.

    Returns:
        Name -> array [N, ...].

    Raises:
        DataError: naming the file, if it is no archive or damaged in any way, or an
            array is missing. Pickled objects are refused.
    """
    if not zipfile.is_zipfile(file):
        raise DataError(f"npz: {file} is not an .npz archive, or it is damaged")
    try:
        check_members(file)
        with zipfile.ZipFile(file) as archive:
            stored = [name.removesuffix(".npy") for name in archive.namelist()]
            key = next((name for name in inputs if name in stored), inputs[0])
            if not {key, *others} <= set(stored):
                more = "".join(f" and {name!r}" for name in others)
                alias = "".join(f" (or {name!r})" for name in inputs[1:])
                raise DataError(
                    f"npz: {file} holds {sorted(stored)}, expected"
                    f" {inputs[0]!r}{alias}{more}"
                )
            wanted = [*others, *(name for name in optional if name in stored)]
            for name in (key, *wanted):
                _check_member(file, archive, name)
        with np.load(file, allow_pickle=False) as arrays:
            return {inputs[0]: arrays[key], **{name: arrays[name] for name in wanted}}
    except DataError:
        raise
    except Exception as error:  # of zipfile, zlib, numpy's header parser, ...
        reason = str(error) or type(error).__name__
        raise DataError(f"npz: {file} is damaged: {reason}") from error


def read_npy(file: pathlib.Path) -> np.ndarray:
    """Reads the array of a .npy file.

    Raises:
        DataError: naming the file, if it is damaged in any way or holds objects.
    """
    try:
        with file.open("rb") as opened:
            shape, dtype = _header(opened)
            present = file.stat().st_size - opened.tell()
            if math.prod(shape) * dtype.itemsize > present:
                raise ValueError(f"it claims {dtype} {shape}, but has {present} bytes")
        return np.load(file, allow_pickle=False)
    except Exception as error:  # of numpy's header parser, the tokenizer, ...
        raise DataError(f"{file} is not a .npy file: {error}") from error


def _header(opened: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """What the header of an array says: shape and dtype."""
    version = np.lib.format.read_magic(opened)
    read = np.lib.format.read_array_header_2_0
    if version == (1, 0):
        read = np.lib.format.read_array_header_1_0
    shape, _, dtype = read(opened)
    return shape, dtype


# Deflate makes at most 1032 bytes of one.
_MOST_PER_BYTE = 1032


def _check_member(file: pathlib.Path, archive: zipfile.ZipFile, name: str) -> None:
    """Compares what an array claims to hold with the bytes that are there.

    A damaged (or malicious) header would otherwise allocate whatever it says.
    """
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as member:
        shape, dtype = _header(member)
        start = member.tell()
    if dtype.hasobject:
        raise DataError(
            f"npz: {file} holds {name!r} of dtype object, expected numbers (pickled"
            " objects are not loaded)"
        )
    size = math.prod(shape) * dtype.itemsize
    present = info.file_size - start
    if size != present or info.file_size > _MOST_PER_BYTE * (info.compress_size + 1):
        raise DataError(
            f"npz: {file} is damaged: {name!r} claims {dtype} {shape}, {size} bytes,"
            f" but {present} bytes are stored in {info.compress_size}"
        )
