"""Networks by name: every entry builds, wrong names are corrected."""

import jax
import jax.numpy as jnp
import pytest

from ltjax.models import MLP, MODELS, build_model
from ltjax.models.components import module_component
from ltjax.options import read_options

SHAPES = {"mlp": (1, 9), "conv1d": (1, 40), "conv2d": (1, 28, 28, 1)}


# Deeper ones of a family that the others stand for.
DEEP = ("resnet44", "resnet56", "resnet110", "resnet34", "resnet101", "resnet152")
DEEP += ("vit_s16", "resnext50")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in DEEP else ())
        for name in sorted(MODELS)
    ],
)
def test_every_model_builds(name):
    model = build_model(name, num_classes=7)
    sample = jnp.zeros(SHAPES.get(name, (1, 32, 32, 3)))
    if model.modalities:
        sample = {"image": jnp.zeros((1, 28, 28, 1)), "signal": jnp.zeros((1, 40, 1))}

    def run(key):
        params, state = model.init(key, sample)
        return params, model.forward(params, state, sample, train=True)[0]

    params, outputs = jax.eval_shape(run, jax.random.key(0))
    chosen, _ = read_options(MODELS[name].options, {})
    # A dense network has a feature and logits for every pixel.
    place = (1, 32, 32) if MODELS[name].facts(chosen).dense else (1,)
    assert outputs["logits"].shape == (*place, 7)
    assert outputs["features"].shape == (*place, model.num_features)
    assert set(params) == {"backbone", "head"}
    assert model.describe.startswith(f"{name} (")
    assert "\n" not in MODELS[name].about and "\n" not in model.describe


def test_a_project_can_add_to_a_copy():
    wide = module_component(MLP, "one wide layer", hidden=(77,))
    models = {**MODELS, "wide": wide}
    model = build_model("wide", num_classes=2, norm="batch", models=models)
    assert model.num_features == 77 and not model.rows_independent
    assert "wide" not in MODELS


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(name="resnext5"), "did you mean 'resnext50'. .valid: conv1d, conv2d, "),
        (dict(name="mlp", hiden=(3,)), "did you mean 'hidden'"),
        (dict(name="mlp", norm="bn"), "norm is 'bn'"),
        (dict(name="mlp", dtype="float31"), "dtype is 'float31'"),
        (dict(name="mlp", dtype="int32"), "dtype is 'int32'"),
        (dict(name="mlp", head="linaer"), "did you mean 'linear'"),
        (dict(name="mlp", head_options={"biass": 1}), "no option 'biass'"),
        (dict(name="resnet32", depth=44), "'resnet32' has no option 'depth'"),
        (dict(name="resnet_cifar", depth=33), "expected 6n"),
    ],
)
def test_wrong_names_and_options_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model(num_classes=3, **arguments)
