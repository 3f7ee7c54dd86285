"""Intersections and unions of a judged split, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluators import EvaluatorSetting
from ltjax.evaluators.segmentation import make
from ltjax.options import NoOptions


def test_intersections_and_unions_are_summed_over_batches():
    setting = EvaluatorSetting(
        predict=lambda state, inputs: {"logits": jax.nn.one_hot(inputs, 4)},
        class_counts=np.array([9, 3, 1, 1]),
        groups={"few": np.array([False, True, True, False])},
        networks={},
    )
    evaluator = make(NoOptions(), setting)
    predicted = np.array([[[0, 0], [1, 1]], [[0, 0], [0, 0]], [[2, 2], [2, 2]]])
    true = np.array([[[0, 1], [1, 255]], [[0, 0], [2, 0]], [[0, 0], [0, 0]]])
    sums = evaluator.judge.empty
    for row in range(3):
        batch = {
            "inputs": jnp.asarray(predicted[row : row + 1]),
            "targets": jnp.asarray(true[row : row + 1], jnp.uint8),
            "mask": jnp.array([row < 2]),  # the last picture is padding
        }
        sums = evaluator.judge.fn(None, sums, batch, None)
    arrays = evaluator.arrays([np.asarray(x)[None] for x in sums], None, None)
    found = {name: value[0] for name, value in evaluator.summarize(arrays).items()}
    # Class 0: 4 of 6 pixels, 1: 1 of 2, 2: none of 1; class 3 is nowhere.
    each = [4 / 6, 1 / 2, 0, np.nan]
    np.testing.assert_allclose(arrays["classes/intersection over union"], [each])
    assert found["mean_iou"] == pytest.approx(np.nanmean(each))
    assert found["iou_few"] == pytest.approx(1 / 4)
    assert found["pixel_accuracy"] == pytest.approx(5 / 7)
    assert found["class_accuracy"] == pytest.approx((1 + 1 / 2 + 0) / 3)
