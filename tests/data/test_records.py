"""TFDS folders: the reading path, labels, completeness, messages."""

import io
import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from ltjax.data import DataError, MissingDataError, load_source
from ltjax.data.readers import Sizing
from ltjax.data.records import (
    RecordReader,
    _builder,
    _labels_of,
    find_builder_dir,
    records_fingerprint,
    scan_labels,
)


class Records(list):
    """Stands for a TFDS data source."""

    def __getitems__(self, rows):
        return [self[row] for row in rows]


def test_mnist_is_read_without_tensorflow(mnist_dir):
    code = (
        "import sys; from ltjax.data import load_source\n"
        "test = load_source('mnist', 'test', data_dir=sys.argv[1])\n"
        "x = test.read([3, 3, 1])\n"
        "assert (x.shape, str(x.dtype)) == ((3, 28, 28, 1), 'uint8')\n"
        "assert (x[0] == x[1]).all() and (x[0] != x[2]).any()\n"
        "assert len(test) == 10000 and test.num_classes == 10\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(mnist_dir)], check=True)


def test_mnist_labels_and_pixels_agree_with_tfds(mnist_dir):
    import tensorflow_datasets as tfds

    source = load_source("mnist", "test", data_dir=mnist_dir)
    reference = tfds.data_source("mnist", split="test", data_dir=mnist_dir)
    # The digit frequencies of the MNIST test set.
    expected = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert source.class_counts.tolist() == expected
    for i in (0, 77, 9999):
        assert np.array_equal(source.read([i])[0], reference[i]["image"])
        assert source.labels[i] == reference[i]["label"]


def numbers(source, indices):
    return source.read(indices)[:, 0, 0, 0].tolist()


def test_fixed_size(toy_dir):
    source = load_source("tfds:ltjax_toy", "train", data_dir=toy_dir)
    assert source.shape == (6, 6, 3) and source.dtype == np.uint8
    assert source.class_names == ("a", "b", "c") and source.num_classes == 3
    # TFDS shuffles while preparing; the picture's number gives the label away.
    found = np.array(numbers(source, np.arange(12)))
    assert sorted(found.tolist()) == list(range(12))
    assert np.array_equal(source.labels, found % 3)
    assert numbers(source, [4, 4, 0]) == found[[4, 4, 0]].tolist()


def test_other_features(toy_dir):
    source = load_source(
        "tfds:ltjax_toy",
        "test",
        data_dir=toy_dir,
        input_key="vector",
        label_key="coarse",
    )
    assert source.shape == (2,) and source.dtype == np.float32
    vectors = source.read([0, 1, 2])
    assert np.array_equal(vectors[:, 0], -vectors[:, 1])
    assert np.array_equal(source.labels, vectors[:, 0].astype(int) % 2)
    assert source.num_classes == 2


def test_varying_sizes_need_resize_and_crop(toy_dir):
    with pytest.raises(DataError, match="no fixed size.*pass resize and crop"):
        load_source("tfds:ltjax_ragged", "train", data_dir=toy_dir)
    source = load_source(
        "tfds:ltjax_ragged", "train", data_dir=toy_dir, resize=8, crop=8
    )
    assert source.read(np.arange(12)).shape == (12, 8, 8, 3)
    assert np.array_equal(source.labels, np.array(numbers(source, np.arange(12))) % 3)


def test_readers_travel_to_other_processes(toy_dir):
    source = load_source("tfds:ltjax_toy", "train", data_dir=toy_dir)
    expected = source.read([5, 2])
    copy = pickle.loads(pickle.dumps(source))
    assert "_records" not in vars(copy.reader)  # open files stay behind
    assert np.array_equal(copy.read([5, 2]), expected)


def test_labels_come_from_the_prepared_file(toy_dir, tmp_path):
    shutil.copytree(toy_dir / "ltjax_toy", tmp_path / "ltjax_toy")
    file = tmp_path / "ltjax_toy" / "1.0.0" / "ltjax-train-label.npz"
    scanned = scan_labels(str(file.parent), "train", "label")
    with np.load(file) as stored:
        assert np.array_equal(stored["labels"], scanned)
        fingerprint = stored["records"]
    np.savez(file, labels=np.flip(scanned), records=fingerprint)
    changed = load_source("tfds:ltjax_toy", "train", data_dir=tmp_path)
    assert np.array_equal(changed.labels, np.flip(scanned))
    for stale in (
        lambda: np.savez(file, labels=np.flip(scanned), records="of other records"),
        lambda: file.write_bytes(file.read_bytes()[:80]),
        file.unlink,
    ):
        stale()
        _labels_of.cache_clear()
        source = load_source("tfds:ltjax_toy", "train", data_dir=tmp_path)
        assert np.array_equal(source.labels, scanned)


def test_records_prepared_anew_have_another_fingerprint(toy_dir, tmp_path):
    """The labels left beside a data set are not those of the files that replace it."""
    shutil.copytree(toy_dir / "ltjax_toy", tmp_path / "ltjax_toy")
    folder = tmp_path / "ltjax_toy" / "1.0.0"
    splits = _builder(str(folder)).info.splits
    before = {name: records_fingerprint(info) for name, info in splits.items()}
    assert before["train"] != before["test"]
    (file,) = folder.glob("*train.array_record*")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    after = {name: records_fingerprint(info) for name, info in splits.items()}
    assert after["train"] != before["train"] and after["test"] == before["test"]


def test_a_damaged_record_is_named(toy_dir, tmp_path):
    shutil.copytree(toy_dir / "ltjax_toy", tmp_path / "ltjax_toy")
    (file,) = (tmp_path / "ltjax_toy" / "1.0.0").glob("*train.array_record*")
    source = load_source("tfds:ltjax_toy", "train", data_dir=tmp_path)
    data = bytearray(file.read_bytes())
    data[200:400] = bytes(200)  # within the first chunk of records
    file.write_bytes(data)
    fresh = pickle.loads(pickle.dumps(source))
    with pytest.raises(DataError, match=r"split 'train' in .*record \d+ \(0-based\)"):
        fresh.read(np.arange(12))


def test_a_damaged_image_is_named_by_its_record(toy_dir):
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.zeros((6, 6, 3), np.uint8)).save(buffer, "PNG")
    encoded = buffer.getvalue()
    reader = RecordReader(str(toy_dir), "train", "image", Sizing(4, 4), 3)
    reader.__dict__["_records"] = Records([{"image": encoded}, {"image": b""}])
    assert reader(np.array([0])).shape == (1, 4, 4, 3)
    with pytest.raises(DataError, match=r"the image of record 1 .*cannot be decoded"):
        reader(np.array([0, 1]))


