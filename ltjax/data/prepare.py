"""Preparing data sets: the only place that downloads.

    python -m ltjax.data.prepare cifar10 --data_dir /data/tfds

Training machines read what is left behind and need neither network nor TensorFlow; TFDS
needs TensorFlow here for data sets that it has to encode as images.
"""

import argparse
import os
import sys

import numpy as np

from ltjax.data.catalog import Dataset, find_dataset
from ltjax.data.folders import open_folder
from ltjax.data.loading import resolve_data_dir
from ltjax.data.readers import DataError
from ltjax.data.records import (
    labels_file,
    load_labels,
    open_records,
    records_fingerprint,
    scan_labels,
    supervised_keys,
)

_DESCRIPTION = "Downloads data sets and stores them as ArrayRecord."


def prepare(name: str, data_dir: str | os.PathLike | None = None) -> str:
    """Downloads a TFDS data set and stores it as ArrayRecord, with its labels beside.

    Does nothing if the data set is already there.

    Args:
        name: as for `load_source`: a key of `DATASETS` or "tfds:NAME".
        data_dir: where to, by default the environment variable LTJAX_DATA_DIR.

    Returns:
        The folder that holds the data set.

    Raises:
        ValueError: for an unknown name.
        DataError: if the data cannot be downloaded or encoded on this machine, or have
            to be fetched by hand; says what to do.

    Example:
        >>> prepare("mnist1d")
        Traceback (most recent call last):
        ltjax.data.readers.DataError: 'mnist1d' is generated, nothing to prepare
    """
    dataset = find_dataset(name)
    if dataset.open is not open_records:
        raise DataError(_by_hand(name, dataset))
    import tensorflow_datasets as tfds

    stored = dataset.options["name"]
    data_dir = resolve_data_dir(data_dir)
    try:
        builder = tfds.builder(stored, data_dir=data_dir, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(f"prepare: TFDS knows no data set {stored!r}") from error
    try:
        builder.download_and_prepare()
    except ImportError as error:
        raise DataError(
            f"prepare: TFDS needs {error.name or 'another package'} to encode"
            f" {stored!r}; install it on the machine that prepares"
            " (`pip install tensorflow-cpu`), training does not need it"
        ) from error
    except OSError as error:
        raise DataError(
            f"prepare: {stored!r} could not be downloaded to {data_dir}: {error}. Is"
            " this machine offline? Prepare the data set elsewhere and copy the folder"
        ) from error
    except AssertionError as error:  # data sets that want a manual download
        raise DataError(f"prepare: {stored!r}: {error}") from error
    _save_labels(builder)
    return os.fspath(builder.data_path)


def _by_hand(name: str, dataset: Dataset) -> str:
    if dataset.open is not open_folder:
        generated = "is generated" if name == "mnist1d" else "is a file of yours"
        return f"{name!r} {generated}, nothing to prepare"
    lists = sorted(set((dataset.lists or {}).values()))
    return (
        f"{name!r} is a folder of images that has to be fetched by hand: put the image"
        f" folders and the lists {lists or '(one line per image)'} below"
        f" DATA_DIR/{name}, or pass list_file and image_root"
    )


def _save_labels(builder) -> None:
    """Leaves the labels of every split in a file, so that opening it reads no images.

    Data sets without an integer label are left alone.
    """
    key = supervised_keys(builder.info)[1]
    if key not in builder.info.features:
        return
    feature = builder.info.features[key]
    if feature.shape or not np.issubdtype(feature.np_dtype, np.integer):
        return
    folder = os.fspath(builder.data_path)
    for split, info in builder.info.splits.items():
        fingerprint = records_fingerprint(info)
        if load_labels(folder, split, key, fingerprint) is not None:
            continue
        labels = scan_labels(folder, split, key)
        with labels_file(builder.data_path, split, key).open("wb") as opened:
            np.savez_compressed(opened, labels=labels, records=fingerprint)


def main(arguments: list[str] | None = None) -> int:
    """Command line of `python -m ltjax.data.prepare`.

    Args:
        arguments: by default those of the process.

    Returns:
        Exit code: 0, or 1 with the reason on the error stream.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ltjax.data.prepare", description=_DESCRIPTION
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="cifar10, tfds:NAME")
    parser.add_argument("--data_dir", help="default: LTJAX_DATA_DIR")
    parsed = parser.parse_args(arguments)
    for name in parsed.names:
        try:
            print(f"{name}: {prepare(name, parsed.data_dir)}")
        except ValueError as error:  # DataError included
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
