"""LW: the weighted binary losses, and weights of candidates and of the others."""

import numpy as np
import pytest

REAL = 14


@pytest.fixture(scope="module")
def stepped(smoked, candidate_batch, advance):
    changes = ("model.norm=none", "method.beta=2.0")
    run, state = smoked("partial_lt", "method=lw", *changes)
    batch = candidate_batch("inputs")
    return run, batch, *advance(run, state, batch)


def lws(z, weights, possible, beta):
    inside, outside = 1 / (1 + np.exp(z)), 1 / (1 + np.exp(-z))
    return (weights * np.where(possible, inside, beta * outside)).sum(1)[:REAL].mean()


def test_the_weights_start_alike_for_all_labels(stepped, outputs_of):
    run, batch, states, told = stepped
    z = outputs_of(run, states[0], batch["inputs"])["logits"]
    want = lws(z, np.full_like(z, 0.1), np.asarray(batch["candidates"]), 2)
    assert told[0]["loss"] == pytest.approx(want, rel=1e-5)


def test_then_they_sum_to_one_over_the_candidates_and_over_the_others(
    stepped, outputs_of
):
    run, batch, states, told = stepped
    possible = np.asarray(batch["candidates"])
    p = np.exp(outputs_of(run, states[0], batch["inputs"])["logits"])
    inside, outside = p * possible, p * ~possible
    rows = inside / inside.sum(1, keepdims=True)
    rows += outside / outside.sum(1, keepdims=True)
    table = np.asarray(states[1].method_state["confidence"])
    np.testing.assert_allclose(
        table[batch["index"][:REAL]], rows[:REAL], rtol=1e-5, atol=1e-6
    )
    z = outputs_of(run, states[1], batch["inputs"])["logits"]
    assert told[1]["loss"] == pytest.approx(lws(z, rows, possible, 2), rel=1e-5)
    # What a row believes is the best of its candidates, whatever the others weigh.
    best = np.argmax(inside, axis=1)[:REAL]
    right = np.mean(best == np.asarray(batch["truth"])[:REAL])
    assert told[1]["disambiguated"] == pytest.approx(right)
