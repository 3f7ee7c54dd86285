"""Several labels per example: texts, columns of 0 and 1, folders, and the splits."""

import numpy as np
import PIL.Image
import pytest

from ltjax.data import DataError
from ltjax.data.class_folders import label_tables
from ltjax.data.components import DATA
from ltjax.data.label_sets import (
    encode_label_sets,
    indicator_targets,
    rarest_labels,
)
from ltjax.data.tables import find_layout, has_label_sets, table_contents
from ltjax.options import read


def test_texts_become_rows_in_natural_order():
    targets, names = encode_label_sets("t", ["b10| b9", "b9||b9", 3, "3 |b10"])
    assert names == ("3", "b9", "b10")
    assert targets.tolist() == [[0, 1, 1], [0, 1, 0], [1, 0, 0], [1, 0, 1]]
    again, _ = encode_label_sets("t", ["b9"], names)
    assert again.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("empty", ["", " | ", None, float("nan")])
def test_a_row_without_a_label_is_named(empty):
    with pytest.raises(DataError, match=r"t: row 1 \(0-based\) has no label"):
        encode_label_sets("t", ["sky|sea", empty])


def test_a_label_that_training_does_not_know_is_named():
    with pytest.raises(DataError, match="'sy', which no training example has; did you"):
        encode_label_sets("t", ["sea|sy"], ("sea", "sky"))


def test_columns_hold_zero_and_one_only():
    columns = {"sky": np.array([1, 0, 0]), "sea": np.array([0.0, 1.0, 0.0])}
    with pytest.raises(
        DataError, match="row 2 .* has no label .*in one or more of sky"
    ):
        indicator_targets("t", columns)
    columns["sea"] = np.array([0, 2, 1])
    with pytest.raises(DataError, match="label column 'sea' holds .*2.* in row 1"):
        indicator_targets("t", columns)


def test_the_stratum_is_the_rarest_label():
    # Counts 3, 2, 2: of the last two the later one is taken.
    targets = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 0, 0]])
    assert rarest_labels(targets).tolist() == [1, 2, 2, 0]


COLUMNS = {
    "x": np.arange(6.0),
    "tags": np.array(["sky|sea", "sea", "sky", "tree|sea", "tree", "sky"], object),
    "sky": np.array([1, 0, 1, 0, 0, 1]),
    "sea": np.array([1, 1, 0, 1, 0, 0]),
    "tree": np.array([0, 0, 0, 1, 1, 0]),
}


def test_a_column_of_texts_and_columns_of_numbers_say_the_same():
    assert has_label_sets("t", COLUMNS, label="tags")
    assert has_label_sets("t", COLUMNS, label="sky, sea,tree")
    assert not has_label_sets("t", COLUMNS, label="sky")
    written, told = (
        table_contents("t", COLUMNS, find_layout("t", COLUMNS, label=x, several=True))
        for x in ("tags", "sea,sky,tree")
    )
    assert written.class_names == told.class_names == ("sea", "sky", "tree")
    np.testing.assert_array_equal(written.targets, told.targets)
    np.testing.assert_array_equal(written.labels, told.labels)
    assert told.features == ("x",) and told.reader(np.array([2])).tolist() == [[2.0]]
    with pytest.raises(DataError, match="no label column 'se'; did you mean 'sea'"):
        find_layout("t", COLUMNS, label="se,sky", several=True)


def test_a_share_of_each_rarest_label_is_split_off(tmp_path):
    file = tmp_path / "data.csv"
    rows = ["1,sky|sea", "2,sea", "3,sky", "4,sea", "5,tree|sea", "6,tree"] * 5
    file.write_text("x,labels\n" + "\n".join(rows))
    data, faults = read("data", {"name": f"table:{file}", "multi_label": True}, DATA)
    assert not faults and data.facts.columns == ("targets",)
    train, test = data.make("train"), data.make("test")
    assert train.class_names == test.class_names == ("sea", "sky", "tree")
    assert len(train) == 24 and len(test) == 6
    for source in (train, test):
        picked = source.columns["targets"][np.arange(len(source)), source.labels]
        assert picked.all() and source.class_counts.all()


def test_folders_with_a_table_of_labels(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "deep").mkdir(parents=True)
        PIL.Image.new("RGB", (4, 4)).save(tmp_path / split / "deep" / "1.png")
        (tmp_path / split / "labels.csv").write_text("file,labels\ndeep/1.png,a|b\n")
    tables = label_tables(tmp_path)
    assert {k: v.parent.name for k, v in tables.items()} == {
        "train": "train",
        "test": "test",
    }
    assert label_tables(tmp_path / "train").keys() == {"train"}
    assert label_tables(tmp_path / "train" / "deep") == {}
    data, _ = read(
        "data", {"name": f"table:{tables['train']}", "multi_label": True}, DATA
    )
    assert data.make("train").read([0]).shape == (1, 4, 4, 3)
