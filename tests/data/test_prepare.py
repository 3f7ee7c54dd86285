"""Preparing: what is left behind, and messages where it cannot work."""

import numpy as np
import pytest

from ltjax.data import DataError
from ltjax.data.prepare import main, prepare


def test_prepared_folder_holds_records_and_labels(toy_dir):
    folder = toy_dir / "ltjax_toy" / "1.0.0"
    assert list(folder.glob("*.array_record-*"))
    with np.load(folder / "ltjax-test-label.npz") as stored:
        assert sorted(stored["labels"].tolist()) == [0, 1, 2]


def test_preparing_again_changes_nothing(toy_dir):
    files = sorted(toy_dir.rglob("*"))
    before = [file.stat().st_mtime_ns for file in files if file.is_file()]
    assert prepare("tfds:ltjax_toy", toy_dir) == str(toy_dir / "ltjax_toy" / "1.0.0")
    assert sorted(toy_dir.rglob("*")) == files
    assert [file.stat().st_mtime_ns for file in files if file.is_file()] == before


@pytest.mark.parametrize(
    "failure, message",
    [
        (ConnectionError("no route to host"), "no route to host.*offline"),
        (
            ModuleNotFoundError(name="tensorflow"),
            "needs tensorflow to encode 'cifar10'",
        ),
        (AssertionError("register and download by hand"), "download by hand"),
    ],
)
def test_failures_are_explained(monkeypatch, tmp_path, capsys, failure, message):
    import tensorflow_datasets as tfds

    class Offline:
        def download_and_prepare(self):
            raise failure

    monkeypatch.setattr(tfds, "builder", lambda name, **options: Offline())
    with pytest.raises(DataError, match=message):
        prepare("cifar10", tmp_path)
    assert main(["cifar10", "--data_dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: prepare: ")


@pytest.mark.parametrize(
    "name, message",
    [
        ("mnist1d", "is generated, nothing to prepare"),
        ("npz:data.npz", "is a file of yours, nothing to prepare"),
        ("imagenet_lt", r"by hand.*ImageNet_LT_train\.txt.*DATA_DIR/imagenet_lt"),
        ("folder", "one line per image"),
        ("cifar11", "did you mean 'cifar10'"),
        ("tfds:no_such_set", "TFDS knows no data set 'no_such_set'"),
    ],
)
def test_names_that_cannot_be_prepared(tmp_path, capsys, name, message):
    with pytest.raises(ValueError, match=message):
        prepare(name, tmp_path)
    assert main([name, "--data_dir", str(tmp_path)]) == 1
    assert "error: " in capsys.readouterr().err


def test_command_line_reports_the_folder(toy_dir, capsys):
    assert main(["tfds:ltjax_toy", "--data_dir", str(toy_dir)]) == 0
    assert capsys.readouterr().out.endswith("ltjax_toy/1.0.0\n")
