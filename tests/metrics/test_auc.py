"""Areas against their definition as a double loop, and against scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ltjax import metrics as M
from ltjax.class_stats import shot_groups

SCORES = np.array([[7, 2, 1], [4, 5, 1], [3, 6, 1], [5, 3, 2], [2, 2, 6]]) / 10
LABELS = np.array([0, 0, 1, 1, 2])


def pairs(up, down):
    """Mean over pairs of 1[p > q] + 1/2 1[p = q]."""
    return np.mean([[(p > q) + 0.5 * (p == q) for q in down] for p in up])


def tied(seed, n=60, classes=4):
    """Scores on a coarse grid, so that most of them are tied, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.append(np.arange(classes), rng.integers(0, classes, n - classes))
    return rng.integers(0, 7, (n, classes)) / 8, labels


def test_binary_area_is_the_mean_over_pairs():
    for seed in range(3):
        scores, labels = tied(seed, classes=2)
        s, y = scores[:, 1], labels == 1
        expected = pairs(s[y], s[~y])
        assert M.auc(s, y) == pytest.approx(expected, abs=1e-14)
        assert M.auc(s, labels) == pytest.approx(roc_auc_score(y, s), abs=1e-14)
        assert M.auc(-s, y) == pytest.approx(1 - expected, abs=1e-14)
        assert M.auc(np.exp(3 * s), y) == M.auc(s, y)
    assert M.auc(np.zeros(7), np.arange(7) < 3) == 0.5
    # Positives .9 .4, negatives .5 .1 .3: only .4 < .5 is wrong.
    five = M.auc(np.array([0.9, 0.4, 0.5, 0.1, 0.3]), np.array([1, 1, 0, 0, 0]))
    assert five == pytest.approx(5 / 6, abs=1e-14)


def test_running_example():
    """Only .4 < .5 (column 0, classes 0 and 1) and .3 < .5 (column 1) are wrong."""
    matrix = M.ovo_auc_matrix(SCORES, LABELS)
    expected = np.ones((3, 3))
    expected[0, 1] = expected[1, 0] = 0.75
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_array_equal(matrix, expected)
    assert M.ovo_auc(SCORES, LABELS) == pytest.approx(11 / 12, abs=1e-14)
    np.testing.assert_allclose(
        M.ovr_auc(SCORES, LABELS, average="none"), [5 / 6, 5 / 6, 1], atol=1e-14
    )
    assert M.ovr_auc(SCORES, LABELS) == pytest.approx(8 / 9, abs=1e-14)
    weighted = (2 * 5 / 6 + 2 * 5 / 6 + 1) / 5
    assert M.ovr_auc(SCORES, LABELS, average="weighted") == pytest.approx(weighted)


def test_pair_matrix_with_ties():
    scores, labels = tied(3)
    matrix = M.ovo_auc_matrix(scores, labels)
    for i in range(4):
        for j in range(4):
            if i != j:
                expected = pairs(scores[labels == i, i], scores[labels == j, i])
                assert matrix[i, j] == pytest.approx(expected, abs=1e-14)


def test_multi_class_areas_against_scikit_learn():
    scores, labels = tied(4)
    scores = (scores + 0.1) / np.sum(scores + 0.1, axis=1, keepdims=True)
    ovo = roc_auc_score(labels, scores, multi_class="ovo")
    assert M.ovo_auc(scores, labels) == pytest.approx(ovo, abs=1e-13)
    for average in ("macro", "weighted"):
        ovr = roc_auc_score(labels, scores, multi_class="ovr", average=average)
        ours = M.ovr_auc(scores, labels, average=average)
        assert ours == pytest.approx(ovr, abs=1e-13)


def test_one_vs_rest_is_one_vs_one_weighted_by_size():
    scores, labels = tied(5)
    matrix, counts = M.ovo_auc_matrix(scores, labels), np.bincount(labels)
    for i, area in enumerate(M.ovr_auc(scores, labels, average="none")):
        others = np.arange(4) != i
        share = counts[others] / counts[others].sum()
        assert area == pytest.approx(matrix[i, others] @ share, abs=1e-14)


def test_order_of_examples_and_names_of_classes_do_not_matter():
    scores, labels = tied(6)
    rows, order = np.random.default_rng(0).permutation(60), np.array([2, 0, 3, 1])
    matrix = M.ovo_auc_matrix(scores, labels)
    moved = M.ovo_auc_matrix(scores[rows][:, order], np.argsort(order)[labels[rows]])
    np.testing.assert_allclose(moved, matrix[np.ix_(order, order)], atol=1e-15)


def test_absent_classes_are_skipped():
    scores, labels = tied(7, classes=3)
    wide = np.insert(scores, 1, 0.3, axis=1)
    moved = np.array([0, 2, 3])[labels]
    assert M.ovo_auc(wide, moved) == M.ovo_auc(scores, labels)
    assert M.ovr_auc(wide, moved) == M.ovr_auc(scores, labels)
    assert np.isnan(M.ovo_auc_matrix(wide, moved)[1]).all()
    for alone in (M.ovo_auc, M.ovr_auc):
        assert np.isnan(alone(scores, np.zeros(60, int)))
    assert np.isnan(M.ovr_auc(scores, np.zeros(60, int), average="weighted"))
    assert np.isnan(M.auc([0.2, 0.4], [0, 0]))
    assert np.isnan(M.average_precision([0.2, 0.4], [0, 0]))


