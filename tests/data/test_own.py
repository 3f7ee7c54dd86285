"""Your own data: folders, tables, arrays and data sets, and the split of each."""

import logging

import numpy as np
import PIL.Image
import pytest

from ltjax.data import DataError, MissingDataError, own
from ltjax.data.class_folders import list_classes, open_class_folder
from ltjax.data.class_labels import encode_labels, natural_key
from ltjax.data.components import DATA
from ltjax.data.image_sizes import image_sizes
from ltjax.data.items import item_contents, pair_contents
from ltjax.data.table_files import frame_columns, read_columns
from ltjax.data.tables import find_layout, table_contents
from ltjax.options import read


def chosen(name, **options):
    found, faults = read("data", {"name": name, **options}, DATA)
    assert not faults
    return found


# --- Labels


def test_numbers_in_names_are_sorted_by_value():
    names = ["b10", "b9", "B1", "a", "b9x2", "b9x10", "10", "9"]
    assert sorted(names, key=natural_key) == [
        *("9", "10", "a", "B1", "b9", "b9x2", "b9x10"),
        "b10",
    ]


@pytest.mark.parametrize(
    ("values", "numbers", "names"),
    [
        (["b", "a", " b "], [1, 0, 1], ("a", "b")),
        ([7, -1, 7, 30], [1, 0, 1, 2], ("-1", "7", "30")),
        ([1.0, 0.0, 1.0], [1, 0, 1], ("0", "1")),
        ([True, False, True], [1, 0, 1], ("false", "true")),
        ([b"y", b"x"], [1, 0], ("x", "y")),
    ],
)
def test_labels_become_indices_with_names(values, numbers, names):
    found, known = encode_labels("test", np.asarray(values).tolist())
    assert found.tolist() == numbers and known == names


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 1, 0], "label 0 is 0.5, expected a class"),
        (["a", "", "b"], "label 1 is missing"),
        (["a", None, "b"], "label 1 is missing"),
        ([0.0, float("nan")], "label 1 is missing"),
        ([3, 1, 4, 5, 9, 2], "6 labels hold 6 different ones, such as '3'"),
        ([], "there are no labels"),
    ],
)
def test_labels_that_are_no_classes(values, message):
    with pytest.raises(DataError, match=message):
        encode_labels("test", values)


# --- The split


def test_the_split_is_stratified_and_seeded():
    # 0.2 of 10, 7, 3, 2, 1: 2, 1.4, 0.6, 0.4, 0.2, rounded, at least one, not all.
    labels = np.repeat(np.arange(5), [10, 7, 3, 2, 1])
    first, second = own.split_off(labels, 5, share=0.2, seed=0)
    assert np.bincount(labels[second], minlength=5).tolist() == [2, 1, 1, 1, 0]
    assert sorted([*first, *second]) == list(range(23))
    again = own.split_off(labels, 5, share=0.2, seed=0)
    other = own.split_off(labels, 5, share=0.2, seed=1)
    assert again[1].tolist() == second.tolist() != other[1].tolist()
    # A large share leaves an example of each class to train on.
    first, _ = own.split_off(labels, 5, share=0.99, seed=0)
    assert np.bincount(labels[first]).tolist() == [1, 1, 1, 1, 1]


def test_a_split_is_made_where_there_is_none(photos, caplog):
    caplog.set_level(logging.INFO)
    data = chosen(f"folder:{photos}")
    train, test = data.make("train"), data.make("test")
    assert train.class_counts.tolist() == [4, 3, 1]
    assert test.class_counts.tolist() == [1, 1, 0]
    assert not set(train.origin) & set(test.origin)
    assert "no test data: 20 % of each class (2 of 10 examples)" in caplog.text
    assert "1 class(es) with one example stay in training: Ärger" in caplog.text
    assert len(chosen(f"folder:{photos}", test_share=0.5).make("test")) == 4
    other = chosen(f"folder:{photos}", subset_seed=1).make("test")
    assert other.origin.tolist() != test.origin.tolist()
    with pytest.raises(MissingDataError, match="has no split 'tset', expected one of"):
        chosen(f"folder:{photos}").make("tset")


