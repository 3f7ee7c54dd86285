"""Scopes, device counts and accumulation: which rows share a perturbation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax.sharpness import (
    Term,
    accumulated_value_and_grad,
    imbsam,
    sam,
    sharp_value_and_grad,
    sse_sam,
)


def make_mesh(devices, axes=("data",)):
    shape = (devices,) if len(axes) == 1 else (devices // 2, 2)
    types = (AxisType.Auto,) * len(axes)
    return jax.make_mesh(shape, axes, types, devices=jax.devices()[:devices])


def close(left, right, rtol=1e-10, atol=1e-12):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def by_hand(given, terms, size, key=None, **options):
    """A Python loop over groups of rows, each with its slice of the weights."""
    value_and_grad = jax.jit(sharp_value_and_grad(given.loss_fn, **options))
    outs, gradients = [], []
    for g in range(len(given.labels) // size):
        rows = slice(g * size, (g + 1) * size)
        batch = {name: leaf[rows] for name, leaf in given.batch.items()}
        part = [
            Term(None if t.ascent is None else t.ascent[rows], t.descent[rows], t.rho)
            for t in terms
        ]
        rng = None if key is None else jax.random.fold_in(key, g)
        out, gradient = value_and_grad(given.params, given.state, batch, rng, part)
        outs.append(out)
        gradients.append(gradient)
    total = jax.tree.map(lambda *xs: sum(xs[1:], xs[0]), *gradients)
    return outs, total


@pytest.mark.parametrize(
    ("devices", "kind"),
    [(4, "mlp"), pytest.param(8, "conv_bn", marks=pytest.mark.slow)],
)
def test_a_global_step_does_not_depend_on_the_number_of_devices(
    devices, kind, problem, is_tail, x64
):
    given = problem(kind, dtype=jnp.float64)
    value_and_grad = sharp_value_and_grad(given.loss_fn)

    @jax.jit
    def step(params, state, batch):
        terms = sse_sam(batch["label"], is_tail, rho_head=0.1, rho_tail=0.2, stage=1)
        return value_and_grad(params, state, batch, None, terms)

    alone = step(given.params, given.state, given.batch)
    mesh = make_mesh(devices)
    everywhere = NamedSharding(mesh, PartitionSpec())
    params, state = jax.device_put((given.params, given.state), everywhere)
    batch = jax.device_put(given.batch, NamedSharding(mesh, PartitionSpec("data")))
    close(step(params, state, batch), alone)


def test_sharded_parameters_have_one_global_norm(problem, x64):
    given = problem("mlp", dtype=jnp.float64)
    step = jax.jit(
        lambda p, b: sharp_value_and_grad(given.loss_fn)(
            p, None, b, None, sam(16, rho=0.3)
        )
    )
    alone = step(given.params, given.batch)
    mesh = make_mesh(8, ("data", "fsdp"))

    def place(leaf):
        spec = PartitionSpec("fsdp") if leaf.ndim == 2 else PartitionSpec()
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    batch = jax.device_put(
        given.batch, NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    )
    out, gradient = step(jax.tree.map(place, given.params), batch)
    close((out, gradient), alone)
    np.testing.assert_allclose(out.terms[0]["eps_norm"], 0.3, rtol=1e-10)


@pytest.mark.parametrize(
    ("axes", "kind"),
    [
        pytest.param(("data",), "conv_bn", marks=pytest.mark.slow),
        (("data", "fsdp"), "mlp"),
    ],
)
def test_shard_scope_is_a_loop_over_shards(axes, kind, problem, is_tail, x64):
    given = problem(kind, dtype=jnp.float64)
    terms = imbsam(given.labels, is_tail, rho=0.2)
    outs, expected = by_hand(given, terms, 4)
    value_and_grad = jax.jit(
        sharp_value_and_grad(given.loss_fn, scope="shard", mesh=make_mesh(4, axes))
    )
    out, gradient = value_and_grad(given.params, given.state, given.batch, None, terms)
    close(gradient, expected)
    check_merged(out, outs, terms)


@pytest.mark.parametrize(
    ("loop", "kind"),
    [
        pytest.param("vmap", "conv_bn", marks=pytest.mark.slow),
        ("scan", "mlp"),
        ("unroll", "mlp"),
    ],
)
def test_micro_batch_scope_is_a_loop_over_groups(loop, kind, problem, is_tail, x64):
    given = problem(kind, dtype=jnp.float64)
    terms = imbsam(given.labels, is_tail, rho=0.2)
    outs, expected = by_hand(given, terms, 8)
    value_and_grad = jax.jit(sharp_value_and_grad(given.loss_fn, scope=8, loop=loop))
    out, gradient = value_and_grad(given.params, given.state, given.batch, None, terms)
    close(gradient, expected)
    check_merged(out, outs, terms)


def check_merged(out, outs, terms):
    """Losses add up or stay rows, states and norms are averaged."""
    close(out.loss, sum(o.loss for o in outs))
    close(out.losses, jnp.concatenate([o.losses for o in outs]))
    close(out.rises[1], jnp.concatenate([o.rises[1] for o in outs]))
    logits = jnp.concatenate([o.outputs["logits"] for o in outs])
    close(out.outputs["logits"], logits)
    states = [o.model_state for o in outs]
    close(out.model_state, jax.tree.map(lambda *xs: sum(xs) / len(xs), *states))
    close(
        out.terms[1]["ascent_norm"], np.mean([o.terms[1]["ascent_norm"] for o in outs])
    )
    # The gap is the mean rise over all tail rows, whichever group they are in.
    weights = terms[1].ascent
    close(out.terms[1]["gap"], jnp.sum(weights * out.rises[1]) / jnp.sum(weights))


def test_every_group_draws_its_own_noise(problem, x64):
    clean = problem("mlp", dtype=jnp.float64)

    def noisy(params, state, batch, rng):
        keep = jax.random.bernoulli(rng, 0.5, batch["x"].shape)
        return clean.loss_fn(params, state, {**batch, "x": batch["x"] * keep}, rng)

    given = clean._replace(loss_fn=noisy)
    key, terms = jax.random.key(7), sam(16, rho=0.2)
    _, expected = by_hand(given, terms, 4, key=key)
    for options in ({"scope": 4}, {"scope": "shard", "mesh": make_mesh(4)}):
        _, gradient = jax.jit(sharp_value_and_grad(noisy, **options))(
            given.params, None, given.batch, key, terms
        )
        close(gradient, expected)


@pytest.mark.parametrize(
    ("loop", "kind"),
    [pytest.param("unroll", "conv_gn", marks=pytest.mark.slow), ("scan", "mlp")],
)
def test_global_accumulation_is_the_full_batch(loop, kind, problem, is_tail, x64):
    given = problem(kind, dtype=jnp.float64)
    # Plain, perturbed and a second perturbed term in one list.
    terms = (
        *imbsam(given.labels, is_tail, rho=0.2),
        *sam(16, rho=0.1),
    )
    whole = jax.jit(sharp_value_and_grad(given.loss_fn))
    parts = jax.jit(accumulated_value_and_grad(given.loss_fn, microbatch=8, loop=loop))
    arguments = (given.params, None, given.batch, None, terms)
    close(parts(*arguments), whole(*arguments))


@pytest.mark.slow
def test_accumulated_statistics_are_the_mean_over_micro_batches(problem, x64):
    given = problem("conv_bn", dtype=jnp.float64)
    halves = [jax.tree.map(lambda x: x[:8], given.batch)]
    halves.append(jax.tree.map(lambda x: x[8:], given.batch))

    @jax.jit
    def states(params, state):
        both = [given.loss_fn(params, state, half, None)[1] for half in halves]
        return jax.tree.map(lambda a, b: (a + b) / 2, *[x["model_state"] for x in both])

    @jax.jit
    def away(params):
        def total(params):
            return sum(
                given.loss_fn(params, given.state, half, None)[0].sum() / 16
                for half in halves
            )

        gradient = jax.grad(total)(params)
        norm = jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(gradient)))
        return jax.tree.map(lambda p, g: p + 0.2 * g / norm, params, gradient)

    first = states(given.params, given.state)
    expected = {"first": first, "every": states(away(given.params), first)}
    for stats in ("first", "every"):
        value_and_grad = accumulated_value_and_grad(
            given.loss_fn, microbatch=8, loop="unroll", stats=stats
        )
        out, _ = jax.jit(value_and_grad)(
            given.params, given.state, given.batch, None, sam(16, rho=0.2)
        )
        close(out.model_state, expected[stats])


def test_groups_refuse_what_cannot_be_split(quadratic):
    theta, rows = jnp.ones(2), jnp.ones((4, 2))
    batch_level = (Term({"loss": jnp.ones(1)}, {"loss": jnp.ones(1)}, 0.1),)
    for make in (
        lambda: sharp_value_and_grad(quadratic, scope=2),
        lambda: sharp_value_and_grad(quadratic, scope="shard", mesh=make_mesh(2)),
        lambda: accumulated_value_and_grad(quadratic, microbatch=2),
    ):
        with pytest.raises(ValueError, match="one weight per row"):
            make()(theta, None, rows, None, batch_level)
    with pytest.raises(ValueError, match="8 shards do not divide"):
        sharp_value_and_grad(quadratic, scope="shard", mesh=make_mesh(8))(
            theta, None, rows, None, sam(4, rho=0.1)
        )
    with pytest.raises(ValueError, match="axis is 'model'"):
        sharp_value_and_grad(quadratic, scope="shard", mesh=make_mesh(2), axis="model")
    with pytest.raises(ValueError, match="loop"):
        accumulated_value_and_grad(quadratic, microbatch=2, loop="vmap")


def telling(params, state, batch, rng):
    """Losses x w and an aux of every kind of entry; 4 rows, as many as columns."""
    x = batch["x"]
    aux = {
        "model_state": {"mean": jnp.mean(x)},
        "outputs": {"logits": jnp.outer(x, jnp.arange(4.0))},
        "rows": (x + 1, batch["number"]),
        "whole": {"largest": jnp.max(x)},
        "metrics": {"hits": (jnp.sum(x > 2), jnp.float32(x.shape[0]))},
    }
    return x * params, aux


@pytest.mark.parametrize("way", ["microbatch", "accumulate", "shard"])
def test_entries_of_aux_combine_by_their_names(way):
    x = jnp.array([1.0, 2.0, 4.0, 3.0])
    batch = {"x": x, "number": jnp.arange(4)}
    function = {
        "microbatch": lambda: sharp_value_and_grad(telling, scope=2),
        "accumulate": lambda: accumulated_value_and_grad(telling, microbatch=2),
        "shard": lambda: sharp_value_and_grad(
            telling, scope="shard", mesh=make_mesh(2)
        ),
    }[way]()
    arguments = jnp.array(1.0), {"mean": jnp.zeros(())}, batch, None, sam(4, rho=0.1)
    out, _ = jax.jit(function)(*arguments)
    np.testing.assert_array_equal(out.aux["outputs"]["logits"], np.outer(x, range(4)))
    np.testing.assert_array_equal(out.aux["rows"][0], x + 1)
    np.testing.assert_array_equal(out.aux["rows"][1], [0, 1, 2, 3])
    # Means of the groups' values: of 1.5 and 3.5, and of the largest ones, 2 and 4.
    assert float(out.model_state["mean"]) == 2.5
    assert float(out.aux["whole"]["largest"]) == 3
    assert [float(part) for part in out.aux["metrics"]["hits"]] == [2, 4]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"kappa": jnp.zeros(2)}, "aux holds 'kappa', and groups of rows do not know"),
        ({"whole": jnp.int32(3)}, "aux.'whole'. holds integers"),
    ],
)
def test_entries_that_groups_cannot_combine_are_refused(more, message):
    def loss_fn(params, state, batch, rng):
        return batch * params, {"model_state": state, **more}

    arguments = jnp.array(1.0), {}, jnp.ones(4), None, sam(4, rho=0.1)
    for function in (
        sharp_value_and_grad(loss_fn, scope=2),
        accumulated_value_and_grad(loss_fn, microbatch=2),
        sharp_value_and_grad(loss_fn, scope="shard", mesh=make_mesh(2)),
    ):
        with pytest.raises(ValueError, match=message):
            function(*arguments)
