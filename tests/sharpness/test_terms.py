"""Constructors: which weights, which rows, which refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.reduce import weighted_mean
from ltjax.sharpness import (
    IMBSAM_TAIL_SCALE,
    Term,
    ascend_on,
    focal_coefficients,
    focal_sam,
    imbsam,
    plain,
    reduction_weights,
    rwsam,
    sam,
    sse_sam,
    sse_switch_epoch,
    tail_classes,
)

Y = jnp.array([0, 2, 1, 0, 2])
TAIL = np.array([False, False, True])


@pytest.mark.parametrize("normalize", ["examples", "weights"])
@pytest.mark.parametrize("masked", [False, True])
def test_reduction_weights_are_those_of_the_weighted_mean(normalize, masked):
    values = jnp.array([1.0, 5.0, -2.0, 4.0])
    weights = jnp.array([0.5, 2.0, 1.0, 3.0])
    where = jnp.array([True, False, True, True]) if masked else None
    b = reduction_weights(4, weights, where=where, normalize=normalize)
    expected = weighted_mean(values, weights, where=where, normalize=normalize)
    np.testing.assert_allclose(jnp.sum(b * values), expected, rtol=1e-6)
    empty = reduction_weights(4, where=jnp.zeros(4, bool), normalize=normalize)
    np.testing.assert_array_equal(empty, 0)


def test_groups_of_the_batch_and_group_means():
    head, tail = imbsam(Y, TAIL, rho=0.1, tail_scale=2.0)
    assert head.ascent is None
    np.testing.assert_allclose(head.descent, np.array([1, 0, 1, 1, 0]) / 5)
    np.testing.assert_allclose(tail.ascent, np.array([0, 1, 0, 0, 1]) / 5)
    np.testing.assert_allclose(tail.descent, np.array([0, 2, 0, 0, 2]) / 5)
    head, tail = imbsam(Y, TAIL, rho=0.1, normalize="group_mean")
    np.testing.assert_allclose(head.descent, np.array([1, 0, 1, 1, 0]) / 3, rtol=1e-6)
    np.testing.assert_allclose(tail.descent, np.array([0, 1, 0, 0, 1]) / 2)
    _, none = imbsam(jnp.zeros(3, jnp.int32), TAIL, rho=0.1, normalize="group_mean")
    np.testing.assert_array_equal(none.descent, 0)
    assert IMBSAM_TAIL_SCALE == {"paper": 1.0, "official-2023-09": 2.0}


@pytest.mark.parametrize(
    "make",
    [
        lambda **k: plain(5, **k),
        lambda **k: sam(5, rho=0.1, **k),
        lambda **k: imbsam(Y, TAIL, rho=0.1, **k),
        lambda **k: sse_sam(Y, TAIL, rho_head=0.1, rho_tail=0.1, stage=1, **k),
        lambda **k: rwsam(jnp.arange(1.0, 6.0), rho=0.1, **k),
        lambda **k: focal_sam(Y, jnp.array([0.1, 0.5, 1.2]), rho=0.1, **k),
    ],
)
def test_descent_weights_sum_to_the_plain_reduction(make):
    weights = jnp.array([3.0, 1.0, 0.5, 2.0, 0.1])
    where = jnp.array([True, True, False, True, True])
    base = reduction_weights(5, weights, where=where, normalize="weights")
    # Class weights: the terms together weigh each example as the reduction does.
    np.testing.assert_allclose(sum(t.descent for t in make(base=base)), base, atol=1e-7)
    # Padding: not counted, and a label that is no class is harmless there.
    found = sum(t.descent for t in make(where=where))
    np.testing.assert_allclose(found, where / 4, rtol=1e-6)
    ascents = [t.ascent for t in make(where=where) if t.ascent is not None]
    assert all(float(a[2]) == 0 for a in ascents)
    # Under jit, with a traced radius, the same.
    again = jax.jit(lambda b: make(base=b))(base)
    np.testing.assert_allclose(sum(t.descent for t in again), base, atol=1e-7)


def test_a_label_out_of_range_is_nan_unless_it_is_padding():
    labels = jnp.array([0, 7, -1])
    head, tail = imbsam(labels, TAIL, rho=0.1)
    np.testing.assert_array_equal(np.isnan(head.descent), [False, True, True])
    where = jnp.array([True, False, False])
    for term in imbsam(labels, TAIL, rho=0.1, where=where):
        assert np.isfinite(term.descent).all()


def test_weights_by_part():
    base = {"a": jnp.full(5, 0.06), "b": jnp.full(5, 0.14)}
    head, tail = imbsam({"a": Y, "b": Y[::-1]}, TAIL, rho=0.1, base=base)
    np.testing.assert_allclose(tail.ascent["a"], np.array([0, 1, 0, 0, 1]) * 0.06)
    np.testing.assert_allclose(tail.ascent["b"], np.array([1, 0, 0, 1, 0]) * 0.14)
    for name in base:
        total = head.descent[name] + tail.descent[name]
        np.testing.assert_allclose(total, base[name], rtol=1e-6)
    (one,) = sam(5, rho=0.1, base=base)
    assert set(one.ascent) == set(one.descent) == {"a", "b"}
    (restricted,) = ascend_on((one,), "a")
    assert set(restricted.ascent) == {"a"} and set(restricted.descent) == {"a", "b"}
    # One label vector serves all parts; group means are over all parts together.
    _, tail = imbsam(Y, TAIL, rho=0.1, base=base, normalize="group_mean")
    total = sum(float(v.sum()) for v in tail.descent.values())
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)
    with pytest.raises(ValueError, match="labels have parts"):
        imbsam({"a": Y, "c": Y}, TAIL, rho=0.1, base=base)
    with pytest.raises(ValueError, match="parts .'c'. expected"):
        ascend_on((one,), "c")
    with pytest.raises(ValueError, match="dict with parts"):
        imbsam(Y, TAIL, rho=0.1, base=base, tail_rows=2)


def test_tail_classes_of_cifar100_lt():
    counts = np.floor(500 * 0.01 ** (np.arange(100) / 99)).astype(int)
    assert counts.sum() == 10847 and counts[69] == 20 and counts[70] == 19
    for eta, classes, share in ((20, 30, 0.0281), (100, 65, 0.1865)):
        is_tail = tail_classes(counts, eta=eta)
        assert is_tail.sum() == classes
        assert abs(counts[is_tail].sum() / counts.sum() - share) < 5e-5
    assert not tail_classes(counts, eta=20)[69] and tail_classes(counts, eta=20)[70]


def test_focal_coefficients():
    found = focal_coefficients([90, 10], gamma=2.0, lam=0.8)
    np.testing.assert_allclose(found, [0.008, 0.648], rtol=1e-6)
    np.testing.assert_allclose(
        focal_coefficients([90, 10], gamma=0.0, lam=1.0), [1.0, 1.0]
    )
    # The spread for CIFAR-100-LT at ratio 100 with gamma 3.2.
    counts = np.floor(500 * 0.01 ** (np.arange(100) / 99))
    spread = focal_coefficients(counts, gamma=3.2, lam=1.0)
    np.testing.assert_allclose([spread.min(), spread.max()], [0.860, 0.999], atol=6e-4)
    # One class has everything; gradient and value stay finite.
    alone = jax.grad(lambda g: focal_coefficients([5, 0], gamma=g, lam=1.0).sum())(2.0)
    assert np.isfinite(alone)
    np.testing.assert_allclose(
        focal_coefficients([5, 0], gamma=2.0, lam=1.0), [0.0, 1.0]
    )
    np.testing.assert_allclose(
        focal_coefficients([5, 0], gamma=0.0, lam=1.0), [1.0, 1.0]
    )


@pytest.mark.parametrize(
    ("gamma", "epoch"),
    [
        (0.7, 140),
        (0.75, 150),
        (0.5, 100),
        (0.55, 110),
        (0.0, 0),
        (1.0, 200),
        (None, 200),
    ],
)
def test_the_stage_switch(gamma, epoch):
    assert sse_switch_epoch(200, gamma=gamma) == epoch


def test_terms_are_a_pytree_with_strongly_typed_radii():
    terms = sse_sam(Y, TAIL, rho_head=0.1, rho_tail=0.2, stage=1)
    leaves = jax.tree.leaves(terms)
    assert len(leaves) == 6
    assert not any(jax.typeof(leaf).weak_type for leaf in leaves)
    assert isinstance(jax.tree.map(lambda x: x, terms)[0], Term)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sam(5, rho=-0.1), ValueError, r"rho is -0.1"),
        (lambda: sam(5, rho=jnp.ones(2)), ValueError, r"rho has shape \(2,\)"),
        (lambda: sam(5, rho=0.1, base=jnp.ones(4)), ValueError, "base has shape"),
        (lambda: sam(5, rho=0.1, where=jnp.ones(5)), TypeError, "expected bool"),
        (lambda: imbsam(Y, TAIL, rho=0.1, normalize="mean"), ValueError, "normalize"),
        (lambda: imbsam(Y * 1.0, TAIL, rho=0.1), TypeError, "labels have dtype"),
        (lambda: imbsam(Y, True, rho=0.1), ValueError, "is_tail has shape"),
        (
            lambda: sse_sam(Y, TAIL, rho_head=0.1, rho_tail=0.1, stage=3),
            ValueError,
            "stage is 3",
        ),
        (
            lambda: imbsam(Y, TAIL, rho=0.1, tail_rows=6),
            ValueError,
            "tail_rows is 6 of 5",
        ),
        (lambda: rwsam(jnp.ones((2, 2)), rho=0.1), ValueError, r"expected \[B\]"),
        (lambda: reduction_weights(3, jnp.ones(2)), ValueError, "one per example"),
        (lambda: sse_switch_epoch(10, gamma=-1.0), ValueError, "gamma"),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make()
