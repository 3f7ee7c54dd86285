"""SMOTE-NC and SMOTE-N: distances, votes and tables of the paper."""

import jax
import numpy as np
import pytest

from ltjax.resampling import smote_n, smote_nc, value_difference_table
from ltjax.resampling._pairwise_search import mixed
from ltjax.resampling.smote_nominal import _center_by_class, _majority

KEY = jax.random.key(0)
A, B, C, D, E, F, G, H, K, N = range(10)


def test_median_spread_and_distances_of_the_papers_rows():
    # Rows (1,2,3,A,B,C), (4,6,5,A,D,E), (3,5,6,A,B,K): population stds 1.2472, 1.6997,
    # 1.2472, median 1.24721913; squared distances 9+16+4 + 2 Med^2 and 4+9+9 + Med^2.
    continuous = np.array([[1, 2, 3], [4, 6, 5], [3, 5, 6]])
    codes = np.array([[A, B, C], [A, D, E], [A, B, K]])
    centered, median = _center_by_class(continuous, np.zeros(3, int))
    np.testing.assert_allclose(median, 1.24721913)
    weight = np.full(3, median[0] ** 2, np.float32)
    squared = mixed((centered, codes, weight), (centered, codes), ())
    np.testing.assert_allclose(
        np.sqrt(squared[0, 1:]), [5.66666667, 4.85340659], rtol=1e-6
    )


def test_nearest_neighbors_are_those_of_the_mixed_distance():
    rng = np.random.default_rng(0)
    continuous = 100 + rng.standard_normal((300, 3))
    codes, labels = rng.integers(0, 4, (300, 5)), rng.choice(3, 300, p=[0.6, 0.3, 0.1])
    new = smote_nc(KEY, continuous, codes, labels, k=3, block_size=64)
    for label in (1, 2):
        rows = np.flatnonzero(labels == label)
        x, z = continuous[rows], codes[rows]
        median = np.median(x.std(axis=0))
        squared = np.square(x[:, None] - x[None]).sum(axis=-1)
        squared += median**2 * (z[:, None] != z[None]).sum(axis=-1)
        np.fill_diagonal(squared, np.inf)
        nearest = rows[np.argsort(squared, axis=1)[:, :3]]
        of_class = new.labels == label
        base, neighbor = new.plan.base[of_class], new.plan.neighbor[of_class]
        at = np.searchsorted(rows, base)
        assert np.all((nearest[at] == neighbor[:, None]).any(axis=1))
        for row, made in zip(at, new.nominal[of_class], strict=True):
            votes = [np.bincount(column).argmax() for column in codes[nearest[row]].T]
            assert made.tolist() == votes
        start = continuous[base]
        move = new.plan.step[of_class][:, None] * (continuous[neighbor] - start)
        np.testing.assert_allclose(new.continuous[of_class], start + move)


def test_votes_include_the_point_itself_in_smote_n():
    # The paper's example: A B C D E with neighbors A F C G N and H B C D N gives
    # A B C D N (E and N: N twice).
    rows = np.array([[A, B, C, D, E], [A, F, C, G, N], [H, B, C, D, N]])
    assert _majority(rows, np.array([[0, 1, 2]])).tolist() == [[A, B, C, D, N]]
    # Without the point, ties between F and B, G and D go to the lowest code.
    assert _majority(rows, np.array([[1, 2]])).tolist() == [[A, B, C, D, N]]
    assert _majority(rows, np.array([[1, -1]])).tolist() == [[A, F, C, G, N]]
    new = smote_n(KEY, np.concatenate([rows, rows]), [1, 1, 1, 0, 0, 0], k=2)
    assert new.nominal.shape == (0, 5)
    new = smote_n(KEY, rows, [0, 0, 0], num_new=[6], k=2)
    assert new.nominal.tolist() == [[A, B, C, D, N]] * 6


def test_known_value_difference():
    # A seen 8:2 and B seen 3:3 over two classes: |0.8 - 0.5| + |0.2 - 0.5| = 0.6.
    codes = [0] * 10 + [1] * 6
    labels = [0] * 8 + [1] * 2 + [0] * 3 + [1] * 3
    table = value_difference_table(codes, labels)
    np.testing.assert_allclose(table, [[0, 0.6], [0.6, 0]])
    squared = value_difference_table(codes, labels, power=2)
    np.testing.assert_allclose(squared[0, 1], 0.18)


def test_nearest_neighbors_are_those_of_the_value_difference_metric():
    rng = np.random.default_rng(1)
    codes, labels = rng.integers(0, 6, (200, 4)), rng.choice(3, 200, p=[0.6, 0.3, 0.1])
    new = smote_n(KEY, codes, labels, k=4, block_size=64)
    squared = np.zeros((200, 200))
    for column in codes.T:
        table = value_difference_table(column, labels)
        squared += table[column[:, None], column[None]] ** 2
    squared[labels[:, None] != labels[None]] = np.inf
    np.fill_diagonal(squared, np.inf)
    fourth = np.sort(squared, axis=1)[:, 3]
    chosen = squared[new.plan.base, new.plan.neighbor]
    assert np.all(chosen <= fourth[new.plan.base] * (1 + 1e-5))
    counts = np.bincount(labels) + np.bincount(new.labels, minlength=3)
    assert len(set(counts)) == 1
    assert new.continuous.shape == (len(new.labels), 0)


def test_one_point_is_replicated():
    with pytest.warns(UserWarning, match="class 1 has a single point"):
        new = smote_nc(KEY, [[1.0], [2.0], [3.0]], [[4], [5], [6]], [0, 0, 1])
    assert new.nominal.tolist() == [[6]] and new.continuous.tolist() == [[3.0]]
    with pytest.warns(UserWarning, match="class 1 has a single point"):
        new = smote_n(KEY, [[4], [5], [6]], [0, 0, 1])
    assert new.nominal.tolist() == [[6]]


@pytest.mark.parametrize(
    ("continuous", "nominal", "error", "message"),
    [
        (np.ones((3, 0)), [[1], [1], [1]], ValueError, "at least one feature each"),
        (np.ones((3, 1)), np.ones((3, 0), int), ValueError, "smote is for continuous"),
        (np.ones((3, 1)), np.ones((2, 1), int), ValueError, "3 continuous but 2 nomi"),
        (
            np.ones((3, 1)),
            np.ones((3, 1)),
            TypeError,
            "expected integer codes",
        ),
        (
            np.ones((3, 1)),
            np.ones(3, int),
            ValueError,
            r"expected \[N, F\]",
        ),
    ],
)
def test_bad_input_is_named(continuous, nominal, error, message):
    with pytest.raises(error, match=message):
        smote_nc(KEY, continuous, nominal, [0, 0, 1])


def test_negative_codes_have_no_table():
    with pytest.raises(ValueError, match="minimum -1, expected codes >= 0"):
        smote_n(KEY, [[0], [-1], [2]], [0, 0, 1])


def test_a_code_far_beyond_the_examples_asks_for_no_table():
    with pytest.raises(ValueError, match=r"codes\[1\] is 4294967297"):
        value_difference_table([0, 2**32 + 1], [0, 1])
    with pytest.raises(ValueError, match="codes hold 3, expected values in"):
        value_difference_table([0, 3], [0, 1], num_values=3)
    with pytest.raises(ValueError, match="nominal holds 4294967297"):
        smote_n(KEY, [[0], [2**32 + 1], [1]], [0, 0, 1])


def test_nothing_to_enlarge():
    new = smote_n(KEY, np.zeros((0, 2), np.int32), np.zeros(0, np.int32))
    assert new.nominal.shape == (0, 2)
