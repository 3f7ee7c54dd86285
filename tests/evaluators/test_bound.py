"""The class-wise generalization bound, against float64 numpy on the same network."""

import types

import numpy as np
import pytest

from ltjax.evaluators.registry import EVALUATORS

COUNTS = np.array([40, 30, 23, 18, 14, 11, 8, 6, 5, 4])
PRIOR = COUNTS / COUNTS.sum()


def test_bound_is_that_of_the_definition(watched, network):
    """alpha beta~ sqrt(pi) [1 - softmax(beta B + Delta)], over K pi_min (Wang 2023)."""
    workdir, result = watched
    _, logits, labels, _ = network
    with np.load(workdir / "evaluation" / "train_24.npz") as file:
        details = dict(file)
    alpha = COUNTS**-0.5
    alpha = alpha * 10 / alpha.sum()
    beta, delta = (COUNTS / 40) ** 0.2, 1.2 * np.log(PRIOR)
    spread = np.sqrt(beta**2 + (beta.sum() - beta) ** 2)
    for r in range(2):
        lowest = np.array([logits[r, labels == k, k].min() for k in range(10)])
        chance = np.exp(beta * lowest + delta)
        gap = 1 - chance / chance.sum()
        summand = alpha * spread * gap * np.sqrt(PRIOR)
        ours = details["bound_min_score"][r]
        np.testing.assert_allclose(ours, lowest, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(details["bound_gap"][r], gap, rtol=1e-4)
        np.testing.assert_allclose(details["bound_summand"][r], summand, rtol=1e-4)
        total = result.metrics["eval/train/bound"][r]
        assert total == pytest.approx(summand.sum() / (10 * PRIOR.min()), rel=1e-4)
        parts = [
            result.metrics[f"eval/train/bound_{g}"][r]
            for g in ("many", "medium", "few")
        ]
        assert sum(parts) == pytest.approx(total, rel=1e-5)
        few = summand[COUNTS < 8].sum() / (10 * PRIOR.min())
        assert parts[2] == pytest.approx(few, rel=1e-4)


def test_a_method_without_its_form_is_refused():
    setting = types.SimpleNamespace(
        networks={"main": None}, class_counts=COUNTS, adjustment=None
    )
    component = EVALUATORS["bound"]
    with pytest.raises(ValueError, match=r"does not have the form\n? ?.*w_y CE"):
        component.make(component.options(), setting)
