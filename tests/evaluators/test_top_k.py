"""Top-k accuracy of logits that are given, by hand."""

import jax.numpy as jnp
import numpy as np

from ltjax.evaluators import EvaluatorSetting
from ltjax.evaluators.top_k import TopKOptions, make
from ltjax.metrics import autkc

GROUPS = {"many": np.array([True, False, False]), "few": np.array([False, True, True])}


def judged(k, logits, labels, mask=None):
    setting = EvaluatorSetting(
        predict=lambda state, inputs: {"logits": inputs},
        class_counts=np.array([9, 2, 1]),
        groups=GROUPS,
        networks={},
    )
    evaluator = make(TopKOptions(k=k), setting)
    mask = np.ones(len(labels), bool) if mask is None else mask
    batch = {"inputs": jnp.asarray(logits), "label": jnp.asarray(labels), "mask": mask}
    sums = evaluator.judge.fn(None, evaluator.judge.empty, batch, None)
    arrays = evaluator.arrays([np.asarray(x)[None] for x in sums], None, None)
    return {name: value[0] for name, value in evaluator.summarize(arrays).items()}


def test_two_of_three_classes_may_be_named():
    logits = [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 9.0]]
    found = judged(2, logits, [0, 1, 2, 2])
    # Class 0: 1 of 1, class 1: 1 of 1, class 2: 1 of 2.
    assert found["top_k"] == 0.75
    assert found["top_k_balanced"] == (1 + 1 + 0.5) / 3
    assert (found["top_k_many"], found["top_k_few"]) == (1, 0.75)
    # Ranks 1, 2, 3, 1 count 1, 1/2, 0, 1 at k = 2.
    assert found["autkc"] == (1 + 0.5 + 0 + 1) / 4 == autkc(logits, [0, 1, 2, 2], k=2)
    assert found["autkc_balanced"] == (1 + 0.5 + 0.5) / 3
    assert (found["autkc_many"], found["autkc_few"]) == (1, 0.5)


def test_padding_and_absent_classes_do_not_count():
    logits = [[3.0, 2.0, 1.0], [0.0, 0.0, 9.0]]
    found = judged(1, logits, [0, 0], np.array([True, False]))
    assert found["top_k"] == found["top_k_balanced"] == 1
    assert np.isnan(found["top_k_few"])
    assert judged(7, logits, [2, 0])["top_k"] == 1  # k beyond K
