"""Areas of a judged split, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluators import EvaluatorSetting
from ltjax.evaluators.auc import AUCOptions, make, true_positive_rates

GROUPS = {"few": np.array([False, False, True])}


def judged(logits, labels):
    setting = EvaluatorSetting(
        predict=lambda state, inputs: {"logits": inputs},
        class_counts=np.ones(np.shape(logits)[1]),
        groups={name: own[: np.shape(logits)[1]] for name, own in GROUPS.items()},
        networks={},
    )
    evaluator = make(AUCOptions(scores="logits"), setting)
    batch = {"inputs": jnp.asarray(logits), "label": jnp.asarray(labels)}
    kept = evaluator.judge.fn(None, batch, None)
    arrays = evaluator.arrays([np.asarray(x)[None] for x in kept], None, None)
    return arrays, {k: v[0] for k, v in evaluator.summarize(arrays).items()}


def test_areas_over_pairs_of_classes_and_against_the_rest():
    logits = [[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.3, 0.6, 0.1], [0.5, 0.3, 0.2]]
    arrays, found = judged([*logits, [0.2, 0.2, 0.6]], [0, 0, 1, 1, 2])
    # Of six ordered pairs (0, 1) and (1, 0) have 3 of 4 pairs in order, all others all.
    assert found["auc_ovo"] == pytest.approx(5.5 / 6)
    assert found["auc_worst"] == 0.75
    assert found["auc_few"] == 1
    # Class 0 against 1, 1, 2: 5 of 6 in order; class 1 against 0, 0, 2 likewise.
    of_class = arrays["classes/AUC against the other classes"][0]
    np.testing.assert_allclose(of_class, [5 / 6, 5 / 6, 1])
    assert found["auc_ovr"] == pytest.approx(8 / 9)


def test_two_classes_have_one_area():
    _, found = judged([[0, 1], [0, 3], [0, 2], [0, 0]], [1, 1, 0, 0])
    assert found["auc"] == 0.75  # 1 is above 0 only, 3 above both
    assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_scores_that_are_not_finite_have_no_area():
    arrays, found = judged([[np.nan, 1.0, 0.0], [0, 1, 0], [0, 0, 1]], [0, 1, 2])
    assert np.isnan(found["auc_ovo"]) and np.isnan(found["auc_ovr"])
    assert np.isnan(arrays["classes/AUC against the other classes"]).all()


def test_the_curve_of_receiver_and_operator():
    # Ten negatives 0, .1, ..., .9: none of them above .95, one above .85 and so on.
    margin = np.r_[np.arange(10) / 10, 0.95, 0.85, 0.75, 0.25]
    scores = np.stack([0 * margin, margin], axis=1)
    found = true_positive_rates(scores, np.r_[np.zeros(10), np.ones(4)].astype(int))
    # Up to 5 % none of them is let in; 10 %, 20 % and 50 % are 1, 2 and 5 of them.
    np.testing.assert_allclose(found, [0.25, 0.25, 0.25, 0.25, 0.5, 0.75, 0.75])
    # A positive that ties with the first negative outside is not above it.
    tied = true_positive_rates(np.array([[0, 0.5], [0, 0.5]]), np.array([0, 1]))
    assert (tied == 0).all()
    assert np.isnan(true_positive_rates(scores, np.zeros(14, int))).all()


def test_the_curve_of_classes_is_their_mean():
    scores = np.array([[0.9, 0, 0.2], [0.1, 1, 0.1], [0.5, 0, 0.1], [0.2, 0.8, 0.3]])
    labels = np.array([0, 1, 0, 2])
    # Every example of 0, of 1 and of 2 is above all others in its column.
    np.testing.assert_array_equal(true_positive_rates(scores, labels), np.ones(7))
    # In column 1 example 3 is above the one of class 1: 0 until half of the negatives
    # are let in, of which there are 3.
    scores[1, 1] = 0.5
    want = np.array([2 / 3] * 6 + [1])
    np.testing.assert_allclose(true_positive_rates(scores, labels), want)
