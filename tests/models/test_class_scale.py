"""Learnable weight scaling on top of any network, against hand-made numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import softmax_cross_entropy
from ltjax.models import build_model
from ltjax.models.class_scale import learnable_scaling
from ltjax.models.forward import Model

# Class vectors (3, 4), (.6, .8), (0, 2), of norms 5, 1, 2.
KERNEL = jnp.array([[3.0, 0.6, 0.0], [4.0, 0.8, 2.0]])
BIAS = jnp.array([0.1, 0.0, -0.1])
FEATURES = jnp.array([[1.0, 0.5]])


def linear_model() -> Model:
    """logits = h W + b of the features themselves."""

    def forward(params, model_state, inputs, **options):
        logits = inputs @ params["head"]["kernel"] + params["head"]["bias"][None]
        return {"logits": logits, "features": inputs}, model_state

    return Model(
        init=lambda key, x: ({"head": {"kernel": KERNEL, "bias": BIAS}}, {}),
        forward=forward,
        rows_independent=True,
        num_features=2,
        describe="linear",
        class_vectors=lambda params, model_state: params["head"]["kernel"],
    )


def test_scales_multiply_logits_and_bias(x64):
    model = learnable_scaling(linear_model(), 3)
    params, state = model.init(jax.random.key(0), FEATURES)
    assert set(params) == {"head", "class_scale"}
    np.testing.assert_array_equal(params["class_scale"], [1, 1, 1])

    def loss(scale):
        chosen = {**params, "class_scale": scale}
        outputs, _ = model.forward(
            chosen, state, FEATURES.astype(jnp.float64), train=True
        )
        values = softmax_cross_entropy(outputs["logits"], jnp.array([2]))
        return values[0], outputs["logits"][0]

    scale = jnp.array([0.5, 1.0, 2.0], jnp.float64)
    (value, logits), slope = jax.value_and_grad(loss, has_aux=True)(scale)
    np.testing.assert_allclose(logits, [2.55, 1.0, 1.8], rtol=1e-7)
    assert value == pytest.approx(1.271536770017, rel=1e-7)
    expected = [3.027398802, 0.125992012, -0.647639658]
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


def test_scales_start_at_powers_of_the_norms_of_the_head_they_meet():
    model = learnable_scaling(linear_model(), 3, power=0.5)
    params, _ = model.init(jax.random.key(0), FEATURES)
    by_norm = np.array([5.0, 1.0, 2.0]) ** -0.5
    np.testing.assert_allclose(params["class_scale"], by_norm, rtol=1e-6)

    loaded = {**params, "head": {"kernel": 4 * KERNEL, "bias": BIAS}}
    fresh = model.adopt(loaded, frozenset({"class_scale"}))
    np.testing.assert_allclose(fresh["class_scale"], by_norm / 2, rtol=1e-6)
    # Scales that were loaded with the head, of a run that is continued, stay.
    kept = model.adopt(loaded, frozenset())
    np.testing.assert_array_equal(kept["class_scale"], params["class_scale"])
    vectors = model.class_vectors(fresh, {})
    expected = (by_norm / 2) * 4 * np.asarray(KERNEL)
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)


def test_scaled_network_has_the_seam_of_the_network_below():
    below = build_model("mlp", num_classes=3, hidden=(5,), norm="batch")
    model = learnable_scaling(below, 3)
    inputs = jax.random.normal(jax.random.key(1), (4, 6))
    params, state = model.init(jax.random.key(0), inputs)
    params = {**params, "class_scale": jnp.array([1.0, 2.0, 3.0])}
    whole, _ = model.forward(params, state, inputs, train=False)
    features = model.embed(params, state, inputs)
    parted, after = model.classify(params, state, features, train=True)
    np.testing.assert_array_equal(parted["logits"], whole["logits"])
    assert jax.tree.structure(after) == jax.tree.structure(state)
    bare = {name: params[name] for name in ("backbone", "head")}
    plain, _ = below.forward(bare, state, inputs, train=False)
    np.testing.assert_allclose(
        whole["logits"], plain["logits"] * jnp.arange(1.0, 4.0)[None], rtol=1e-6
    )
