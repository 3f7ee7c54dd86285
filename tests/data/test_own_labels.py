"""Your own data with missing labels, candidates and clean labels, of every kind."""

import numpy as np
import pytest

from ltjax.data import DataError
from ltjax.data.components import DATA
from ltjax.options import read


def chosen(name, **options):
    found, faults = read("data", {"name": name, **options}, DATA)
    assert not faults
    return found


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def rows(path, header, *lines):
    return write(path, "\n".join([header, *lines]) + "\n")


def test_an_empty_label_is_that_of_an_unlabelled_example(tmp_path):
    file = rows(
        tmp_path / "x.csv",
        "x,label,truth",
        *(f"{k},{'' if k % 5 else 'ab'[k % 2]},{'ab'[k % 2]}" for k in range(20)),
    )
    data = chosen(f"table:{file}")
    train, test = data.make("train"), data.make("test")
    # Rows 0, 5, 10, 15 have a label; one of each class is split off.
    assert len(train) == 18 and len(train.bare) == 16
    assert train.shape == (1,)  # the truth is no feature
    assert train.class_counts.tolist() == [1, 1]
    np.testing.assert_array_equal(train.truth, train.origin % 2)
    assert sorted(test.labels) == [0, 1] and test.columns == {}
    assert set(test.origin) <= {0, 5, 10, 15}
    other = rows(tmp_path / "y.csv", "x,label", "1,a", "2,", "3,b")
    with pytest.raises(DataError, match=r"test: example 1 \(0-based\) has no known"):
        chosen(f"table:{file}", test=str(other)).make("test")


@pytest.mark.parametrize(
    ("header", "lines"),
    [
        ("x,label,truth", ("1,b|a,a", "2,a,a", "3,b|c,b", "4,c,c")),
        ("x,candidates,label", ("1,a|b,a", "2,a,a", "3,c|b,b", "4,c,c")),
        ("a,b,c,x,truth", ("1,1,0,1,a", "1,0,0,2,a", "0,1,1,3,b", "0,0,1,4,c")),
    ],
    ids=["label", "candidates", "indicators"],
)
def test_candidates_are_names_or_columns(header, lines, tmp_path):
    label = "a,b,c" if header.startswith("a") else ""
    file = rows(tmp_path / "x.csv", header, *lines)
    test = rows(tmp_path / "t.csv", "x,label", "1,b", "2,a")
    data = chosen(f"table:{file}", test=str(test), label=label, candidates=True)
    train = data.make("train")
    expected = [[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert train.columns["candidates"].astype(int).tolist() == expected
    assert train.truth.tolist() == [0, 0, 1, 2] and (train.labels == -1).all()
    assert train.read(np.arange(4)).tolist() == [[1.0], [2.0], [3.0], [4.0]]
    with pytest.warns(UserWarning, match="1 of 3 classes have no example"):
        assert data.make("test").labels.tolist() == [1, 0]
    assert data.facts.hidden and data.facts.columns == ("candidates",)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("x,candidates\n1,a|b\n2,b|a\n", {}, "no label column"),
        ("x,candidates,y\n1,a|b,a\n2,b,b\n", {}, "candidates of which one is the lab"),
        ("x,label\n1,a|b\n2,\n", {"candidates": True}, r"row 1 \(0-based\) has no lab"),
        ("x,label,truth\n1,a|b,c\n2,a,a\n", {"candidates": True}, "is 'c', which no"),
        (
            "x,label,truth\n1,a|b,a\n2,b|c,a\n3,c,c\n",
            {"candidates": True},
            r"candidates of example 1 are \[1, 2\], expected its true label 0",
        ),
        ("x,label,truth\n1,a,a\n2,b,\n", {}, "'truth': label 1 is missing"),
        ("x,label\n1,\n2,\n", {}, "label 0 is missing"),
    ],
)
def test_tables_whose_labels_do_not_fit(text, options, message, tmp_path):
    file = write(tmp_path / "x.csv", text)
    with pytest.raises(DataError, match=message):
        chosen(f"table:{file}", **options).make("train")


def test_no_class_can_be_tested_without_known_labels(tmp_path):
    file = rows(tmp_path / "x.csv", "x,label", "1,a|b", "2,b|a", "3,a", "4,b")
    data = chosen(f"table:{file}", candidates=True)
    assert len(data.make("train")) == 4
    with pytest.raises(DataError, match="no class has two whose label is known; expec"):
        data.make("test")


