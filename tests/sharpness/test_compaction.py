"""Tail rows first, a bucket of rows, and the same gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax.sharpness import imbsam, leading_rows, sharp_value_and_grad, sse_sam
from ltjax.sharpness.compaction import default_buckets, plan


def test_plan_is_stable_and_puts_tail_rows_first():
    labels = np.array([0, 3, 1, 2, 0, 3, 1, 0])
    is_tail = np.array([False, False, True, True])
    found = plan(labels, is_tail, (0, 1, 2, 4, 8))
    assert found.permutation.tolist() == [1, 3, 5, 0, 2, 4, 6, 7]
    assert found.rows == 4  # three tail rows


def test_plan_deals_tail_rows_out_to_the_devices():
    rng = np.random.default_rng(0)
    is_tail = np.array([False, False, True, True])
    for devices in (1, 2, 4):
        buckets = default_buckets(32, devices)
        for _ in range(50):
            labels = rng.integers(0, 4, size=32)
            labels[rng.random(32) < rng.random()] = 0
            permutation, rows = plan(labels, is_tail, buckets, devices)
            assert sorted(permutation) == list(range(32))
            tail = is_tail[labels[permutation]].reshape(devices, -1)
            share = rows // devices
            assert not tail[:, share:].any()
            for block in tail:  # tail rows lead their device's block
                assert not block[np.argmin(block) :].any() or block.all()
            per_device = tail.sum(1)
            assert per_device.max() - per_device.min() <= 1
            smaller = [b for b in buckets if b < rows]
            assert all(b // devices < per_device.max() for b in smaller)


def test_plan_ignores_padding_and_checks_its_arguments():
    labels, is_tail = np.array([1, 0, 0, 1]), np.array([False, True])
    where = np.array([True, True, True, False])
    assert plan(labels, is_tail, (0, 1, 2, 4), where=where).rows == 1
    assert plan(np.zeros(4, int), is_tail, (0, 4)).rows == 0
    assert plan(np.ones(4, int), is_tail, (0, 1, 4)).rows == 4
    for arguments, message in (
        ((np.array([0, 2]), is_tail, (0, 2)), "labels lie in"),
        ((labels, is_tail, (0, 1, 2)), "contain 4"),
        ((labels, is_tail, (0, 1, 4), 2), "multiples of 2"),
        ((labels[:3], is_tail, (0, 3), 2), "multiple of 2 devices"),
    ):
        with pytest.raises(ValueError, match=message):
            plan(*arguments)


def test_default_buckets():
    assert default_buckets(64) == (0, 4, 8, 16, 32, 64)
    assert default_buckets(24, 4) == (0, 12, 24)  # B/16 is not whole, B/8 not shared
    assert default_buckets(20, 4) == (0, 20)
    with pytest.raises(ValueError, match="multiple of 8"):
        default_buckets(20, 8)


def test_leading_rows_of_every_block():
    x = jnp.arange(12)
    assert leading_rows(x, 4).tolist() == [0, 1, 2, 3]
    assert leading_rows(x, 4, 2).tolist() == [0, 1, 6, 7]


@pytest.mark.parametrize(
    ("devices", "kind"),
    [pytest.param(1, "conv_gn", marks=pytest.mark.slow), (4, "mlp")],
)
def test_a_compacted_step_is_the_whole_step(devices, kind, problem, is_tail, x64):
    given = problem(kind, rows=32, dtype=jnp.float64)
    buckets = default_buckets(32, devices)
    compact = sharp_value_and_grad(given.loss_fn, rows_independent=True, blocks=devices)
    traces = []

    @jax.jit
    def whole(batch):
        terms = sse_sam(batch["label"], is_tail, rho_head=0.1, rho_tail=0.2, stage=1)
        return sharp_value_and_grad(given.loss_fn)(
            given.params, None, batch, None, terms
        )

    def stepped(batch, rows):
        traces.append(rows)
        terms = sse_sam(
            batch["label"],
            is_tail,
            rho_head=0.1,
            rho_tail=0.2,
            stage=1,
            tail_rows=rows,
            blocks=devices,
        )
        return compact(given.params, None, batch, None, terms)

    step = jax.jit(stepped, static_argnums=1)
    used = set()
    rng = np.random.default_rng(1)
    sharding = None
    if devices > 1:
        mesh = jax.make_mesh(
            (devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices]
        )
        sharding = NamedSharding(mesh, PartitionSpec("data"))
    for share in (0.0, 0.1, 0.12, 0.3, 1.0):
        labels = np.where(rng.random(32) < share, rng.integers(2, 4, 32), 0)
        permutation, rows = plan(labels, is_tail, buckets, devices)
        batch = {"x": given.batch["x"], "label": jnp.asarray(labels, jnp.int32)}
        batch = jax.tree.map(lambda leaf: leaf[permutation], batch)  # noqa: B023
        if sharding is not None:
            batch = jax.device_put(batch, sharding)
        out, gradient = step(batch, rows)
        expected_out, expected = whole(batch)
        for a, b in zip(
            jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(out.loss, expected_out.loss, rtol=1e-12)
        if rows:
            numbers, other = out.terms[1], expected_out.terms[1]
            np.testing.assert_allclose(numbers["gap"], other["gap"], atol=1e-12)
            np.testing.assert_allclose(
                numbers["ascent_norm"], other["ascent_norm"], rtol=1e-9
            )
            assert out.rises[1].shape == (rows,)
        used.add(rows)
    assert len(traces) == len(used) >= 3  # one program per bucket


def test_a_tail_row_outside_the_bucket_cannot_be_missed(problem, is_tail):
    given = problem("mlp")
    labels = jnp.zeros(16, jnp.int32).at[9].set(3)
    terms = imbsam(labels, is_tail, rho=0.1, tail_rows=8)
    value_and_grad = sharp_value_and_grad(given.loss_fn, rows_independent=True)
    out, _ = jax.jit(value_and_grad)(given.params, None, given.batch, None, terms)
    assert np.isnan(out.loss)
    kept = imbsam(labels.at[3].set(3).at[9].set(0), is_tail, rho=0.1, tail_rows=8)
    assert np.isfinite(kept[0].descent).all()


def test_dropout_in_a_compacted_pass_draws_the_same_noise(problem, is_tail, x64):
    given = problem("mlp", dtype=jnp.float64)

    def noisy(params, state, batch, rng):
        keep = jax.random.bernoulli(rng, 0.5, batch["x"].shape)
        return given.loss_fn(params, state, {**batch, "x": batch["x"] * keep}, rng)

    labels = jnp.where(jnp.arange(16) < 3, 3, 0)
    batch = {**given.batch, "label": labels}

    def gradient(rows):
        value_and_grad = jax.jit(sharp_value_and_grad(noisy, rows_independent=True))
        terms = imbsam(labels, is_tail, rho=0.3, tail_rows=rows)
        return value_and_grad(given.params, None, batch, jax.random.key(1), terms)[1]

    for a, b in zip(
        jax.tree.leaves(gradient(4)), jax.tree.leaves(gradient(None)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)


def test_batch_norm_is_refused_by_name(problem, is_tail, x64):
    given = problem("conv_bn", dtype=jnp.float64)
    labels = jnp.where(jnp.arange(16) < 3, 3, 0)
    batch = {**given.batch, "label": labels}
    terms = imbsam(labels, is_tail, rho=0.2, tail_rows=4)
    with pytest.raises(ValueError, match="BatchNorm in training mode"):
        sharp_value_and_grad(given.loss_fn)(
            given.params, given.state, batch, None, terms
        )
