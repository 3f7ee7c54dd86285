"""The min-max AUC loss: hand-computed values, the saddle identity, bad batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import (
    SaddleDuals,
    aucm,
    best_saddle_duals,
    drauc_radii,
    init_saddle_duals,
)

SCORES = np.array([0.9, 0.4, 0.5, 0.1, 0.3])
LABELS = np.array([1, 1, 0, 0, 0])
DUALS = SaddleDuals(a=0.5, b=0.2, alpha=0.3)


def objective(h, y, a, b, alpha, margin):
    up, down = h[y == 1], h[y == 0]
    return (
        np.mean((up - a) ** 2)
        + np.mean((down - b) ** 2)
        + 2 * alpha * (margin + down.mean() - up.mean())
        - alpha**2
    )


def pairwise(h, y, margin):
    up, down = h[y == 1], h[y == 0]
    return np.mean([[(margin - p + q) ** 2 for q in down] for p in up])


@functools.cache
def program(version="v2"):
    def mean(scores, duals, labels, where, margin):
        loss = aucm(scores, labels, duals, margin=margin, version=version, where=where)
        return jnp.sum(loss.values) / jnp.maximum(jnp.sum(where), 1), loss

    return jax.jit(jax.value_and_grad(mean, argnums=(0, 1), has_aux=True))


def graded(scores, labels, duals=DUALS, where=None, margin=1.0, version="v2"):
    where = np.ones(len(scores), bool) if where is None else where
    duals = SaddleDuals(*(np.asarray(x, scores.dtype) for x in duals))
    margin = scores.dtype.type(margin)
    return jax.device_get(
        program(version)(scores, duals, labels.astype(np.int32), where, margin)
    )


def test_hand_computed(x64):
    """(.16 + .01)/2 + (.09 + .01 + .01)/3 + .6 (1 + .3 - .65) - .09 = .42166667."""
    (value, loss), gradients = graded(SCORES, LABELS)
    assert value == pytest.approx(0.085 + 0.11 / 3 + 0.39 - 0.09, abs=1e-14)
    assert np.mean(loss.monitor) == pytest.approx(0.51166667, abs=5e-9)
    assert np.mean(loss.monitor) == pytest.approx(pairwise(SCORES, LABELS, 1.0))
    old = graded(SCORES, LABELS, version="v1")[0][0]
    assert old == pytest.approx(0.24 * value, abs=1e-14)
    assert old == pytest.approx(0.1012, abs=1e-12)
    # dF/dh: (2 (h - a) - 2 alpha) / 2 and (2 (h - b) + 2 alpha) / 3.
    expected = [(0.8 - 0.6) / 2, (-0.2 - 0.6) / 2]
    expected += [(0.6 + 0.6) / 3, (-0.2 + 0.6) / 3, (0.2 + 0.6) / 3]
    np.testing.assert_allclose(gradients[0], expected, atol=1e-14)
    # dF/da = 2 (a - .65), dF/db = 2 (b - .3), dF/dalpha = 2 (1 + .3 - .65) - 2 alpha.
    np.testing.assert_allclose(gradients[1], [-0.3, -0.2, 0.7], atol=1e-14)


def test_saddle_is_the_pairwise_loss(x64):
    function = jax.jit(lambda s, m: best_saddle_duals(s, LABELS, margin=m))
    best = function(SCORES, 1.0)
    np.testing.assert_allclose(best, [0.65, 0.3, 0.65], atol=1e-15)
    (value, loss), gradients = graded(SCORES, LABELS, best)
    assert value == pytest.approx(0.51166667, abs=5e-9)
    assert value == pytest.approx(np.mean(loss.monitor), abs=1e-14)
    each = [np.mean((1 - p + SCORES[2:]) ** 2) for p in SCORES[:2]]
    np.testing.assert_allclose(loss.monitor, 5 / 2 * np.array([*each, 0, 0, 0]))
    np.testing.assert_allclose(gradients[1], 0, atol=1e-14)
    # A gap beyond the margin: alpha stops at 0, and F is the variance within classes.
    apart = function(SCORES + 2.0 * LABELS, 0.5)
    assert apart.alpha == 0


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_masked_and_multi_label(version, x64):
    rng = np.random.default_rng(0)
    scores, labels = rng.random((9, 3)), rng.integers(0, 2, (9, 3))
    labels[:, 2] = 0  # a label without a positive does not count
    keep = np.arange(9) != 4
    duals = SaddleDuals(*rng.random((3, 3)))
    dirty = np.where(keep[:, None], scores, np.nan)
    wrong = np.where(keep[:, None], labels, 7)
    (value, loss), gradients = graded(dirty, wrong, duals, keep, 0.8, version)
    expected, monitor = [], []
    for column in range(2):
        h, y = scores[keep, column], labels[keep, column]
        scale = y.mean() * (1 - y.mean()) if version == "v1" else 1
        each = [x[column] for x in duals]
        expected.append(scale * objective(h, y, *each, 0.8))
        monitor.append(scale * pairwise(h, y, 0.8))
    assert value == pytest.approx(np.mean(expected), rel=1e-12)
    assert loss.monitor.sum() / 8 == pytest.approx(np.mean(monitor), rel=1e-12)
    assert loss.values[4] == loss.monitor[4] == 0 and not gradients[0][4].any()
    assert not gradients[0][:, 2].any() and np.isfinite(gradients[0]).all()


def test_without_a_pair_the_loss_is_zero():
    scores = np.float32(SCORES)
    for labels, where in (
        (np.zeros(5, int), None),
        (np.ones(5, int), None),
        (LABELS, np.zeros(5, bool)),
    ):
        (value, loss), gradients = graded(scores, labels, where=where)
        assert value == 0 and not np.any(loss.monitor) and value.dtype == np.float32
        assert not np.any(gradients[0]) and not np.any(gradients[1])
    loss = graded(scores, np.array([1, 2, 0, 0, 0]))[0][1]
    np.testing.assert_array_equal(np.isnan(loss.values), [False, True] + [False] * 3)
    saturated = graded(np.float32(LABELS), LABELS)[0][1]
    assert np.isfinite(saturated.values).all() and not saturated.monitor.any()


def test_monitor_carries_no_gradient_and_duals_start_at_zero():
    duals = init_saddle_duals()
    gradient = jax.jit(jax.grad(lambda s: aucm(s, LABELS, duals).monitor.sum()))
    assert not np.any(gradient(jnp.float32(SCORES)))
    assert [x.dtype for x in duals] == [jnp.float32] * 3
    assert init_saddle_duals(4).a.shape == (4,)


@pytest.mark.parametrize(
    ("share", "ratio", "expected"),
    [
        (0.1, 0.8, (0.4, 0.51111111)),
        (0.1, 1.5, (0.75, 0.47222222)),
        (0.2, 0.5, (0.25, 0.5625)),
        (0.3, 1.0, (0.5, 0.5)),
    ],
)
def test_radii_of_the_classes(share, ratio, expected, x64):
    up, down = drauc_radii(share, radius=0.5, ratio=ratio)
    np.testing.assert_allclose([up, down], expected, atol=5e-9)
    assert share * up + (1 - share) * down == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, y: aucm(s, y + 1, DUALS), "aucm: a label is 2, expected 0 or 1"),
        (lambda s, y: aucm(s, y[:3], DUALS), r"aucm: labels have shape \(3,\)"),
        (lambda s, y: aucm(s[None, None], y, DUALS), r"expected \[B\] or \[B, L\]"),
        (lambda s, y: aucm(s, y, DUALS, version="v3"), "version is 'v3', expected one"),
        (
            lambda s, y: aucm(s, y, DUALS._replace(b=np.zeros(2))),
            r"aucm: b has shape \(2,\), expected a scalar or \(1,\)",
        ),
        (
            lambda s, y: aucm(s, y, DUALS, where=np.ones(4, bool)),
            r"aucm: where has shape \(4,\), expected \(5,\)",
        ),
        (lambda s, y: drauc_radii(1.0, radius=1, ratio=1), "positive_share is 1.0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.float32(SCORES), LABELS)
