"""Sources: labelled examples with random access, and where to find them by name.

A source knows its labels at once and reads inputs when asked. `DATASETS` lists what can
be loaded by name; besides, `tfds:NAME` opens any prepared TFDS data set, `npz:PATH` a
file of arrays and `folder` an image folder with a list file. Nothing here downloads:
`ltjax prepare` does.
"""

import dataclasses
import functools
import hashlib
import inspect
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_rank
from ltjax.class_stats import count_labels
from ltjax.data.arrays import array_contents, check_finite, open_npz
from ltjax.data.catalog import DATASETS, Dataset, find_dataset
from ltjax.data.modalities import (
    DType,
    Shape,
    batch_of,
    check_names,
    each_modality,
    element_of,
)
from ltjax.data.pixel_targets import check_pixel_targets
from ltjax.data.readers import Contents, DataError, MissingDataError
from ltjax.data.records import open_records

__all__ = [
    "DATASETS",
    "DATA_DIR_VARIABLE",
    "UNKNOWN",
    "DataError",
    "Dataset",
    "MissingDataError",
    "Source",
    "array_source",
    "find_dataset",
    "load_source",
    "resolve_data_dir",
]

DATA_DIR_VARIABLE = "LTJAX_DATA_DIR"
UNKNOWN = -1  # label of an example that has none


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Labelled examples with random access.

    Attributes:
        name: of the data set.
        labels: int32 [N] in [0, K), or `UNKNOWN` (-1). Of multi-label and dense data
            the stratum, the rarest class present, which samplers and groups go by.
        num_classes: K.
        shape: shape of one input; of several modalities a dict of shapes by name.
        dtype: of the inputs, uint8 (images) or float32; likewise.
        reader: positions in the stored split [n] -> inputs `[n, *shape]`; likewise.
        split: which part of the data set, for messages.
        class_names: K names, or None.
        mean: per channel, of inputs scaled to [0, 1], or None if nothing is known.
        std: likewise.
        origin: int64 [N], position of each example in the stored split; None for all
            of them in stored order.
        columns: name -> [N, ...], what else is known of an example: "candidates"
            [N, K], "targets" (multi-hot [N, K], or dense [N, H, W] with 255 = ignored),
            "truth" [N] (clean labels, for measurement only). A batch holds their rows.
        features: names of the features of a table, in order, or None.
    """

    name: str
    labels: np.ndarray
    num_classes: int
    shape: Shape
    dtype: DType
    reader: Callable[[np.ndarray], Any] = dataclasses.field(repr=False)
    split: str = ""
    class_names: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    origin: np.ndarray = None  # pyright: ignore[reportAssignmentType]
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    features: tuple[str, ...] | None = None

    def __post_init__(self):
        check_rank(f"Source {self.name}", "labels", self.labels, 1, "[N]")
        count_labels(known_labels(self.labels), self.num_classes)  # checks the range
        for key, column in self.columns.items():
            if len(column) != len(self.labels):
                raise DataError(
                    f"Source {self.name}: column {key!r} has {len(column)} rows, but"
                    f" there are {len(self.labels)} labels, expected the same number"
                )
        if len(self.labels) == 0:
            raise DataError(f"Source {self.name}: there are no examples")
        targets = self.columns.get("targets")
        if targets is not None and targets.ndim == 3:
            check_pixel_targets(
                f"Source {self.name}", targets, self.num_classes, self.shape[:2]
            )
        names = self.class_names
        if names is not None and len(names) != self.num_classes:
            raise ValueError(
                f"Source {self.name}: {len(names)} class names for"
                f" {self.num_classes} classes"
            )
        origin = np.arange(len(self.labels)) if self.origin is None else self.origin
        if len(origin) != len(self.labels):
            raise ValueError(
                f"Source {self.name}: {len(origin)} positions for"
                f" {len(self.labels)} labels"
            )
        element = element_of(self.shape, self.dtype)
        values = {
            "labels": np.asarray(self.labels, np.int32),
            "origin": np.asarray(origin, np.int64),
            "shape": each_modality(lambda one: one.shape, element),
            "dtype": each_modality(lambda one: np.dtype(one.dtype), element),
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def element(self) -> Any:
        """What one input is like, see `ltjax.data.modalities`."""
        return element_of(self.shape, self.dtype)

    @functools.cached_property
    def class_counts(self) -> np.ndarray:
        """[K] int64, number of examples of each class; unknown labels do not count.

        With a column "targets" the positives (multi-hot [N, K]) or the pixels (dense
        [N, H, W], without those that are ignored) of each class.
        """
        targets = self.columns.get("targets")
        if targets is not None and targets.ndim == 2:
            return (targets > 0).sum(axis=0).astype(np.int64)
        if targets is not None:
            counts = np.bincount(targets.ravel(), minlength=self.num_classes)
            return counts[: self.num_classes].astype(np.int64)
        return np.asarray(count_labels(known_labels(self.labels), self.num_classes))

    @functools.cached_property
    def truth(self) -> np.ndarray:
        """int32 [N], the clean labels where they are known apart from the given ones.

        For subsets, groups and measurement; what a method sees are the `labels`.
        """
        return np.asarray(self.columns.get("truth", self.labels), np.int32)

    @functools.cached_property
    def true_counts(self) -> np.ndarray:
        """`class_counts` by the clean labels, for groups and measurement."""
        if "truth" not in self.columns:
            return self.class_counts
        return np.asarray(count_labels(known_labels(self.truth), self.num_classes))

    def read(self, indices: ArrayLike) -> Any:
        """Reads inputs by position in this source.

        Args:
            indices: [n] int in [0, N), repetitions allowed.

        Returns:
            `[n, *shape]` of `dtype`; of several modalities a dict of such arrays.

        Raises:
            IndexError: if an index lies outside [0, N).
            DataError: if an input is not finite (the first such index is named), or
                if the reader returns another shape or dtype than declared.
        """
        indices = _positions(f"Source {self.name}", indices, len(self))
        inputs = self.reader(self.origin[indices])
        caller = f"Source {self.name}"
        try:
            check_names(caller, inputs, self.element)
        except ValueError as error:
            raise DataError(str(error)) from None

        def check(inputs, expected):
            if inputs.shape != expected.shape or inputs.dtype != expected.dtype:
                raise DataError(
                    f"{caller}: read {inputs.dtype} {inputs.shape}, expected"
                    f" {expected.dtype} {expected.shape}"
                )
            check_finite(caller, inputs, indices)

        each_modality(check, inputs, batch_of(self.element, indices.size))
        return inputs

    def select(self, indices: ArrayLike) -> "Source":
        """The examples at `indices`, renumbered 0 ... n - 1 in the given order.

        Args:
            indices: [n] int in [0, N) without repetitions.

        Returns:
            Source of n examples; K stays the same.

        Raises:
            IndexError: if an index lies outside [0, N).
            ValueError: if an index occurs twice or there is none.
        """
        indices = _positions(f"Source {self.name}", indices, len(self))
        unique, counts = np.unique(indices, return_counts=True)
        if unique.size < indices.size:
            raise ValueError(
                f"Source {self.name}: the selection contains index"
                f" {unique[np.argmax(counts > 1)]} more than once"
            )
        return dataclasses.replace(
            self,
            labels=self.labels[indices],
            origin=self.origin[indices],
            columns={key: column[indices] for key, column in self.columns.items()},
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of which examples these are, how they are labelled and their columns."""
        digest = hashlib.sha256(f"{self.name}/{self.split}".encode())
        digest.update(self.origin.astype("<i8").tobytes())
        digest.update(self.labels.astype("<i4").tobytes())
        for key in sorted(self.columns):
            digest.update(key.encode())
            digest.update(np.ascontiguousarray(self.columns[key]).tobytes())
        return digest.hexdigest()[:16]


