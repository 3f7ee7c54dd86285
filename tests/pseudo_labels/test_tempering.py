"""How strongly a prior acts: CReST+ and ACR."""

import jax
import numpy as np
import pytest

from ltjax import pseudo_labels
from ltjax.pseudo_labels import crest_power

# Compiled, so that a test costs one program and not one per operation.
acr_divergences = jax.jit(pseudo_labels.acr_divergences)
acr_strength = jax.jit(pseudo_labels.acr_strength)
temper = jax.jit(pseudo_labels.temper)


def test_tempered_prior(x64):
    prior = np.array([0.6, 0.3, 0.1])
    expected = [0.472733875, 0.334273329, 0.192992796]
    np.testing.assert_allclose(temper(prior, 0.5), expected, atol=1e-9)
    np.testing.assert_allclose(temper(prior, 1.0), prior)
    np.testing.assert_allclose(temper(prior, 0.0), 1 / 3)
    np.testing.assert_allclose(temper(1000 * prior, 0.5), expected, atol=1e-9)
    # An empty class stays empty, also at the power 0.
    np.testing.assert_allclose(temper(np.array([3.0, 0.0, 1.0]), 0.0), [0.5, 0, 0.5])
    assert not np.any(temper(np.zeros(3), 0.5))


def test_powers_of_generations():
    # 1 - g / (G - 1) (1 - t): the last generation reaches t.
    assert [crest_power(g, 6) for g in range(6)] == pytest.approx(
        [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    )
    assert crest_power(0, 1) == 1.0
    with pytest.raises(ValueError, match="generation is 6"):
        crest_power(6, 6)


def test_acr_is_stronger_the_farther_from_consistent(x64):
    # Classes need not be sorted: the reversed prior gives the rarest the largest share.
    prior = np.array([0.2, 0.7, 0.1])
    anchors = {
        "consistent": prior,
        "uniform": np.full(3, 1 / 3),
        "reversed": np.array([0.2, 0.1, 0.7]),
    }

    def divergence(a, b):
        return 0.5 * np.sum(a * np.log(a / b)) + 0.5 * np.sum(b * np.log(b / a))

    strength = []
    for estimate in anchors.values():
        expected = [divergence(estimate, anchor) for anchor in anchors.values()]
        values = acr_divergences(100 * estimate, prior)
        np.testing.assert_allclose(values, expected, atol=1e-12)
        share = np.exp(expected[0]) / np.sum(np.exp(expected))
        np.testing.assert_allclose(acr_strength(values), 2 * share)
        strength.append(share)
    assert strength == sorted(strength)
    assert np.all(np.isfinite(acr_divergences(np.array([1.0, 0.0, 0.0]), prior)))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="temper: power is -1"):
        pseudo_labels.temper(np.ones(3), -1)
    with pytest.raises(ValueError, match=r"divergences has shape \(2,\)"):
        pseudo_labels.acr_strength(np.ones(2))
    with pytest.raises(ValueError, match=r"estimate has shape \(2,\)"):
        pseudo_labels.acr_divergences(np.ones(2), np.ones(3))
