"""Data sets by name: .npz files, the catalogue, data directories."""

import io
import zipfile

import numpy as np
import pytest

from ltjax.data import (
    DATASETS,
    DataError,
    MissingDataError,
    find_dataset,
    load_source,
    resolve_data_dir,
)

INPUTS = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
LABELS = np.array([0, 2, 1, 1, 0, 2])


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
