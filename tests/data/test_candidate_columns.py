"""Candidate sets as a column of a source: refused if wrong, counted if nothing else."""

import numpy as np
import pytest

from ltjax.data import DataError, array_source
from ltjax.data.candidate_columns import expected_counts, only_candidates
from ltjax.data.source import UNKNOWN, Source

SETS = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 1], [1, 0, 1]], bool)


def source(columns, labels=(UNKNOWN,) * 4):
    inputs = array_source(np.zeros((4, 1), np.float32), [0] * 4)
    return Source(
        "x", np.array(labels), 3, (1,), np.float32, inputs.reader, columns=columns
    )


def test_sets_of_one_tell_the_class():
    found = source({"candidates": SETS})
    assert only_candidates(SETS).tolist() == found.known.tolist() == [-1, 1, -1, -1]
    assert found.bare.size == 0
    # Halves and thirds: 1/2 + 1/3 + 1/2, 1/2 + 1 + 1/3, 1/3 + 1/2, rounded up.
    assert expected_counts(SETS).tolist() == found.true_counts.tolist() == [2, 2, 1]
    assert expected_counts(np.ones((3, 3), bool)).tolist() == [1, 1, 1]
    never = source({"candidates": SETS & [False, True, True]})
    assert never.true_counts.tolist() == [0, 3, 2]  # 1 + 1 + 1/2; 1/2 + 1
    assert found.select([1]).judged().labels.tolist() == [1]
    with pytest.raises(DataError, match=r"example 0 \(0-based\) has no known label"):
        found.judged()


def test_clean_labels_go_before_all_others():
    truth = np.array([0, 1, 2, 2])
    found = source({"candidates": SETS, "truth": truth})
    assert found.known.tolist() == [0, 1, 2, 2] == found.judged().labels.tolist()
    assert found.judged().columns == {} and found.true_counts.tolist() == [1, 1, 2]
    noisy = source({"truth": truth}, labels=(0, 0, 2, 2))
    assert noisy.class_counts.tolist() == [2, 0, 2]
    assert noisy.judged().class_counts.tolist() == [1, 1, 2]
    bare = source({}, labels=(0, UNKNOWN, 2, UNKNOWN))
    assert bare.bare.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("columns", "labels", "message"),
    [
        ({"candidates": SETS[:, :2]}, (-1,) * 4, r"\(4, 2\), expected bool \(4, 3\)"),
        ({"candidates": SETS.astype(int)}, (-1,) * 4, "dtype int64 .*expected bool"),
        (
            {"candidates": SETS & [False, True, False]},
            (-1,) * 4,
            r"example 3 has an empty candidate set \(1 such example",
        ),
        (
            {"candidates": SETS, "truth": np.array([2, 1, 0, 1])},
            (-1,) * 4,
            r"candidates of example 0 are \[0, 1\], expected its true label 2 among "
            r"them \(2 such",
        ),
        (
            {"candidates": SETS},
            (-1, 0, -1, -1),
            r"candidates of example 1 are \[1\], expected its true label 0",
        ),
        ({"truth": np.array([0, 1, 3, 0])}, (0, 1, 2, 0), r"truth\[2\] is 3, expected"),
        ({"truth": np.zeros((4, 1), int)}, (0, 1, 2, 0), r"truth has .*\(4, 1\), expe"),
    ],
)
def test_columns_that_cannot_be(columns, labels, message):
    with pytest.raises(ValueError, match=message):
        source(columns, labels)
