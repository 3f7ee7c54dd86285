"""The closed-form bound against drawn features, its gradient, and where it is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.pseudo_labels import virtual_cross_entropy


def given(seed=0, classes=3, dim=4):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(classes, dim)),
        0.5 * np.tril(rng.normal(size=(classes, dim, dim))),
        rng.normal(size=(dim, classes)),
        rng.normal(size=classes),
    )


def cost(z, kernel, bias, k):
    logits = z @ kernel + bias
    return np.log(np.exp(logits).sum(-1)) - logits[..., k]


def test_it_is_the_definition_and_lies_above_the_mean_of_drawn_features(x64):
    means, roots, kernel, bias = given()
    found = virtual_cross_entropy(means, roots, kernel, bias)
    rng = np.random.default_rng(1)
    for k in range(3):
        covariance = roots[k] @ roots[k].T
        apart = kernel - kernel[:, [k]]
        exponent = apart.T @ means[k] + bias - bias[k]
        exponent += 0.5 * np.einsum("dj,de,ej->j", apart, covariance, apart)
        np.testing.assert_allclose(found[k], np.log(np.exp(exponent).sum()), rtol=1e-12)
        z = means[k] + rng.normal(size=(20_000, 4)) @ roots[k].T
        assert cost(z, kernel, bias, k).mean() < found[k]


def test_without_spread_it_is_the_cross_entropy_of_the_means(x64):
    means, roots, kernel, bias = given(1)
    found = virtual_cross_entropy(means, 0 * roots, kernel, bias)
    want = [cost(means[k], kernel, bias, k) for k in range(3)]
    np.testing.assert_allclose(found, want, rtol=1e-12)
    np.testing.assert_allclose(
        virtual_cross_entropy(means, 0 * roots, kernel),
        [cost(means[k], kernel, 0, k) for k in range(3)],
        rtol=1e-12,
    )


def test_its_gradient_is_that_of_finite_differences(x64):
    means, roots, kernel, bias = map(jnp.asarray, given(2))
    total = lambda w: virtual_cross_entropy(means, roots, w, bias).sum()
    slope = jax.grad(total)(kernel)
    move = jnp.asarray(np.random.default_rng(3).normal(size=kernel.shape))
    numeric = (total(kernel + 1e-6 * move) - total(kernel - 1e-6 * move)) / 2e-6
    np.testing.assert_allclose(jnp.sum(slope * move), numeric, rtol=1e-7)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"roots": np.zeros((3, 4))},
            r"roots has shape \(3, 4\), expected",
        ),
        ({"kernel": np.zeros((3, 4))}, r"kernel has shape \(3, 4\), expected"),
        ({"bias": np.zeros(4)}, "bias"),
        ({"means": np.zeros(3)}, "means"),
    ],
)
def test_what_is_refused(change, message):
    names = ("means", "roots", "kernel", "bias")
    with pytest.raises(ValueError, match=message):
        virtual_cross_entropy(**{**dict(zip(names, given(), strict=True)), **change})


@pytest.mark.parametrize("name", ["roots", "kernel"])
def test_words_are_named(name):
    given = {"roots": np.ones((2, 1, 1)), "kernel": np.ones((1, 2))}
    given[name] = np.full(given[name].shape, "x")
    with pytest.raises(TypeError, match=f"virtual_cross_entropy: {name} is dtype <U1"):
        virtual_cross_entropy(np.zeros((2, 1), np.float32), **given)
