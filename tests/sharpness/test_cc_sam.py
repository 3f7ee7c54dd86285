"""CC-SAM's closed forms against loops over the classes, as its authors write them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import sharpness
from ltjax.sharpness import calibrate_nu, rebalance_share

# Compiled as a whole: one operation at a time they are slow to test.
cc_sam = jax.jit(sharpness.cc_sam)
cc_sam_rebalance = jax.jit(sharpness.cc_sam_rebalance)
class_radii = jax.jit(sharpness.class_radii)

COUNTS = np.array([500, 40, 1, 9, 3])


def head_batch(*, bias=True, seed=0, dtype=jnp.float64):
    rng = np.random.default_rng(seed)
    labels = jnp.asarray([0, 3, 0, 2, 2, 0, 3, 1, 0], jnp.int32)  # class 4 is absent
    features = jnp.asarray(rng.normal(size=(9, 6)), dtype)
    kernel = jnp.asarray(rng.normal(size=(6, 5)) * 0.5, dtype)
    offset = jnp.asarray(rng.normal(size=5) * 0.2, dtype) if bias else None
    return features, kernel, offset, labels


def cross_entropy(features, kernel, bias, targets):
    logits = features @ kernel
    if bias is not None:
        logits = logits + bias[None]
    return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)


def one_hot(labels):
    return jax.nn.one_hot(labels, 5, dtype=jnp.float64)


def looped_stage1(features, kernel, bias, labels, *, nu, ratio, targets, max_rho=None):
    """One gradient and one perturbed classifier per class."""
    parts = {"kernel": kernel} if bias is None else {"kernel": kernel, "bias": bias}

    def norm(x):
        return jnp.sqrt(jnp.sum(x**2))

    size = jnp.sqrt(sum(jnp.sum(p**2) for p in parts.values())) + 1e-12
    scalars = sum(p.size for p in parts.values())
    losses = (1 - ratio) * cross_entropy(features, kernel, bias, targets)
    for c in np.unique(np.asarray(labels)):
        rows = np.flatnonzero(np.asarray(labels) == c)

        def class_mean(parts, rows=rows):
            fixed = jax.lax.stop_gradient(features[rows])
            return cross_entropy(
                fixed, parts["kernel"], parts.get("bias"), targets[rows]
            ).mean()

        gradient = jax.lax.stop_gradient(jax.grad(class_mean)(parts))
        moved = dict(parts)
        for name, g in gradient.items():
            rho = nu * jnp.sqrt(size) / jnp.sqrt(norm(g)) * scalars**0.25
            rho = rho / (np.sqrt(2) * max(COUNTS[c] - 1, 1) ** 0.25)
            if max_rho is not None:
                rho = jnp.minimum(rho, max_rho)
            moved[name] = parts[name] + jax.lax.stop_gradient(rho * g / norm(g))
        flat = cross_entropy(
            features[rows], moved["kernel"], moved.get("bias"), one_hot(labels[rows])
        )
        losses = losses.at[rows].add(ratio * flat)
    return losses


@pytest.mark.parametrize(
    ("bias", "mixup", "max_rho"),
    [
        (True, True, None),
        pytest.param(True, False, 0.15, marks=pytest.mark.slow),
        (False, True, 0.15),
        pytest.param(False, False, None, marks=pytest.mark.slow),
    ],
)
def test_stage_1_is_the_loop_over_classes(bias, mixup, max_rho, x64):
    features, kernel, offset, labels = head_batch(bias=bias)
    targets = one_hot(labels)
    if mixup:
        targets = 0.7 * targets + 0.3 * targets[::-1]
    sign = jnp.linspace(-1.0, 2.0, 9)  # an arbitrary weight of the losses
    options = {"nu": 0.1, "ratio": 0.4, "max_rho": max_rho}

    def closed(*head):
        given = targets if mixup else None
        return cc_sam(*head, labels, COUNTS, targets=given, **options)

    def looped(*head):
        return looped_stage1(*head, labels, targets=targets, **options)

    def losses_and_gradients(function, arguments):
        losses, pull = jax.vjp(function, *arguments)
        return losses, pull(sign)

    arguments = (features, kernel, offset) if bias else (features, kernel)
    if not bias:
        closed, looped = (lambda f, k, g=g: g(f, k, None) for g in (closed, looped))
    run = jax.jit(losses_and_gradients, static_argnums=0)
    (ours, our_gradients), (theirs, their_gradients) = (
        run(function, arguments) for function in (closed, looped)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    for a, b in zip(our_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_known_numbers_of_a_toy(x64):
    features, kernel = jnp.array([[1.0, 0.0]]), jnp.array([[0.6, 0.0], [0.0, 0.8]])
    arguments = (features, kernel, None, jnp.array([0]), np.array([17, 5]))
    radii = class_radii(*arguments, nu=0.1)
    np.testing.assert_allclose(radii.kernel, [0.0706317800], atol=1e-10)
    residual = jax.nn.softmax(jnp.array([0.6, 0.0])) - jnp.array([1.0, 0.0])
    np.testing.assert_allclose(radii.kernel_norm, [np.linalg.norm(residual)])
    plain, flat = (cc_sam(*arguments, nu=0.1, ratio=r) for r in (0.0, 1.0))
    np.testing.assert_allclose(plain, [0.4374879505], atol=1e-10)
    np.testing.assert_allclose(flat, [0.4740348601], atol=1e-10)
    # The perturbed logits (0.5500557894, 0.0499442106).
    moved = jnp.array([0.6, 0.0]) + radii.kernel * residual / np.linalg.norm(residual)
    np.testing.assert_allclose(moved, (0.5500557894, 0.0499442106), atol=1e-10)


def test_radii_scale_with_counts_and_limits(x64):
    features, kernel, bias, _ = head_batch()
    # Two classes with equal gradients: the same examples, mirrored classifier columns.
    features = jnp.concatenate([features[:2], features[:2]])
    kernel = kernel[:, :1] * jnp.ones((1, 2))
    labels = jnp.array([0, 0, 1, 1])
    radii = class_radii(features, kernel, None, labels, np.array([17, 257]), nu=0.1)
    np.testing.assert_allclose(radii.kernel_norm[0], radii.kernel_norm[2], rtol=1e-12)
    np.testing.assert_allclose(radii.kernel[0] / radii.kernel[2], 2.0, rtol=1e-12)

    features, kernel, bias, labels = head_batch()
    plain = cross_entropy(features, kernel, bias, one_hot(labels))
    head = (features, kernel, bias, labels, COUNTS)
    np.testing.assert_allclose(cc_sam(*head, nu=0.3, ratio=0.0), plain, rtol=1e-13)
    np.testing.assert_allclose(cc_sam(*head, nu=0.0, ratio=0.7), plain, rtol=1e-13)
    # The count of a class that is absent changes nothing.
    other = COUNTS.copy()
    other[4] = 1000
    np.testing.assert_array_equal(
        cc_sam(*head, nu=0.3), cc_sam(features, kernel, bias, labels, other, nu=0.3)
    )


def test_a_fitted_class_is_not_perturbed(x64):
    kernel = jnp.eye(2) * 60.0
    features, labels = jnp.array([[1.0, 0.0], [0.4, 0.5]]), jnp.array([0, 1])
    radii = class_radii(features, kernel, None, labels, np.array([9, 9]), nu=0.1)
    assert float(radii.kernel_norm[0]) < 1e-12 and float(radii.kernel[0]) == 0
    gradients = jax.grad(
        lambda f, k: cc_sam(f, k, None, labels, np.array([9, 9]), nu=0.1).sum(), (0, 1)
    )(features, kernel)
    assert all(np.isfinite(g).all() for g in gradients)


def test_padding_rows_do_not_exist(x64):
    features, kernel, bias, labels = head_batch()
    where = jnp.arange(9) < 6
    spoiled = features.at[6:].set(jnp.nan)
    bad_labels = labels.at[7].set(99)
    for function, options in (
        (cc_sam, {"nu": 0.1}),
        (cc_sam_rebalance, {"alpha": 0.6}),
    ):
        full = function(
            spoiled, kernel, bias, bad_labels, COUNTS, where=where, **options
        )
        few = function(features[:6], kernel, bias, labels[:6], COUNTS, **options)
        np.testing.assert_allclose(full[:6], few, rtol=1e-13)
        np.testing.assert_array_equal(full[6:], 0)
        gradient = jax.grad(
            lambda k, f=function, o=options: f(
                spoiled, k, bias, bad_labels, COUNTS, where=where, **o
            ).sum()
        )(kernel)
        assert np.isfinite(gradient).all()
    out_of_range = cc_sam(features, kernel, bias, bad_labels, COUNTS, nu=0.1)
    np.testing.assert_array_equal(np.isnan(out_of_range), np.arange(9) == 7)


def test_calibration_gives_the_wanted_median_radius(x64):
    features, kernel, bias, labels = head_batch()
    nu = calibrate_nu(features, kernel, bias, labels, COUNTS, target=0.05)
    radii = class_radii(features, kernel, bias, labels, COUNTS, nu=nu)
    by_class = [float(radii.kernel[np.asarray(labels) == c][0]) for c in range(4)]
    np.testing.assert_allclose(np.median(by_class), 0.05, rtol=1e-12)
    with pytest.raises(ValueError, match="no class"):
        calibrate_nu(jnp.zeros((2, 6)), kernel, bias, labels[:2], COUNTS)


@pytest.mark.parametrize("bias", [True, False])
def test_stage_2_is_the_loop_over_classes(bias, x64):
    features, kernel, offset, labels = head_batch(bias=bias)
    v = np.log(500 / COUNTS + 0.01) / 2

    def looped(kernel, offset):
        targets = one_hot(labels)
        shifted = features
        for c in np.unique(np.asarray(labels)):
            rows = np.flatnonzero(np.asarray(labels) == c)
            u = jax.grad(
                lambda h, r=rows: cross_entropy(h, kernel, offset, targets)[r].mean()
            )(features)
            u = jax.lax.stop_gradient(u / jnp.linalg.norm(u))
            shifted = shifted + 1.5 * v[c] * u
        hard = cross_entropy(shifted, kernel, offset, targets)
        plain = cross_entropy(features, kernel, offset, targets)
        return 0.3 * v[np.asarray(labels)] * hard + 0.7 * plain

    def closed(kernel, offset):
        return cc_sam_rebalance(
            features, kernel, offset, labels, COUNTS, alpha=0.3, amplitude=1.5
        )

    np.testing.assert_allclose(
        closed(kernel, offset), looped(kernel, offset), rtol=1e-13
    )
    ours = jax.grad(lambda k: closed(k, offset).sum())(kernel)
    theirs = jax.grad(lambda k: looped(k, offset).sum())(kernel)
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


def test_share_of_the_shifted_loss():
    found = [float(rebalance_share(e)) for e in (200, 214, 229)]
    np.testing.assert_allclose(found, [1 / 30, 0.5, 1.0], rtol=1e-6)
    assert float(rebalance_share(229, maximum=0.3)) == np.float32(0.3)
    with pytest.raises(ValueError, match="total"):
        rebalance_share(0, start=5, total=5)


def test_refusals():
    features, kernel, bias, labels = head_batch(dtype=jnp.float32)
    with pytest.raises(ValueError, match=r"expected \[B, D\] and \[D, K\]"):
        sharpness.cc_sam(features, kernel.T, bias, labels, COUNTS, nu=0.1)
    with pytest.raises(ValueError, match="class_counts has shape"):
        sharpness.cc_sam(features, kernel, bias, labels, COUNTS[:3], nu=0.1)
    with pytest.raises(ValueError, match="ratio"):
        sharpness.cc_sam(features, kernel, bias, labels, COUNTS, nu=0.1, ratio=1.5)
    with pytest.raises(ValueError, match="targets have shape"):
        sharpness.cc_sam(
            features, kernel, bias, labels, COUNTS, nu=0.1, targets=jnp.ones(9)
        )
    with pytest.raises(TypeError, match="labels have dtype"):
        sharpness.cc_sam(features, kernel, bias, labels * 1.0, COUNTS, nu=0.1)
