"""Sources: labelled examples with random access.

A source knows its labels at once and reads inputs when asked. `ltjax.data.loading`
makes them of arrays and of data sets by name.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_rank
from ltjax.class_stats import count_labels
from ltjax.data.arrays import check_finite
from ltjax.data.candidate_columns import (
    check_candidates,
    check_truth,
    expected_counts,
    only_candidates,
)
from ltjax.data.modalities import (
    DType,
    Shape,
    batch_of,
    check_names,
    each_modality,
    element_of,
)
from ltjax.data.pixel_targets import check_pixel_targets
from ltjax.data.readers import DataError

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
            "truth" [N] in [0, K) (clean labels, for measurement only). A batch holds
            their rows.
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
        told = [np.asarray(self.labels)]
        if "truth" in self.columns:
            told.append(np.asarray(self.columns["truth"]))
            check_truth(f"Source {self.name}", told[-1], self.num_classes)
        if "candidates" in self.columns:
            check_candidates(
                f"Source {self.name}",
                np.asarray(self.columns["candidates"]),
                self.num_classes,
                *told,
            )
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
        """`class_counts` by the clean labels, for groups and measurement.

        Of candidate sets whose true labels nobody knows: what to expect if all
        candidates are equally likely.
        """
        if "truth" in self.columns:
            return np.asarray(count_labels(self.truth, self.num_classes))
        if "candidates" in self.columns:
            return expected_counts(self.columns["candidates"])
        return self.class_counts

    @functools.cached_property
    def known(self) -> np.ndarray:
        """int32 [N], the class of each example as far as anything tells it.

        The clean label, the given one or the only candidate; `UNKNOWN` otherwise.
        """
        if "truth" in self.columns:
            return self.truth
        if "candidates" in self.columns:
            return only_candidates(self.columns["candidates"])
        return self.labels

    @functools.cached_property
    def bare(self) -> np.ndarray:
        """int64 [M], positions of examples with neither a label nor candidates."""
        if "candidates" in self.columns:
            return np.arange(0)
        return np.flatnonzero(self.labels == UNKNOWN)

    def judged(self) -> "Source":
        """The examples as predictions are judged by them: labels are the clean ones.

        Returns:
            Source without the columns "truth" and "candidates".

        Raises:
            DataError: naming the first example whose class nobody knows.
        """
        unknown = np.flatnonzero(self.known == UNKNOWN)
        if unknown.size:
            raise DataError(
                f"{self.name} {self.split}: example {self.origin[unknown[0]]} (0-based)"
                f" has no known label ({unknown.size} such example(s)), expected the"
                " class of every example that is evaluated"
            )
        kept = dict(self.columns)
        for name in ("truth", "candidates"):
            kept.pop(name, None)
        if len(kept) == len(self.columns):
            return self
        return dataclasses.replace(self, labels=self.known, columns=kept)

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
