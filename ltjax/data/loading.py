"""Where sources come from: arrays in memory, and data sets by name.

`DATASETS` lists what can be loaded by name; besides, `tfds:NAME` opens any prepared
TFDS data set, `npz:PATH` a file of arrays and `folder` an image folder with a list
file. Nothing here downloads: `ltjax prepare` does.
"""

import inspect
import os
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from ltjax.data.arrays import array_contents, open_npz
from ltjax.data.catalog import Dataset, find_dataset
from ltjax.data.readers import Contents, DataError, MissingDataError
from ltjax.data.records import open_records
from ltjax.data.source import UNKNOWN, Source

DATA_DIR_VARIABLE = "LTJAX_DATA_DIR"


def array_source(
    inputs: ArrayLike | Mapping[str, ArrayLike],
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    name: str = "arrays",
    split: str = "",
    class_names: tuple[str, ...] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    columns: Mapping[str, ArrayLike] | None = None,
) -> Source:
    """A source over arrays in memory.

    Args:
        inputs: [N, ...] uint8, or floating point (stored as float32); of several
            modalities a dict of such arrays.
        labels: [N] int.
        num_classes: K, or None for the largest label + 1.
        name: for messages and the fingerprint.
        split: likewise.
        class_names: K names, or None.
        mean: per channel, see `Source`.
        std: likewise.
        columns: name -> [N, ...], see `Source`.

    Returns:
        Source of N examples.

    Raises:
        DataError: if the lengths differ, or a float input is not finite (the first such
            example is named).
        ValueError: if a label lies outside [0, K).
        TypeError: if labels are not integers or inputs neither uint8 nor floating.

    Example:
        >>> source = array_source([[0.5], [1.5], [2.5]], [0, 1, 1])
        >>> len(source), source.num_classes, source.read([2]).tolist()
        (3, 2, [[2.5]])
    """
    contents = array_contents(f"array_source {name}", inputs, labels, num_classes)
    found = {key: np.asarray(column) for key, column in (columns or {}).items()}
    return make_source(name, split, contents, class_names, mean, std, found)


def resolve_data_dir(data_dir: str | os.PathLike | None) -> str:
    """The data directory: the argument, else the environment variable LTJAX_DATA_DIR.

    Args:
        data_dir: path, or None.

    Returns:
        The path as a string.

    Raises:
        MissingDataError: if neither is given.

    Example:
        >>> resolve_data_dir("/data")
        '/data'
    """
    found = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    if not found:
        raise MissingDataError(
            f"no data directory: pass data_dir or set {DATA_DIR_VARIABLE} to the folder"
            " that `ltjax prepare` writes to"
        )
    return os.fspath(found)


