"""Optimizers: each rule by hand, over named leaves, modules and rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.options import ConfigError
from ltjax.train.optim import OPTIMIZERS, check_modules


def optimize(name, params, gradients, *, lr, decay, decay_on="all", **options):
    """Parameters after a step for each of the gradients."""
    hyper = {
        "optimizer.lr": jnp.float32(lr),
        "optimizer.weight_decay": jnp.float32(decay),
    }
    component = OPTIMIZERS[name]
    options = component.options(decay=decay_on, **options)
    make_tx = component.make(options, lambda step: jnp.ones(()))
    state = make_tx(hyper, 0).init(params)
    seen = []
    for gradient in gradients:
        updates, state = make_tx(hyper, 0).update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        seen.append(params)
    return seen


def test_velocities_of_a_constant_gradient():
    params = {"head": {"kernel": jnp.zeros((1, 1))}}
    unit = {"head": {"kernel": jnp.ones((1, 1))}}
    seen = optimize("sgd", params, [unit] * 3, lr=1.0, decay=0.0)
    values = np.array([float(p["head"]["kernel"][0, 0]) for p in seen])
    # v = 1, 1.9, 2.71 and w = -sum of them.
    np.testing.assert_allclose(-np.diff(values, prepend=0), [1, 1.9, 2.71], rtol=1e-6)


SHAPES = {  # a kernel, a scale and a bias of a norm, a head
    "backbone/conv1/kernel": (3, 3, 1, 2),
    "backbone/norm1/scale": (2,),
    "backbone/norm1/bias": (2,),
    "head/kernel": (2, 3),
    "head/bias": (3,),
}


def nested(flat):
    tree = {}
    for path, value in flat.items():
        *modules, name = path.split("/")
        place = tree
        for module in modules:
            place = place.setdefault(module, {})
        place[name] = value
    return tree


def at(tree, path):
    for name in path.split("/"):
        tree = tree[name]
    return np.asarray(tree, np.float64)


def draw(rng):
    values = {p: rng.normal(size=shape) for p, shape in SHAPES.items()}
    return nested({p: value.astype(np.float32) for p, value in values.items()})


DECAYING = {
    "all": set(SHAPES),
    "kernels": {"backbone/conv1/kernel", "head/kernel"},
    "not_head_bias": set(SHAPES) - {"head/bias"},
}


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", DECAYING)
def test_coupled_decay_on_the_named_leaves(decay, nesterov):
    rng = np.random.default_rng(0)
    params, gradients = draw(rng), [draw(rng) for _ in range(3)]
    lr, wd = 0.3, 0.05
    found = optimize(
        "sgd", params, gradients, lr=lr, decay=wd, decay_on=decay, nesterov=nesterov
    )[-1]
    for path in SHAPES:
        w, v = at(params, path), 0.0
        for gradient in gradients:
            g = at(gradient, path) + (wd * w if path in DECAYING[decay] else 0.0)
            v = 0.9 * v + g
            w = w - lr * (g + 0.9 * v if nesterov else v)
        np.testing.assert_allclose(
            at(found, path), w, rtol=1e-5, atol=1e-6, err_msg=path
        )


def test_adamw_decays_apart_from_the_moments():
    rng = np.random.default_rng(1)
    params, gradients = draw(rng), [draw(rng) for _ in range(3)]
    lr, wd = 0.01, 0.1
    found = optimize("adamw", params, gradients, lr=lr, decay=wd)[-1]
    w = np.asarray(params["head"]["kernel"], np.float64)
    m, s = np.zeros_like(w), np.zeros_like(w)
    for t, gradient in enumerate(gradients, start=1):
        g = np.asarray(gradient["head"]["kernel"], np.float64)
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
        adam = (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        w = w - lr * (adam + wd * w)
    np.testing.assert_allclose(found["head"]["kernel"], w, rtol=1e-5, atol=1e-6)


def test_factors_of_modules_and_modules_that_stay():
    rng = np.random.default_rng(2)
    params, gradient = draw(rng), draw(rng)
    rates = {"backbone": 0.1, "backbone/norm1": 0.5}
    moved = optimize(
        "sgd", params, [gradient], lr=1.0, decay=0.0, lr_factors=rates, momentum=0.0
    )[-1]
    factors = {"backbone/conv1/kernel": 0.1, "backbone/norm1/scale": 0.5}
    factors |= {"backbone/norm1/bias": 0.5}
    for path in SHAPES:
        expected = at(params, path) - factors.get(path, 1.0) * at(gradient, path)
        np.testing.assert_allclose(at(moved, path), expected, rtol=1e-5, atol=1e-6)
    moved = optimize(
        "sgd", params, [gradient], lr=1.0, decay=0.5, train="head", momentum=0.0
    )[-1]
    for path in SHAPES:
        expected = at(params, path)
        if path.startswith("head"):
            expected = 0.5 * expected - at(gradient, path)
        np.testing.assert_allclose(at(moved, path), expected, rtol=1e-5, atol=1e-6)


def test_a_module_is_not_another_one_whose_name_it_begins():
    ones = {"dense1": {"kernel": jnp.ones(2)}, "dense10": {"kernel": jnp.ones(2)}}
    params = {"backbone": ones}
    options = {"train": "backbone/dense1", "momentum": 0.0}
    after = optimize("sgd", params, [params], lr=1.0, decay=0.0, **options)[-1]
    moved = after["backbone"]
    assert moved["dense1"]["kernel"].tolist() == [0, 0]
    assert moved["dense10"]["kernel"].tolist() == [1, 1]


def test_lars_trusts_kernels_by_their_norms():
    """v = mu v + trust |w| / |g| g for kernels, g for the rest; the rate is outside."""
    rng = np.random.default_rng(3)
    params, gradients = draw(rng), [draw(rng) for _ in range(2)]
    lr, wd, trust = 0.5, 0.1, 0.02
    found = optimize(
        "lars", params, gradients, lr=lr, decay=wd, decay_on="kernels", trust=trust
    )[-1]
    for path in SHAPES:
        w, v = at(params, path), 0.0
        for gradient in gradients:
            g = at(gradient, path)
            if path in DECAYING["kernels"]:
                g = g + wd * w
                g = g * trust * np.linalg.norm(w) / np.linalg.norm(g)
            v = 0.9 * v + g
            w = w - lr * v
        np.testing.assert_allclose(
            at(found, path), w, rtol=1e-5, atol=1e-6, err_msg=path
        )


def test_patterns_name_several_modules():
    ones = {name: {"kernel": jnp.ones(2)} for name in ("stage3_a", "stage4_a", "end")}
    options = {"train": "head,backbone/stage4_*", "momentum": 0.0}
    params = {"backbone": ones, "head": {"kernel": jnp.ones(2)}}
    moved = optimize("sgd", params, [params], lr=1.0, decay=0.0, **options)[-1]
    still = {name for name, leaf in moved["backbone"].items() if leaf["kernel"][0] == 1}
    assert still == {"stage3_a", "end"} and moved["head"]["kernel"][0] == 0


def test_modules_that_no_parameter_lies_under():
    params = {"backbone": {"dense1": {"kernel": jnp.ones(2)}}}
    options = OPTIMIZERS["sgd"].options
    check_modules(options(train="backbone/dense*"), params)
    with pytest.raises(ConfigError, match="names 'backbone/stage4', but no parameter"):
        check_modules(options(train="backbone/stage4"), params)
    with pytest.raises(
        ConfigError, match="names 'head', but .* there are backbone/den"
    ):
        check_modules(options(lr_factors={"head": 0.1}), params)
