"""Measures of rankings of several labels, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluators import EvaluatorSetting
from ltjax.evaluators.multilabel import MultilabelOptions, make

GROUPS = {
    "many": np.array([1, 1, 0, 0, 0], bool),
    "few": np.array([0, 0, 0, 1, 1], bool),
}


def judged(k, logits, targets):
    setting = EvaluatorSetting(
        predict=lambda state, inputs: {"logits": inputs},
        class_counts=np.ones(5),
        groups=GROUPS,
        networks={},
    )
    evaluator = make(MultilabelOptions(k=k), setting)
    batch = {"inputs": jnp.asarray(logits), "targets": jnp.asarray(targets)}
    kept = evaluator.judge.fn(None, batch, None)
    arrays = evaluator.arrays([np.asarray(x)[None] for x in kept], None, None)
    return {name: value[0] for name, value in evaluator.summarize(arrays).items()}


def test_one_row_by_hand():
    # Ranks 1, 4, 2, 3, 5; relevant are the labels of rank 1 and 3.
    found = judged((3,), [[0.9, 0.2, 0.7, 0.5, 0.1]], [[1, 0, 0, 1, 0]])
    want = {
        "precision_at_3": 2 / 3,
        "recall_at_3": 1.0,
        "ap_at_3": (1 + 2 / 3) / 2,
        "ndcg_at_3": (1 + 1 / 2) / (1 + 1 / np.log2(3)),
        "tkpr_at_3": 0.8,
        "ranking_loss": 1 / 6,
        "coverage": 3,
        "lrap": (1 + 2 / 3) / 2,
    }
    for name, value in want.items():
        assert found[name] == pytest.approx(value), name


def test_average_precision_is_of_a_label_over_the_examples():
    logits = np.zeros((3, 5))
    logits[:, 0], logits[:, 4] = [3, 2, 1], [1, 3, 2]
    targets = np.zeros((3, 5), int)
    targets[:, 0], targets[:, 4] = [1, 0, 1], [1, 0, 0]
    found = judged((1,), logits, targets)
    first, last = (1 + 2 / 3) / 2, 1 / 3
    assert found["map"] == pytest.approx((first + last) / 2)
    assert found["map_many"] == pytest.approx(first)
    assert found["map_few"] == pytest.approx(last)


def test_predictions_that_are_not_finite_give_no_number():
    found = judged((1,), [[np.nan, 0.0, 0.0, 0.0, 0.0]], [[1, 0, 0, 1, 0]])
    assert all(np.isnan(value) for value in found.values())


def test_deeper_than_the_labels_is_refused():
    with pytest.raises(ValueError, match=r"k is \(6,\), expected at most 5"):
        judged((6,), [[0.0] * 5], [[1, 0, 0, 0, 0]])
