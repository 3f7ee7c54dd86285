"""Slices of the loss against their closed forms, and filters as long as they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.sharpness import (
    filter_normalized_direction,
    loss_slices,
    perturbation,
)

KEY = jax.random.key(3)


def conv_net(seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    return {
        "conv": {"kernel": normal(3, 3, 2, 5)},
        "norm": {"scale": normal(5), "bias": normal(5)},
        "head": {"kernel": normal(5, 4).at[:, 1].set(0), "bias": normal(4)},
    }


def test_every_filter_has_the_norm_of_its_own():
    params = conv_net()
    direction = filter_normalized_direction(KEY, params)
    assert jax.tree.structure(direction) == jax.tree.structure(params)
    for layer, axes in (("conv", (0, 1, 2)), ("head", (0,))):
        moved, own = (
            np.asarray(tree[layer]["kernel"], np.float64)
            for tree in (direction, params)
        )
        np.testing.assert_allclose(
            np.sqrt((moved**2).sum(axes)), np.sqrt((own**2).sum(axes)), rtol=1e-6
        )
    assert not np.asarray(direction["head"]["kernel"])[:, 1].any()  # its norm is 0
    for leaf in (*direction["norm"].values(), direction["head"]["bias"]):
        assert not np.asarray(leaf).any()


def test_directions_are_random_and_leaves_independent():
    params = {"a": jnp.ones((40, 3)), "b": jnp.ones((40, 3))}
    one, other = (
        filter_normalized_direction(jax.random.key(seed), params) for seed in (0, 1)
    )

    def cosine(x, y):  # of two columns of norm sqrt(40)
        return np.asarray(jnp.sum(x * y, axis=0) / 40)

    assert np.abs(cosine(one["a"], other["a"])).max() < 0.6
    assert np.abs(cosine(one["a"], one["b"])).max() < 0.6
    np.testing.assert_allclose(cosine(one["a"], one["a"]), 1, rtol=1e-6)


def test_batch_normalized_networks_of_any_scale_have_the_same_slice():
    x = jax.random.normal(jax.random.key(1), (16, 6))

    def loss(params):
        hidden = x @ params["hidden"]["kernel"]
        hidden = hidden / jnp.std(hidden, axis=0, keepdims=True)
        return jnp.mean(jnp.square(jnp.tanh(hidden) @ params["head"]["kernel"]))

    rng = np.random.default_rng(2)
    params = {
        "hidden": {"kernel": jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)},
        "head": {"kernel": jnp.asarray(rng.normal(size=(4, 2)), jnp.float32)},
    }
    factors = jnp.array([[0.1, 1.0, 5.0, 30.0]])  # one per filter
    scaled = {**params, "hidden": {"kernel": params["hidden"]["kernel"] * factors}}
    radii = np.linspace(-1, 1, 5)
    slices = [
        loss_slices(loss, p, {"d": filter_normalized_direction(KEY, p)}, radii)["d"]
        for p in (params, scaled)
    ]
    np.testing.assert_allclose(slices[0], slices[1], rtol=2e-4)
    assert np.ptp(slices[0]) > 0.01


def test_slices_of_quadratics_are_parabolas(x64):
    curvature = jnp.array([[4.0, 1.0], [2.0, -1.0]])  # two losses side by side
    theta = {"w": jnp.array([1.0, 2.0])}
    traced = []

    def losses(params):
        traced.append(None)
        return 0.5 * curvature @ params["w"] ** 2

    directions = {"first": {"w": jnp.array([1.0, 0.0])}, "both": {"w": jnp.ones(2)}}
    radii = np.array([-0.5, 0.0, 0.25])
    found = loss_slices(losses, theta, directions, radii)
    assert list(found) == ["first", "both"] and len(traced) == 1
    for name, (du, dv) in {"first": (1, 0), "both": (1, 1)}.items():
        u, v = 1 + radii * du, 2 + radii * dv
        expected = np.stack([2 * u**2 + v**2 / 2, u**2 - v**2 / 2], axis=1)
        np.testing.assert_allclose(found[name], expected, rtol=1e-14)


def test_the_slice_along_a_perturbation_passes_its_gap():
    # A = diag(4, 1) at (1, 2), rho 0.1: the loss goes from 4 to 4.4642135955.
    def loss(w):
        return 0.5 * (4 * w[0] ** 2 + w[1] ** 2)

    theta = jnp.array([1.0, 2.0])
    unit = perturbation(theta, jax.grad(loss)(theta), 1.0).epsilon
    found = loss_slices(loss, theta, {"sam": unit}, [0.0, 0.1])["sam"]
    np.testing.assert_allclose(found, [4.0, 4.4642135955], rtol=1e-6)


def test_slices_keep_the_dtype_of_the_parameters():
    params = {"w": jnp.ones(2, jnp.float32)}
    found = loss_slices(
        lambda p: jnp.sum(p["w"]).astype(p["w"].dtype), params, {"d": params}, [0, 1]
    )
    assert found["d"].dtype == jnp.float32
    np.testing.assert_allclose(found["d"], [2, 4])


def test_errors_name_what_came():
    params = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"radii has shape \(\), expected 1 axes"):
        loss_slices(lambda p: p["w"], params, {}, 0.1)
    with pytest.raises(ValueError, match=r"direction 'tail' has leaves {'w': \(3,\)}"):
        loss_slices(lambda p: p["w"], params, {"tail": {"w": jnp.ones(3)}}, [0.1])