def load_source(
    name: str,
    split: str = "train",
    *,
    data_dir: str | os.PathLike | None = None,
    list_file: str | os.PathLike | None = None,
    datasets: dict[str, Dataset] | None = None,
    **options: Any,
) -> Source:
    """Opens one split of a data set by name.

    Args:
        name: key of `DATASETS`; "tfds:NAME" for any other TFDS data set prepared as
            ArrayRecord; "npz:PATH" for a file of arrays ("{split}" in the path is
            replaced); "folder" for an image folder (needs `list_file`, `image_root`).
        split: "train", "val" or "test" where they exist, or a stored name ("extra").
        data_dir: where the data lie, by default the environment variable
            LTJAX_DATA_DIR; not needed for mnist1d and absolute paths. Image folders are
            looked for in `data_dir/name`, with the published names of the lists.
        list_file: list of the images of this split, for image folders; by default the
            published name below `data_dir/name`.
        datasets: DATASETS, or a copy with entries added.
        **options: of the kind of data set: `train_per_class`, `test_per_class`, `seed`
            (mnist1d); `input_key`, `label_key`, `resize`, `crop` (TFDS); `num_classes`
            (npz); `image_root`, `num_classes`, `resize`, `crop` (folders).

    Returns:
        Source with validated labels. Classes without examples are reported by a
        warning.

    Raises:
        ValueError: for an unknown name or split.
        TypeError: for an unknown or missing option.
        MissingDataError: if the data are not there; names the command that prepares
            them. Like DataError a ValueError, and a FileNotFoundError as well.
        DataError: if they are damaged.

    Example:
        >>> test = load_source("mnist1d", "test", train_per_class=4, test_per_class=2)
        >>> len(test), test.shape, test.class_counts.tolist()
        (20, (40, 1), [2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    dataset = find_dataset(name, datasets)
    accepted = dict(inspect.signature(dataset.open).parameters)
    anything = [k for k, p in accepted.items() if p.kind == p.VAR_KEYWORD]
    for catch_all in anything:
        del accepted[catch_all]
    if list_file is not None:
        options["list_file"] = list_file
    settable = sorted(set(accepted) - {"split", "data_dir", "name", "path"})
    for option in options:
        if option not in settable and not anything:
            raise TypeError(
                f"load_source: {name!r} has no option {option!r}, expected {settable}"
            )
    options = {**dataset.options, **options}
    if dataset.lists is not None:
        options = _list_options(name, split, dataset.lists, data_dir, options)
    if dataset.open is open_records:
        options["data_dir"] = resolve_data_dir(data_dir)
    if dataset.open is open_npz:
        options["data_dir"] = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    if "num_classes" in accepted:
        options.setdefault("num_classes", dataset.num_classes)
    for option, parameter in accepted.items():
        required = parameter.default is parameter.empty and option != "split"
        if required and option not in options:
            raise TypeError(f"load_source: {name!r} needs the option {option!r}")
    stored = (dataset.splits or {}).get(split, split)
    contents = dataset.open(stored, **options)
    return make_source(
        name, split, contents, contents.class_names, dataset.mean, dataset.std
    )


def _list_options(
    name: str,
    split: str,
    lists: dict[str, str],
    data_dir: str | os.PathLike | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Fills in where the list and the images of a published benchmark are."""
    if "list_file" not in options and split not in lists:
        raise ValueError(
            f"load_source: {name!r} has no split {split!r}, expected {sorted(lists)}"
        )
    if "list_file" in options and "image_root" in options:
        return options
    folder = pathlib.Path(resolve_data_dir(data_dir), name)
    return {
        "list_file": folder / lists.get(split, ""),
        "image_root": folder,
        **options,
    }


def make_source(
    name: str,
    split: str,
    contents: Contents,
    class_names: tuple[str, ...] | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    columns: Mapping[str, np.ndarray] | None = None,
    *,
    unlabelled: bool = False,
) -> Source:
    """A source of what opening a split has yielded.

    Args:
        name: of the data set.
        split: of it.
        contents: labels and reader.
        class_names: K names, or None.
        mean: per channel, see `Source`.
        std: likewise.
        columns: likewise.
        unlabelled: whether examples may have no label, -1.

    Returns:
        Source with validated labels.

    Raises:
        DataError: if a label is negative and must not be.

    Warns:
        UserWarning: of classes without an example.
    """
    # Only your own data and a supervision of ours have examples without a label: from
    # elsewhere -1 is a mistake, and any other negative number is one anywhere.
    allowed = unlabelled or contents.candidates is not None
    lowest = UNKNOWN if allowed else 0
    negative = np.flatnonzero(np.asarray(contents.labels) < lowest)
    if negative.size:
        first = int(negative[0])
        raise DataError(
            f"Source {name}: labels[{first}] is {contents.labels[first]}, expected a"
            f" class in [0, {contents.num_classes})"
            f"{', or -1 for none' if allowed else ''}"
        )
    columns = dict(columns or {})
    for key in ("targets", "candidates", "truth"):
        column = getattr(contents, key)
        if column is not None:
            columns[key] = column
    source = Source(
        name=name,
        labels=contents.labels,
        num_classes=contents.num_classes,
        shape=contents.shape,
        dtype=contents.dtype,
        reader=contents.reader,
        split=split,
        class_names=class_names,
        mean=mean,
        std=std,
        columns=columns,
        features=contents.features,
    )
    told = source.true_counts if "candidates" in columns else source.class_counts
    empty = np.flatnonzero(told == 0)
    if empty.size:
        warnings.warn(
            f"{name} {split}: {empty.size} of {source.num_classes} classes have no"
            f" example, e.g. class {empty[0]}",
            stacklevel=3,
        )
    return source
