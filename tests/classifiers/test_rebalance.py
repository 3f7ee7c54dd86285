"""Decoupled classifiers: numbers by hand and their identities."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax.classifiers.rebalance import (
    fresh_linear_head,
    init_weight_scaling,
    inverse_norm_scale,
    learnable_weight_scaling,
    replace_head,
    tau_normalize,
    tau_normalize_logits,
)

# Class vectors (3, 4), (.6, .8), (0, 2), as the columns of a kernel.
WEIGHTS = jnp.array([[3.0, 4.0], [0.6, 0.8], [0.0, 2.0]]).T
BIAS = jnp.array([0.1, 0.0, -0.1])
FEATURES = jnp.array([1.0, 0.5])
TAU_LOGITS = {
    0.0: [5.0, 1.0, 1.0],
    0.5: [2.236067977, 1.0, 0.707106781],
    1.0: [1.0, 1.0, 0.5],
}


@pytest.mark.parametrize("tau", sorted(TAU_LOGITS))
def test_known_numbers_of_tau(tau):
    expected = TAU_LOGITS[tau]
    np.testing.assert_allclose(
        FEATURES @ tau_normalize(WEIGHTS, tau=tau), expected, rtol=1e-6
    )
    logits = FEATURES @ WEIGHTS
    np.testing.assert_allclose(
        tau_normalize_logits(logits, WEIGHTS, tau=tau), expected, rtol=1e-6
    )
    # A head with bias: dropped, the scores are the same; kept, it comes on top.
    for mode, extra in [("drop", 0.0), ("keep", BIAS)]:
        got = tau_normalize_logits(
            logits + BIAS, WEIGHTS, BIAS, tau=tau, bias_mode=mode
        )
        np.testing.assert_allclose(got, np.array(expected) + extra, atol=1e-6)


def test_scaling_a_class_scales_its_score_by_a_power():
    scaled = WEIGHTS * jnp.array([1.0, 8.0, 1.0])[None, :]
    before, after = (FEATURES @ tau_normalize(w, tau=0.7) for w in (WEIGHTS, scaled))
    np.testing.assert_allclose(after / before, [1, 8**0.3, 1], rtol=1e-6)


def test_tau_one_is_the_cosine_times_the_feature_norm():
    scores = FEATURES @ tau_normalize(WEIGHTS, tau=1.0)
    weights, features = np.array(WEIGHTS, np.float64), np.array(FEATURES, np.float64)
    cosine = features @ weights / np.linalg.norm(weights, axis=0)
    np.testing.assert_allclose(scores, cosine, rtol=1e-6)


def test_a_zero_column_stays_zero_with_finite_gradients():
    weights = WEIGHTS.at[:, 1].set(0.0)
    normalized = tau_normalize(weights, tau=1.3)
    np.testing.assert_array_equal(normalized[:, 1], 0)
    gradient = jax.grad(lambda w: jnp.sum(tau_normalize(w, tau=0.7) ** 2))(weights)
    assert np.isfinite(gradient).all()


def test_rounding_in_the_logits_of_a_zero_column_is_not_blown_up():
    # Its score is 0, but logits - bias leaves some 1e-8, which / 1e-12 would not be.
    weights = WEIGHTS.at[:, 1].set(0.0)
    bias = jnp.array([0.1, 0.3, 0.7])
    logits = jnp.asarray(np.array(FEATURES @ weights, np.float64) + np.array(bias))
    logits = logits + 3e-8 * jnp.arange(3.0)
    scores = tau_normalize_logits(logits, weights, bias, tau=1.0)
    np.testing.assert_allclose(scores, [1.0, 0.0, 0.5], atol=1e-6)
    assert init_weight_scaling(weights, tau=0.5)[1] == 1


def test_tau_may_be_traced_and_mapped():
    taus = jnp.array(sorted(TAU_LOGITS))
    logits = FEATURES @ WEIGHTS
    curves = jax.jit(
        jax.vmap(lambda tau: tau_normalize_logits(logits, WEIGHTS, tau=tau))
    )(taus)
    expected = [TAU_LOGITS[t] for t in sorted(TAU_LOGITS)]
    np.testing.assert_allclose(curves, expected, rtol=1e-6)


def test_known_numbers_of_weight_scaling():
    logits = FEATURES @ WEIGHTS + BIAS
    np.testing.assert_allclose(logits, [5.1, 1.0, 0.9], rtol=1e-6)
    scale = jnp.array([0.5, 1.0, 2.0])

    def loss(scale):
        scaled = learnable_weight_scaling(logits, scale)
        return optax.softmax_cross_entropy_with_integer_labels(scaled, jnp.array(2))

    np.testing.assert_allclose(
        learnable_weight_scaling(logits, scale), [2.55, 1.0, 1.8], rtol=1e-6
    )
    value, gradient = jax.value_and_grad(loss)(scale)
    assert float(value) == pytest.approx(1.271536770017, rel=1e-6)
    np.testing.assert_allclose(
        gradient, [3.027398802, 0.125992012, -0.647639658], rtol=1e-5
    )


def test_weight_scaling_starts():
    np.testing.assert_array_equal(init_weight_scaling(WEIGHTS), 1)
    logits = jnp.stack([FEATURES, -FEATURES]) @ WEIGHTS
    for tau in (0.5, 0.8):
        scaled = learnable_weight_scaling(logits, init_weight_scaling(WEIGHTS, tau=tau))
        expected = tau_normalize_logits(logits, WEIGHTS, tau=tau)
        np.testing.assert_allclose(scaled, expected, rtol=1e-6)


def test_fresh_head_is_uniform_and_keyed():
    first, second = (fresh_linear_head(jax.random.key(s), 25, 400) for s in (0, 1))
    bound = 1 / 5
    for name in ("kernel", "bias"):
        values = np.array(first[name])
        assert np.abs(values).max() <= bound
        # A uniform's variance is bound^2 / 3; 400 draws suffice for 20 %.
        assert np.var(values) == pytest.approx(bound**2 / 3, rel=0.2)
        assert (values != np.array(second[name])).all()
    assert "bias" not in fresh_linear_head(jax.random.key(0), 2, 3, use_bias=False)


def test_replaced_head_leaves_the_rest_bit_identical():
    backbone = {"conv": jnp.arange(3.0), "block": {"scale": jnp.ones(2)}}
    params = {**backbone, "head": {"kernel": WEIGHTS, "bias": BIAS}}
    head = fresh_linear_head(jax.random.key(0), 2, 3)
    new = replace_head(params, head)
    assert new["conv"] is params["conv"]
    assert new["block"]["scale"] is params["block"]["scale"]
    assert new["head"]["kernel"] is head["kernel"]
    assert params["head"]["kernel"] is WEIGHTS


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tau_normalize(FEATURES, tau=1.0), "expected 2 axes"),
        (
            lambda: tau_normalize_logits(FEATURES, WEIGHTS, tau=1.0),
            r"there are 2 classes",
        ),
        (
            lambda: tau_normalize_logits(BIAS, WEIGHTS, FEATURES, tau=1.0),
            "bias has shape",
        ),
        (
            lambda: tau_normalize_logits(BIAS, WEIGHTS, BIAS, tau=1, bias_mode="add"),
            "'add'",
        ),
        (lambda: learnable_weight_scaling(BIAS, FEATURES), "scale has shape"),
        (lambda: inverse_norm_scale(BIAS, tau=1.0), "weights has shape"),
        (lambda: fresh_linear_head(jax.random.key(0), 0, 3), "dim is 0"),
        (lambda: replace_head({"fc": 1}, {}), "no 'head' among"),
        (
            lambda: replace_head({"head": {"kernel": WEIGHTS}}, {"kernel": WEIGHTS.T}),
            r"\(3, 2\)",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
