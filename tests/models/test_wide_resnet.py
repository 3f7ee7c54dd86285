"""WRN-28-2: published size, and where its shortcuts start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import build_model, count_parameters
from ltjax.models.wide_resnet import WideBlock, WideResNet


def test_published_number_of_parameters():
    """Convolutions, two numbers per normalized channel, and the linear head.

    Stage s has 4 blocks of two 3x3 convolutions, the first from the width before, and
    one 1x1 projection.
    """
    widths, before = (32, 64, 128), 16
    total = 9 * 3 * 16
    for width in widths:
        total += 9 * before * width + 7 * 9 * width * width + before * width
        total += 2 * before + 7 * 2 * width
        before = width
    total += 2 * 128 + 128 * 10 + 10
    model = build_model("wrn28_2", num_classes=10)
    shape = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params, _ = jax.eval_shape(lambda: model.init(jax.random.key(0), shape))
    assert count_parameters(params) == total == 1_467_610
    assert model.num_features == 128


def test_first_shortcut_takes_the_activated_input():
    x = jnp.full((1, 4, 4, 4), -1.0)
    outputs = []
    for first in (True, False):
        block = WideBlock(4, 1, first, "none", "float32")
        variables = block.init(jax.random.key(0), x, train=False)
        zero = jax.tree.map(jnp.zeros_like, variables)
        outputs.append(block.apply(zero, x, train=False)[0, 0, 0, 0])
    np.testing.assert_allclose(outputs, [-0.1, -1.0], rtol=1e-6)


def test_running_statistics_move_as_slowly_as_asked():
    """Of constant channels c the running mean is (1 - d) c after a step."""
    x = jnp.broadcast_to(jnp.arange(1.0, 5.0), (2, 4, 4, 4))
    for decay in (0.9, 0.999):
        block = WideBlock(4, 1, False, "batch", "float32", decay)
        variables = block.init(jax.random.key(0), x, train=False)
        moved = block.apply(variables, x, train=True, mutable=["batch_stats"])[1]
        found = moved["batch_stats"]["norm1"]["mean"]
        np.testing.assert_allclose(found, (1 - decay) * x[0, 0, 0], rtol=1e-4)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="WideResNet: depth is 12, expected 6n"):
        WideResNet(depth=12)
    model = build_model("wrn28_2", num_classes=2)
    with pytest.raises(ValueError, match="WideResNet: inputs have shape"):
        model.init(jax.random.key(0), jnp.zeros((1, 40, 1)))