def test_masked_rows_are_left_out():
    scores, labels = tied(8)
    keep = np.arange(60) % 3 > 0
    dirty = np.where(keep[:, None], scores, np.nan)
    wrong = np.where(keep, labels, -1)
    for metric in (M.ovo_auc, M.ovr_auc):
        expected = metric(scores[keep], labels[keep])
        assert metric(dirty, wrong, where=keep) == expected
    np.testing.assert_array_equal(
        M.average_precision(dirty, wrong, where=keep),
        M.average_precision(scores[keep], labels[keep]),
    )


def test_block_means_by_group():
    scores, labels = tied(9)
    matrix = M.ovo_auc_matrix(scores, labels)
    blocks = M.group_auc(matrix, shot_groups([500, 300, 50, 5]))
    assert blocks["many", "few"] == pytest.approx(np.mean(matrix[:2, 3]))
    assert blocks["many", "many"] == pytest.approx((matrix[0, 1] + matrix[1, 0]) / 2)
    assert np.isnan(blocks["few", "few"])
    with pytest.raises(ValueError, match=r"group 'few' has shape \(2,\)"):
        M.group_auc(matrix, {"few": [True, False]})
    with pytest.raises(ValueError, match=r"group_auc: matrix has shape \(3,\)"):
        M.group_auc(np.ones(3), {})


def test_average_precision_shares_a_threshold_between_ties():
    scores, labels = tied(10)
    hot = labels[:, None] == np.arange(4)
    expected = [average_precision_score(hot[:, k], scores[:, k]) for k in range(4)]
    for given in (labels, hot, hot.astype(float)):
        np.testing.assert_allclose(
            M.average_precision(scores, given), expected, atol=1e-14
        )
    single = M.average_precision(scores[:, 2], hot[:, 2])
    assert single == pytest.approx(expected[2], abs=1e-14)
    # Hits at ranks 1 and 3: (1 + 2/3) / 2; all tied: the share of positives.
    assert M.average_precision([3, 2, 1], [1, 0, 1]) == pytest.approx(5 / 6)
    assert M.average_precision([2, 2, 2, 2], [1, 0, 0, 0]) == 0.25


def test_open_area_is_its_definition():
    rng = np.random.default_rng(11)
    known, unknown = rng.integers(0, 6, 30) / 4, rng.integers(2, 9, 20) / 4
    right = rng.random(30) < 0.7
    expected = np.mean(
        [
            [c * ((u > k) + 0.5 * (u == k)) for u in unknown]
            for c, k in zip(right, known, strict=True)
        ]
    )
    value = M.open_auc(right, known, unknown)
    assert value == pytest.approx(expected, abs=1e-14)
    everything = M.auc(np.append(known, unknown), np.arange(50) >= 30)
    assert M.open_auc(np.ones(30), known, unknown) == pytest.approx(everything)
    assert np.isnan(M.open_auc([], [], unknown))


def test_histogram_is_within_its_bound():
    rng = np.random.default_rng(12)
    labels = rng.random(400) < 0.3
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.15), 0, 0.999)
    exact = M.auc(scores, labels)
    for bins in (4, 16, 64):
        place = np.floor(scores * bins).astype(int)
        up = np.bincount(place[labels], minlength=bins)
        down = np.bincount(place[~labels], minlength=bins)
        value, bound = M.histogram_auc(up, down)
        assert abs(value - exact) <= bound
        assert value == pytest.approx(M.auc(place, labels), abs=1e-14)
    assert np.isnan(M.histogram_auc([0, 0], [1, 2]).value)
    with pytest.raises(ValueError, match="histogram_auc: a count is negative"):
        M.histogram_auc([-1, 2], [1, 2])
    with pytest.raises(ValueError, match=r"shape \(2,\) and negative \(3,\)"):
        M.histogram_auc([1, 2], [1, 2, 3])


def test_half_precision_scores_are_read():
    scores = jnp.asarray([0.5, 0.25, 0.75], jnp.bfloat16)
    assert M.auc(scores, [1, 0, 1]) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: M.auc([0.1, 0.2, 0.3], [0, 1, 2]), "auc: a label is 2, expected 0 or"),
        (lambda: M.auc([0.1, 0.2], [0, 1, 1]), r"auc: labels have shape \(3,\)"),
        (lambda: M.auc([[0.1]], [0]), r"auc: scores have shape \(1, 1\), expected \[N"),
        (lambda: M.auc([0.1, np.nan], [0, 1]), "auc: scores of row 1 are NaN"),
        (
            lambda: M.auc([0.1, 0.2], [0, 1], where=np.ones(3, bool)),
            r"auc: where has shape \(3,\), expected \(2,\)",
        ),
        (lambda: M.ovo_auc(SCORES, LABELS[:2]), r"labels have shape \(2,\)"),
        (lambda: M.ovo_auc(SCORES, LABELS + 1), r"a label is 3, expected an index in"),
        (
            lambda: M.average_precision(SCORES, np.ones((5, 2))),
            r"average_precision: labels has shape \(5, 2\)",
        ),
        (lambda: M.ovr_auc(SCORES, LABELS, average="mean"), "average is 'mean'"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_class_indices_are_integers():
    with pytest.raises(TypeError, match="ovo_auc_matrix: labels have dtype float64"):
        M.ovo_auc(SCORES, LABELS * 1.0)
