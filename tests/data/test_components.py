"""Data sets as components: what a config says of one reaches its reader."""

import numpy as np
import pytest

from ltjax.data.catalog import DATASETS
from ltjax.data.components import DATA, NpzOptions
from ltjax.options import Component, NoOptions, options_of, read


def test_every_data_set_of_the_catalog_is_listed_with_its_options():
    assert set(DATASETS) <= set(DATA) and len(DATA) == len(set(DATA))
    for name in DATASETS:
        known = options_of(DATA[name].options)
        assert {"data_dir", "profile", "feed"} <= known.keys()
        assert DATA[name].about and "\n" not in DATA[name].about
    large = options_of(DATA["imagenet2012"].options)
    assert (large["resize"].default, large["crop"].default) == (256, 256)
    assert options_of(DATA["cifar10"].options)["resize"].default == 0
    assert options_of(DATA["imagenet_lt"].options)["profile"].default == "none"


def test_forms_of_names_that_no_list_holds():
    assert "tfds:anything" in DATA and "npz:x_{split}.npz" in DATA
    assert DATA["npz:x_{split}.npz"].options is NpzOptions
    for name in ("tfds:", "npz:", "zip:x", "cifar11"):
        assert name not in DATA
        with pytest.raises(KeyError):
            DATA[name]


def test_a_plugin_adds_a_data_set():
    before = len(DATA)
    try:
        DATA["mine"] = Component("mine", NoOptions, lambda options, split: split)
        assert "mine" in DATA and "mine" in set(DATA) and len(DATA) == before + 1
        assert read("data", {"name": "mine"}, DATA).chosen.make("train") == "train"
    finally:
        del DATA._more["mine"]


def chosen(name, **options):
    found, faults = read("data", {"name": name, **options}, DATA)
    assert not faults
    return found


def test_options_reach_the_reader():
    source = chosen("mnist1d", train_per_class=5, test_per_class=2, seed=7)
    assert len(source.make("train")) == 50 and len(source.make("test")) == 20
    other = chosen("mnist1d", train_per_class=5, test_per_class=2, seed=8)
    a, b = (one.make("train").read(np.arange(3)) for one in (source, other))
    assert not np.array_equal(a, b)


def test_arrays_of_a_file_and_their_number_of_classes(tmp_path):
    np.savez(
        tmp_path / "d_train.npz",
        inputs=np.arange(6.0).reshape(3, 2),
        labels=np.array([0, 1, 1]),
    )
    name = f"npz:{tmp_path}/d_{{split}}.npz"
    assert chosen(name).make("train").num_classes == 2
    with pytest.warns(UserWarning, match="2 of 4 classes have no example"):
        assert chosen(name, num_classes=4).make("train").num_classes == 4
    with pytest.raises(FileNotFoundError):
        chosen(name).make("test")


def test_images_of_a_folder_by_the_list_of_their_split(image_folder):
    lists = {"train_list": str(image_folder / "train.txt"), "train_split": "train"}
    place = {"image_root": str(image_folder / "images")}
    source = chosen("folder", **lists, **place, resize=4, crop=4).make("train")
    assert len(source) == 6 and source.shape == (4, 4, 3)
    # 0 is "as stored", of which images of several sizes have no array.
    with pytest.raises(ValueError):
        chosen("folder", **lists, **place, resize=0, crop=0).make("train").read([0, 1])


def test_where_a_validation_split_is_stored():
    assert not chosen("mnist1d").options.has_validation
    assert chosen("mnist1d", val_split="val").options.has_validation
    assert chosen("folder", val_list="x.txt").options.has_validation
    assert not chosen("folder").options.has_validation
