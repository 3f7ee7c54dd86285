"""Batches without a group, vanishing gradients, low precision: never a NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.sharpness import Term, imbsam, plain, sam, sharp_value_and_grad, sse_sam

Y = np.array([0, 1])
TAIL = np.array([False, True])


@pytest.mark.parametrize("case", ["no tail", "all tail", "one per class", "rho 0"])
def test_degenerate_batches(case, problem, is_tail, x64):
    given = problem("mlp", rows=8, dtype=jnp.float64)
    labels = {
        "no tail": jnp.zeros(8, jnp.int32),
        "all tail": jnp.full(8, 3, jnp.int32),
        "one per class": jnp.arange(8, dtype=jnp.int32) % 4,
        "rho 0": given.labels[:8] * 0 + jnp.arange(8, dtype=jnp.int32) % 4,
    }[case]
    batch = {**given.batch, "label": labels}
    rho = 0.0 if case == "rho 0" else 0.2
    value_and_grad = jax.jit(sharp_value_and_grad(given.loss_fn))

    def gradient(terms):
        out, found = value_and_grad(given.params, None, batch, None, terms)
        assert all(
            bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves((out, found))
        )
        return out, found

    _, sgd = gradient(plain(8))
    _, both = gradient(sam(8, rho=rho))
    methods = {
        "imbsam": imbsam(labels, is_tail, rho=rho),
        "mean": imbsam(labels, is_tail, rho=rho, normalize="group_mean"),
        "sse 1": sse_sam(labels, is_tail, rho_head=rho, rho_tail=rho, stage=1),
        "sse 2": sse_sam(labels, is_tail, rho_head=rho, rho_tail=rho, stage=2),
    }
    found = {name: gradient(terms) for name, terms in methods.items()}
    limits = {
        "no tail": {"imbsam": sgd, "mean": sgd, "sse 1": both, "sse 2": sgd},
        "all tail": dict.fromkeys(methods, both),
        "rho 0": {"imbsam": sgd, "sse 1": sgd, "sse 2": sgd},
        "one per class": {},
    }[case]
    for name, limit in limits.items():
        for a, b in zip(
            jax.tree.leaves(found[name][1]), jax.tree.leaves(limit), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)
    if case == "no tail":
        out, _ = found["imbsam"]
        assert float(out.terms[1]["active"]) == 0 and float(out.terms[1]["gap"]) == 0
        assert float(out.terms[1]["eps_norm"]) == 0


def test_zero_gradients_and_zero_weights_are_safe(quadratic):
    theta, rows = jnp.zeros(2), jnp.array([[4.0, 1.0], [1.0, 1.0]])
    value_and_grad = sharp_value_and_grad(quadratic)
    for terms in (
        sam(2, rho=0.1),
        (Term(jnp.zeros(2), jnp.ones(2) / 2, jnp.float32(0.1)),),
        imbsam(Y, TAIL, rho=0.1, normalize="group_mean"),
    ):
        out, gradient = value_and_grad(theta, None, rows, None, terms)
        np.testing.assert_array_equal(gradient, [0.0, 0.0])
        assert all(float(v) == 0 for numbers in out.terms for v in numbers.values())
    # A row with weight 0 may even have a loss that is not a number.
    bad = jnp.array([[4.0, 1.0], [jnp.inf, 1.0]])
    where = jnp.array([True, False])
    out, _ = value_and_grad(theta, None, bad, None, plain(2, where=where))
    assert float(out.loss) == 0


def test_perturbation_stays_in_float32_when_the_model_computes_in_bfloat16(problem):
    given = problem("mlp")

    def half(params, state, batch, rng):
        low = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
        batch = {**batch, "x": batch["x"].astype(jnp.bfloat16)}
        losses, aux = given.loss_fn(low, state, batch, rng)
        return losses.astype(jnp.float32), aux

    value_and_grad = jax.jit(sharp_value_and_grad(half, compute_dtype=jnp.bfloat16))
    out, gradient = value_and_grad(
        given.params, None, given.batch, None, sam(16, rho=0.05)
    )
    assert {g.dtype for g in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.float32)}
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(gradient))
    assert out.terms[0]["eps_norm"].dtype == jnp.float32
    np.testing.assert_allclose(out.terms[0]["eps_norm"], 0.05, rtol=1e-5)
    assert 0 < float(out.terms[0]["cosine"]) < 1
    full = sharp_value_and_grad(given.loss_fn, compute_dtype=jnp.float32)
    shapes, _ = jax.eval_shape(
        full, given.params, None, given.batch, None, sam(16, rho=0.05)
    )
    assert "cosine" not in shapes.terms[0]