# --- Folders


def test_folders_are_classes_in_natural_order(photos, caplog, save_picture):
    listing = list_classes(photos)
    assert listing.names == ("class 2", "class 10", "Ärger")
    assert np.bincount(listing.labels).tolist() == [5, 4, 1]
    assert listing.paths[0] == "class 2/0.png" and listing.other == {".txt": 1}
    data = chosen(f"folder:{photos}")
    source = data.make("train")
    save_picture(photos / "loose.png")
    data.make("test")
    assert "not used, no images of a class: 1 .txt, 1 images" in caplog.text
    assert source.class_names == listing.names and source.shape == (6, 8, 3)


def test_folders_of_splits(photos, tmp_path, caplog, save_picture):
    whole = tmp_path / "whole"
    whole.mkdir()
    photos.rename(whole / "Train")
    save_picture(whole / "validation" / "class 10" / "x.png")
    data = chosen(f"folder:{whole}")
    assert len(data.make("train")) == 10
    # The only other split serves as the test; labels are those of training.
    with pytest.warns(UserWarning, match="2 of 3 classes have no example"):
        test = data.make("test")
    assert test.labels.tolist() == [1] and test.class_names[1] == "class 10"
    assert f"{whole / 'validation'} is the test split" in caplog.text
    save_picture(whole / "test" / "class 2" / "x.png")
    with pytest.warns(UserWarning):
        assert data.make("test").labels.tolist() == [0]
        assert data.make("val").labels.tolist() == [1]
    given = tmp_path / "given"
    save_picture(given / "Ärger" / "y.png")
    with pytest.warns(UserWarning):
        other = chosen(f"folder:{whole}", test=str(given)).make("test")
    assert other.labels.tolist() == [2]
    save_picture(given / "klass 2" / "y.png")
    with pytest.raises(DataError, match="'klass 2', which is not a class of.*mean 'cl"):
        chosen(f"folder:{whole}", test=str(given)).make("test")


