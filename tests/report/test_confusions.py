"""Confusions among many classes: groups, leading pairs, and what a report shows."""

import csv

import numpy as np
import pytest

from ltjax.report import write_report
from ltjax.report.confusions import (
    confused_pairs,
    group_confusion,
    plot_many_confusions,
)
from ltjax.report.figures import all_pictures
from ltjax.report.reading import read_run
from ltjax.report.style import method_styles

# Classes 0 and 1 are many, 2 is few. Rows sum to 10, 20 and 4.
MATRIX = np.array([[8, 2, 0], [5, 10, 5], [3, 0, 1]])
GROUPS = {"many": [True, True, False], "few": [False, False, True]}


def test_pairs_go_by_the_share_of_the_true_class():
    # 3/4, 5/20 (twice), 2/10.
    found = [(p.true, p.predicted, p.share, p.count) for p in confused_pairs(MATRIX)]
    assert found == [(2, 0, 0.75, 3), (1, 0, 0.25, 5), (1, 2, 0.25, 5), (0, 1, 0.2, 2)]
    assert [p.true for p in confused_pairs(MATRIX, fewest=3)] == [2, 1, 1]
    assert len(confused_pairs(MATRIX, at_most=1)) == 1
    # Over replicas the mean decides.
    both = confused_pairs([MATRIX, np.diag([10, 20, 4])])
    assert [(p.share, p.count) for p in both] == [(0.125, 2.5), (0.125, 2.5)]


def test_groups_weight_their_classes_equally():
    share, correct = group_confusion(MATRIX, GROUPS)
    # many: class 0 goes there entirely, class 1 with 15 of 20; few: 3 of 4 leave.
    np.testing.assert_allclose(share, [[0.875, 0.125], [0.75, 0.25]])
    np.testing.assert_allclose(correct, [(0.8 + 0.5) / 2, 0.25])
    # A class without a test example is left out.
    empty = MATRIX * np.array([[1], [0], [1]])
    share, correct = group_confusion(empty, GROUPS)
    np.testing.assert_allclose(share[0], [1.0, 0.0])
    np.testing.assert_allclose(correct, [0.8, 0.25])


def test_a_matrix_that_is_not_square():
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3\), expected \[R, K, K\]"):
        confused_pairs(np.ones((2, 3)))


def test_the_figure_names_pairs_and_groups():
    names = ["cat", "a name that nobody would want to read on an axis", "fox"]
    figure = plot_many_confusions(MATRIX, groups=GROUPS, class_names=names, title="CE")
    left, right = figure.axes
    labels = [text.get_text() for text in right.get_yticklabels()]
    assert labels[0] == "fox → cat" and labels[1].endswith("… → cat")
    assert [bar.get_width() for bar in right.patches] == [75, 25, 25, 20]
    assert "87.5\n65.0 right" in [text.get_text() for text in left.texts]


def test_a_report_of_many_classes(workdir, tmp_path):
    classes = 40
    counts = np.linspace(300, 5, classes).astype(int)
    confusion = 9 * np.eye(classes, dtype=int)
    confusion[3, 7] = 4
    names = [f"class {k}" for k in range(classes)]
    path = workdir(
        "run", confusion=[confusion], class_counts=counts.tolist(), class_names=names
    )
    paths = write_report(path, tmp_path / "out")
    with paths["confused.csv"].open() as file:
        (row,) = csv.DictReader(file)
    # 4 of 13 examples.
    assert row == {
        "method": "CE",
        "true class": "class 3",
        "predicted class": "class 7",
        "share (%)": "30.8",
        "examples": "4",
    }
    run = read_run(path)
    pictures = all_pictures([run], method_styles([run.name]), None)
    assert "each class group go" in pictures["confusion_ce"].caption
