"""The catalog: which data sets can be loaded by name, and what belongs to them."""

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

from ltjax.data.arrays import open_npz
from ltjax.data.folders import open_folder
from ltjax.data.mnist1d import open_mnist1d
from ltjax.data.readers import Contents
from ltjax.data.records import open_records


class Dataset(NamedTuple):
    """An entry of `DATASETS`.

    Attributes:
        open: `(split, **options) -> Contents`.
        options: values for `open` that belong to this data set.
        num_classes: K.
        mean: per channel of inputs in [0, 1], or None.
        std: likewise.
        splits: from the names used here to the stored names, where these differ.
        lists: name of the list file of each split, for image folders.
    """

    open: Callable[..., Contents]
    options: dict[str, Any]
    num_classes: int | None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    splits: dict[str, str] | None = None
    lists: dict[str, str] | None = None


# Mean and deviation per channel.
_MNIST = (0.1307,), (0.3081,)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_INATURALIST = (0.466, 0.471, 0.380), (0.195, 0.194, 0.192)
# Files of varying size are brought to a square, from which `augment` takes its crops.
_SQUARE = {"resize": 256, "crop": 256}
# Where the test labels were never published, the validation set takes their place.
_TEST_IS_VALIDATION = {"val": "validation", "test": "validation"}

DATASETS: dict[str, Dataset] = {
    "mnist1d": Dataset(open_mnist1d, {}, 10),
    "mnist": Dataset(open_records, {"name": "mnist"}, 10, *_MNIST),
    "cifar10": Dataset(open_records, {"name": "cifar10"}, 10, *_CIFAR),
    # CIFAR-100 is normalized with the statistics of CIFAR-10 throughout the field.
    "cifar100": Dataset(open_records, {"name": "cifar100"}, 100, *_CIFAR),
    "svhn_cropped": Dataset(open_records, {"name": "svhn_cropped"}, 10, *_HALF),
    "stl10": Dataset(open_records, {"name": "stl10"}, 10, *_HALF),
    "imagenet2012": Dataset(
        open_records,
        {"name": "imagenet2012", **_SQUARE},
        1000,
        *_IMAGENET,
        splits=_TEST_IS_VALIDATION,
    ),
    "places365_small": Dataset(
        open_records,
        {"name": "places365_small", **_SQUARE},
        365,
        *_IMAGENET,
        splits=_TEST_IS_VALIDATION,
    ),
    "i_naturalist2018": Dataset(
        open_records,
        {"name": "i_naturalist2018", **_SQUARE},
        8142,
        *_INATURALIST,
        splits=_TEST_IS_VALIDATION,
    ),
    "imagenet_lt": Dataset(
        open_folder,
        {},
        1000,
        *_IMAGENET,
        lists={
            "train": "ImageNet_LT_train.txt",
            "val": "ImageNet_LT_val.txt",
            "test": "ImageNet_LT_test.txt",
        },
    ),
    "places_lt": Dataset(
        open_folder,
        {},
        365,
        *_IMAGENET,
        lists={
            "train": "Places_LT_train.txt",
            "val": "Places_LT_val.txt",
            "test": "Places_LT_test.txt",
        },
    ),
    "inaturalist18": Dataset(
        open_folder,
        {},
        8142,
        *_INATURALIST,
        lists={
            "train": "iNaturalist18_train.txt",
            "val": "iNaturalist18_val.txt",
            "test": "iNaturalist18_val.txt",
        },
    ),
    "folder": Dataset(open_folder, {}, None),
}


def find_dataset(name: str, datasets: dict[str, Dataset] | None = None) -> Dataset:
    """The entry of a data set name; see `load_source` for the forms of a name.

    Args:
        name: key of `datasets`, "tfds:NAME" or "npz:PATH".
        datasets: DATASETS, or a copy with entries added.

    Returns:
        Dataset.

    Raises:
        ValueError: for an unknown name, with the nearest known one.

    Example:
        >>> find_dataset("cifar100").num_classes
        100
    """
    datasets = DATASETS if datasets is None else datasets
    kind, _, rest = name.partition(":")
    if name in datasets:
        return datasets[name]
    if kind == "tfds" and rest:
        return Dataset(open_records, {"name": rest}, None)
    if kind == "npz" and rest:
        return Dataset(open_npz, {"path": rest}, None)
    near = difflib.get_close_matches(name, datasets, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(
        f"unknown data set {name!r}{hint}, expected one of {sorted(datasets)},"
        " 'tfds:NAME' or 'npz:PATH'"
    )