def test_newest_version_is_taken(tmp_path):
    for version in ("1.9.0", "1.10.0"):
        (tmp_path / "set" / version).mkdir(parents=True)
        (tmp_path / "set" / version / "dataset_info.json").touch()
    assert find_builder_dir("set", tmp_path).name == "1.10.0"


def test_configurations_have_to_be_named(tmp_path):
    for config in ("big", "small"):
        (tmp_path / "set" / config / "1.0.0").mkdir(parents=True)
        (tmp_path / "set" / config / "1.0.0" / "dataset_info.json").touch()
    with pytest.raises(ValueError, match=r"'set/big', 'set/small'.*name one"):
        find_builder_dir("set", tmp_path)
    assert find_builder_dir("set/small", tmp_path).parent.name == "small"


def test_incomplete_files_are_refused(toy_dir, tmp_path):
    shutil.copytree(toy_dir / "ltjax_toy", tmp_path / "ltjax_toy")
    info = tmp_path / "ltjax_toy" / "1.0.0" / "dataset_info.json"
    description = json.loads(info.read_text())
    for split in description["splits"]:
        split["shardLengths"] = [str(int(split["shardLengths"][0]) + 5)]
    info.write_text(json.dumps(description))
    with pytest.raises(DataError, match=r"holds 12 records, .* says 17.*incomplete"):
        load_source("tfds:ltjax_toy", "train", data_dir=tmp_path)


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_damaged_files_are_refused(toy_dir, tmp_path, damage):
    shutil.copytree(toy_dir / "ltjax_toy", tmp_path / "ltjax_toy")
    (file,) = (tmp_path / "ltjax_toy" / "1.0.0").glob("*train.array_record*")
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="'train' cannot be opened"):
        load_source("tfds:ltjax_toy", "train", data_dir=tmp_path)
    assert len(load_source("tfds:ltjax_toy", "test", data_dir=tmp_path)) == 3


def test_other_file_formats_are_refused(toy_dir, tmp_path):
    shutil.copytree(toy_dir / "ltjax_toy", tmp_path / "ltjax_toy")
    info = tmp_path / "ltjax_toy" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DataError, match="stored as tfrecord, expected array_record"):
        load_source("tfds:ltjax_toy", "train", data_dir=tmp_path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"split": "val"}, r"no split 'val', expected one of \['test', 'train'\]"),
        ({"split": "train[:5]"}, "slices are not supported"),
        ({"input_key": "picture"}, "no feature 'picture'.*'coarse', 'image'"),
        ({"input_key": "vector", "crop": 2}, "need images, but 'vector' is Tensor"),
        ({"resize": 4, "crop": 5}, "crop 5 exceeds the shorter side 4"),
        ({"resize": 0}, "resize is 0"),
    ],
)
def test_bad_requests_are_refused(toy_dir, options, message):
    options = {"split": "train", **options}
    with pytest.raises(ValueError, match=message):
        load_source("tfds:ltjax_toy", data_dir=toy_dir, **options)


def test_missing_data_set_names_the_command(tmp_path):
    with pytest.raises(MissingDataError, match="`ltjax prepare cifar10`"):
        load_source("cifar10", data_dir=tmp_path)
