"""DenseNet-BC: parameter counts by formula, shapes, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import DenseNet, build_model, count_parameters

KEY = jax.random.key(0)


def formula(depth, growth):
    """(parameters without head, features); a layer has two norms and two convs."""
    channels, total = 2 * growth, 9 * 3 * 2 * growth
    for block in range(3):
        for _ in range((depth - 4) // 6):
            inner = 4 * growth
            total += 2 * channels + channels * inner + 2 * inner + 9 * inner * growth
            channels += growth
        if block < 2:
            total += 2 * channels + channels * (channels // 2)
            channels //= 2
    return total + 2 * channels, channels


@pytest.mark.parametrize("depth, growth", [(100, 12), (40, 24), (22, 8)])
def test_parameter_counts(depth, growth):
    model = build_model("densenet_bc", num_classes=10, depth=depth, growth=growth)
    params, _ = jax.eval_shape(model.init, KEY, jnp.zeros((1, 32, 32, 3)))
    expected, features = formula(depth, growth)
    assert count_parameters(params["backbone"]) == expected
    assert model.num_features == features
    if (depth, growth) == (100, 12):
        assert count_parameters(params) == 769_162  # 0.8 M in the paper's table


def test_a_layer_passes_its_input_on_and_transitions_halve_the_map():
    module = DenseNet(depth=10, growth=4)

    def run(key, images):
        return module.init_with_output(
            key, images, train=False, capture_intermediates=True
        )

    features, variables = jax.eval_shape(run, KEY, jnp.zeros((2, 32, 32, 3)))
    seen = variables["intermediates"]
    shapes = {
        name: out["__call__"][0].shape
        for name, out in seen.items()
        if name != "__call__"
    }
    assert shapes["stem"] == (2, 32, 32, 8)
    assert shapes["block1_layer1_conv1"] == (2, 32, 32, 16)
    assert shapes["transition1_norm"] == (2, 32, 32, 12)
    assert shapes["transition1_conv"] == (2, 32, 32, 6)
    assert shapes["block2_layer1_norm1"] == (2, 16, 16, 6)
    assert shapes["block3_layer1_norm1"] == (2, 8, 8, 5)
    assert features.shape == (2, 9)


@pytest.mark.slow
def test_group_norm_variant_has_independent_rows():
    model = build_model("densenet_bc", num_classes=2, depth=10, growth=2, norm="group")
    assert model.rows_independent

    @jax.jit
    def features(images):
        outputs, _ = model.forward(*model.init(KEY, images), images, train=True)
        return outputs["features"]

    images = jax.random.normal(KEY, (2, 8, 8, 3))
    together, alone = features(images), features(images.at[1].set(0.0))
    np.testing.assert_allclose(together[0], alone[0], rtol=1e-4, atol=1e-6)
    assert np.isfinite(together).all() and np.abs(together[0]).max() > 0


def test_wrong_depth_is_refused():
    with pytest.raises(ValueError, match="depth is 150, expected 6n \\+ 4"):
        DenseNet(depth=150)
