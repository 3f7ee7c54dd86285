"""Partial areas: by hand, by definition, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ltjax import metrics as M
from ltjax.metrics.partial_auc import share_count

UP = [0.9, 0.8, 0.55, 0.4, 0.3]
DOWN = [0.7, 0.6, 0.5, 0.35, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01]
SCORES = np.array(UP + DOWN)
LABELS = np.arange(15) < 5


def test_running_example():
    """Hard positives .3 .4 .55 against .7 .6 .5: one of nine pairs is right.

    In the corner of three negatives .9 and .8 beat all, .55 beats .5, and the other two
    none: 7 of 15 pairs, an area of .3 * 7/15 = .14.
    """
    assert M.auc(SCORES, LABELS) == pytest.approx(0.82, abs=1e-14)
    two_way = M.two_way_partial_auc(SCORES, LABELS, alpha=0.6, beta=0.3)
    assert two_way == pytest.approx(1 / 9, abs=1e-14)
    raw, normalized, standardized = M.partial_auc(SCORES, LABELS, max_fpr=0.3)
    assert raw == pytest.approx(0.14, abs=1e-14)
    assert normalized == pytest.approx(7 / 15, abs=1e-14)
    assert standardized == pytest.approx(0.68627451, abs=5e-9)


def test_whole_square_is_the_area():
    area = M.auc(SCORES, LABELS)
    assert M.two_way_partial_auc(SCORES, LABELS, alpha=1, beta=1) == area
    assert M.partial_auc(SCORES, LABELS, max_fpr=1).raw == pytest.approx(area)


@pytest.mark.parametrize("max_fpr", [0.03, 0.25, 0.4, 0.999])
def test_standardized_area_is_that_of_scikit_learn(max_fpr):
    rng = np.random.default_rng(0)
    labels = rng.random(80) < 0.3
    scores = np.round(rng.normal(labels, 1.0) * 3) / 3  # tied
    expected = roc_auc_score(labels, scores, max_fpr=max_fpr)
    value = M.partial_auc(scores, labels, max_fpr=max_fpr)
    assert value.standardized == pytest.approx(expected, abs=1e-13)
    assert value.normalized == pytest.approx(value.raw / max_fpr, abs=1e-15)
    keep = np.arange(80) > 10
    dirty = np.where(keep, scores, np.nan)
    assert M.partial_auc(dirty, labels, max_fpr=max_fpr, where=keep) == M.partial_auc(
        scores[keep], labels[keep], max_fpr=max_fpr
    )


def test_cut_between_points_is_linear():
    # The curve runs through (0, 0), (0, 1/2), (1/2, 1/2), (1/2, 1) and (1, 1).
    value = M.partial_auc([4.0, 3.0, 2.0, 1.0], [1, 0, 1, 0], max_fpr=0.25)
    assert value.raw == pytest.approx(0.125)
    # All tied: the diagonal.
    assert M.partial_auc([0.0] * 4, [1, 0, 1, 0], max_fpr=0.5).raw == 0.125


def test_two_way_area_with_ties_is_its_definition():
    rng = np.random.default_rng(1)
    labels = rng.random(70) < 0.4
    scores = rng.integers(0, 9, 70) + 1.0 * labels
    for alpha, beta in ((0.3, 0.3), (1.0, 0.1), (0.01, 0.5)):
        up, down = np.sort(scores[labels]), -np.sort(-scores[~labels])
        up = up[: max(1, int(alpha * len(up)))]
        down = down[: max(1, int(beta * len(down)))]
        wins = [[(p > q) + 0.5 * (p == q) for q in down] for p in up]
        value = M.two_way_partial_auc(scores, labels, alpha=alpha, beta=beta)
        assert value == pytest.approx(np.mean(wins), abs=1e-14)


def test_shares_are_floored_but_never_to_nothing():
    assert [share_count(0.57, 100), share_count(0.3, 9), share_count(0.1, 9)] == [
        57,
        2,
        1,
    ]
    assert share_count(0.5, 0) == 0


def test_one_class_has_no_area():
    assert np.isnan(M.partial_auc([0.1, 0.2], [1, 1], max_fpr=0.3)).all()
    assert np.isnan(M.two_way_partial_auc([0.1, 0.2], [0, 0], alpha=0.3, beta=0.3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: M.partial_auc(SCORES, LABELS, max_fpr=0.0), r"max_fpr is 0.0, .* \(0"),
        (
            lambda: M.two_way_partial_auc(SCORES, LABELS, alpha=1.2, beta=0.3),
            "alpha is 1.2",
        ),
        (
            lambda: M.partial_auc(SCORES, np.arange(15), max_fpr=0.1),
            "partial_auc: a label is 2",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
