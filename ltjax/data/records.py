"""TFDS folders in ArrayRecord format, read without TensorFlow and without network.

TFRecord cannot be read without TensorFlow, and Parquet ignores slices of a split, so
ArrayRecord is the only format accepted.
"""

import dataclasses
import functools
import hashlib
import io
import os
import re
from typing import Any

import numpy as np

from ltjax.class_stats import infer_num_classes
from ltjax.data.readers import (
    Contents,
    DataError,
    MissingDataError,
    Sizing,
    decode_image,
    stack_images,
)

# Bytes read at the beginning, the middle and the end of every file of records.
_SAMPLE = 4096


def labels_file(builder_dir, split: str, label_key: str):
    """Where `ltjax.data.prepare` leaves the labels of a split.

    A .npz file with `labels` [N] and `records`, the fingerprint of the files that they
    were read from.
    """
    return builder_dir / f"ltjax-{split}-{label_key}.npz"


def records_fingerprint(split_info: Any) -> str:
    """Hash of names, sizes and samples of the files of a split.

    It tells apart what was prepared anew: other examples, another order or other labels
    change the compressed bytes. It is not a checksum of the whole.
    """
    digest = hashlib.sha256()
    for path in sorted(split_info.filepaths, key=os.fspath):
        size = path.stat().length
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as opened:
            for start in (0, size // 2, size - _SAMPLE):
                opened.seek(max(start, 0))
                digest.update(opened.read(_SAMPLE))
    return digest.hexdigest()


def supervised_keys(info: Any) -> tuple[str, str]:
    """Names of the input and the label feature of a TFDS data set."""
    inputs, labels = (info.supervised_keys or ("image", "label"))[:2]
    return inputs, labels


def find_builder_dir(name: str, data_dir: str):
    """The folder of the newest prepared version of a TFDS data set.

    Args:
        name: TFDS name, with "/config" where the data set has several.
        data_dir: folder that TFDS prepared into (may be remote, as gs://...).

    Returns:
        epath.Path of `data_dir/name/[config/]version`.

    Raises:
        MissingDataError: naming the command that prepares the data set.
        ValueError: if several configurations are prepared and the name gives none.
    """
    from etils import epath

    base = epath.Path(data_dir) / name
    found = [path.parent for path in base.glob("*/dataset_info.json")]
    configured = [path.parent for path in base.glob("*/*/dataset_info.json")]
    if not found and len({path.parent for path in configured}) > 1:
        names = sorted({f"{name}/{path.parent.name}" for path in configured})
        raise ValueError(
            f"tfds:{name} has several configurations in {data_dir}: {names}; name one"
        )
    versions = found or configured
    if not versions:
        raise MissingDataError(
            f"data set {name!r} is not prepared in {data_dir}; prepare it with"
            f" `ltjax prepare {name}`, or point data_dir or LTJAX_DATA_DIR to the"
            " folder that holds it"
        )
    return max(versions, key=lambda path: _version_key(path.name))


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


@functools.lru_cache(maxsize=16)
def _builder(builder_dir: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(builder_dir)
    except Exception as error:  # of its JSON, proto and file readers
        raise DataError(
            f"the description of the data set in {builder_dir} cannot be read:"
            f" {str(error) or type(error).__name__}"
        ) from error


def _read_records(records: Any, rows: list[int], where: str) -> list[Any]:
    """The records at `rows`; one that is damaged is named."""
    try:
        return records.__getitems__(rows)
    except Exception as error:  # of array_record, protobuf and the image decoders
        bad, reason = rows, str(error) or type(error).__name__
        for row in rows:
            try:
                records.__getitems__([row])
            except Exception:
                bad = [row]
                break
        raise DataError(
            f"{where}: record {bad[0]} (0-based) is damaged: {reason}"
        ) from error


@dataclasses.dataclass(frozen=True, eq=False)
class RecordReader:
    """Inputs of one split of a prepared TFDS data set.

    Attributes:
        builder_dir: folder of the prepared version.
        split: name of the split as TFDS stores it.
        input_key: feature that holds the input.
        sizing: resize and center crop; for images only.
        channels: of the image, or None if the input is not an image.
    """

    builder_dir: str
    split: str
    input_key: str
    sizing: Sizing
    channels: int | None

    @functools.cached_property
    def _records(self):
        import tensorflow_datasets as tfds

        # Images that change size are decoded by us, the others by their feature.
        skip = {self.input_key: tfds.decode.SkipDecoding()} if self.sizing else None
        return _builder(self.builder_dir).as_data_source(self.split, decoders=skip)

    def __getstate__(self):
        # A worker process opens its own files.
        return {k: v for k, v in self.__dict__.items() if k != "_records"}

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """The inputs at `positions`."""
        where = f"split {self.split!r} in {self.builder_dir}"
        rows = [int(i) for i in positions]
        records = _read_records(self._records, rows, where)
        inputs = [record[self.input_key] for record in records]
        if self.sizing:
            inputs = [
                self._decode(x, f"{where}: the image of record {row} (0-based)")
                for x, row in zip(inputs, rows, strict=True)
            ]
        return stack_images([np.asarray(x) for x in inputs], f"{self.split} inputs")

    def _decode(self, data: bytes, what: str) -> np.ndarray:
        try:
            return decode_image(data, self.sizing, self.channels or 3)
        except DataError as error:
            raise DataError(f"{what} {error}") from error


def stored_splits(name: str, data_dir: str) -> tuple[str, ...]:
    """Names of the splits of a prepared TFDS data set.

    Raises:
        MissingDataError: if it is not prepared.
    """
    return tuple(_builder(str(find_builder_dir(name, data_dir))).info.splits)


def open_records(
    split: str,
    *,
    name: str,
    data_dir: str,
    input_key: str | None = None,
    label_key: str | None = None,
    resize: int | None = None,
    crop: int | None = None,
) -> Contents:
    """Opens one split of a prepared TFDS data set.

    Only the labels are read, from the file that `ltjax prepare` left beside the records
    if it belongs to them, or else by one pass over the records without decoding images.

    Args:
        split: name of the split as TFDS stores it; no slices.
        name: TFDS name, with "/config" where needed.
        data_dir: folder that TFDS prepared into.
        input_key: feature that holds the inputs, by default the supervised input.
        label_key: feature that holds the labels, by default the supervised target.
        resize: shorter side of the images in pixels, or None to keep their size.
        crop: side of the center crop in pixels, or None for no crop.

    Returns:
        Contents of the split.

    Raises:
        MissingDataError: if the data set is not prepared.
        DataError: for another file format, incomplete files, or inputs without a fixed
            size where resize and crop are not given.
        ValueError: for an unknown split or feature.
    """
    import tensorflow_datasets as tfds

    builder_dir = find_builder_dir(name, data_dir)
    builder = _builder(str(builder_dir))
    info: Any = builder.info
    if info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise DataError(
            f"tfds:{name} in {builder_dir} is stored as {info.file_format.value},"
            f" expected array_record; prepare it again with `ltjax prepare {name}`"
        )
    if split not in info.splits:
        raise ValueError(
            f"tfds:{name} has no split {split!r}, expected one of"
            f" {sorted(info.splits)} (slices are not supported)"
        )
    default_input, default_label = supervised_keys(info)
    input_key = input_key or default_input
    label_key = label_key or default_label
    for key in (input_key, label_key):
        if key not in info.features:
            raise ValueError(
                f"tfds:{name} has no feature {key!r}, expected one of"
                f" {sorted(info.features)}"
            )
    feature: Any = info.features[input_key]
    label: Any = info.features[label_key]
    shape: tuple[int | None, ...] = feature.shape
    is_image = isinstance(feature, tfds.features.Image)
    sizing = Sizing(resize, crop)
    if sizing and not is_image:
        raise ValueError(
            f"tfds:{name}: resize {resize} and crop {crop} need images, but"
            f" {input_key!r} is {type(feature).__name__}"
        )
    reader = RecordReader(
        builder_dir=str(builder_dir),
        split=split,
        input_key=input_key,
        sizing=sizing,
        channels=shape[-1] if is_image else None,
    )
    _check_complete(name, info.splits[split])
    if None in shape and crop is None:
        raise DataError(
            f"tfds:{name}: {input_key!r} has no fixed size ({shape}); pass"
            " resize and crop"
        )
    first = reader(np.array([0]))
    labels = _labels(str(builder_dir), split, label_key)
    return Contents(
        labels=labels,
        reader=reader,
        shape=first.shape[1:],
        dtype=first.dtype,
        num_classes=getattr(label, "num_classes", None)
        or infer_num_classes(f"tfds:{name} {split}", labels),
        class_names=tuple(label.names) if getattr(label, "names", None) else None,
    )


def _check_complete(name: str, split_info) -> None:
    """Counts the records in the files; TFDS itself trusts the description."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    files = [os.fspath(path) for path in split_info.filepaths]
    expected = split_info.num_examples
    try:
        found = len(ArrayRecordDataSource(files))
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"tfds:{name} split {split_info.name!r} cannot be opened, a file is missing"
            f" or damaged: {error}"
        ) from error
    if found != expected:
        raise DataError(
            f"tfds:{name} split {split_info.name!r} holds {found} records, but its"
            f" description says {expected}: the files beside {files[0]} are incomplete"
        )


def _labels(builder_dir: str, split: str, label_key: str) -> np.ndarray:
    split_info = _builder(builder_dir).info.splits[split]
    return _labels_of(builder_dir, split, label_key, records_fingerprint(split_info))


@functools.lru_cache(maxsize=16)
def _labels_of(
    builder_dir: str, split: str, label_key: str, fingerprint: str
) -> np.ndarray:
    labels = load_labels(builder_dir, split, label_key, fingerprint)
    if labels is None:
        labels = scan_labels(builder_dir, split, label_key)
    labels.setflags(write=False)
    return labels


def load_labels(
    builder_dir: str, split: str, label_key: str, fingerprint: str
) -> np.ndarray | None:
    """The labels that `ltjax prepare` left, if they are those of the records.

    Args:
        builder_dir: folder of the prepared version.
        split: name of the split as TFDS stores it.
        label_key: feature that holds the labels.
        fingerprint: of the records, from `records_fingerprint`.

    Returns:
        [N] int, or None: there is no such file, it is damaged, or the records have been
        prepared anew since.
    """
    from etils import epath

    file = labels_file(epath.Path(builder_dir), split, label_key)
    if not file.exists():
        return None
    try:
        with file.open("rb") as opened:
            with np.load(io.BytesIO(opened.read()), allow_pickle=False) as stored:
                labels, known = stored["labels"], str(stored["records"])
    except Exception:  # of zipfile, zlib, numpy; what is damaged is made again
        return None
    return labels if known == fingerprint else None


def scan_labels(builder_dir: str, split: str, label_key: str) -> np.ndarray:
    """Reads the labels of a split from its records, int32 [N]; images stay encoded.

    Args:
        builder_dir: folder of the prepared version.
        split: name of the split as TFDS stores it.
        label_key: feature that holds the labels.

    Returns:
        [N] int32 in the order of the records.

    Raises:
        DataError: naming a damaged record, or one whose label int32 does not hold.
    """
    import tensorflow_datasets as tfds

    builder = _builder(builder_dir)
    images = (tfds.features.Image, tfds.features.Video, tfds.features.Audio)
    decoders = {
        key: tfds.decode.SkipDecoding()
        for key, feature in builder.info.features.items()
        if isinstance(feature, images)
    }
    records = builder.as_data_source(split, decoders=decoders or None)
    labels, chunk = [], 1024
    for start in range(0, len(records), chunk):
        rows = range(start, min(start + chunk, len(records)))
        found = _read_records(records, list(rows), f"split {split!r} in {builder_dir}")
        labels += [record[label_key] for record in found]
    wide = np.asarray(labels)
    if wide.size and not (-(2**31) <= wide.min() and wide.max() < 2**31):
        outside = int(np.argmax((wide < -(2**31)) | (wide >= 2**31)))
        raise DataError(
            f"split {split!r} in {builder_dir}: record {outside} (0-based) has the"
            f" label {wide[outside]}, expected a class index"
        )
    return wide.astype(np.int32)
