"""Partial AUC losses against loops over pairs, with gradients by differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import metrics
from ltjax.losses import (
    partial_auc,
    partial_auc_cvar,
    partial_auc_kl,
    update_cvar_thresholds,
)
from ltjax.metrics.partial_auc import share_count

ROWS = 24
OPTIONS = {
    "relaxed": {"margin": 0.9, "gamma": 0.6},
    "exp": {"margin": 0.9, "gamma": 4.0},
    "cvar": {"alpha": 0.45, "beta": 0.3},
    "hinge_cvar": {"alpha": 0.45, "beta": 0.3, "margin": 0.4},
    "two_way_kl": {"temperature": 0.3, "positive_temperature": 0.2},
}
LOSSES = {
    "relaxed": partial_auc,
    "exp": functools.partial(partial_auc, weighting="exp", kind="one_way"),
    "cvar": partial_auc_cvar,
    "hinge_cvar": functools.partial(partial_auc_cvar, power=1),
    "two_way_kl": functools.partial(partial_auc_kl, block=5),
}
cases = pytest.mark.parametrize("name", LOSSES)


def hinge(t, margin=1.0, power=2):
    return max(margin - t, 0.0) ** power


def reference(name, scores, labels, options):
    """The loss of a batch, from its definition."""
    up, down = scores[labels == 1], scores[labels == 0]
    if name in ("relaxed", "exp"):
        m, gamma = options["margin"], options["gamma"]
        if name == "relaxed":
            up_weight, down_weight = (1 - up + 1e-6) ** gamma, (down + 1e-6) ** gamma
        else:
            up_weight, down_weight = np.ones(len(up)), 1 - np.exp(-gamma * down)
        terms = [
            a * b * (m - p + q) ** 2
            for p, a in zip(up, up_weight, strict=True)
            for q, b in zip(down, down_weight, strict=True)
        ]
        return np.mean(terms)
    power = 1 if name == "hinge_cvar" else 2
    losses = [
        [hinge(p - q, options.get("margin", 1.0), power) for q in down] for p in up
    ]
    if name.endswith("cvar"):
        hard = share_count(options["beta"], len(down))
        risks = [np.mean(np.sort(row)[-hard:]) for row in losses]
        # The positives with the largest risks are those with the lowest scores.
        chosen = share_count(options["alpha"], len(up))
        return np.mean(np.sort(risks)[-chosen:])
    lam = options["temperature"]
    risks = np.array([lam * np.log(np.mean(np.exp(np.array(r) / lam))) for r in losses])
    outer = options["positive_temperature"]
    return outer * np.log(np.mean(np.exp(risks / outer)))


@functools.cache
def program(name):
    def mean(scores, labels, where, options):
        values = LOSSES[name](scores, labels, where=where, **options)
        return jnp.sum(values) / jnp.maximum(jnp.sum(where), 1), values

    return jax.jit(jax.value_and_grad(mean, has_aux=True))


def graded(name, scores, labels, where=None, **options):
    options = {**OPTIONS[name], **options}
    options = {key: scores.dtype.type(value) for key, value in options.items()}
    where = np.ones(len(scores), bool) if where is None else where
    out = program(name)(scores, labels.astype(np.int32), where, options)
    return jax.device_get(out)


def batch(seed):
    rng = np.random.default_rng(seed)
    labels = (np.arange(ROWS) % 3 == 0).astype(np.int32)
    return rng.permutation(np.linspace(0.03, 0.97, ROWS)), labels


def differences(function, x, step=1e-6):
    gradient = np.zeros_like(x)
    for i in range(len(x)):
        moved = [x.copy(), x.copy()]
        moved[0][i] += step
        moved[1][i] -= step
        gradient[i] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return gradient


@cases
def test_equals_the_definition(name, x64):
    scores, labels = batch(0)
    (value, values), gradient = graded(name, scores, labels)
    expected = reference(name, scores, labels, OPTIONS[name])
    assert value == pytest.approx(expected, rel=1e-11)
    assert np.all(values >= 0) and not values[labels == 0].any()
    expected = differences(lambda s: reference(name, s, labels, OPTIONS[name]), scores)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@cases
def test_masks_ties_and_order(name, x64):
    scores, labels = batch(1)
    scores = np.round(scores * 8) / 8
    keep = np.arange(ROWS) % 5 != 1
    dirty = np.where(keep, scores, np.nan)
    (value, values), gradient = graded(name, dirty, np.where(keep, labels, 9), keep)
    expected = reference(name, scores[keep], labels[keep], OPTIONS[name])
    assert value == pytest.approx(expected, rel=1e-11)
    assert not values[~keep].any() and not gradient[~keep].any()
    assert np.isfinite(gradient).all()
    order = np.random.default_rng(0).permutation(ROWS)
    moved = graded(name, dirty[order], np.where(keep, labels, 9)[order], keep[order])
    assert moved[0][0] == pytest.approx(value, rel=1e-12)


@cases
def test_without_a_pair_the_loss_is_zero(name, x64):
    scores, labels = batch(2)
    for given, where in (
        (np.zeros(ROWS, int), None),
        (np.ones(ROWS, int), None),
        (labels, np.zeros(ROWS, bool)),
    ):
        (value, values), gradient = graded(name, scores, given, where)
        assert value == 0 and not values.any() and not gradient.any()
    bad = graded(name, scores, np.where(np.arange(ROWS) == 4, 2, labels))[0][1]
    assert np.isnan(bad[4])
    loss = functools.partial(LOSSES[name], **OPTIONS[name])
    empty = jax.eval_shape(loss, scores[:0], labels[:0])
    assert empty.shape == (0,)


def test_float32():
    scores, labels = batch(3)
    (value, _), gradient = graded("hinge_cvar", np.float32(scores), labels)
    expected = reference("hinge_cvar", scores, labels, OPTIONS["hinge_cvar"])
    assert value.dtype == gradient.dtype == np.float32
    assert value == pytest.approx(expected, rel=1e-5)


def test_limits(x64):
    scores, labels = batch(4)
    up, down = scores[labels == 1], scores[labels == 0]
    square = np.mean((0.9 - up[:, None] + down) ** 2)
    value = graded("relaxed", scores, labels, gamma=0.0)[0][0]
    assert value == pytest.approx(square, rel=1e-9)
    mean = np.mean([hinge(p - q) for p in up for q in down])
    every = graded("cvar", scores, labels, alpha=1.0, beta=1.0)[0][0]
    assert every == pytest.approx(mean, rel=1e-12)
    for temperature, expected in ((1e6, mean), (1e-4, hinge(up.min() - down.max()))):
        # Hot, all pairs count alike; cold, only the worst one is left.
        options = {"temperature": temperature, "positive_temperature": temperature}
        value = graded("two_way_kl", scores, labels, **options)[0][0]
        assert value == pytest.approx(expected, abs=1e-3)


def test_hard_shares_are_those_of_the_metric(x64):
    """At margin 0 the selected hinge is zero exactly where the two-way area is one."""
    scores, labels = batch(5)
    scores = scores + labels * 0.6
    for alpha, beta in ((0.3, 0.1), (1.0, 0.5), (0.01, 0.01)):
        loss = graded("hinge_cvar", scores, labels, alpha=alpha, beta=beta, margin=0.0)[
            0
        ][0]
        area = metrics.two_way_partial_auc(scores, labels, alpha=alpha, beta=beta)
        assert (loss == 0) == (area == 1)


THRESHOLDS = np.linspace(-0.2, 1.5, ROWS)


def test_thresholds_equal_the_definition(x64):
    scores, labels = batch(6)
    alpha, beta, level = 0.4, 0.3, 0.8

    def definition(scores, u, level):
        up, down = np.flatnonzero(labels == 1), scores[labels == 0]
        risks = [
            u[p]
            + sum(max(hinge(scores[p] - q) - u[p], 0) for q in down)
            / (beta * len(down))
            for p in up
        ]
        return level + np.mean([max(g - level, 0) for g in risks]) / alpha

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2))
    def ours(scores, u, level):
        values = partial_auc_cvar(
            scores, labels, u, alpha=alpha, beta=beta, level=level
        )
        return jnp.mean(values)

    value, gradients = ours(scores, THRESHOLDS, level)
    assert value == pytest.approx(definition(scores, THRESHOLDS, level), rel=1e-12)
    expected = (
        differences(lambda s: definition(s, THRESHOLDS, level), scores),
        differences(lambda u: definition(scores, u, level), THRESHOLDS),
        differences(lambda v: definition(scores, THRESHOLDS, v[0]), np.array([level])),
    )
    for got, want in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(np.ravel(got), want, rtol=1e-6, atol=1e-8)


def test_best_thresholds_give_the_mean_over_the_hardest(x64):
    """u_p = the (beta N_-)-th largest pair loss; 16 negatives, beta = 1/4."""
    scores, labels = batch(7)
    down = scores[labels == 0]
    losses = np.array([[hinge(s - q) for q in down] for s in scores])
    best = np.sort(losses, axis=1)[:, -4]
    function = jax.jit(functools.partial(partial_auc_cvar, beta=0.25))
    values = function(scores, labels, best)
    hardest = np.sort(losses, axis=1)[:, -4:].mean(axis=1)
    expected = np.where(labels == 1, ROWS / 8 * hardest, 0)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    np.testing.assert_allclose(values, function(scores, labels), rtol=1e-12, atol=1e-15)
    for other in (best * 0.8, best * 1.3):
        assert np.sum(function(scores, labels, other)) > np.sum(values)


def test_threshold_step(x64):
    scores, labels = batch(8)
    down = scores[labels == 0]
    keep = np.arange(ROWS) != 3
    step = jax.jit(
        functools.partial(update_cvar_thresholds, beta=0.25, learning_rate=0.1)
    )
    start = np.where(np.arange(ROWS) % 2 == 0, 0.0, 0.9)
    got = step(start, scores, labels, where=keep)
    for p in range(ROWS):
        share = np.mean([hinge(scores[p] - q) > start[p] for q in down])
        moved = start[p] - 0.1 * (1 - share / 0.25)
        assert got[p] == pytest.approx(moved if labels[p] and keep[p] else start[p])
    np.testing.assert_array_equal(step(start, scores, np.ones(ROWS, int)), start)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (partial_auc, {}),
        (partial_auc_cvar, {"beta": 0.3}),
        (partial_auc_kl, {"temperature": 1.0}),
    ],
)
def test_bad_input_is_named(loss, options):
    name, scores = loss.__name__, np.zeros(4, np.float32)
    labels = np.array([0, 1, 1, 0])
    for arguments, extra, message in (
        ((scores, labels + 1), {}, "a label is 2, expected 0 or 1"),
        ((scores, labels[:3]), {}, r"labels have shape \(3,\), expected \(4,\)"),
        ((scores[:, None], labels), {}, r"scores have shape \(4, 1\), expected \[B\]"),
        ((scores, labels), {"where": np.ones(3, bool)}, r"where has shape \(3,\)"),
    ):
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            loss(*arguments, **options, **extra)
    with pytest.raises(TypeError, match=f"{name}: labels have dtype float32"):
        loss(scores, scores, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, y: partial_auc(s, y, weighting="log"), "weighting is 'log'"),
        (lambda s, y: partial_auc(s, y, kind="three_way"), "kind is 'three_way'"),
        (lambda s, y: partial_auc(s, y, gamma=-1.0), "gamma is -1.0"),
        (lambda s, y: partial_auc_cvar(s, y, beta=0.0), "beta is 0.0"),
        (lambda s, y: partial_auc_cvar(s, y, beta=1, power=3), "power is 3"),
        (
            lambda s, y: partial_auc_cvar(s, y, s[:2], beta=0.5),
            r"thresholds have shape \(2,\), expected \(4,\)",
        ),
        (
            lambda s, y: partial_auc_cvar(s, y, s, beta=0.5, alpha=0.5),
            "alpha is 0.5, so thresholds need a level",
        ),
        (
            lambda s, y: partial_auc_cvar(s, y, beta=0.5, level=0.1),
            "level needs thresholds",
        ),
        (lambda s, y: partial_auc_kl(s, y, temperature=0.0), "temperature is 0.0"),
        (
            lambda s, y: partial_auc_kl(s, y, temperature=1, positive_temperature=0),
            "positive_temperature is 0",
        ),
        (lambda s, y: partial_auc_kl(s, y, temperature=1, block=0), "block is 0"),
    ],
)
def test_options_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros(4, np.float32), np.array([0, 1, 1, 0]))
