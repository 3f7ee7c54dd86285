"""Ranking measures: by hand, by enumerating orders of ties, and scikit-learn."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    coverage_error,
    label_ranking_average_precision_score,
    label_ranking_loss,
    ndcg_score,
    top_k_accuracy_score,
)

from ltjax import metrics as M
from ltjax.class_stats import shot_groups

SCORES, RELEVANT = [[0.9, 0.2, 0.7, 0.5, 0.1]], [[1, 0, 0, 1, 0]]


def tied(seed, rows=40, labels=7):
    rng = np.random.default_rng(seed)
    relevant = rng.random((rows, labels)) < 0.4
    relevant[0], relevant[1] = False, True
    relevant[2:4, 0] = True
    return rng.integers(0, 4, (rows, labels)) / 4, relevant


def by_enumeration(scores, relevant, k):
    """P, R, AP, NDCG and TKPR at k, as means over all orders of the tied labels."""
    orders = [
        o
        for o in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(o))
    ]
    number, least = relevant.sum(), min(relevant.sum(), k)
    out = []
    for order in orders:
        y = relevant[list(order)].astype(float)
        precisions = np.cumsum(y) / np.arange(1, len(y) + 1)
        ranks = np.arange(1, k + 1)
        ideal = sum(1 / np.log2(r + 1) for r in range(1, least + 1))
        out.append(
            [
                y[:k].mean(),
                y[:k].sum() / number,
                np.sum(y[:k] * precisions[:k]) / least,
                np.sum(y[:k] / np.log2(ranks + 1)) / ideal,
                np.sum(y[:k] * (k + 1 - ranks)) / k,
            ]
        )
    return np.mean(out, axis=0)


def test_hand_computed():
    """Ranks 1 4 2 3 5; relevant at ranks 1 and 3."""
    for k, total in ((1, 1), (2, 2), (3, 4), (5, 8)):
        value = M.top_k_ranking(SCORES, RELEVANT, k=k, normalizer="none").tkpr
        assert value[0] * k == pytest.approx(total)
    rows = M.top_k_ranking(SCORES, RELEVANT, k=3, normalizer="none")
    expected = [2 / 3, 1, 5 / 6, 0.91972079, 4 / 3]
    np.testing.assert_allclose([x[0] for x in rows], expected, atol=5e-9)
    for normalizer, value in (("labels", 2 / 3), ("ideal", 0.8), ("k", 4 / 9)):
        rows = M.top_k_ranking(SCORES, RELEVANT, k=3, normalizer=normalizer)
        assert rows.tkpr[0] == pytest.approx(value)
    assert M.ranking_loss(SCORES, RELEVANT)[0] == pytest.approx(1 / 6)
    few = M.top_k_ranking(SCORES, RELEVANT, k=5, capped=True)
    assert few.precision[0] == 1.0


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_ties_are_the_mean_over_their_orders(k):
    scores, relevant = tied(0, rows=9, labels=5)
    rows = M.top_k_ranking(scores, relevant, k=k, normalizer="none")
    for i in range(9):
        if relevant[i].any():
            expected = by_enumeration(scores[i], relevant[i], k)
            np.testing.assert_allclose([x[i] for x in rows], expected, atol=1e-13)
        else:
            assert all(np.isnan(x[i]) for x in rows)


def test_ties_inside_the_list_count_half():
    """s = (.5, .5), K = 1: the strict pair-wise form gives 0, the list-wise one 1."""
    rows = M.top_k_ranking([[0.5, 0.5]], [[1, 0]], k=1, normalizer="none")
    assert rows.tkpr[0] == 0.5
    scores, relevant = tied(1)
    size = scores.shape[1]
    # K = L: every tie lies inside, and half of a tied pair with another label counts.
    for row, y, value in zip(
        scores,
        relevant,
        M.top_k_ranking(scores, relevant, k=size, normalizer="none").tkpr,
        strict=True,
    ):
        if y.any():
            wins = (row[y, None] > row[None]) + 0.5 * (row[y, None] == row[None])
            # Less the half of each label against itself, plus the (K+1)-th, -inf.
            assert value * size == pytest.approx(wins.sum() + y.sum() / 2)


def test_relations_between_measures():
    rng = np.random.default_rng(2)
    scores = rng.permuted(np.tile(np.arange(6.0), (30, 1)), axis=1)
    relevant = rng.random((30, 6)) < 0.5
    relevant[:, 0] = True
    number = relevant.sum(axis=1)
    at = {
        k: M.top_k_ranking(scores, relevant, k=k, normalizer="none")
        for k in range(1, 7)
    }
    for k in (1, 3, 6):
        weighted = sum(j * at[j].precision for j in range(1, k + 1)) / k
        np.testing.assert_allclose(at[k].tkpr, weighted, atol=1e-13)
        recalls = np.mean([at[j].recall for j in range(1, k + 1)], axis=0)
        by_labels = M.top_k_ranking(scores, relevant, k=k, normalizer="labels")
        np.testing.assert_allclose(by_labels.tkpr, recalls, atol=1e-13)
    # At K = L it is affine in the ranking loss.
    loss = M.ranking_loss(scores, relevant)
    affine = number * 7 - number * (number + 1) / 2 - number * (6 - number) * loss
    np.testing.assert_allclose(at[6].tkpr * 6, affine, atol=1e-12)


def test_area_under_the_top_k_curve():
    rng = np.random.default_rng(3)
    scores, labels = rng.normal(size=(50, 6)), rng.integers(0, 6, 50)
    curve = [
        top_k_accuracy_score(labels, scores, k=k, labels=range(6)) for k in (1, 2, 3)
    ]
    assert M.autkc(scores, labels, k=3) == pytest.approx(np.mean(curve))
    assert M.autkc(scores, labels, k=1) == pytest.approx(curve[0])
    assert M.autkc(np.zeros((50, 6)), labels, k=1) == pytest.approx(1 / 6)


def test_against_scikit_learn():
    scores, relevant = tied(4)
    some = relevant.any(axis=1)
    scores, relevant = scores[some], relevant[some]
    ndcg = M.top_k_ranking(scores, relevant, k=3).ndcg.mean()
    assert ndcg == pytest.approx(ndcg_score(relevant, scores, k=3), abs=1e-12)
    for ours, theirs in (
        (M.ranking_loss, label_ranking_loss),
        (M.label_ranking_average_precision, label_ranking_average_precision_score),
        (M.coverage, coverage_error),
    ):
        expected = theirs(relevant, scores)
        assert ours(scores, relevant).mean() == pytest.approx(expected, abs=1e-12)


def test_rows_without_a_choice():
    scores, none, every = [[0.1, 0.2]], [[0, 0]], [[1, 1]]
    assert M.ranking_loss(scores, none) == M.ranking_loss(scores, every) == 0
    assert M.label_ranking_average_precision(scores, none) == 1
    assert M.label_ranking_average_precision(scores, every) == 1
    assert M.coverage(scores, none) == 0
    assert label_ranking_average_precision_score(none, scores) == 1


def test_mean_average_precision_by_group():
    scores, relevant = tied(5, labels=4)
    relevant[:, 3] = False  # a class without a positive is skipped
    groups = shot_groups([500, 50, 50, 5])
    each = [average_precision_score(relevant[:, k], scores[:, k]) for k in range(3)]
    out = M.mean_average_precision(scores, relevant, groups=groups)
    assert out["all"] == pytest.approx(np.mean(each))
    assert out["medium"] == pytest.approx(np.mean(each[1:]))
    assert np.isnan(out["few"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda s, y: M.top_k_ranking(s, y, k=6),
            "k is 6, expected 1 to 5",
        ),
        (lambda s, y: M.top_k_ranking(s, y, k=0), "top_k_ranking: k is 0"),
        (lambda s, y: M.top_k_ranking(s, [[1, 0]], k=1), r"relevant has shape \(1, 2"),
        (
            lambda s, y: M.top_k_ranking(s, [[2] * 5], k=1),
            "of relevant is 2, expected 0",
        ),
        (lambda s, y: M.top_k_ranking(s, y, k=1, normalizer="n"), "normalizer is 'n'"),
        (lambda s, y: M.ranking_loss(s[0], y[0]), r"scores have shape \(5,\)"),
        (lambda s, y: M.coverage([[np.nan]], [[1]]), "scores of row 0 are NaN"),
        (
            lambda s, y: M.autkc(s, [7], k=1),
            "a label is 7, expected an index",
        ),
        (lambda s, y: M.mean_average_precision(s[0], y[0]), r"have shape \(5,\)"),
        (
            lambda s, y: M.mean_average_precision(s, y, groups={"few": [True]}),
            r"group 'few' has shape \(1,\), expected \(5,\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(SCORES, RELEVANT)
