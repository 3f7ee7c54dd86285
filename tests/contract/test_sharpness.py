"""One table of gradient estimators, one test per property, run on all of them."""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import sharpness
from ltjax.sharpness import (
    accumulated_value_and_grad,
    asam,
    focal_sam,
    imbsam,
    normalization_only,
    plain,
    rwsam,
    sam,
    sharp_value_and_grad,
    sse_sam,
)

ROWS, CLASSES = 8, 3
LABELS = jnp.array([0, 1, 0, 2, 0, 1, 0, 2])
IS_TAIL = np.array([False, False, True])


class Estimator(NamedTuple):
    """An entry of the table; one jitted `step` serves all properties."""

    terms: Callable  # rho -> terms
    options: dict
    per_group: bool = False  # BatchNorm normalizes within groups of rows


ESTIMATORS = {
    "sam": Estimator(lambda rho: sam(ROWS, rho=rho), {}),
    "asam": Estimator(lambda rho: sam(ROWS, rho=rho), {"scale": asam()}),
    "sam-on": Estimator(lambda rho: sam(ROWS, rho=rho), {"mask": normalization_only}),
    "imbsam": Estimator(lambda rho: imbsam(LABELS, IS_TAIL, rho=rho), {}),
    "sse-sam 1": Estimator(
        lambda rho: sse_sam(LABELS, IS_TAIL, rho_head=rho, rho_tail=rho, stage=1), {}
    ),
    "sse-sam 2": Estimator(
        lambda rho: sse_sam(LABELS, IS_TAIL, rho_head=rho, rho_tail=rho, stage=2), {}
    ),
    "rwsam": Estimator(lambda rho: rwsam(jnp.arange(1.0, 9.0), rho=rho), {}),
    "focal-sam": Estimator(
        lambda rho: focal_sam(LABELS, jnp.array([0.1, 0.4, 1.1]), rho=rho), {}
    ),
    "sam, groups": Estimator(lambda rho: sam(ROWS, rho=rho), {"scope": 4}, True),
    "imbsam, accumulated": Estimator(
        lambda rho: imbsam(LABELS, IS_TAIL, rho=rho),
        {"microbatch": 4, "loop": "unroll"},
        True,
    ),
}
CONSTRUCTORS = ("plain", "sam", "imbsam", "sse_sam", "rwsam", "focal_sam")


def loss_fn(params, state, batch, rng):
    """A linear layer, BatchNorm in training mode, a classifier."""
    x = batch["x"] @ params["Dense_0"]["kernel"]
    mean, var = x.mean(0), x.var(0)
    norm = params["BatchNorm_0"]
    x = (x - mean[None]) / jnp.sqrt(var[None] + 1e-3)
    x = jnp.tanh(x * norm["scale"][None] + norm["bias"][None])
    log_p = jax.nn.log_softmax(x @ params["head"]["kernel"])
    losses = -jnp.take_along_axis(log_p, batch["label"][:, None], axis=1)[:, 0]
    losses = batch["gain"] * losses
    new = {"mean": 0.9 * state["mean"] + 0.1 * mean, "count": state["count"] + 1}
    return losses, {"model_state": new, "outputs": {"logits": log_p}}


