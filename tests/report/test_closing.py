"""The table at the end of a run: groups, classes by name, the worst of many."""

import numpy as np

from ltjax.report.closing import closing_table
from ltjax.report.reading import read_run


def table(path):
    return closing_table(read_run(path)).splitlines()


def test_groups_and_classes_by_name(workdir):
    # Recalls 9/10, 3/6 and none tested; one class each of many and few, two of medium.
    confusion = np.array([[9, 1, 0, 0], [3, 3, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]])
    path = workdir(
        "run",
        confusion=[confusion],
        class_counts=[200, 50, 40, 10],
        class_names=["ant", "bee", "cat", "a name of more than twenty-eight letters"],
    )
    assert table(path) == [
        "                                training  test  accuracy (%)",
        "many > 100 (1 class)                 200    10          90.0",
        "medium (2 classes)                    90     6          50.0",
        "few < 20 (1 class)                    10     2          50.0",
        # (0.9 + 0.5 + 0.5) / 3
        "all, balanced                        300    18          63.3",
        "classes, most frequent first",
        "  ant                                200    10          90.0",
        "  bee                                 50     6          50.0",
        "  cat                                 40     0             -",
        "  a name of more than twenty-…        10     2          50.0",
    ]


def test_replicas_are_averaged(workdir):
    path = workdir(
        "run", confusion=[np.diag([4, 4]), [[4, 0], [4, 0]]], class_counts=[30, 30]
    )
    assert table(path)[-1].split() == ["1", "30", "4", "50.0"]


def test_of_many_classes_the_worst_are_shown(workdir):
    correct = np.arange(1, 41)
    confusion = np.diag(correct)
    confusion[np.arange(40), (np.arange(40) + 1) % 40] += 40 - correct
    path = workdir("run", confusion=[confusion], class_counts=[50] * 40)
    lines = table(path)
    assert "the 10 classes of lowest accuracy, of 40" in lines
    assert [line.split()[0] for line in lines[-10:]] == [str(k) for k in range(10)]
    assert lines[-10].split()[-1] == "2.5"  # 1 of 40


def test_a_run_that_does_not_classify_has_none(judged_workdir):
    path = judged_workdir("run", summary={"miou": [0.5]})
    assert closing_table(read_run(path)) == ""
