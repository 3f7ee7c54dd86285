"""CAVL: the table holds the candidate with the largest activation value."""

import numpy as np
import pytest

REAL = 14


@pytest.fixture(scope="module")
def stepped(smoked, candidate_batch, advance):
    run, state = smoked("partial_lt", "method=cavl", "model.norm=none")
    batch = candidate_batch("inputs")
    return run, batch, *advance(run, state, batch)


def test_the_loss_is_cross_entropy_to_the_chosen_candidate(stepped, outputs_of):
    run, batch, states, told = stepped
    possible = np.asarray(batch["candidates"])
    z = outputs_of(run, states[0], batch["inputs"])["logits"]
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    uniform = -(log_p * possible / 3).sum(1)[:REAL].mean()
    assert told[0]["loss"] == pytest.approx(uniform, rel=1e-5)
    chosen = [
        max(np.flatnonzero(row), key=lambda k, i=i: z[i, k] * abs(1 - z[i, k]))
        for i, row in enumerate(possible)
    ]
    negative = np.max(np.where(possible, z, -np.inf), axis=1)[:REAL] < 0
    assert negative.any()  # there the released code would leave the candidates
    table = np.asarray(states[1].method_state["confidence"])
    np.testing.assert_array_equal(
        table[batch["index"][:REAL]], np.eye(10)[chosen][:REAL]
    )
    z = outputs_of(run, states[1], batch["inputs"])["logits"]
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    want = -log_p[np.arange(16), chosen][:REAL].mean()
    assert told[1]["loss"] == pytest.approx(want, rel=1e-5)
