"""The perturbation, its scale rules and masks, and what bfloat16 leaves of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.sharpness import (
    asam,
    normalization_only,
    only_under,
    perturbation,
    realized_perturbation,
    sam,
    sharp_value_and_grad,
)


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(tree)))


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (None, (0.0894427191, 0.0447213595)),
        (asam(eta=0.0, rule="all"), (0.0707106781, 0.1414213562)),
        (asam(eta=0.01, rule="all"), (0.0715947798, 0.1417753505)),
    ],
)
def test_known_perturbations_of_toys(scale, expected, x64):
    theta = jnp.array([1.0, 2.0])
    found = perturbation(theta, jnp.array([4.0, 2.0]), 0.1, scale=scale)
    np.testing.assert_allclose(found.epsilon, expected, atol=1e-9)


def test_rwsam_and_focal_toy_perturbations(x64):
    theta = jnp.array([1.0, -1.0])
    weighted = jnp.array([3.0 + 3.0 * 1, -(1.0 + 3.0 * 5)])
    np.testing.assert_allclose(
        perturbation(theta, weighted, 0.1).epsilon,
        (0.0351123442, -0.0936329178),
        atol=1e-9,
    )
    focal = jnp.array([0.008 * 3 + 0.648 * 1, -(0.008 * 1 + 0.648 * 5)])
    np.testing.assert_allclose(
        perturbation(theta, focal, 0.1).epsilon,
        (0.0202605604, -0.0979260420),
        atol=1e-9,
    )


def test_radius_and_invariance_to_the_scale_of_the_loss(x64):
    rng = np.random.default_rng(0)
    tree = {"a": {"kernel": rng.normal(size=(3, 2))}, "b": {"bias": rng.normal(size=4)}}
    params = jax.tree.map(jnp.asarray, tree)
    gradient = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), params)
    found = perturbation(params, gradient, 0.7)
    assert abs(norm(found.epsilon) - 0.7) < 1e-11
    np.testing.assert_allclose(found.ascent_norm, norm(gradient), rtol=1e-14)
    for factor in (1e-3, 7.0):
        scaled = jax.tree.map(lambda g, f=factor: f * g, gradient)
        again = perturbation(params, scaled, 0.7)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8),
            again.epsilon,
            found.epsilon,
        )
    # ASAM: || eps / D || = rho.
    scale = asam(eta=0.01, rule="all")
    adaptive = perturbation(params, gradient, 0.7, scale=scale).epsilon
    assert abs(norm(jax.tree.map(jnp.divide, adaptive, scale(params))) - 0.7) < 1e-10


def test_a_zero_gradient_gives_a_zero_perturbation():
    params = {"a": jnp.ones(3)}
    found = perturbation(params, {"a": jnp.zeros(3)}, 0.5)
    np.testing.assert_array_equal(found.epsilon["a"], 0)
    assert float(found.ascent_norm) == 0


def test_asam_does_not_depend_on_how_layers_share_their_scale(x64):
    rng = np.random.default_rng(1)
    x, y = jnp.asarray(rng.normal(size=(5, 3))), jnp.asarray(rng.normal(size=(5, 2)))

    def forward(params, x):
        return x @ params["w1"] @ params["w2"]

    def loss(params):
        return jnp.mean((forward(params, x) - y) ** 2)

    params = {
        "w1": jnp.asarray(rng.normal(size=(3, 4))),
        "w2": jnp.asarray(rng.normal(size=(4, 2))),
    }
    moved = {"w1": 3.0 * params["w1"], "w2": params["w2"] / 3.0}

    def perturbed_outputs(params, scale):
        found = perturbation(params, jax.grad(loss)(params), 0.5, scale=scale)
        return forward(jax.tree.map(jnp.add, params, found.epsilon), x)

    rule = asam(eta=0.0, rule="all")
    np.testing.assert_allclose(
        perturbed_outputs(params, rule), perturbed_outputs(moved, rule), rtol=1e-10
    )
    plain = perturbed_outputs(params, None), perturbed_outputs(moved, None)
    assert float(jnp.max(jnp.abs(plain[0] - plain[1]))) > 0.1


def test_weights_only_means_the_exact_last_key():
    params = {
        "Conv_0": {"kernel": jnp.full(1, -3.0), "bias": jnp.full(1, 5.0)},
        "Norm_0": {"scale": jnp.full(1, 2.0), "bias": jnp.full(1, 5.0)},
        "Embed_0": {"embedding": jnp.full(1, 4.0)},
        "cls_kernel": jnp.full(1, 5.0),
    }
    found = jax.tree.map(float, jax.tree.map(jnp.sum, asam(eta=0.5)(params)))
    assert found == {
        "Conv_0": {"kernel": 3.5, "bias": 1.0},
        "Norm_0": {"scale": 2.5, "bias": 1.0},
        "Embed_0": {"embedding": 4.5},
        "cls_kernel": 1.0,
    }


@pytest.mark.parametrize("rule", [normalization_only, only_under("head")])
def test_masked_leaves_keep_their_place_and_their_gradient(rule, problem, x64):
    given = problem("conv_bn", dtype=jnp.float64)
    keep = rule(given.params)
    terms = sam(16, rho=0.3)
    out, gradient = jax.jit(sharp_value_and_grad(given.loss_fn, mask=rule))(
        given.params, given.state, given.batch, None, terms
    )

    @jax.jit
    def mean_gradient(params):
        return jax.grad(
            lambda p: given.loss_fn(p, given.state, given.batch, None)[0].mean()
        )(params)

    clean = mean_gradient(given.params)
    kept = jax.tree.map(lambda k, g: g if k else jnp.zeros_like(g), keep, clean)
    factor = 0.3 / norm(kept)
    away = jax.tree.map(lambda p, g: p + factor * g, given.params, kept)
    expected = mean_gradient(away)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
        gradient,
        expected,
    )
    np.testing.assert_allclose(out.terms[0]["ascent_norm"], norm(kept), rtol=1e-10)
    assert all(bool(jnp.any(g != 0)) for g in jax.tree.leaves(gradient))
    # The mask may also be the tree itself.
    found = perturbation(given.params, clean, 0.3, mask=keep)
    np.testing.assert_allclose(found.ascent_norm, norm(kept), rtol=1e-12)


def test_which_leaves_a_mask_finds():
    params = {
        "Conv_0": {"kernel": 0.0, "bias": 0.0},
        "BatchNorm_0": {"scale": 0.0, "bias": 0.0},
        "LayerNorm_1": {"bias": 0.0},
        "gain": {"scale": 0.0},
        "headroom": {"kernel": 0.0},
        "head": {"kernel": 0.0, "bias": 0.0},
    }
    found = normalization_only(params)
    assert {name for name, part in found.items() if all(part.values())} == {
        "BatchNorm_0",
        "LayerNorm_1",
        "gain",
    }
    assert not any(found["Conv_0"].values()) and not any(found["head"].values())
    under = only_under("head", "gain")(params)
    assert {name for name, part in under.items() if all(part.values())} == {
        "head",
        "gain",
    }
    with pytest.raises(ValueError, match="no normalization layer"):
        normalization_only({"head": params["head"]})
    with pytest.raises(ValueError, match="no parameter lies below"):
        only_under("classifier")(params)


def test_structures_are_checked():
    params, gradient = {"a": jnp.ones(2)}, {"a": jnp.ones(2)}
    with pytest.raises(ValueError, match="mask has structure"):
        perturbation(params, gradient, 0.1, mask={"b": True})
    with pytest.raises(ValueError, match="scale has structure"):
        perturbation(params, gradient, 0.1, scale=lambda p: [p])
    with pytest.raises(ValueError, match="expected\n? Python bools"):
        perturbation(params, gradient, 0.1, mask={"a": jnp.array(True)})
    with pytest.raises(ValueError, match="rule"):
        asam(rule="biases")


@pytest.mark.parametrize(
    ("rho", "unchanged", "cosine", "ratio"),
    [(0.05, 0.79, 0.39, 2.6), (0.5, 0.28, 0.92, 1.09)],
)
def test_bfloat16_hides_most_of_a_usual_perturbation(rho, unchanged, cosine, ratio):
    # A sample of 21 M weights: per coordinate, eps has the standard deviation
    # rho / sqrt(21e6).
    rng = np.random.default_rng(0)
    size = 400_000
    weights = jnp.asarray(rng.normal(size=size) * 0.02, jnp.float32)
    epsilon = jnp.asarray(rng.normal(size=size) * rho / np.sqrt(21e6), jnp.float32)
    for function in (realized_perturbation, jax.jit(realized_perturbation)):
        found = function(weights, epsilon)
        assert abs(float(found["unchanged"]) - unchanged) < 0.015
        assert abs(float(found["cosine"]) - cosine) < 0.015
        assert abs(float(found["norm_ratio"]) - ratio) < 0.06
    exact = realized_perturbation(weights, epsilon, jnp.float32)
    assert float(exact["cosine"]) > 0.999999
    nothing = realized_perturbation(weights, jnp.zeros_like(epsilon))
    assert float(nothing["cosine"]) == 1 and float(nothing["norm_ratio"]) == 1
