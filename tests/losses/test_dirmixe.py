"""DirMixE: the draws' distribution, the loss by loops over draws, its limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import (
    SampledPriors,
    dirmixe,
    reversed_prior,
    sample_priors,
    semi_variance,
)

PRIOR = np.array([0.6, 0.3, 0.1])
COUNTS = np.array([600, 300, 100])


def cross_entropy(z, y):
    return np.log(np.sum(np.exp(z))) - z[y]


def draw_losses(logits, labels, priors, experts, tau):
    """l_t: the mean loss of each draw, with 1e-9 inside the logarithm."""
    return np.array(
        [
            np.mean(
                [
                    cross_entropy(z[k] - np.log((w / PRIOR) ** tau + 1e-9), y)
                    for z, y in zip(logits, labels, strict=True)
                ]
            )
            for w, k in zip(priors, experts, strict=True)
        ]
    )


def spread_of(losses, ddof):
    above = losses[losses > losses.mean()]
    size = max(len(above) - 1, 1) if ddof == "above" else len(losses)
    return np.sum((above - losses.mean()) ** 2) / size


def test_published_definition_by_hand(x64):
    """Draws (.6,.3,.1), uniform, (.1,.3,.6) on one expert; only the last is above."""
    logits = np.array([[[2.0, 1.0, 0.0]], [[0.5, 0.5, 1.0]]])
    labels, experts = np.array([0, 2]), np.zeros(3, int)
    priors = np.array([[0.6, 0.3, 0.1], [1 / 3] * 3, [0.1, 0.3, 0.6]])
    draws = SampledPriors(np.log(priors), experts)
    function = jax.jit(functools.partial(dirmixe, tau=1.3), static_argnames="ddof")
    loss = function(logits, labels, COUNTS, draws, spread=0.0)
    np.testing.assert_allclose(
        loss.draws, [0.60099137, 1.21443664, 2.15102952], atol=2e-8
    )
    assert np.mean(loss.values) == pytest.approx(1.32215251, abs=2e-8)
    for ddof, expected in (("above", 0.6870371), ("population", 0.22901237)):
        other = function(logits, labels, COUNTS, draws, spread=5.0, ddof=ddof)
        extra = (np.mean(other.values) - np.mean(loss.values)) / 5
        assert extra == pytest.approx(expected, abs=5e-8)


def test_equals_the_loops_over_draws(x64):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 3, 3)), np.array([0, 2, 1, 0])
    priors, experts = rng.dirichlet(np.ones(3), 7), np.array([0, 1, 2, 2, 1, 0, 1])
    keep = np.array([True, True, False, True])
    dirty = np.where(keep[:, None, None], logits, np.nan)
    draws = SampledPriors(np.log(priors), experts)

    def objective(z):
        losses = draw_losses(z[keep], labels[keep], priors, experts, 1.6)
        return losses.mean() + 5 * spread_of(losses, "above")

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def ours(z):
        loss = dirmixe(
            z, labels, COUNTS, draws, tau=1.6, spread=5.0, where=jnp.asarray(keep)
        )
        return jnp.sum(loss.values) / 3, loss

    (value, loss), gradient = ours(dirty)
    assert value == pytest.approx(objective(logits), rel=1e-11)
    assert loss.values[2] == 0 and not gradient[2].any()
    for place in ((0, 0, 1), (1, 2, 2), (3, 1, 0)):
        ends = []
        for sign in (1, -1):
            moved = logits.copy()
            moved[place] += sign * 1e-6
            ends.append(objective(moved))
        difference = (ends[0] - ends[1]) / 2e-6
        assert gradient[place] == pytest.approx(difference, rel=1e-6, abs=1e-9)


def test_limits(x64):
    rng = np.random.default_rng(1)
    logits, labels = 30 * rng.normal(size=(5, 1, 3)), np.array([0, 2, 1, 0, 2])
    one = jax.jit(lambda z, w: dirmixe(z, labels, COUNTS, w, tau=1.0).values)
    zero = np.zeros(1, int)
    plain = [cross_entropy(z[0], y) for z, y in zip(logits, labels, strict=True)]
    values = one(logits, SampledPriors(np.log(PRIOR)[None], zero))
    np.testing.assert_allclose(values, plain, rtol=1e-7, atol=1e-12)
    balanced = [
        cross_entropy(z[0] + np.log(PRIOR), y)
        for z, y in zip(logits, labels, strict=True)
    ]
    values = one(logits, SampledPriors(np.full((1, 3), -np.log(3)), zero))
    np.testing.assert_allclose(values, balanced, rtol=1e-7, atol=1e-12)


def test_concentrated_draws_are_three_fixed_adjustments():
    """A large A: expert k learns CE(z_k + tau log pi - tau log w^(k)), as in SADE."""
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(5, 3, 3)), np.array([0, 2, 1, 0, 2])
    draws = jax.jit(
        lambda key: sample_priors(key, COUNTS, num_draws=24, concentration=1e10)
    )(jax.random.key(0))
    loss = jax.jit(lambda z, w: dirmixe(z, labels, COUNTS, w, tau=1.3))
    found = loss(logits.astype(np.float32), draws).draws
    means, experts = [PRIOR, np.full(3, 1 / 3), PRIOR[::-1]], np.asarray(draws.experts)
    want = draw_losses(logits, labels, [means[k] for k in experts], experts, 1.3)
    np.testing.assert_allclose(found, want, rtol=1e-4)
    assert set(experts) == {0, 1, 2}


def test_large_logits_and_rare_classes_do_not_underflow():
    """Logits of +-60 against a prior that all but excludes the winning class."""
    logits = np.array([[[60.0, -60.0, 0.0]], [[-60.0, 60.0, 0.0]]], np.float32)
    draws = SampledPriors(np.log([[1e-12, 1e-6, 1.0]]), np.zeros(1, int))
    labels = np.array([0, 2])

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def graded(z):
        loss = dirmixe(z, labels, COUNTS, draws, tau=2.0)
        return jnp.sum(loss.values), loss.draws

    (_, means), gradient = graded(logits)
    expected = draw_losses(
        logits.astype(np.float64), labels, np.exp(draws.log_priors), [0], 2.0
    )
    np.testing.assert_allclose(means, expected, rtol=1e-5)
    assert np.isfinite(gradient).all()


@jax.jit
def draw_many(key, counts, concentration):
    return sample_priors(key, counts, num_draws=6000, concentration=concentration)


def test_draws_have_the_moments_of_the_mixture():
    counts = np.array([5000, 800, 120, 5])
    draws = draw_many(jax.random.key(0), counts, 1e4)
    priors, experts = np.exp(np.float64(draws.log_priors)), np.asarray(draws.experts)
    np.testing.assert_allclose(priors.sum(axis=1), 1, atol=1e-5)
    means = [counts / counts.sum(), np.full(4, 0.25), reversed_prior(counts)]
    for k, mean in enumerate(means):
        chosen = priors[experts == k]
        assert abs(len(chosen) - 2000) < 6 * np.sqrt(6000 * 2 / 9)
        deviation = np.sqrt(mean * (1 - mean) / (1e4 + 1))
        error = np.abs(chosen.mean(axis=0) - mean) / deviation * np.sqrt(len(chosen))
        assert error.max() < 5
        np.testing.assert_allclose(chosen.std(axis=0) / deviation, 1, atol=0.1)


def test_relative_deviation_of_a_tail_class():
    """sqrt((1 - w) / (w (A + 1))): 47 % at w = 4.6e-4, 3 % at w = .1."""
    for w, expected in ((4.6e-4, 0.47), (0.1, 0.03)):
        assert np.sqrt((1 - w) / (w * 10001)) == pytest.approx(expected, abs=5e-3)


def test_tiny_concentrations_stay_finite():
    draws = draw_many(jax.random.key(1), np.array([10**6, 1, 1, 9]), 0.5)
    assert np.isfinite(draws.log_priors).all()


def test_semi_variance():
    assert semi_variance(np.ones(4, np.float32)) == 0
    losses = np.array([0.0, 1.0, 4.0, 5.0], np.float32)  # mean 2.5: 1.5^2 + 2.5^2
    assert semi_variance(losses) == 8.5
    assert semi_variance(losses, ddof="population") == 8.5 / 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ddof": "sample"}, "dirmixe: ddof is 'sample'"),
        ({"class_counts": COUNTS[:2]}, r"class_counts has shape \(2,\)"),
        (
            {"draws": SampledPriors(np.zeros((2, 4)), np.zeros(2, int))},
            r"draws.log_priors has shape \(2, 4\), expected \[T, 3\]",
        ),
        (
            {"draws": SampledPriors(np.zeros((2, 3)), np.zeros(3, int))},
            r"draws.experts has shape \(3,\), expected \(2,\)",
        ),
        ({"where": np.ones(1, bool)}, r"where has shape \(1,\), expected \(2,\)"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {
        "expert_logits": np.zeros((2, 3, 3), np.float32),
        "labels": np.array([0, 1]),
        "class_counts": COUNTS,
        "draws": SampledPriors(np.zeros((2, 3)), np.zeros(2, int)),
    }
    with pytest.raises(ValueError, match=message):
        dirmixe(**arguments | change)


def test_options_are_checked():
    with pytest.raises(ValueError, match="sample_priors: num_draws is 0"):
        sample_priors(jax.random.key(0), COUNTS, num_draws=0)
    with pytest.raises(ValueError, match="sample_priors: concentration is 0"):
        sample_priors(jax.random.key(0), COUNTS, num_draws=1, concentration=0)
    with pytest.raises(ValueError, match=r"losses have shape \(2, 2\)"):
        semi_variance(np.ones((2, 2)))