def test_images_as_cameras_and_programs_write_them(tmp_path, save_picture):
    """EXIF, CMYK, transparency, 16 bits: as a viewer shows them."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    save_picture(tmp_path / "a" / "1.jpg", size=(6, 8), exif=exif, quality=95)
    save_picture(tmp_path / "a" / "2.jpg", size=(8, 6), mode="CMYK", quality=95)
    clear = PIL.Image.new("RGBA", (6, 8), (0, 0, 0, 0))
    clear.save(tmp_path / "a" / "3.png")
    (tmp_path / "b").mkdir()
    deep = np.full((8, 6), 257 * 100, np.uint16)
    PIL.Image.fromarray(deep).save(tmp_path / "b" / "4.png")
    sizes = image_sizes(str(tmp_path), list_classes(tmp_path).paths)
    assert sizes == ((8, 6), (8, 6), 4) and sizes.equal
    contents = open_class_folder(tmp_path)
    images = contents.reader(np.arange(4))
    assert images.shape == (4, 8, 6, 3)
    assert images[2].min() == 255  # nothing on white
    assert np.unique(images[3]).tolist() == [100]


def test_images_that_no_network_can_see(tmp_path, save_picture):
    save_picture(tmp_path / "a" / "1.png")
    frames = [PIL.Image.new("L", (6, 8), k) for k in (0, 200)]
    (tmp_path / "b").mkdir()
    frames[0].save(tmp_path / "b" / "2.gif", save_all=True, append_images=frames[1:])
    contents = open_class_folder(tmp_path)
    with pytest.raises(DataError, match=r"2\.gif is animated or has pages \(2 frames"):
        contents.reader(np.array([1]))
    with pytest.raises(DataError, match=r"1 image.*2\.gif is animated"):
        image_sizes(str(tmp_path), list_classes(tmp_path).paths)
    (tmp_path / "b" / "2.gif").write_bytes(b"GIF89a")
    (tmp_path / "b" / "3.png").write_text("<html>404</html>")
    with pytest.raises(DataError, match=r"2 image.s. cannot be used; .*2\.gif.*3\.png"):
        image_sizes(str(tmp_path), list_classes(tmp_path).paths)


def test_folders_that_are_no_data_set(tmp_path, save_picture):
    with pytest.raises(MissingDataError, match="no folder .*potos; did you mean 'phot"):
        (tmp_path / "photos").mkdir()
        chosen(f"folder:{tmp_path / 'potos'}").make("train")
    with pytest.raises(DataError, match="has 0 folder.s., expected one per class"):
        list_classes(tmp_path / "photos")
    save_picture(tmp_path / "photos" / "photos" / "a" / "1.png")
    save_picture(tmp_path / "photos" / "photos" / "b" / "1.png")
    with pytest.raises(
        DataError, match=r"has 1 folder.*did you mean .*photos/photos\?"
    ):
        list_classes(tmp_path / "photos")
    (tmp_path / "photos" / "photos" / "c").mkdir()
    with pytest.raises(DataError, match=r"photos/c holds no image \(1 of 3 classes"):
        list_classes(tmp_path / "photos" / "photos")
    file = tmp_path / "file.png"
    save_picture(file)
    with pytest.raises(DataError, match=r"file\.png is a file, expected a folder"):
        chosen(f"folder:{file}").make("train")


# --- Tables

CSV = "id;width;Class;sky\n1;0.5;b;1\n2;1.5;a;0\n3;2.5;b;1\n4;3;a;0\n"


def write(path, text=CSV):
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_a_csv_with_the_label_found(tmp_path, caplog):
    file = write(tmp_path / "data.csv")
    data = chosen(f"table:{file}", test=str(file))
    source = data.make("train")
    assert source.class_names == ("a", "b") and source.labels.tolist() == [1, 0, 1, 0]
    assert source.read([0, 3]).tolist() == [[0.5, 1.0], [3.0, 0.0]]
    assert not caplog.records
    data.make("test")
    assert "the columns ['id'] are not used" in caplog.text
    split = chosen(f"table:{file}", label="sky").make("train")
    # Named, another column takes its place; words are no features.
    assert split.class_names == ("0", "1") and split.shape == (1,)


def test_parquet_and_frames_are_read_like_csv(tmp_path):
    import pandas as pd

    file = write(tmp_path / "data.csv")
    frame = pd.read_csv(file, sep=";")
    frame["Class"] = frame["Class"].astype("category")
    frame.to_parquet(tmp_path / "data.parquet")
    expected = chosen(f"table:{file}").make("train")
    stored = chosen(f"table:{tmp_path / 'data.parquet'}").make("train")
    columns = frame_columns(frame)
    framed = table_contents("frame", columns, find_layout("frame", columns))
    assert stored.class_names == framed.class_names == expected.class_names
    assert stored.labels.tolist() == expected.labels.tolist()
    rows = np.arange(len(expected))
    np.testing.assert_array_equal(stored.read(rows), expected.read(rows))
    assert framed.reader(np.array([1])).tolist() == [[1.5, 0.0]]


def test_a_table_of_image_paths(tmp_path, save_picture):
    pixels = save_picture(tmp_path / "images" / "a 1.png")
    save_picture(tmp_path / "images" / "b.png", size=(9, 12))
    file = write(
        tmp_path / "list.csv", "file,label\nimages/a 1.png,cat\nimages/b.png,dog\n"
    )
    contents = chosen(f"table:{file}", test=str(file)).make("train")
    assert contents.shape == (6, 8, 3) and contents.class_names == ("cat", "dog")
    np.testing.assert_array_equal(contents.read([0])[0], pixels)
    sized = chosen(f"table:{file}", test=str(file), resize=6, crop=6).make("train")
    assert sized.read([0, 1]).shape == (2, 6, 6, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b\n1,2\n3,4\n",
            "no label column, expected one that is called label, class",
        ),
        ("a,label,y\n1,2,3\n", r"2 label columns \['label', 'y'\]"),
        ("a,label\n1,x\n3\n", "line 3 has 1 entries, expected 2"),
        ("a,a,label\n1,2,x\n", "has the column 'a' more than once"),
        ("a,label\n", r"has 1 line\(s\)"),
        ("name,label\nx,1\ny,0\n", "of which none beside 'label' is numeric"),
        ("a,label\n1,x\n,y\n2,x\n", "column 'a' is missing or not finite in 1 of 3"),
        ("a,label\n1,0.5\n2,1.5\n", "label 0 is 0.5, expected a class"),
    ],
)
def test_tables_that_are_no_data_set(tmp_path, text, message):
    file = write(tmp_path / "data.csv", text)
    with pytest.raises(DataError, match=message):
        chosen(f"table:{file}").make("train")


def test_a_test_table_has_the_columns_and_classes_of_training(tmp_path):
    file = write(tmp_path / "data.csv")
    other = write(tmp_path / "test.csv", "sky,Class,width\n1,b,9\n")
    with pytest.warns(UserWarning, match="1 of 2 classes"):
        test = chosen(f"table:{file}", test=str(other)).make("test")
    assert test.read([0]).tolist() == [[9.0, 1.0]] and test.labels.tolist() == [1]
    write(other, "sky,Class\n1,b\n")
    with pytest.raises(DataError, match="no column 'width', which the training table"):
        chosen(f"table:{file}", test=str(other)).make("test")
    write(other, "sky,Class,width\n1,c,9\n")
    with pytest.raises(
        DataError, match="label 0 is 'c', which no training example has"
    ):
        chosen(f"table:{file}", test=str(other)).make("test")
    with pytest.raises(
        MissingDataError, match=r"no file .*tets.csv; did you mean 'tes"
    ):
        chosen(f"table:{file}", test=str(tmp_path / "tets.csv")).make("test")


def test_parquet_without_its_library_names_the_command(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="is not a Parquet file, or damaged"):
        read_columns(tmp_path / "x.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pyarrow"):
        read_columns(tmp_path / "x.parquet")


# --- Arrays and data sets


def test_npz_files_with_words_and_names(tmp_path):
    inputs = np.arange(20.0).reshape(10, 2)
    words = np.array(["cat", "ant"] * 5)
    one = tmp_path / "one.npz"
    np.savez(one, inputs=inputs, labels=words)
    train, test = (chosen(f"npz:{one}").make(split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("ant", "cat")
    assert train.class_counts.tolist() == [4, 4] and len(test) == 2
    np.savez(tmp_path / "d_train.npz", inputs=inputs, labels=words)
    np.savez(tmp_path / "d_test.npz", inputs=inputs[:1], labels=words[:1])
    with pytest.warns(UserWarning, match="1 of 2 classes"):
        test = chosen(f"npz:{tmp_path}/d_{{split}}.npz").make("test")
    assert test.labels.tolist() == [1]  # ants, of which there are none here, are 0
    names = np.array(["zebra", "ape"])
    np.savez(one, inputs=inputs, labels=np.arange(10) % 2, class_names=names)
    assert chosen(f"npz:{one}").make("train").class_names == ("zebra", "ape")


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((4, 3), np.int64, ((3,), np.float32)),
        ((4, 9, 9), np.uint8, ((9, 9, 1), np.uint8)),
        ((4, 9, 9, 3), np.int32, ((9, 9, 3), np.uint8)),
        ((4, 40, 2), np.float64, ((40, 2), np.float32)),
    ],
)
def test_arrays_of_every_kind(shape, dtype, expected):
    contents = pair_contents("pair", np.ones(shape, dtype), ["a", "b", "a", "b"])
    assert (contents.shape, contents.dtype) == expected
    assert contents.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (np.ones((3, 2)), [0, 1], r"shape \(3, 2\) and labels \(2,\)"),
        (np.ones(3), [0, 1, 0], r"shape \(3,\)"),
        (np.ones((2, 2)), np.eye(2), r"labels have shape \(2, 2\), expected one class"),
        (
            np.full((2, 9, 9, 3), 300),
            [0, 1],
            "integers from 300 to 300, expected pixel",
        ),
        (np.array([["a"], ["b"]]), [0, 1], "dtype <U1, expected numbers"),
        (np.full((2, 2), np.nan), [0, 1], "input 0 is not finite"),
    ],
)
def test_arrays_that_are_no_data_set(inputs, labels, message):
    with pytest.raises(DataError, match=message):
        pair_contents("pair", inputs, labels)


class TorchLike:
    """Channels first, as torchvision's ToTensor leaves images."""

    classes = ("cat", "dog", "fox")
    targets = (0, 2, 0, 2)

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.asked.append(index)
        return np.full((3, 5, 7), index, np.float32), self.targets[index]


