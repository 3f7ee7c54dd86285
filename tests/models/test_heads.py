"""Classifier heads: initial values, invariances, gradients, the fixed frame."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.classifiers import permute_frame, rotate_frame
from ltjax.models import CosineHead, FrameHead, LinearHead, build_model

D, K = 64, 400
FEATURES = jax.random.normal(jax.random.key(1), (5, D))


def logits_of(head, params, features):
    _, logits = head.apply({"params": params}, features, train=False)
    return logits


@pytest.fixture(scope="module")
def cosine():
    head = CosineHead(num_classes=K)
    return head, head.init(jax.random.key(0), FEATURES, train=False)["params"]


def test_linear_head_defaults_to_uniform_fan_in():
    head = LinearHead(num_classes=K)
    params = head.init(jax.random.key(0), FEATURES, train=False)["params"]
    bound = 1 / math.sqrt(D)
    for name, shape in (("kernel", (D, K)), ("bias", (K,))):
        values = np.asarray(params[name])
        assert values.shape == shape
        assert np.abs(values).max() <= bound
        # U(-b, b) has standard deviation b / sqrt(3) and nears its ends.
        assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.07)
        assert np.abs(values).max() > 0.98 * bound
    w, b = (np.asarray(params[name], np.float64) for name in ("kernel", "bias"))
    expected = np.asarray(FEATURES, np.float64) @ w + b
    np.testing.assert_allclose(
        logits_of(head, params, FEATURES), expected, rtol=1e-4, atol=1e-5
    )


def test_linear_head_he_is_normal_and_untruncated():
    head = LinearHead(num_classes=K, kernel_init="he")
    kernel = head.init(jax.random.key(0), FEATURES, train=False)["params"]["kernel"]
    sigma = math.sqrt(2 / D)
    assert np.std(kernel) == pytest.approx(sigma, rel=0.02)
    # 4.6 % of a normal distribution, none of a truncated one.
    assert np.mean(np.abs(kernel) > 2 * sigma) == pytest.approx(0.0455, abs=0.008)


@pytest.mark.parametrize(
    "init_bias, expected", [("sigmoid", -math.log(K - 1)), (0.5, 0.5)]
)
def test_initial_bias(init_bias, expected):
    head = LinearHead(num_classes=K, init_bias=init_bias)
    bias = head.init(jax.random.key(0), FEATURES, train=False)["params"]["bias"]
    np.testing.assert_allclose(bias, expected, rtol=1e-6)
    if init_bias == "sigmoid":
        np.testing.assert_allclose(jax.nn.sigmoid(bias), 1 / K, rtol=1e-5)


def test_head_without_bias():
    head = LinearHead(num_classes=K, use_bias=False)
    params = head.init(jax.random.key(0), FEATURES, train=False)["params"]
    assert set(params) == {"kernel"}


def test_cosine_head_starts_with_unit_columns_and_gives_cosines(cosine):
    head, params = cosine
    assert set(params) == {"kernel"}
    norms = np.linalg.norm(params["kernel"], axis=0)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    h = np.asarray(FEATURES, np.float64)
    w = np.asarray(params["kernel"], np.float64)
    expected = h @ w / np.linalg.norm(h, axis=1)[:, None] / np.linalg.norm(w, axis=0)
    logits = logits_of(head, params, FEATURES)
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    assert np.abs(logits).max() <= 1 + 1e-6


def test_cosine_head_ignores_norms_and_its_gradients_are_tangent(cosine):
    head, params = cosine
    scales = jnp.linspace(0.1, 30, K)
    scaled = {"kernel": params["kernel"] * scales[None, :]}
    np.testing.assert_allclose(
        logits_of(head, scaled, 7 * FEATURES),
        logits_of(head, params, FEATURES),
        atol=2e-6,
    )

    def loss(params, features):
        return jnp.sum(jnp.sin(3 * logits_of(head, params, features)))

    by_params, by_features = jax.grad(loss, argnums=(0, 1))(scaled, FEATURES)
    radial = np.sum(by_features * FEATURES, axis=1)
    np.testing.assert_allclose(radial, 0, atol=1e-3)
    assert np.linalg.norm(by_features, axis=1).min() > 1e-2
    radial = np.sum(by_params["kernel"] * scaled["kernel"], axis=0)
    np.testing.assert_allclose(radial, 0, atol=1e-4)


def test_cosine_head_is_finite_at_a_zero_feature(cosine):
    head, params = cosine
    zero = jnp.zeros((1, D))

    def loss(params, features):
        return jnp.sum(logits_of(head, params, features)[:, 0])

    value, grads = jax.value_and_grad(loss, argnums=(0, 1))(params, zero)
    assert value == 0
    # Below the floor the feature is divided by 1e-12, as in the published code.
    np.testing.assert_allclose(grads[1][0], 1e12 * params["kernel"][:, 0], rtol=1e-4)
    np.testing.assert_array_equal(grads[0]["kernel"], 0)


# A simplex for K = 3 with U the identity: sqrt(3/2) (I - 1/3).
ETF3 = 1.224744871 * (np.eye(3) - 1 / 3)


def test_frame_head_is_fixed_normalized_and_saved():
    head = FrameHead(num_classes=3, frame=ETF3)
    features = jax.random.normal(jax.random.key(1), (6, 3)) * 4 + 1
    variables = head.init(jax.random.key(0), features, train=False)
    assert set(variables["params"]) == {"norm"}
    np.testing.assert_allclose(variables["frames"]["frame"], ETF3, rtol=1e-6)
    (seen, logits), changed = head.apply(
        variables, features, train=True, mutable=["batch_stats", "frames"]
    )
    x = np.asarray(features, np.float64)
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(seen, x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, x @ ETF3, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(
        changed["frames"]["frame"], variables["frames"]["frame"]
    )


def test_frame_head_of_a_model_lives_in_its_state():
    shapes = []

    def frame(key, shape):
        shapes.append(shape)
        return ETF3

    model = build_model(
        "mlp",
        num_classes=3,
        hidden=(3,),
        head="etf",
        head_options={"frame": frame, "batch_norm": False},
    )
    params, state = model.init(jax.random.key(0), jnp.zeros((1, 2)))
    assert shapes == [(3, 3)] and "head" not in params
    np.testing.assert_allclose(state["frames"]["head"]["frame"], ETF3, rtol=1e-6)
    assert model.rows_independent
    inputs = jax.random.normal(jax.random.key(1), (4, 2))
    outputs, after = model.forward(params, state, inputs, train=True)
    np.testing.assert_allclose(
        outputs["logits"], np.asarray(outputs["features"]) @ ETF3, atol=1e-6
    )
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_frame_head_options():
    plain = FrameHead(num_classes=3, frame=ETF3, batch_norm=False, normalize="none")
    features = jnp.array([[3.0, -4.0, 0.0]])
    variables = plain.init(jax.random.key(0), features, train=False)
    seen, logits = plain.apply(variables, features, train=True)
    np.testing.assert_array_equal(seen, features)
    np.testing.assert_allclose(logits, features @ ETF3, rtol=1e-5)
    assert plain.rows_independent
    assert not FrameHead(num_classes=3, frame=ETF3).rows_independent


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(head="cosin"), "did you mean 'cosine'"),
        (dict(head_options={"bias": False}), "did you mean 'use_bias'"),
        (dict(num_classes=0), "num_classes is 0"),
        (dict(head="etf", head_options={"frame": "eft"}), "did you mean 'etf'"),
        (dict(head_options={"kernel_init": "xavier"}), "kernel_init is 'xavier', unkn"),
        (dict(head_options={"init_bias": "ones"}), "init_bias is 'ones', "),
    ],
)
def test_heads_refuse_what_they_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model("mlp", **{"num_classes": 3, **arguments})


def test_a_frame_has_seeds_of_its_own():
    """Orientation, order and rotation, under jit as runs are built."""

    @functools.partial(jax.jit, static_argnums=0)
    def frame(options, key):
        head = FrameHead(num_classes=5, batch_norm=False, **dict(options))
        return head.init(key, jnp.zeros((1, 3)), train=False)["frames"]["frame"]

    keys = jax.random.split(jax.random.key(0))
    seeded, *others = (
        np.asarray(frame((("seed", seed),), key))
        for seed, key in ((3, keys[0]), (3, keys[1]), (4, keys[0]), (-1, keys[0]))
    )
    np.testing.assert_array_equal(others[0], seeded)
    assert all(np.abs(other - seeded).max() > 0.1 for other in others[1:])
    moved = np.asarray(frame((("seed", 3), ("permutation", 2)), keys[0]))
    np.testing.assert_array_equal(moved, permute_frame(2, seeded)[0])
    assert not np.array_equal(moved, seeded)
    turned = np.asarray(frame((("seed", 3), ("rotation", 2)), keys[0]))
    np.testing.assert_allclose(turned, rotate_frame(2, seeded), atol=1e-5)
    np.testing.assert_allclose(turned.T @ turned, seeded.T @ seeded, atol=1e-5)


def test_a_frame_of_another_shape_is_refused():
    wrong = FrameHead(num_classes=3, frame=np.eye(4))
    with pytest.raises(ValueError, match=r"frame has shape \(4, 4\)"):
        wrong.init(jax.random.key(0), jnp.zeros((1, 3)), train=False)


def test_linear_head_scales_its_logits_before_the_bias():
    plain = LinearHead(num_classes=2, normalize="l2")
    scaled = LinearHead(num_classes=2, normalize="l2", scale=10.0)
    params = {"kernel": jnp.eye(2), "bias": jnp.asarray([1.0, -1.0])}
    features = jnp.asarray([[3.0, 4.0]])  # unit: (0.6, 0.8)
    expected = {plain: [[1.6, -0.2]], scaled: [[7.0, 7.0]]}
    for head, logits in expected.items():
        seen, found = head.apply({"params": params}, features, train=False)
        np.testing.assert_allclose(found, logits, rtol=1e-6)
        np.testing.assert_allclose(seen, [[0.6, 0.8]], rtol=1e-6)
