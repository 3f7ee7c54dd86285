"""Losses of several experts: published numbers, loops, limits and gradient routing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import (
    expert_losses,
    reversed_prior,
    ride,
    ride_diversity,
    ride_temperatures,
    sade,
)

# Logits (2, 1, 0, -1), label 1, counts (100, 10, 5, 1).
TOY = np.array([2.0, 1.0, 0.0, -1.0])
COUNTS = np.array([100, 10, 5, 1])
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(4, 3, 4))
LABELS = np.array([1, 0, 3, 2], np.int32)


def cross_entropy(z, y):
    return np.log(np.sum(np.exp(z))) - z[y]


def softmax(z):
    return np.exp(z) / np.sum(np.exp(z))


def test_expert_losses(x64):
    shift = RNG.normal(size=(3, 4))
    values = jax.jit(lambda z: expert_losses(z, LABELS, shift=shift))(LOGITS)
    expected = [
        [cross_entropy(LOGITS[b, e] + shift[e], LABELS[b]) for e in range(3)]
        for b in range(4)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_reversed_prior():
    expected = [0.00862069, 0.04310345, 0.0862069, 0.86206897]
    np.testing.assert_allclose(reversed_prior(COUNTS), expected, atol=5e-9)
    shuffled = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        reversed_prior(COUNTS[shuffled]), np.array(expected)[shuffled], atol=5e-9
    )
    np.testing.assert_allclose(
        jax.jit(reversed_prior)(COUNTS[shuffled]),
        reversed_prior(COUNTS[shuffled]),
        rtol=1e-6,
    )
    # Twice is the identity without ties; tied classes share.
    twice = reversed_prior(reversed_prior(COUNTS) * 116)
    np.testing.assert_allclose(twice, COUNTS / 116, atol=1e-14)
    tied = np.array([50, 20, 20, 10])
    np.testing.assert_allclose(reversed_prior(tied), [0.1, 0.2, 0.2, 0.5])
    tied = np.array([40, 40, 20])
    for form in (reversed_prior, jax.jit(reversed_prior)):
        np.testing.assert_allclose(form(tied), [0.3, 0.3, 0.4], rtol=1e-6)


SADE = jax.jit(lambda z, y, counts, tau: sade(z, y, counts, tau=tau))


def test_sade_numbers(x64):
    """1.44018970 + 3.34569494 + 6.52299897, without the 1e-9 inside the logarithms."""
    logits = np.tile(TOY, (1, 3, 1))
    value = SADE(np.tile(logits, (4, 1, 1)), np.ones(4, np.int32), COUNTS, 2.0)
    assert float(value[0]) == pytest.approx(11.30888361, abs=1e-6)
    prior, inverse = COUNTS / 116, reversed_prior(COUNTS)
    shifts = [0, np.log(prior), np.log(prior) - 2 * np.log(inverse)]
    parts = [cross_entropy(TOY + shift, 1) for shift in shifts]
    np.testing.assert_allclose(parts, [1.4401897, 3.34569494, 6.52299897], atol=5e-9)


def test_sade_without_tau_has_two_balanced_experts(x64):
    values = SADE(LOGITS, LABELS, COUNTS, 0.0)
    shift = np.log(COUNTS / 116)
    expected = [
        sum(cross_entropy(LOGITS[b, e] + (e > 0) * shift, y) for e in range(3))
        for b, y in enumerate(LABELS)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-7)


def test_temperatures_of_no_classes_are_refused():
    with pytest.raises(ValueError, match="class_counts are empty, expected one"):
        ride_temperatures(np.zeros(0))


def test_ride_temperatures():
    np.testing.assert_allclose(
        ride_temperatures(COUNTS), [1, 0.86175115, 0.85407066, 0.84792627], atol=1e-7
    )
    np.testing.assert_array_equal(ride_temperatures(COUNTS, strength=0.0), np.ones(4))


def test_ride_equals_the_definition(x64):
    temperatures = np.asarray(ride_temperatures(COUNTS), np.float64)
    weights = np.array([0.2, 0.5, 1.0, 2.3])
    loss = functools.partial(
        ride, labels=LABELS, class_weights=weights, temperatures=temperatures
    )

    def row(z, b, center):
        total = 0.0
        for e in range(3):
            p, q = softmax(center / temperatures), softmax(z[e] / temperatures)
            kl = np.mean(temperatures) ** 2 * np.sum(p * np.log(p / q))
            total += weights[LABELS[b]] * cross_entropy(z[e], LABELS[b]) - 0.45 * kl
        return total

    def summed(z):
        values = loss(z)
        return jnp.sum(values), values

    (_, values), gradient = jax.jit(jax.value_and_grad(summed, has_aux=True))(LOGITS)
    centers = LOGITS.mean(axis=1)
    expected = [row(LOGITS[b], b, centers[b]) for b in range(4)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    # The mean of the experts is held fixed under differentiation.
    for b, e, k in ((0, 0, 1), (1, 2, 0), (3, 1, 3)):
        ends = []
        for sign in (1, -1):
            moved = LOGITS[b].copy()
            moved[e, k] += sign * 1e-6
            ends.append(row(moved, b, centers[b]))
        difference = (ends[0] - ends[1]) / 2e-6
        assert gradient[b, e, k] == pytest.approx(difference, rel=1e-6)


def test_experts_that_agree_have_no_diversity():
    logits = np.tile(np.float32(LOGITS[:, :1]), (1, 3, 1))
    both = jax.jit(lambda z: (ride_diversity(z), ride(z, LABELS)))
    apart, values = both(logits)
    np.testing.assert_allclose(apart, 0, atol=1e-6)
    plain = [3 * cross_entropy(z[0], y) for z, y in zip(logits, LABELS, strict=True)]
    np.testing.assert_allclose(values, plain, rtol=1e-5)


def test_masks_and_bad_labels():
    keep = np.array([True, False, True, True])
    labels = np.where(keep, LABELS, 77)
    dirty = np.where(keep[:, None, None], LOGITS, np.nan).astype(np.float32)
    losses = {
        "ride": lambda z, w: ride(z, labels, where=w),
        "sade": lambda z, w: sade(z, labels, COUNTS, where=w),
        "experts": lambda z, w: expert_losses(z, labels, where=w),
        "diversity": lambda z, w: ride_diversity(z, where=w),
    }

    def total(z, w):
        values = {name: loss(z, w) for name, loss in losses.items()}
        return sum(jnp.sum(v) for v in values.values()), values

    graded = jax.jit(jax.value_and_grad(total, has_aux=True))
    (_, values), gradient = jax.device_get(graded(dirty, keep))
    assert np.isfinite(gradient).all() and not gradient[~keep].any()
    for value in values.values():
        assert np.isfinite(value).all() and not value[~keep].any()
    (_, values), _ = jax.device_get(graded(np.float32(LOGITS), np.ones(4, bool)))
    assert np.isnan(values.pop("diversity")).sum() == 0
    for value in values.values():
        bad = np.isnan(value).reshape(4, -1)
        np.testing.assert_array_equal(bad.all(1), ~keep)
        np.testing.assert_array_equal(bad.any(1), ~keep)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda z, y: sade(z[:, :2], y, COUNTS),
            "sade: there are 2 experts, expected 3",
        ),
        (lambda z, y: sade(z, y, COUNTS[:3]), r"sade: class_counts has shape \(3,\)"),
        (lambda z, y: sade(z, y, [3, 1, 0, 1]), "must be > 0, but class 2 has 0"),
        (lambda z, y: expert_losses(z[0], y), r"expert_logits have shape \(3, 4\)"),
        (lambda z, y: expert_losses(z, y[:2]), r"labels have shape \(2,\), expected"),
        (
            lambda z, y: expert_losses(z, y, shift=np.zeros(4)),
            r"shift has shape \(4,\), expected \(3, 4\)",
        ),
        (lambda z, y: ride(z, y, where=np.ones(3, bool)), r"ride: where has shape \(3"),
        (
            lambda z, y: ride(z, y, class_weights=np.ones(3)),
            r"class_weights has shape \(3,\), but there are 4 classes",
        ),
        (lambda z, y: ride_temperatures(COUNTS, strength=2.0), "strength is 2.0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.float32(LOGITS), LABELS)
    with pytest.raises(TypeError, match="ride: labels have dtype float32"):
        ride(np.float32(LOGITS), np.ones(4, np.float32))