def test_arrays_with_missing_labels_and_candidates(tmp_path):
    inputs, labels = np.arange(24.0).reshape(12, 2), np.arange(12) % 3
    some = np.where(np.arange(12) < 6, labels, -1)
    one = tmp_path / "one.npz"
    np.savez(one, inputs=inputs, labels=some, truth=labels)
    train, test = (chosen(f"npz:{one}").make(split) for split in ("train", "test"))
    assert train.class_counts.tolist() == [1, 1, 1] and len(train.bare) == 6
    np.testing.assert_array_equal(train.truth, train.origin % 3)
    assert sorted(test.labels) == [0, 1, 2] and (test.origin < 6).all()
    words = np.array(["cat", "", "ant", "cat"])
    np.savez(one, inputs=inputs[:4], labels=words)
    found = chosen(f"npz:{one}", test=str(one)).make("train")
    assert found.labels.tolist() == [1, -1, 0, 1]
    hot = np.eye(3, dtype=np.int64)
    sets = hot[labels] | hot[(labels + 1) % 3]
    np.savez(one, inputs=inputs, candidates=sets, labels=labels)
    data = chosen(f"npz:{one}", candidates=True)
    train, test = data.make("train"), data.make("test")
    assert train.columns["candidates"].dtype == bool and (train.labels == -1).all()
    np.testing.assert_array_equal(train.truth, train.origin % 3)
    assert sorted(test.labels) == [0, 1, 2] and test.columns == {}
    np.savez(one, inputs=inputs, candidates=sets)
    assert "truth" not in data.make("train").columns
    with pytest.raises(DataError, match="has candidate sets, but config.data.candidat"):
        chosen(f"npz:{one}").make("train")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": [0, 1, 0, 1]}, "has no candidate sets, but config.data.candidates"),
        ({"candidates": np.ones((3, 2), bool)}, r"shape \(3, 2\), expected .*\[4, K\]"),
        ({"candidates": np.full((4, 2), 0.5)}, "dtype float64 .*true and false"),
        (
            {"candidates": np.ones((4, 2), bool), "labels": [0, -1, 1, 0]},
            "label 1 is -1, but others are classes",
        ),
        (
            {"candidates": np.ones((4, 2), bool), "labels": ["a", "b", "a", "b"]},
            "labels are words, .*expected an array 'class_names'",
        ),
        ({"candidates": np.eye(4, 2).astype(bool)}, "example 2 has an empty candidat"),
        ({"labels": [0, -2, 1, 0]}, r"labels\[1\] is -2, expected .*or -1 for none"),
    ],
)
def test_arrays_whose_labels_do_not_fit(arrays, message, tmp_path):
    file = tmp_path / "x.npz"
    np.savez(file, inputs=np.ones((4, 3)), **arrays)
    with pytest.raises(DataError, match=message):
        chosen(f"npz:{file}", candidates="-2" not in message).make("train")


def test_a_folder_of_images_without_a_class(photos, tmp_path, save_picture):
    save_picture(photos / "Unlabelled" / "1.png")
    pixels = save_picture(photos / "Unlabelled" / "more" / "2.png")
    train = chosen(f"folder:{photos}").make("train")
    assert train.class_names == ("class 2", "class 10", "Ärger")
    assert train.class_counts.tolist() == [4, 3, 1] and len(train.bare) == 2
    np.testing.assert_array_equal(train.read(train.bare)[1], pixels)
    assert len(chosen(f"folder:{photos}").make("test").bare) == 0
    # Beside the splits it is that of training.
    whole = tmp_path / "whole"
    whole.mkdir()
    (photos / "Unlabelled").rename(whole / "unlabeled")
    photos.rename(whole / "train")
    save_picture(whole / "test" / "class 2" / "x.png")
    data = chosen(f"folder:{whole}")
    np.testing.assert_array_equal(data.make("train").read([11])[0], pixels)
    with pytest.warns(UserWarning):
        assert data.make("test").labels.tolist() == [0]
    (whole / "unlabeled" / "class 2").mkdir()
    with pytest.raises(DataError, match="'class 2', which is a class: images there wo"):
        data.make("train")
    (whole / "unlabeled" / "class 2").rmdir()
    (whole / "train" / "unlabelled").mkdir()
    with pytest.raises(DataError, match="both hold images without a class"):
        data.make("train")
