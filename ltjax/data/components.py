"""Data sets as components: where examples come from and which of them are kept."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ltjax.data.catalog import DATASETS, Dataset
from ltjax.data.data_options import DataFacts, DataOptions, OwnDataOptions, data_needs
from ltjax.data.folders import open_folder
from ltjax.data.loading import load_source
from ltjax.data.made_sets import MADE
from ltjax.data.mnist1d import open_mnist1d
from ltjax.data.own import (
    CandidateSetOptions,
    ClassFolderOptions,
    LabelSetOptions,
    ShareOptions,
    SplitOptions,
    Stored,
    TableOptions,
    find_folder,
    find_memory,
    find_npz,
    find_records,
    find_table,
    own_component,
)
from ltjax.data.records import open_records
from ltjax.data.source import Source
from ltjax.options import Chosen, Component, option, options_of


@dataclasses.dataclass(frozen=True)
class MNIST1DOptions(DataOptions):
    """Of MNIST-1D, which is made on the spot."""

    train_per_class: int = option(2500, "training signals of a class", low=1)
    test_per_class: int = option(500, "test signals of a class", low=1)
    seed: int = option(42, "of the generator", low=0, below=2**31)


@dataclasses.dataclass(frozen=True)
class RecordOptions(DataOptions):
    """Of TFDS data sets in ArrayRecord files."""

    input_key: str = option("", "input feature; '' = the data set's own")
    label_key: str = option("", "label feature; '' = the data set's own")
    resize: int = option(0, "shorter side in pixels; 0 = as stored", low=0)
    crop: int = option(0, "side of the center crop in pixels; 0 = none", low=0)


@dataclasses.dataclass(frozen=True)
class LargeRecordOptions(RecordOptions):
    """Of TFDS data sets of images of varying size."""

    resize: int = option(256, "shorter side in pixels; 0 = as stored", low=0)
    crop: int = option(256, "side of the center crop in pixels; 0 = none", low=0)


@dataclasses.dataclass(frozen=True)
class OwnRecordOptions(ShareOptions, OwnDataOptions, RecordOptions):
    """Of any other TFDS data set."""

    # A dataclass takes all fields of its last base first, inherited ones too: in the
    # other order the profile would be that of the benchmarks.


@dataclasses.dataclass(frozen=True)
class FolderOptions(OwnDataOptions):
    """Of image folders with list files."""

    train_list: str = option("", "list of the training images; '' = published name")
    test_list: str = option("", "list of the test images; '' = published name")
    val_list: str = option("", "list of the validation images; '' = val_split's")
    image_root: str = option("", "folder that the paths are relative to")
    num_classes: int = option(0, "K; 0 = the largest label + 1", low=0)
    resize: int = option(256, "shorter side in pixels; 0 = as stored", low=0)
    crop: int = option(256, "side of the center crop in pixels; 0 = none", low=0)


@dataclasses.dataclass(frozen=True)
class OwnFolderOptions(ClassFolderOptions, OwnDataOptions):
    """Of image folders by class."""


@dataclasses.dataclass(frozen=True)
class OwnTableOptions(TableOptions, OwnDataOptions):
    """Of tables."""


@dataclasses.dataclass(frozen=True)
class OwnMemoryOptions(LabelSetOptions, ShareOptions, OwnDataOptions):
    """Of data that are given in Python."""


@dataclasses.dataclass(frozen=True)
class NpzOptions(CandidateSetOptions, SplitOptions, OwnDataOptions):
    """Of files of arrays."""

    num_classes: int = option(0, "K; 0 = the largest label + 1", low=0)


def _lists(options: Any) -> dict[str, str]:
    """Split -> list file, where the options name one."""
    named = {"train_split": "train_list", "test_split": "test_list"}
    named["val_split"] = "val_list"
    return {
        getattr(options, split) or "val": getattr(options, name, "")
        for split, name in named.items()
        if getattr(options, name, "")
    }


def _component(
    name: str, dataset: Dataset, about: str, options: type, needs=data_needs
):
    shared = {field.name for field in dataclasses.fields(DataOptions)}
    lists = {"train_list", "test_list", "val_list"}
    own = [key for key in options_of(options) if key not in shared | lists]

    def make(options: Any, split: str) -> Source:
        chosen = {key: getattr(options, key) for key in own}
        # 0 and "" stand for what the reader does by itself (None for a size).
        chosen = {
            key: None if key in ("resize", "crop") and not value else value
            for key, value in chosen.items()
            if value or key in ("resize", "crop")
        }
        list_file = _lists(options).get(split)
        if list_file:
            chosen["list_file"] = list_file
        return load_source(name, split, data_dir=options.data_dir or None, **chosen)

    return Component(about, options, make, needs)


def _catalogued(name: str, dataset: Dataset) -> Component:
    classes = f", {dataset.num_classes} classes" if dataset.num_classes else ""
    if dataset.open is open_mnist1d:
        about, options = "made on the spot, needs no download", MNIST1DOptions
    elif dataset.open is open_folder:
        about, options = "image folder with list files", FolderOptions
    elif dataset.options.get("resize"):
        about, options = "TFDS data set, ArrayRecord", LargeRecordOptions
    elif dataset.open is open_records:
        about, options = "TFDS data set, ArrayRecord", RecordOptions
    else:
        about, options = "registered by a plugin", OwnDataOptions
    return _component(name, dataset, about + classes, options)


def _own_facts(options: Any) -> DataFacts:
    several = getattr(options, "multi_label", False)
    hidden = getattr(options, "candidates", False)
    columns = (("targets",) if several else ()) + (("candidates",) if hidden else ())
    return DataFacts(columns, hidden=hidden)


# Kind before the colon -> form, options, and (path, options) -> what lies there.
_OWN: dict[str, tuple[str, type, Callable[[str, Any], Stored]]] = {
    "tfds": ("tfds:NAME", OwnRecordOptions, find_records),
    "npz": ("npz:PATH", NpzOptions, find_npz),
    "folder": ("folder:DIR", OwnFolderOptions, find_folder),
    "table": ("table:FILE", OwnTableOptions, find_table),
    "memory": ("memory:NAME", OwnMemoryOptions, find_memory),
}


def stored_of(data: Chosen) -> Stored:
    """What lies at the path of a checked section of your own data.

    Args:
        data: whose name has one of the forms of `DataTable`.

    Returns:
        `Stored`: the splits as they are stored, before any is made.
    """
    kind, _, rest = data.name.partition(":")
    return _OWN[kind][2](rest, data.options)


class DataTable(Mapping[str, Component]):
    """The data sets of the catalog, and those whose names have a form ("npz:PATH")."""

    forms = {
        "tfds:NAME": "any other prepared TFDS data set",
        "npz:PATH": "files of arrays, one or as npz:digits_{split}.npz",
        "folder:DIR": "images by class, as DIR/cat/1.png, or DIR/train/cat/1.png",
        "table:FILE": "CSV or Parquet: a label column and features or image paths",
        "memory:NAME": "given to ltjax.fit in this process",
    }

    def __init__(self, datasets: dict[str, Dataset]):
        self._datasets = datasets
        self._more: dict[str, Component] = dict(MADE)

    def __getitem__(self, name: str) -> Component:
        """The component of a data set."""
        if name in self._more:
            return self._more[name]
        kind, _, rest = name.partition(":")
        if name in self._datasets:
            return _catalogued(name, self._datasets[name])
        if rest and kind in _OWN:
            form, options, find = _OWN[kind]
            about = self.forms[form]
            found = functools.partial(find, rest)
            component = own_component(name, about, options, found, data_needs)
            return component._replace(facts=_own_facts)
        raise KeyError(name)

    def __setitem__(self, name: str, component: Component) -> None:
        """Adds a data set of a plugin: its `make` is (options, split) -> Source."""
        self._more[name] = component

    def __iter__(self) -> Iterator[str]:
        """Names of the catalog; the forms with a colon cannot be listed."""
        return iter({**self._datasets, **self._more})

    def __len__(self) -> int:
        """Number of names that `iter` gives."""
        return len({**self._datasets, **self._more})


DATA = DataTable(DATASETS)