class HuggingFaceLike:
    """Dicts of PIL images, columns by name, and the names of a ClassLabel."""

    class ClassLabel:
        names = ("tree", "bush")

    features = {"image": None, "label": ClassLabel()}
    labels = (0, 1, 0)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == "label":
            return list(self.labels)
        image = PIL.Image.new("L", (8, 6), index)
        return {"image": image, "label": self.labels[index]}


def test_data_sets_of_items_are_read_late():
    dataset = TorchLike()
    contents = item_contents("torch", dataset)
    # Names of the data set, without the class that has no example.
    assert contents.class_names == ("cat", "fox")
    assert contents.labels.tolist() == [0, 1, 0, 1]
    assert contents.shape == (5, 7, 3) and set(dataset.asked) == {0}
    assert contents.reader(np.array([3, 1]))[:, 0, 0, 0].tolist() == [3, 1]
    contents = item_contents("hf", HuggingFaceLike())
    assert contents.class_names == ("tree", "bush") and contents.shape == (6, 8, 3)
    assert contents.reader(np.array([2]))[0, 0, 0].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "has no items"),
        ([3, 4], "an item is a int, expected .x, y. or a dict"),
        ([{"img": 1, "lbl": 2}], r"has the keys \['img', 'lbl'\], expected an input"),
        ([(np.array(["x"]), 0), (np.array(["y"]), 1)], "dtype <U1, expected an image"),
    ],
)
def test_items_that_are_no_examples(items, message):
    with pytest.raises(DataError, match=message):
        item_contents("items", items)


