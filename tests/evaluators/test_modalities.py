"""What each modality knows by itself: recalls by hand."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluators.evaluator import EvaluatorSetting
from ltjax.evaluators.modalities import make
from ltjax.options import ConfigError, NoOptions


def setting(names):
    return EvaluatorSetting(
        predict=lambda state, inputs: {"modality_logits": inputs},
        class_counts=np.array([9, 3]),
        groups={},
        networks={"main": types.SimpleNamespace(modalities=names)},
    )


def test_balanced_accuracy_of_each_modality():
    evaluator = make(NoOptions(), setting(("image", "signal")))
    said = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]])  # rows, modalities
    batch = {
        "inputs": jax.nn.one_hot(said, 2),
        "label": jnp.array([0, 0, 0, 1, 1]),
        "mask": jnp.arange(5) < 4,
    }
    sums = evaluator.judge.fn(None, evaluator.judge.empty, batch, None)
    arrays = evaluator.arrays([np.asarray(x)[None] for x in sums], None, None)
    found = evaluator.summarize(arrays)
    # Image: 2 of 3 and 1 of 1; signal: 1 of 3 and 0 of 1.
    assert found["alone_image"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["alone_signal"] == pytest.approx((1 / 3 + 0) / 2)
    assert found["alone_gap"] == pytest.approx(2 / 3)
    np.testing.assert_allclose(arrays["classes/signal alone"], [[1 / 3, 0]])
    with pytest.raises(ConfigError, match="the network takes one array"):
        make(NoOptions(), setting(()))
