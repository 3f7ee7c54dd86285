"""Image folders: lists with mistakes, missing images, sizes."""

import numpy as np
import pytest

from ltjax.data import DataError, MissingDataError, load_source
from ltjax.data.folders import open_folder, read_image_list


def load(folder, **options):
    options = {"resize": 8, "crop": 8, **options}
    return load_source(
        "folder",
        list_file=folder / "train.txt",
        image_root=folder / "images",
        **options,
    )


def test_random_access(image_folder):
    source = load(image_folder)
    assert source.labels.tolist() == [0, 1, 0, 1, 0, 1] and source.num_classes == 2
    assert source.shape == (8, 8, 3) and source.dtype == np.uint8
    assert source.read([5, 0, 5])[:, 3, 3, 0].tolist() == [5, 0, 5]
    assert source.select([4]).read([0])[0, 0, 0, 0] == 4


def test_images_without_sizing_must_agree(image_folder):
    source = load(image_folder, resize=None, crop=None)
    assert source.shape == (8, 12, 3)  # of the first image
    with pytest.raises(DataError, match="different shapes.*pass resize and crop"):
        source.read([0, 1])
    with pytest.raises(DataError, match=r"read uint8 \(1, 9, 12, 3\)"):
        source.read([1])


def test_published_lists(image_folder):
    """ImageNet-LT by name: published list names below data_dir/name."""
    (image_folder / "imagenet_lt").mkdir()
    (image_folder / "images").rename(image_folder / "imagenet_lt" / "train")
    lines = (image_folder / "train.txt").read_text().replace("class", "train/class")
    listed = image_folder / "imagenet_lt" / "ImageNet_LT_train.txt"
    listed.write_text(lines)
    with pytest.warns(UserWarning, match="998 of 1000 classes have no example"):
        source = load_source("imagenet_lt", data_dir=image_folder)
    assert source.num_classes == 1000 and source.shape == (256, 256, 3)
    assert source.mean == (0.485, 0.456, 0.406)
    small = load_source("imagenet_lt", data_dir=image_folder, num_classes=2, crop=64)
    assert small.shape == (64, 64, 3) and len(small) == 6
    chosen = load_source(
        "imagenet_lt", "val", data_dir=image_folder, list_file=listed, num_classes=2
    )
    assert chosen.fingerprint != small.fingerprint  # another split
    assert np.array_equal(chosen.labels, small.labels)
    with pytest.raises(
        MissingDataError, match=r"ImageNet_LT_test\.txt.*published list"
    ):
        load_source("imagenet_lt", "test", data_dir=image_folder)
    with pytest.raises(ValueError, match=r"no split 'dev', expected \['test'"):
        load_source("imagenet_lt", "dev", data_dir=image_folder)


def test_inaturalist_tests_on_its_validation_list(tmp_path):
    with pytest.raises(MissingDataError, match=r"iNaturalist18_val\.txt"):
        load_source("inaturalist18", "test", data_dir=tmp_path)


@pytest.mark.parametrize(
    "line",
    ["a.png", "a.png one", "a.png 1 2", "a.png -1", "a.png 1.0", "\t1"],
)
def test_lines_with_mistakes_are_named(tmp_path, line):
    (tmp_path / "list.txt").write_text(f"a.png 0\n\n{line}\n")
    with pytest.raises(DataError, match=r"line 3 of .*list\.txt is .*expected"):
        read_image_list(tmp_path / "list.txt")


@pytest.mark.parametrize("label", [2**31, 4294967296, 99999999999, "9" * 5000])
def test_labels_beyond_32_bits_are_named_with_their_line(tmp_path, label):
    (tmp_path / "list.txt").write_text(f"a.png 0\nb.png {label}\n")
    with pytest.raises(DataError, match=r"line 2 of .* has the label .*at most 2147"):
        read_image_list(tmp_path / "list.txt")


def test_a_largest_label_without_the_number_of_classes(image_folder):
    lines = "class0/0.png 0\nclass1/1.png 2147483647\n"
    (image_folder / "train.txt").write_text(lines)
    with pytest.raises(ValueError, match=r"train\.txt: labels\[1\] is 2147483647"):
        load(image_folder)


@pytest.mark.parametrize("separator", [" ", "\t", "   ", " \t"])
def test_lists_as_people_have_them(tmp_path, separator):
    lines = [f"a.png{separator}0", f"b c/d 2.png{separator}12", ""]
    text = "\r\n".join(lines).encode("utf-8-sig")  # Notepad, Excel
    (tmp_path / "list.txt").write_bytes(text)
    found = read_image_list(tmp_path / "list.txt")
    assert found.paths == ("a.png", "b c/d 2.png")
    assert found.labels.tolist() == [0, 12]


def test_a_tab_tells_a_number_in_the_name_from_the_label(tmp_path):
    (tmp_path / "list.txt").write_text("image 1\t2\n")
    assert read_image_list(tmp_path / "list.txt").paths == ("image 1",)


@pytest.mark.parametrize("path", ["../secret.png", "class0/../../x.png", "/etc/x.png"])
def test_lists_stay_inside_their_root(image_folder, path):
    lines = f"class0/0.png 0\n{path} 1\n"
    (image_folder / "train.txt").write_text(lines)
    with pytest.raises(DataError, match=r"entry 1 .*leads out of .*pass outside"):
        load(image_folder)
    assert len(load(image_folder, outside_root=True)) == 2


def test_dots_that_stay_inside(image_folder):
    (image_folder / "train.txt").write_text("./class1/../class0/0.png 0\n")
    assert len(load(image_folder)) == 1


def test_a_list_that_is_no_text(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfea.png 0\n")
    with pytest.raises(DataError, match=r"list\.txt is not a UTF-8 text file"):
        read_image_list(tmp_path / "list.txt")


def test_empty_list(tmp_path):
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(DataError, match="lists no image"):
        read_image_list(tmp_path / "list.txt")


def test_labels_outside_the_classes(image_folder):
    with pytest.raises(ValueError, match=r"\[0, 1\), but labels\[1\] is 1"):
        load(image_folder, num_classes=1)


def test_missing_list(tmp_path):
    with pytest.raises(MissingDataError, match=r"split 'train' is expected at .*train"):
        load(tmp_path)


def test_missing_image(image_folder):
    source = load(image_folder)
    (image_folder / "images" / "class1" / "3.png").unlink()
    assert source.read([2]).shape == (1, 8, 8, 3)
    with pytest.raises(MissingDataError, match=r"class1/3\.png.*entry 3 \(0-based\)"):
        source.read([2, 3])
    (image_folder / "images" / "class0" / "0.png").unlink()
    with pytest.raises(MissingDataError, match=r"class0/0\.png.*entry 0"):
        load(image_folder)


def test_damaged_image(image_folder):
    source = load(image_folder)
    file = image_folder / "images" / "class0" / "2.png"
    wrong_size = b"P6\n3x 8\n255\n" + b"0" * 99
    for content in (b"no picture", file.read_bytes()[:50], wrong_size):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"class0/2\.png cannot be decoded"):
            source.read([2])


def test_a_path_that_no_file_can_have_is_told_with_its_image(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"a\0.png 0\nb.png 1\n")
    with pytest.raises(DataError, match=r"image .*a\x00.png cannot be read"):
        open_folder("train", list_file=tmp_path / "train.txt", image_root=tmp_path)
