"""Hessian spectra against the dense float64 Hessian of a small net."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax.sharpness import (
    class_spectra,
    hessian_operator,
    hessian_spectrum,
    nonconvexity,
    padded_batches,
)

KEY = jax.random.key(0)
IS_TAIL = np.array([False, False, True])


def loss_fn(params, batch):
    hidden = jnp.tanh(batch["x"] @ params["w1"] + params["b1"][None])
    logits = hidden @ params["w2"] + params["b2"][None]
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, batch["label"][:, None], axis=1)[:, 0]


def net(dtype=jnp.float64, seed=0, examples=22):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    params = {"w1": normal(3, 4), "b1": normal(4), "w2": normal(4, 3), "b2": normal(3)}
    data = {
        "x": np.asarray(normal(examples, 3)),
        "label": rng.choice(3, size=examples, p=[0.5, 0.3, 0.2]).astype(np.int32),
    }
    return params, data


@jax.jit
def weighted_hessian(params, batch, weights):
    flat, unravel = ravel_pytree(params)
    return jax.hessian(lambda v: jnp.sum(weights * loss_fn(unravel(v), batch)))(flat)


def dense_hessian(params, data, members=None):
    members = np.ones(3, bool) if members is None else members
    inside = members[data["label"]]
    return np.asarray(weighted_hessian(params, data, inside / inside.sum()))


def test_complete_lanczos_is_the_dense_spectrum_for_every_group(x64):
    params, data = net()
    groups = {"head": ~IS_TAIL, "tail": IS_TAIL, "empty": np.array([False] * 3)}
    spectra = class_spectra(
        loss_fn,
        params,
        data,
        groups,
        batch_size=8,
        key=KEY,
        num_steps=100,
        num_starts=2,
    )
    assert list(spectra) == ["all", "head", "tail"]
    for name, found in spectra.items():
        members = groups.get(name, np.ones(3, bool))
        hessian = dense_hessian(params, data, members)
        values = np.linalg.eigvalsh(hessian)
        np.testing.assert_allclose(found.lambda_max, values[-1], rtol=1e-6)
        np.testing.assert_allclose(found.lambda_min, values[0], rtol=1e-6)
        np.testing.assert_allclose(found.trace, np.trace(hessian), rtol=1e-6)
        assert found.trace_error == 0
        for run in found.ritz_values:  # the null directions too, by restarts
            np.testing.assert_allclose(run, values, atol=1e-8 * values[-1])
        np.testing.assert_allclose(found.ritz_weights.sum(1), 1.0, rtol=1e-12)
        spacing = found.grid[1] - found.grid[0]
        np.testing.assert_allclose(found.density.sum() * spacing, 1.0, rtol=1e-9)
        assert found.grid.shape == found.density.shape == (10_000,)
        assert found.num_parameters == 31
        assert found.num_examples == members[data["label"]].sum()
        expected = max(0.0, -values[0]) / values[-1]
        np.testing.assert_allclose(found.nonconvexity, expected, rtol=1e-6)
    assert spectra["all"].lambda_min < 0  # a saddle, so that the score says something


def test_groups_add_up_to_the_whole_hessian(x64):
    params, data = net()
    v = jax.random.normal(KEY, (31,), jnp.float64)

    def total(members):
        rows = np.flatnonzero(members[data["label"]])
        operator, _, count = hessian_operator(
            loss_fn, params, padded_batches(data, rows, 6)
        )
        return count * operator(v)

    whole = total(np.ones(3, bool))
    np.testing.assert_allclose(total(IS_TAIL) + total(~IS_TAIL), whole, atol=1e-11)
    np.testing.assert_allclose(whole, 22 * dense_hessian(params, data) @ v, atol=1e-10)


def test_partial_runs_stay_inside_the_spectrum_and_estimate_the_trace(x64):
    params, data = net()
    hessian = dense_hessian(params, data)
    values = np.linalg.eigvalsh(hessian)
    found = hessian_spectrum(
        loss_fn,
        params,
        [data],
        key=KEY,
        num_steps=12,
        num_starts=2,
        trace_tolerance=0.0,
    )
    assert found.ritz_values.shape == (2, 12)
    assert values[0] - 1e-9 <= found.lambda_min < 0.9 * values[0]
    assert 0.99 * values[-1] < found.lambda_max <= values[-1] + 1e-9
    assert abs(found.trace - np.trace(hessian)) < 4 * found.trace_error
    # Same key, same numbers.
    again = hessian_spectrum(
        loss_fn,
        params,
        [data],
        key=KEY,
        num_steps=12,
        num_starts=2,
        trace_tolerance=0.0,
    )
    np.testing.assert_array_equal(found.ritz_values, again.ritz_values)


def test_known_spectrum_of_a_linear_softmax_classifier(x64):
    # One example, p = (0.5, 0.3, 0.2), ||x||^2 = 5.
    x = jnp.array([[1.0, 2.0]])
    kernel = jnp.outer(x[0], jnp.log(jnp.array([0.5, 0.3, 0.2]))) / 5

    def linear(kernel, batch):
        return -jax.nn.log_softmax(batch @ kernel)[:, 0]

    found = hessian_spectrum(linear, kernel, [x], key=KEY, num_starts=1)
    np.testing.assert_allclose(
        found.ritz_values[0, -2:], (1.1594875162, 1.9405124838), atol=1e-9
    )
    np.testing.assert_allclose(found.trace, 3.1, rtol=1e-9)
    np.testing.assert_allclose(found.ritz_values[0, :4], 0.0, atol=1e-9)
    assert found.nonconvexity < 1e-9


def test_products_are_symmetric_in_float32():
    params, data = net(jnp.float32)
    operator, size, _ = hessian_operator(loss_fn, params, [data])
    v, w = jax.random.normal(KEY, (2, size))
    left, right = jnp.vdot(v, operator(w)), jnp.vdot(w, operator(v))
    np.testing.assert_allclose(left, right, rtol=1e-5)


def test_loops_and_shards_give_the_same_products(x64):
    params, data = net(examples=32)
    v = jax.random.normal(KEY, (31,), jnp.float64)
    batches = padded_batches(data, np.arange(32), 16)
    expected = dense_hessian(params, data) @ v
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    sharded = [
        jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
        for batch in batches
    ]
    spread = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    for operator, _, count in (
        hessian_operator(loss_fn, params, batches),
        hessian_operator(loss_fn, params, batches, loop="scan"),
        hessian_operator(loss_fn, spread, sharded),
    ):
        assert count == 32
        np.testing.assert_allclose(operator(v), expected, atol=1e-10)


def test_one_program_serves_all_groups(x64):
    params, data = net()
    traces = []

    def counted(params, batch):
        traces.append(None)
        return loss_fn(params, batch)

    class_spectra(
        counted,
        params,
        data,
        {"head": ~IS_TAIL, "tail": IS_TAIL},
        batch_size=8,
        key=KEY,
        num_steps=3,
        num_starts=1,
        trace_probes=2,
    )
    assert len(traces) <= 2  # one trace of the product


def test_padding_repeats_rows_but_does_not_count_them():
    data = {"x": np.arange(5), "mask": np.array([True, False, True, True, True])}
    first, last = padded_batches(data, np.array([0, 1, 4]), 2)
    assert first["x"].tolist() == [0, 1] and first["mask"].tolist() == [True, False]
    assert last["x"].tolist() == [4, 4] and last["mask"].tolist() == [True, False]


def test_nonconvexity_and_refusals():
    assert nonconvexity(-1.0, 4.0) == 0.25
    assert nonconvexity(1.0, 4.0) == 0.0
    assert nonconvexity(-1.0, -0.5) == float("inf")
    params, data = net(jnp.float32)
    with pytest.raises(ValueError, match="batches is empty"):
        hessian_operator(loss_fn, params, [])
    with pytest.raises(ValueError, match="no example is left"):
        hessian_operator(loss_fn, params, [{**data, "mask": np.zeros(22, bool)}])
    with pytest.raises(ValueError, match="loop"):
        hessian_operator(loss_fn, params, [data], loop="map")
    with pytest.raises(ValueError, match="num_steps is 0"):
        hessian_spectrum(loss_fn, params, [data], key=KEY, num_steps=0)
    with pytest.raises(TypeError, match="bfloat16"):
        half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
        hessian_operator(loss_fn, half, [data])
    for groups, message in (
        ({"all": IS_TAIL}, '"all"'),
        ({"tail": IS_TAIL[:2]}, "labels up to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            class_spectra(loss_fn, params, data, groups, batch_size=8, key=KEY)