def setup(seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    params = {
        "Dense_0": {"kernel": normal(4, 5)},
        "BatchNorm_0": {"scale": jnp.ones(5), "bias": normal(5)},
        "head": {"kernel": normal(5, CLASSES)},
    }
    state = {"mean": jnp.zeros(5), "count": jnp.zeros((), jnp.int32)}
    batch = {"x": normal(ROWS, 4), "label": LABELS, "gain": jnp.ones(ROWS)}
    return params, state, batch


def make(options):
    function = (
        accumulated_value_and_grad if "microbatch" in options else sharp_value_and_grad
    )
    return function(loss_fn, **options)


@functools.cache
def step_of(name):
    return jax.jit(make(ESTIMATORS[name].options))


@functools.cache
def plain_gradient(groups):
    """The plain gradient with the same groups of rows, if there are any."""
    params, state, batch = setup()
    return jax.jit(make(dict(groups)))(params, state, batch, None, plain(ROWS))


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.fixture(params=ESTIMATORS)
def name(request):
    return request.param


def run(name, rho, *, seed=0, **changed):
    params, state, batch = setup(seed)
    batch = {**batch, **changed}
    return step_of(name)(params, state, batch, None, ESTIMATORS[name].terms(rho))


def test_radius_zero_is_the_plain_gradient(name):
    out, gradient = run(name, 0.0)
    options = ESTIMATORS[name].options
    groups = {k: v for k, v in options.items() if k not in ("scale", "mask")}
    plain_out, expected = plain_gradient(tuple(groups.items()))
    for a, b in zip(leaves(gradient), leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out.loss, plain_out.loss, rtol=1e-6)
    assert all(abs(float(numbers["gap"])) < 1e-6 for numbers in out.terms)


def test_a_perturbation_changes_the_gradient_and_is_reported(name):
    _, still = run(name, 0.0)
    out, moved = run(name, 0.3)
    pairs = zip(leaves(still), leaves(moved), strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) > 1e-3
    pairs = zip(out.terms, out.rises, strict=True)
    perturbed = [numbers for numbers, rise in pairs if rise is not None]
    assert perturbed
    for numbers in perturbed:
        assert float(numbers["active"]) == 1 and float(numbers["ascent_norm"]) > 0
        if "scale" not in ESTIMATORS[name].options:
            np.testing.assert_allclose(numbers["eps_norm"], 0.3, rtol=1e-4)


def test_a_zero_gradient_is_finite(name):
    out, gradient = run(name, 0.3, gain=jnp.zeros(ROWS))
    for leaf in leaves(gradient):
        np.testing.assert_array_equal(leaf, 0)
    assert all(np.isfinite(x).all() for x in leaves(out))
    assert all(float(numbers["eps_norm"]) == 0 for numbers in out.terms)


def test_running_statistics_are_those_of_the_clean_pass(name):
    params, state, batch = setup()
    out, _ = run(name, 0.3)
    size = ROWS // 2 if ESTIMATORS[name].per_group else ROWS
    means = [
        0.1 * np.mean(batch["x"][start : start + size] @ params["Dense_0"]["kernel"], 0)
        for start in range(0, ROWS, size)
    ]
    np.testing.assert_allclose(
        out.model_state["mean"], np.mean(means, axis=0), rtol=1e-4, atol=1e-6
    )
    assert int(out.model_state["count"]) == 1
    assert out.model_state["count"].dtype == jnp.int32


def test_outputs_are_those_of_the_clean_pass(name):
    out, _ = run(name, 0.3)
    assert out.losses.shape == (ROWS,)
    assert out.outputs["logits"].shape == (ROWS, CLASSES)
    picked = np.asarray(out.outputs["logits"])[np.arange(ROWS), LABELS]
    np.testing.assert_allclose(out.losses, -picked, rtol=1e-6)


def test_gradients_have_the_parameters_structure_and_dtype(name, x64):
    params, state, batch = setup()
    value_and_grad = make(ESTIMATORS[name].options)
    terms = ESTIMATORS[name].terms(0.3)
    for dtype in (jnp.float32, jnp.float64):
        typed = jax.tree.map(lambda p, d=dtype: p.astype(d), params)
        _, gradient = jax.eval_shape(value_and_grad, typed, state, batch, None, terms)
        assert jax.tree.structure(gradient) == jax.tree.structure(params)
        pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(params), strict=True)
        assert all(g.shape == p.shape and g.dtype == dtype for g, p in pairs)
    half = jax.tree.map(lambda p: p.astype(jnp.float16), params)
    with pytest.raises(TypeError, match="float16, expected float32"):
        value_and_grad(half, state, batch, None, terms)


def test_no_retrace_on_a_new_radius_or_a_new_batch(name):
    for seed, rho in enumerate((0.1, 0.0, jnp.float32(0.2), np.float32(0.3))):
        run(name, rho, seed=seed)
    assert step_of(name)._cache_size() == 1

    # A radius that is traced (a schedule) builds its terms inside the step.
    def scheduled(rho):
        params, state, batch = setup()
        terms = ESTIMATORS[name].terms(rho)
        return make(ESTIMATORS[name].options)(params, state, batch, None, terms)[1]

    jax.eval_shape(scheduled, jnp.float32(0.1))


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_constructors_name_their_hyperparameters(name):
    function = getattr(sharpness, name)
    parameters = inspect.signature(function).parameters
    positional = [
        p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    assert set(positional) <= {
        "batch_size",
        "labels",
        "is_tail",
        "weights",
        "coefficients",
    }
    assert parameters["where"].default is None and parameters["base"].default is None


@pytest.mark.parametrize("name", sharpness.__all__)
def test_public_names_are_documented(name):
    public = getattr(sharpness, name)
    if not inspect.isfunction(public):
        return
    sections = inspect.getdoc(public)
    for section in ("Args:", "Returns:", "Example:"):
        assert section in sections