def test_items_of_several_sizes_name_the_remedy():
    items = [(np.zeros((9, size)), size % 2) for size in (9, 10, 9, 9)]
    contents = item_contents("items", items)
    with pytest.raises(
        DataError, match="different shapes .*; pass image_size to bring"
    ):
        contents.reader(np.array([0, 1]))


@pytest.mark.parametrize(
    "name", ["folder:x", "table:x.csv", "npz:x.npz", "tfds:x", "memory:x"]
)
def test_data_of_ones_own_are_used_whole_unless_a_profile_is_asked_for(name):
    assert chosen(name).options.profile == "none"
    assert chosen(name, profile="exp").options.profile == "exp"


def test_a_prepared_data_set_keeps_its_names_and_splits(toy_dir):
    data = chosen("tfds:ltjax_toy", data_dir=str(toy_dir))
    assert (len(data.make("train")), len(data.make("test"))) == (12, 3)
    assert data.make("train").class_names == ("a", "b", "c")
    with pytest.raises(MissingDataError, match="no split 'tets' .config.data.test_spl"):
        chosen("tfds:ltjax_toy", data_dir=str(toy_dir), test_split="tets").make("train")


def test_data_of_another_process_say_so():
    with pytest.raises(MissingDataError, match="'memory:abc' were given to ltjax.fit"):
        chosen("memory:abc").make("train")


def test_a_label_of_thousands_of_digits_is_no_class():
    with pytest.raises(DataError, match="f: label 1 has 5000 characters"):
        encode_labels("f", ["1", "9" * 5000, "1"])
