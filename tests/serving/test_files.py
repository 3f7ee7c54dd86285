"""Which files paths mean, and how inputs are read from them."""

import dataclasses
import io

import numpy as np
import PIL.Image
import pytest

from ltjax.data.readers import DataError
from ltjax.data.signature import Signature
from ltjax.serving.files import find_files, read_image, read_items, read_table

FEATURES = Signature("f", (2, 1), "float32", 3, (2, 1), (2, 1))
GRAY = Signature("g", (4, 6, 1), "uint8", 3, (2, 1), (2, 1))


def png(size, mode="L", color=100):
    data = io.BytesIO()
    PIL.Image.new(mode, size, color).save(data, "PNG")
    return data.getvalue()


def test_folders_are_searched_and_sorted_by_number(tmp_path):
    names = ["b/x10.png", "b/x9.PNG", "a.jpg", "b/c/y.webp", "b/notes.txt"]
    names += [".hidden/z.png", "b/.z.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [file.relative_to(tmp_path).as_posix() for file in find_files([tmp_path])]
    assert found == ["a.jpg", "b/c/y.webp", "b/x9.PNG", "b/x10.png"]
    # What is named comes as it is named, whatever its ending.
    named = [tmp_path / "b/x10.png", tmp_path / "b/notes.txt", tmp_path / "a.jpg"]
    assert find_files(named) == named


@pytest.mark.parametrize("suffix", ["npz", "npy", "csv", "headed.csv"])
def test_tables_of_features(tmp_path, suffix):
    inputs = np.array([[[0.5], [1.5]], [[-2.0], [3.0]], [[4.0], [1e-3]]])
    file = tmp_path / f"features.{suffix}"
    if suffix == "npz":
        np.savez(file, inputs=inputs)
    elif suffix == "npy":
        np.save(file, inputs)
    else:
        text = "0.5,1.5\n-2,3\n\n4,1e-3\n"
        file.write_text(("width,height\n" if "headed" in suffix else "") + text)
    found = read_table(file, FEATURES)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, inputs.astype(np.float32))
    names = [item.name for item in read_items([file], FEATURES)]
    assert names == [f"{file}:{row}" for row in range(3)]


def test_images_have_the_channels_of_the_training_images(tmp_path):
    (tmp_path / "color.png").write_bytes(png((6, 4), "RGB", (255, 0, 0)))
    found = read_image(tmp_path / "color.png", GRAY)
    assert found.shape == (4, 6, 1)
    assert (found == 76).all()  # ITU-R 601: 0.299 of 255


def test_images_of_any_size_are_refused_where_training_did_not_resize(tmp_path):
    (tmp_path / "tall.png").write_bytes(png((4, 6)))
    (tmp_path / "right.png").write_bytes(png((6, 4)))
    first, second = read_items([tmp_path / "tall.png", tmp_path / "right.png"], GRAY)
    assert isinstance(first.value, DataError)
    assert "tall.png has 6x4 pixels, expected 4x6 (height x width)" in str(first.value)
    assert np.asarray(second.value).shape == (4, 6, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3,4,5\n", r"row 2 has 3 columns, expected 2, one for each feature"),
        ("a,b\n1,x\n", "row 2 has 'x', expected 2 numbers"),
        ("1,2,cat\n3,4,dog\n", "row 2 has 'dog', expected 2 numbers and nothing else"),
    ],
)
def test_rows_that_are_not_features(tmp_path, text, message):
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "f.csv", FEATURES)


NAMED = dataclasses.replace(FEATURES, features=("width", "height"))


def test_features_with_names_are_taken_by_name(tmp_path):
    file = tmp_path / "f.csv"
    file.write_text("height,species,width\n1,cat,2\n3,,4\n")
    assert read_table(file, NAMED)[..., 0].tolist() == [[2, 1], [4, 3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1,2\n3,4\n",
            r"no column 'width'.* line is \['1', '2'\], expected width",
        ),
        ("widht,height\n1,2\n", "no column 'width'; did you mean 'widht'"),
        ("height,width\n1\n", "row 2 has 1 cells, expected 2"),
    ],
)
def test_tables_without_those_names(tmp_path, text, message):
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "f.csv", NAMED)


def test_arrays_of_another_shape_or_dtype(tmp_path):
    np.save(tmp_path / "f.npy", np.zeros((3, 5)))
    expected = r"shape \(3, 5\) .* expected \[N, 2, 1\] of float32"
    with pytest.raises(DataError, match=expected):
        read_table(tmp_path / "f.npy", FEATURES)
    # Bytes are pixels, which the network of a float source would take for features.
    np.save(tmp_path / "f.npy", np.zeros((3, 2, 1), np.uint8))
    with pytest.raises(DataError, match=r"dtype uint8, expected .* float32"):
        read_table(tmp_path / "f.npy", FEATURES)
    np.save(tmp_path / "f.npy", np.zeros((3, 4, 6, 1)))
    with pytest.raises(DataError, match=r"dtype float64, expected .* of uint8"):
        read_table(tmp_path / "f.npy", GRAY)
    np.save(tmp_path / "f.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match="f.npy is not a .npy file: Object arrays"):
        read_table(tmp_path / "f.npy", FEATURES)


def test_an_array_that_claims_more_than_is_there_asks_for_no_memory(tmp_path):
    file = tmp_path / "huge.npy"
    np.save(file, np.zeros((3, 2), np.float32))
    content = file.read_bytes()
    huge = content.replace(b"(3, 2), }    ", b"(9999999999,)")
    assert len(huge) == len(content) and huge != content
    for damaged in (huge, content.replace(b"}", b"("), content.replace(b"<f4", b"|O ")):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match="huge.npy is not a .npy file"):
            read_table(file, FEATURES)
