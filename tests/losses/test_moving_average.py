"""Moving-average losses over two steps, against loops with explicit weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import (
    AveragePrecisionMeans,
    partial_auc_kl,
    soap,
    song,
    sopa_s,
)

ROWS, RATE = 12, 0.3
LABELS = (np.arange(ROWS) % 3 == 0).astype(np.int32)
KEEP = np.arange(ROWS) != 5


def hinge(t, margin=1.0):
    return max(margin - t, 0.0) ** 2


def slope(t, margin=1.0):
    return -2 * max(margin - t, 0.0)


def batch(seed):
    scores = np.random.default_rng(seed).permutation(np.linspace(-1, 1.03, ROWS))
    return np.where(KEEP, scores, np.nan)


def graded(loss):
    def total(scores, *state):
        out = loss(scores, *state)
        return jnp.sum(out.values), out

    return jax.jit(jax.value_and_grad(total, has_aux=True))


SOAP = graded(
    lambda s, y, u, rate, where: soap(s, y, u, rate=rate, margin=0.8, where=where)
)


def soap_step(scores, labels, averages, rate, where):
    return SOAP(scores, labels.astype(np.int32), averages, np.float64(rate), where)


def test_soap_equals_the_loops(x64):
    u_all, u_pos = np.zeros(ROWS), np.zeros(ROWS)
    state = AveragePrecisionMeans(u_all.copy(), u_pos.copy())
    rows = np.flatnonzero(KEEP)
    up = [p for p in rows if LABELS[p] == 1]
    for seed in range(2):
        scores = batch(seed)
        (_, out), gradient = soap_step(scores, LABELS, state, RATE, KEEP)
        expected, slopes = np.zeros(ROWS), np.zeros(ROWS)
        monitor = 0.0
        for p in up:
            losses = {q: hinge(scores[p] - scores[q], 0.8) for q in rows}
            own = sum(losses[q] for q in up) / len(rows)
            u_all[p] = (1 - RATE) * u_all[p] + RATE * sum(losses.values()) / len(rows)
            u_pos[p] = (1 - RATE) * u_pos[p] + RATE * own
            monitor += (1 - u_pos[p] / u_all[p]) / len(up)
            for q in rows:
                weight = (u_pos[p] - u_all[p] * LABELS[q]) / u_all[p] ** 2 / len(up)
                expected[p] += weight * losses[q]
                slopes[p] += weight * slope(scores[p] - scores[q], 0.8)
                slopes[q] -= weight * slope(scores[p] - scores[q], 0.8)
        np.testing.assert_allclose(out.values, expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(out.averages.every, u_all, rtol=1e-12)
        np.testing.assert_allclose(out.averages.positive, u_pos, rtol=1e-12)
        assert out.monitor.sum() / len(rows) == pytest.approx(monitor, rel=1e-12)
        if seed == 0:  # from zero, the weights cancel
            np.testing.assert_allclose(out.values, 0, atol=1e-14)
        state = out.averages


def test_soap_without_a_positive_is_zero(x64):
    zeros = AveragePrecisionMeans(np.zeros(ROWS), np.zeros(ROWS))
    scores, every = np.linspace(0, 1, ROWS), np.ones(ROWS, bool)
    (_, out), gradient = soap_step(scores, np.zeros(ROWS), zeros, 0.9, every)
    assert not np.any(out.values) and not np.any(out.monitor) and not np.any(gradient)
    assert not np.any(out.averages.every)
    (_, out), _ = soap_step(scores, np.ones(ROWS), zeros, 0.9, every)
    np.testing.assert_allclose(out.values, 0, atol=1e-14)
    np.testing.assert_allclose(out.monitor, 0, atol=1e-14)
    (_, out), _ = soap_step(scores, np.full(ROWS, 2), zeros, 0.9, every)
    assert np.isnan(out.values).all()
    nothing = AveragePrecisionMeans(scores[:0], scores[:0])
    assert soap(scores[:0], LABELS[:0], nothing).values.shape == (0,)


def test_validation_leaves_the_averages(x64):
    state = AveragePrecisionMeans(np.full(ROWS, 0.7), np.full(ROWS, 0.4))
    (_, out), _ = soap_step(batch(3), LABELS, state, 0.0, KEEP)
    np.testing.assert_array_equal(out.averages.every, state.every)
    up = (LABELS == 1) & KEEP
    expected = np.where(up, 11 / up.sum() * (1 - 0.4 / 0.7), 0)
    np.testing.assert_allclose(out.monitor, expected, rtol=1e-12)


RELEVANCE = np.array([[2, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 3, 0, 1, 1]])


@pytest.mark.parametrize("options", [{}, {"whole": True}])
def test_song_equals_the_loops(options, x64):
    whole = options.get("whole", False)
    given = {"rate": RATE, "margin": 0.9}
    numbers, ideals = (RELEVANCE > 0).sum(1), np.array([3.5, 1.0, 8.0])
    levels = np.array([0.1, -0.2, 0.3])
    if whole:
        numbers = np.array([7, 0, 4])
        given |= {"num_items": 50, "num_relevant": numbers, "ideal_dcg": ideals}
        given |= {"thresholds": levels, "sharpness": 1.5}
    step = graded(lambda s, u, w: song(s, RELEVANCE, u, where=w, **given))
    every = np.ones(3, bool)
    n = 50 if whole else 5
    u = np.zeros((3, 5))
    state = u.copy()
    for seed in range(2):
        scores = np.random.default_rng(seed).normal(size=(3, 5))
        (_, out), gradient = step(scores, state, every)
        values, slopes, monitor = np.zeros(3), np.zeros((3, 5)), np.zeros(3)
        for q in range(3):
            items = np.flatnonzero(RELEVANCE[q])
            if not items.size:
                continue
            best = np.sort(RELEVANCE[q])[::-1]
            ideal = sum((2.0**y - 1) / np.log2(r + 2) for r, y in enumerate(best))
            ideal = ideals[q] if whole else ideal
            monitor[q] = 1
            for i in items:
                gaps = scores[q, i] - scores[q]
                g = np.mean([hinge(t, 0.9) for t in gaps])
                u[q, i] = (1 - RATE) * u[q, i] + RATE * g
                rank, gain = 1 + n * u[q, i], 2.0 ** RELEVANCE[q, i] - 1
                scale = numbers[q] / len(items) / ideal
                if whole:
                    scale /= 1 + np.exp(-1.5 * (scores[q, i] - levels[q]))
                weight = scale * gain * n / (np.log(2) * rank * np.log2(rank) ** 2)
                values[q] += weight * g
                monitor[q] -= scale * gain / np.log2(rank)
                for j in range(5):
                    slopes[q, i] += weight * slope(gaps[j], 0.9) / 5
                    slopes[q, j] -= weight * slope(gaps[j], 0.9) / 5
        np.testing.assert_allclose(out.values, values, rtol=1e-11)
        np.testing.assert_allclose(out.monitor, monitor, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(out.averages, u, rtol=1e-12)
        state = out.averages
    keep = np.array([True, True, False])
    (_, masked), gradient = step(np.where(keep[:, None], scores, np.nan), u, keep)
    (_, clean), _ = step(scores, u, every)
    np.testing.assert_allclose(masked.values[:2], clean.values[:2], rtol=1e-12)
    assert masked.values[2] == masked.monitor[2] == 0 and not np.any(gradient[2])
    np.testing.assert_array_equal(masked.averages[2], u[2])
    assert np.isfinite(gradient).all()


def test_sopa_s_equals_the_loops(x64):
    lam = 0.4
    step = graded(
        lambda s, u: sopa_s(
            s, LABELS, u, temperature=lam, rate=RATE, block=5, where=KEEP
        )
    )
    rows = np.flatnonzero(KEEP)
    up = [p for p in rows if LABELS[p] == 1]
    down = [q for q in rows if LABELS[q] == 0]
    means, state = {}, np.full(ROWS, -np.inf)
    for seed in range(2):
        scores = batch(seed)
        (_, out), gradient = step(scores, state)
        values, slopes = np.zeros(ROWS), np.zeros(ROWS)
        for p in up:
            terms = {q: np.exp(hinge(scores[p] - scores[q]) / lam) for q in down}
            g = np.mean(list(terms.values()))
            means[p] = (1 - RATE) * means.get(p, g) + RATE * g
            values[p] = len(rows) / len(up) * lam * np.log(means[p])
            for q in down:
                weight = len(rows) / len(up) / len(down) * terms[q] / means[p]
                slopes[p] += weight * slope(scores[p] - scores[q])
                slopes[q] -= weight * slope(scores[p] - scores[q])
        np.testing.assert_allclose(out.values, values, rtol=1e-11)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(
            [out.averages[p] for p in up], [np.log(means[p]) for p in up], rtol=1e-11
        )
        if seed == 0:  # an average that starts is its first mean
            within = functools.partial(partial_auc_kl, temperature=lam, where=KEEP)
            np.testing.assert_allclose(out.values, jax.jit(within)(scores, LABELS))
        others = np.delete(np.asarray(out.averages), up)
        assert np.isneginf(others).all()
        state = out.averages


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda s: soap(s, LABELS, AveragePrecisionMeans(s[:2], s)),
            r"soap: averages.every has shape \(2,\), expected \(12,\)",
        ),
        (
            lambda s: soap(s, LABELS + 1, AveragePrecisionMeans(s, s)),
            "soap: a label is 2, expected 0 or 1",
        ),
        (
            lambda s: soap(s, LABELS, AveragePrecisionMeans(s, s), rate=1.5),
            "soap: rate is 1.5",
        ),
        (
            lambda s: song(s[None], RELEVANCE, s[None]),
            r"song: relevance has shape \(3, 5\), expected \(1, 12\)",
        ),
        (lambda s: song(s, s, s), r"song: scores have shape \(12,\), expected \[B, L"),
        (
            lambda s: song(s[None], s[None], s[None], thresholds=s),
            r"song: thresholds has shape \(12,\), expected \(1,\)",
        ),
        (
            lambda s: sopa_s(s, LABELS, s[:3], temperature=1.0),
            r"sopa_s: log_averages have shape \(3,\), expected \(12,\)",
        ),
        (lambda s: sopa_s(s, LABELS, s, temperature=0.0), "temperature is 0.0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros(ROWS, np.float32))


def test_averages_that_are_words_are_named():
    scores = np.zeros(ROWS, np.float32)
    with pytest.raises(TypeError, match="sopa_s: log_averages"):
        sopa_s(scores, LABELS, scores.astype(str), temperature=1.0)
