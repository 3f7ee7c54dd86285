"""Data sets as components: where examples come from and which of them are kept."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ltjax.data.catalog import DATASETS, Dataset
from ltjax.data.corruptions import CORRUPTIONS
from ltjax.data.folders import open_folder
from ltjax.data.mnist1d import open_mnist1d
from ltjax.data.multimodal_digits import MODALITIES, multimodal_digits
from ltjax.data.own import (
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
from ltjax.data.scenes import digit_glyphs, digit_scenes, digit_sets
from ltjax.data.source import Source, load_source
from ltjax.options import Chosen, Component, nearest, option, options_of

PROFILES = ("exp", "step", "pareto", "balanced", "counts", "none")


class DataFacts(NamedTuple):
    """What is known of a data set before it is opened.

    Attributes:
        columns: that it brings along.
        modalities: names of its inputs, if they are a dict.
    """

    columns: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Shared by all data sets."""

    data_dir: str = option("", "folder of the data; '' = LTJAX_DATA_DIR")
    train_split: str = option("train", "name of the training split")
    test_split: str = option("test", "name of the split to report on")
    val_split: str = option("", "evaluated as 'val' beside the test split; '' = none")
    holdout: float = option(
        0.0, "share of each training class set aside as 'val'", low=0, below=1
    )
    profile: str = option("exp", "of the long-tailed subset", choices=PROFILES)
    imbalance_factor: float = option(100.0, "n_max / n_min of the subset", low=1)
    max_count: int = option(
        0, "examples of the largest class; 0 = those of the smallest one", low=0
    )
    counts: tuple[int, ...] = option((), "with profile='counts'", low=0)
    positive_from: int = option(
        0,
        "two classes: those from this one on, and the others; 0 = as they are",
        low=0,
    )
    subset_seed: int = option(0, "of the subset", low=0, below=2**31)
    corruptions: tuple[str, ...] = option(
        (), "of the test images, evaluated as 'corrupted'; ('all',) = all that fit"
    )
    corrupted_images: int = option(
        1000, "test images that are corrupted, evenly spaced; 0 = all", low=0
    )
    feed: str = option(
        "resident",
        "data on the device, or read ahead",
        choices=("resident", "streaming"),
    )
    workers: int = option(
        0, "processes of the streaming feed; 0 = threads only", low=0, high=64
    )

    @property
    def has_validation(self) -> bool:
        """Whether there is a stored validation split."""
        return bool(self.val_split or getattr(self, "val_list", ""))


@dataclasses.dataclass(frozen=True)
class OwnDataOptions(DataOptions):
    """Shared by data that are used as they are, because they are imbalanced already."""

    profile: str = option("none", "of the long-tailed subset", choices=PROFILES)


@dataclasses.dataclass(frozen=True)
class MNIST1DOptions(DataOptions):
    """Of MNIST-1D, which is made on the spot."""

    train_per_class: int = option(2500, "training signals of a class", low=1)
    test_per_class: int = option(500, "test signals of a class", low=1)
    seed: int = option(42, "of the generator", low=0, below=2**31)


@dataclasses.dataclass(frozen=True)
class MultimodalDigitsOptions(DataOptions):
    """Of images and signals of the same digit, made on the spot."""

    train_per_class: int = option(500, "training examples of a class", low=1)
    test_per_class: int = option(100, "test examples of a class", low=1)
    size: int = option(28, "height and width of the images in pixels", low=8)
    noise: float = option(0.3, "deviation of the pixels' noise", low=0)
    absent_image: float = option(
        0.0, "share of examples whose image shows no digit", low=0, high=1
    )
    absent_signal: float = option(
        0.0, "share of the others whose signal is of no digit", low=0, high=1
    )
    absent: str = option(
        "noise", "what is there in its place", choices=("noise", "zeros")
    )
    seed: int = option(42, "of signals and images", low=0, below=2**31)


@dataclasses.dataclass(frozen=True)
class SceneOptions(OwnDataOptions):
    """Of procedural scenes, whose pixel counts are long-tailed by themselves."""

    train_size: int = option(1000, "training scenes", low=1)
    test_size: int = option(200, "test scenes", low=1)
    size: int = option(32, "height and width in pixels", low=16)
    num_digits: int = option(5, "D; there are D + 1 classes", low=1, high=10)
    per_scene: int = option(3, "digits of a scene", low=1)
    rarity: float = option(20.0, "how much rarer the last digit is", low=1)
    noise: float = option(0.1, "deviation of the pixels' noise", low=0)
    seed: int = option(0, "of the scenes", low=0, below=2**31)