def known_labels(labels: ArrayLike) -> np.ndarray:
    """The labels without those that are `UNKNOWN`."""
    labels = np.asarray(labels)
    return labels[labels != UNKNOWN]


def _positions(caller: str, indices: ArrayLike, size: int) -> np.ndarray:
    indices = np.asarray(indices)
    check_rank(caller, "indices", indices, 1, "[n]")
    if not np.issubdtype(indices.dtype, np.integer):
        raise TypeError(f"{caller}: indices have dtype {indices.dtype}, expected int")
    bad = np.flatnonzero((indices < 0) | (indices >= size))
    if bad.size:
        raise IndexError(
            f"{caller}: indices[{bad[0]}] is {indices[bad[0]]}, expected [0, {size})"
        )
    return indices.astype(np.int64)


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

    Returns:
        Source with validated labels.

    Raises:
        DataError: if a label is negative.

    Warns:
        UserWarning: of classes without an example.
    """
    # Only a supervision of ours takes labels away: from elsewhere -1 is a mistake.
    negative = np.flatnonzero(np.asarray(contents.labels) < 0)
    if negative.size:
        first = int(negative[0])
        raise DataError(
            f"Source {name}: labels[{first}] is {contents.labels[first]}, expected a"
            f" class in [0, {contents.num_classes})"
        )
    columns = dict(columns or {})
    if contents.targets is not None:
        columns["targets"] = contents.targets
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
    empty = np.flatnonzero(source.class_counts == 0)
    if empty.size:
        warnings.warn(
            f"{name} {split}: {empty.size} of {source.num_classes} classes have no"
            f" example, e.g. class {empty[0]}",
            stacklevel=3,
        )
    return source
