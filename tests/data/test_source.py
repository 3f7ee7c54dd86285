"""The source contract, arrays and .npz files, names and data directories."""

import dataclasses
import io
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from ltjax.data import (
    DATASETS,
    DataError,
    MissingDataError,
    Source,
    array_source,
    find_dataset,
    load_source,
    resolve_data_dir,
)

INPUTS = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
LABELS = np.array([0, 2, 1, 1, 0, 2])


@pytest.fixture
def source():
    return array_source(INPUTS, LABELS, class_names=("a", "b", "c"))


def test_importing_the_package_imports_no_reader_library():
    code = (
        "import sys, ltjax.data.feed, ltjax.data.augment, ltjax.data.prepare\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'grain', 'PIL', 'mnist1d',"
        " 'absl', 'matplotlib'}\nassert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_contract(source):
    assert len(source) == 6 and source.num_classes == 3
    assert source.shape == (2, 2) and source.dtype == np.float32
    assert source.labels.dtype == np.int32
    assert source.class_counts.tolist() == [2, 2, 2]
    assert np.array_equal(source.read([4, 0, 4]), INPUTS[[4, 0, 4]])
    assert source.read(np.zeros(0, int)).shape == (0, 2, 2)


def test_reading_returns_a_copy(source):
    source.read([0])[:] = 7
    assert np.array_equal(source.read([0]), INPUTS[:1])


def test_select_composes_and_remembers_where_examples_come_from(source):
    once = source.select([5, 1, 3, 0])
    twice = once.select([2, 0])
    assert twice.origin.tolist() == [3, 5] and twice.labels.tolist() == [1, 2]
    assert np.array_equal(twice.read([1, 0]), INPUTS[[5, 3]])
    assert twice.num_classes == 3 and twice.class_counts.tolist() == [0, 1, 1]


def test_fingerprint_tells_selections_and_labels_apart(source):
    prints = {
        source.fingerprint,
        source.select([0, 1]).fingerprint,
        source.select([1, 0]).fingerprint,
        array_source(INPUTS, LABELS[::-1]).fingerprint,
        array_source(INPUTS, LABELS, name="other").fingerprint,
    }
    assert len(prints) == 5
    again = array_source(INPUTS, LABELS, class_names=("a", "b", "c"))
    assert source.select(np.arange(6)).fingerprint == again.fingerprint
    assert len(source.fingerprint) == 16


def test_sources_can_be_pickled(source):
    copy = pickle.loads(pickle.dumps(source.select([3, 1])))
    assert np.array_equal(copy.read([0, 1]), INPUTS[[3, 1]])
    assert copy.fingerprint == source.select([3, 1]).fingerprint


def test_float64_becomes_float32():
    assert array_source(INPUTS.astype(np.float64), LABELS).dtype == np.float32


def reader_of(shape, dtype):
    return lambda positions: np.zeros((len(positions), *shape), dtype)


def masked(targets):
    return lambda source: dataclasses.replace(source, columns={"targets": targets})


@pytest.mark.parametrize(
    "build, kind, message",
    [
        (
            lambda s: array_source(INPUTS[:5], LABELS),
            DataError,
            r"shape \(5, 2, 2\), but there are 6 labels",
        ),
        (lambda s: array_source(INPUTS, LABELS * 1.0), TypeError, "labels.*float64"),
        (lambda s: array_source(INPUTS, LABELS[:, None]), TypeError, r"\(6, 1\)"),
        (
            lambda s: array_source(INPUTS.astype(int), LABELS),
            TypeError,
            "dtype int64, expected uint8 or floating",
        ),
        (
            lambda s: array_source(INPUTS, LABELS, num_classes=2),
            ValueError,
            r"\[0, 2\), but labels\[1\] is 2",
        ),
        (lambda s: array_source(INPUTS, LABELS - 1), ValueError, r"labels\[0\] is -1"),
        (
            lambda s: array_source(INPUTS[:0], LABELS[:0]),
            DataError,
            "there are no examples",
        ),
        (
            lambda s: array_source(INPUTS, LABELS, class_names=("a",)),
            ValueError,
            "1 class names for 3 classes",
        ),
        (
            masked(np.zeros((6, 2, 3), np.uint8)),
            DataError,
            "masks have 2 x 3 pixels, but the images 2 x 2, expected the same",
        ),
        (
            masked(np.arange(24, dtype=np.uint8).reshape(6, 2, 2) // 20 * 7),
            DataError,
            r"mask of example 5 has a pixel of class 7, expected \[0, 3\) or 255",
        ),
        (masked(np.zeros((6, 2, 2))), DataError, "masks have dtype float64, expected"),
        (lambda s: s.read([0, 6]), IndexError, r"indices\[1\] is 6, expected \[0, 6\)"),
        (lambda s: s.read([-1]), IndexError, r"indices\[0\] is -1"),
        (lambda s: s.read([0.0]), TypeError, "float64"),
        (lambda s: s.read(3), ValueError, r"shape \(\)"),
        (lambda s: s.select([1, 4, 2, 4]), ValueError, "index 4 more than once"),
        (lambda s: s.select(np.zeros(0, int)), DataError, "no examples"),
        (
            lambda s: Source(
                "x", LABELS, 3, (2,), np.uint8, reader_of((3,), np.uint8)
            ).read([0]),
            DataError,
            r"read uint8 \(1, 3\), expected uint8 \(1, 2\)",
        ),
        (
            lambda s: Source(
                "x", LABELS, 3, (2,), np.uint8, reader_of((2,), np.float32)
            ).read([0]),
            DataError,
            r"read float32 \(1, 2\), expected uint8",
        ),
    ],
)
def test_bad_sources_and_requests_are_refused(source, build, kind, message):
    with pytest.raises(kind, match=message):
        build(source)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite_are_refused(value):
    bad = INPUTS.copy()
    bad[3, 1, 0] = bad[4] = value
    with pytest.raises(DataError, match=r"input 3 is not finite \(2 such"):
        array_source(bad, LABELS)
    lazy = Source("x", LABELS, 3, (2, 2), np.float32, lambda rows: bad[rows])
    with pytest.raises(DataError, match=r"input 4 is not finite \(1 such"):
        lazy.read([0, 4, 1])
    assert lazy.select([4, 1]).read([1]).shape == (1, 2, 2)


def test_empty_classes_are_reported():
    with pytest.warns(
        UserWarning, match="2 of 5 classes have no example, e.g. class 3"
    ):
        array_source(INPUTS, LABELS, num_classes=5)


@pytest.fixture
def npz_dir(tmp_path):
    images = np.arange(6 * 12, dtype=np.uint8).reshape(6, 2, 2, 3)
    np.savez(tmp_path / "toy_train.npz", images=images, labels=LABELS)
    np.savez(tmp_path / "toy_test.npz", inputs=INPUTS, labels=LABELS)
    np.savez(tmp_path / "short.npz", inputs=INPUTS[:4], labels=LABELS)
    np.savez(tmp_path / "nameless.npz", INPUTS, LABELS)
    np.savez(tmp_path / "pickled.npz", inputs=np.array([{}] * 6), labels=LABELS)
    whole = (tmp_path / "toy_test.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def test_npz(npz_dir, monkeypatch):
    source = load_source("npz:toy_{split}.npz", "train", data_dir=npz_dir)
    assert source.shape == (2, 2, 3) and source.dtype == np.uint8
    assert source.read([1])[0, 0, 0].tolist() == [12, 13, 14]
    absolute = load_source(f"npz:{npz_dir}/toy_test.npz", "test", num_classes=3)
    assert np.array_equal(absolute.read(np.arange(6)), INPUTS)
    monkeypatch.setenv("LTJAX_DATA_DIR", str(npz_dir))
    assert len(load_source("npz:toy_test.npz")) == 6


@pytest.mark.parametrize("folder", ["{run}", "exp{1}", "{", "{{x}}", "{split"])
def test_braces_in_a_folder_are_its_name(tmp_path, folder):
    (tmp_path / folder).mkdir()
    np.savez(tmp_path / folder / "toy_test.npz", inputs=INPUTS, labels=LABELS)
    source = load_source(f"npz:{tmp_path}/{folder}/toy_{{split}}.npz", "test")
    assert len(source) == 6


def test_flipped_bytes_in_a_npz_are_reported_with_its_name(tmp_path):
    file = tmp_path / "bad.npz"
    np.savez_compressed(file, inputs=INPUTS, labels=LABELS)
    good, rng = file.read_bytes(), np.random.default_rng(0)
    outcomes = set()
    for _ in range(60):
        data = bytearray(good)
        for at in rng.integers(0, len(data), 2):
            data[at] = rng.integers(256)
        file.write_bytes(data)
        try:
            load_source(f"npz:{file}")
            outcomes.add("loaded")
        except (DataError, TypeError, ValueError) as error:
            assert "bad.npz" in str(error), error
            outcomes.add("refused")
    assert "refused" in outcomes


def npy(shape, data):
    """An array file whose header says float64 of `shape`, whatever is in it."""
    buffer = io.BytesIO()
    description = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue() + data


@pytest.mark.parametrize("shape", [(10**12,), (2, 3), (0, 10**9, 10**9)])
def test_a_member_is_not_larger_than_it_says(tmp_path, shape):
    file = tmp_path / "liar.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("inputs.npy", npy(shape, bytes(32)))
        archive.writestr("labels.npy", npy((4,), bytes(32)))
    with pytest.raises(DataError, match=r"liar\.npz is damaged: 'inputs' claims"):
        load_source(f"npz:{file}")


def test_labels_of_a_npz_that_are_no_classes(tmp_path):
    for labels, kind, message in (
        (np.array([0, 1, 2**32, 1, 0, 2]), ValueError, r"labels\[2\] is 4294967296"),
        (np.array([0, 1, 2**31 - 1, 1, 0, 2]), ValueError, "pass num_classes"),
        (LABELS.astype(object), ValueError, r"odd\.npz holds 'labels' of dtype object"),
        (LABELS.astype(complex), TypeError, r"odd\.npz: labels is dtype complex"),
    ):
        np.savez(tmp_path / "odd.npz", inputs=INPUTS, labels=labels)
        with pytest.raises(kind, match=message):
            load_source(f"npz:{tmp_path}/odd.npz")


@pytest.mark.parametrize(
    "name, message",
    [
        ("short", r"inputs have shape \(4, 2, 2\), but there are 6 labels"),
        ("nameless", r"\['arr_0', 'arr_1'\], expected 'inputs'"),
        ("pickled", r"pickled\.npz holds 'inputs' of dtype object, expected numbers"),
        ("absent", "there is no file"),
        ("cut", r"cut\.npz is not an \.npz archive, or it is damaged"),
    ],
)
def test_bad_npz_files_are_refused(npz_dir, name, message):
    with pytest.raises(ValueError, match=message):
        load_source(f"npz:{name}.npz", data_dir=npz_dir)


def test_data_directory(monkeypatch):
    monkeypatch.setenv("LTJAX_DATA_DIR", "/from/environment")
    assert resolve_data_dir("/argument") == "/argument"
    assert resolve_data_dir(None) == "/from/environment"
    monkeypatch.delenv("LTJAX_DATA_DIR")
    with pytest.raises(MissingDataError, match="set LTJAX_DATA_DIR"):
        load_source("cifar10")


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: load_source("cifar-10"), ValueError, "did you mean 'cifar10'"),
        (lambda: load_source("npz:"), ValueError, "unknown data set 'npz:'"),
        (
            lambda: load_source("mnist1d", "val"),
            ValueError,
            "'val', expected 'train' or 'test'",
        ),
        (
            lambda: load_source("mnist1d", list_file="x.txt"),
            TypeError,
            "no option 'list_file'",
        ),
        (
            lambda: load_source("cifar10", size=3),
            TypeError,
            r"no option 'size', expected \['crop', 'input_key', 'label_key', 'resize",
        ),
        (lambda: load_source("folder"), TypeError, "needs the option 'list_file'"),
    ],
)
def test_bad_names_and_options_are_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_catalog_is_consistent():
    for name, dataset in DATASETS.items():
        assert find_dataset(name) is dataset
        assert (dataset.mean is None) == (dataset.std is None)
        if dataset.mean is not None:
            assert len(dataset.mean) == len(dataset.std)
    assert DATASETS["cifar100"].mean == DATASETS["cifar10"].mean
    assert DATASETS["imagenet_lt"].mean == (0.485, 0.456, 0.406)
    assert DATASETS["inaturalist18"].std == (0.195, 0.194, 0.192)
    sizes = {name: dataset.num_classes for name, dataset in DATASETS.items()}
    assert sizes["places_lt"] == 365 and sizes["i_naturalist2018"] == 8142


def test_data_sets_of_other_projects(npz_dir):
    mine = DATASETS["folder"]._replace(
        open=lambda split, **options: find_dataset("npz:x").open(
            split, path=f"{npz_dir}/toy_{split}.npz"
        ),
        mean=(0.1,),
        std=(0.2,),
    )
    source = load_source("mine", "test", datasets={**DATASETS, "mine": mine})
    assert source.name == "mine" and source.mean == (0.1,) and len(source) == 6
