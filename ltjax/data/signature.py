"""What a trained network has to know of its training data, without the data.

A `Signature` is written with a run. A stand-in with the same counts, shapes and columns
is made from it, from which the network and the method are built again on a machine that
has never seen the data.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ltjax.data.modalities import DType, Shape, each_modality
from ltjax.data.readers import DataError, Sizing
from ltjax.data.source import UNKNOWN, Source, known_labels


@dataclasses.dataclass(frozen=True)
class Signature:
    """A source without its examples; everything in it is JSON-ready.

    Attributes:
        name: of the data set.
        shape: of one input as it is read, before augmentation; of several modalities a
            dict of shapes by name.
        dtype: of the inputs, "uint8" (images) or "float32"; likewise.
        examples: N.
        label_counts: [K], how often each class is a label.
        class_counts: [K], see `Source.class_counts`.
        mean: per channel, or None.
        std: likewise.
        sizing: {"resize": pixels or None, "crop": pixels or None}, how an image is
            brought to `shape` when it is read; None if it is not.
        columns: name -> (shape of a row, dtype).
        features: names of the features of a table, in order, or None.
    """

    name: str
    shape: Shape
    dtype: DType
    examples: int
    label_counts: tuple[int, ...]
    class_counts: tuple[int, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    sizing: Mapping[str, int | None] | None = None
    columns: Mapping[str, tuple[tuple[int, ...], str]] = dataclasses.field(
        default_factory=dict
    )
    features: tuple[str, ...] | None = None


def signature_of(source: Source) -> Signature:
    """The signature of a source; no example is read.

    Args:
        source: whose reader has an attribute `sizing`, if it sizes images.

    Returns:
        `Signature`.

    Example:
        >>> from ltjax.data import array_source
        >>> signature = signature_of(array_source([[0.5], [1.5], [2.5]], [0, 1, 1]))
        >>> signature.shape, signature.dtype, signature.label_counts
        ((1,), 'float32', (1, 2))
    """
    labels = np.bincount(known_labels(source.labels), minlength=source.num_classes)
    sizing = getattr(source.reader, "sizing", None)
    return Signature(
        name=source.name,
        shape=source.shape,
        dtype=each_modality(lambda dtype: dtype.name, source.dtype),
        examples=len(source),
        label_counts=tuple(labels.tolist()),
        class_counts=tuple(np.asarray(source.class_counts).tolist()),
        mean=None if source.mean is None else tuple(map(float, source.mean)),
        std=None if source.std is None else tuple(map(float, source.std)),
        sizing=dataclasses.asdict(sizing) if sizing else None,
        columns={
            name: (tuple(column.shape[1:]), column.dtype.name)
            for name, column in source.columns.items()
        },
        features=source.features,
    )


def signature_from(told: Mapping[str, Any]) -> Signature:
    """The signature that `dataclasses.asdict` made a mapping of, read from JSON.

    Raises:
        KeyError: naming an entry that is missing.

    Example:
        >>> from ltjax.data import array_source
        >>> signature = signature_of(array_source([[0.5], [1.5]], [0, 1]))
        >>> signature_from(dataclasses.asdict(signature)) == signature
        True
    """

    def listed(name: str):
        return None if told[name] is None else tuple(told[name])

    return Signature(
        name=told["name"],
        shape=each_modality(tuple, told["shape"]),
        dtype=told["dtype"],
        examples=told["examples"],
        label_counts=tuple(told["label_counts"]),
        class_counts=tuple(told["class_counts"]),
        mean=listed("mean"),
        std=listed("std"),
        sizing=told["sizing"],
        columns={
            name: (tuple(shape), dtype)
            for name, (shape, dtype) in told["columns"].items()
        },
        features=listed("features"),
    )


def sizing_of(signature: Signature) -> Sizing:
    """How an image file is brought to the shape of the inputs."""
    return Sizing(**(signature.sizing or {}))


@dataclasses.dataclass(frozen=True, eq=False)
class StandIn(Source):
    """A source that knows how many examples of each class there are, and has none.

    Attributes:
        counts: [K], its `class_counts`.
    """

    counts: np.ndarray = None  # pyright: ignore[reportAssignmentType]

    @property
    def class_counts(self) -> np.ndarray:  # pyright: ignore
        """[K] int64, those of the source it stands for."""
        return self.counts


def stand_in(
    signature: Signature, class_names: tuple[str, ...] | None = None
) -> StandIn:
    """A source of the same counts and shapes whose examples cannot be read.

    Its labels come class by class, and its columns hold ones: a candidate, a target and
    a class at once. A method may take its sizes and counts from it, and nothing else.

    Args:
        signature: of the source it stands for.
        class_names: K names, or None.

    Returns:
        `StandIn`.

    Example:
        >>> from ltjax.data import array_source
        >>> source = array_source([[0.5], [1.5], [2.5]], [1, 0, 1])
        >>> stand_in(signature_of(source)).labels.tolist()
        [0, 1, 1]
    """
    counts = np.asarray(signature.label_counts, np.int64)
    labels = np.repeat(np.arange(len(counts)), counts)
    unknown = np.full(signature.examples - len(labels), UNKNOWN)
    return StandIn(
        name=signature.name,
        labels=np.concatenate([labels, unknown]),
        num_classes=len(counts),
        shape=signature.shape,
        dtype=each_modality(np.dtype, signature.dtype),
        reader=_unread,
        class_names=class_names,
        mean=signature.mean,
        std=signature.std,
        columns={
            name: np.broadcast_to(np.ones((), dtype), (signature.examples, *shape))
            for name, (shape, dtype) in signature.columns.items()
        },
        counts=np.asarray(signature.class_counts, np.int64),
    )


def _unread(positions: np.ndarray) -> np.ndarray:
    raise DataError("the training examples are not part of a trained network")
