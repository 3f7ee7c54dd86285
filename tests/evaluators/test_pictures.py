"""What is kept of pictures and the classes of their pixels."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluators import EvaluatorSetting
from ltjax.evaluators.pictures import displayed
from ltjax.evaluators.registry import EVALUATORS


def evaluator(**options):
    def predict(state, inputs):
        return {"logits": jnp.stack([-inputs[..., 0], inputs[..., 0]], axis=-1)}

    counts = np.array([9, 2])
    setting = EvaluatorSetting(predict, class_counts=counts, groups={}, networks={})
    component = EVALUATORS["pictures"]
    return component.make(component.options(**options), setting)


def test_pictures_are_stretched_whatever_their_normalization():
    inputs = jnp.array([[[[-1.0], [0.0], [3.0]]], [[[5.0], [5.0], [5.0]]]])
    shown = np.asarray(displayed(inputs))
    assert shown.shape == (2, 1, 3, 3) and shown.dtype == np.uint8
    assert shown[0, 0, :, 0].tolist() == [0, 64, 255]  # 255 / 4 = 63.75
    assert (shown[0, 0, :, 0] == shown[0, 0, :, 2]).all() and (shown[1] == 0).all()


def test_the_first_pictures_are_kept_thinned():
    one = evaluator(count=2, side=8)
    inputs = np.random.default_rng(0).normal(size=(3, 16, 12, 1)).astype(np.float32)
    targets = np.arange(3 * 16 * 12).reshape(3, 16, 12) % 2
    targets[0, 0, 0] = 255
    found = one.judge.fn(None, {"inputs": inputs, "targets": targets}, None)
    kept = {name: np.asarray(value)[None] for name, value in found.items()}
    arrays = one.arrays(kept, None, None)
    assert list(arrays) == ["pictures/input", "pictures/true", "pictures/predicted"]
    thin = inputs[:2, ::2, ::2, 0]  # 16 pixels at most 8: every second
    np.testing.assert_array_equal(arrays["pictures/true"][0], targets[:2, ::2, ::2])
    # Logits (-x, x): the sign of x is the class.
    np.testing.assert_array_equal(arrays["pictures/predicted"][0], thin > 0)
    assert arrays["pictures/input"].shape == (1, 2, 8, 6, 3)
    assert one.summarize(arrays) == {} and one.columns == ()


def test_data_without_classes_of_pixels_are_refused():
    with pytest.raises(ValueError, match="no 'targets'"):
        evaluator().judge.fn(None, {"inputs": np.zeros((1, 8, 8, 1))}, None)