@dataclasses.dataclass(frozen=True)
class GlyphOptions(DataOptions):
    """Of procedural images of digits, which are made on the spot."""

    train_per_class: int = option(500, "training images of a digit", low=1)
    test_per_class: int = option(100, "test images of a digit", low=1)
    size: int = option(16, "height and width in pixels", low=16)
    num_digits: int = option(10, "K", low=2, high=10)
    noise: float = option(0.2, "deviation of the pixels' noise", low=0)
    seed: int = option(0, "of the images", low=0, below=2**31)


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
class NpzOptions(SplitOptions, OwnDataOptions):
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


def _needs(options: DataOptions, config) -> list[str]:
    faults = []
    if options.holdout and options.has_validation:
        faults.append(
            "config.data.holdout and config.data.val_split (or val_list) both make a"
            " split 'val', expected one of them"
        )
    if options.profile == "counts" and not options.counts:
        faults.append("config.data.counts is empty, but data.profile is 'counts'")
    if options.counts and options.profile != "counts":
        faults.append(
            f"config.data.counts is set, but data.profile is {options.profile!r},"
            " expected 'counts'"
        )
    for name in options.corruptions:
        if name not in ("all", *CORRUPTIONS):
            faults.append(
                f"config.data.corruptions has {name!r}, unknown"
                f"{nearest(name, ('all', *CORRUPTIONS))}"
            )
    return faults


def _component(name: str, dataset: Dataset, about: str, options: type, needs=_needs):
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


def _scenes(about: str, maker: Callable[..., Source]) -> Component:
    """Procedural scenes, whose column "targets" says what is in them."""

    def make(options: SceneOptions, split: str) -> Source:
        test = split == options.test_split
        return maker(
            options.test_size if test else options.train_size,
            size=options.size,
            num_digits=options.num_digits,
            per_scene=options.per_scene,
            imbalance_factor=options.rarity,
            noise=options.noise,
            seed=options.seed,
            split=split,
        )

    facts = DataFacts(("targets",))
    return Component(about, SceneOptions, make, _needs, lambda options: facts)


def _multimodal_digits() -> Component:
    def make(options: MultimodalDigitsOptions, split: str) -> Source:
        return multimodal_digits(
            split,
            train_per_class=options.train_per_class,
            test_per_class=options.test_per_class,
            size=options.size,
            noise=options.noise,
            absent_image=options.absent_image,
            absent_signal=options.absent_signal,
            absent=options.absent,
            seed=options.seed,
        )

    return Component(
        "an image and a signal of the same digit, made on the spot",
        MultimodalDigitsOptions,
        make,
        _modality_needs,
        lambda options: DataFacts(modalities=MODALITIES),
    )


def _modality_needs(options: DataOptions, config) -> list[str]:
    """Several modalities go through what takes a dict of inputs."""
    faults = _needs(options, config)
    model, names = config.model, config.data.facts.modalities
    if set(model.facts.modalities) != set(names):
        has = model.facts.modalities
        faults.append(
            f"config.data.name is {config.data.name!r}, whose inputs are"
            f" {' and '.join(names)}, but config.model.name {model.name!r} takes"
            f" {' and '.join(has) if has else 'one array'}; expected 'modalities' with"
            f" model.names {names}"
        )
    if not config.augment.facts.modalities:
        faults.append(
            f"config.augment.name is {config.augment.name!r}, which takes one array,"
            f" but data {config.data.name!r} has several modalities; expected 'none' or"
            " 'shift_each'"
        )
    if config.method.facts.one_array:
        faults.append(
            f"method {config.method.name!r} changes inputs of one array, but data"
            f" {config.data.name!r} has several modalities"
        )
    return faults


def _glyphs(options: GlyphOptions, split: str) -> Source:
    test = split == options.test_split
    return digit_glyphs(
        options.test_per_class if test else options.train_per_class,
        size=options.size,
        num_digits=options.num_digits,
        noise=options.noise,
        seed=options.seed,
        split=split,
    )


SCENES: dict[str, Component] = {
    "multimodal_digits": _multimodal_digits(),
    "digit_glyphs": Component(
        "small images of single digits, made on the spot",
        GlyphOptions,
        _glyphs,
        _needs,
        lambda options: DataFacts(),
    ),
    "digit_scenes": _scenes(
        "scenes of digits with a class for every pixel, made on the spot", digit_scenes
    ),
    "digit_sets": _scenes(
        "scenes labelled with the digits in them, made on the spot", digit_sets
    ),
}


def _own_facts(options: Any) -> DataFacts:
    several = getattr(options, "multi_label", False)
    return DataFacts(("targets",) if several else ())


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
        self._more: dict[str, Component] = dict(SCENES)

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
            component = own_component(name, about, options, found, _needs)
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
