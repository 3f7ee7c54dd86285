"""KCL: the own key and the first k of the class in a queue that keeps labels."""

import jax
import numpy as np
import pytest

REAL = 13


def test_a_step_has_k_positives_of_the_keys_before(smoked, pair_batch, unit_outputs):
    changes = ("model.norm=none", "head.norm=none", "method.k=2")
    run, state = smoked("selfsup_lt", "method=kcl,probe=false", *changes)
    step, states, losses = jax.jit(run.step), [state], []
    for _ in range(2):
        state, metrics = step(state, pair_batch)
        states.append(state)
        losses.append(float(metrics["loss"][0]))
    assert losses[0] == pytest.approx(0, abs=1e-6)  # nothing in the queue yet
    one, two = (dict(state.method_state) for state in states[1:])
    labels = np.arange(REAL) % 3
    # Padding has left what was there before.
    assert np.array_equal(one["queue_labels"][:16], [*labels, -1, -1, -1])
    assert np.all(one["queue_labels"][16:] == -1)
    assert np.array_equal(two["queue_labels"][16:32], one["queue_labels"][:16])

    found = unit_outputs(run, states[1].params, states[1].model_state, pair_batch)
    q = found["projection"][0]
    key = np.asarray(two["queue"][16 : 16 + REAL], np.float64)
    queue = np.asarray(one["queue"][:REAL], np.float64)
    total = 0.0
    for i in range(REAL):
        same = np.flatnonzero(labels == labels[i])[:2]
        other = np.flatnonzero(labels != labels[i])
        near = np.array([q[i] @ key[i], *(queue[same] @ q[i])]) / 0.07
        far = queue[other] @ q[i] / 0.07
        normalizer = np.log(np.exp(near).sum() + np.exp(far).sum())
        total += normalizer - near.mean()
    assert losses[1] == pytest.approx(total / REAL, rel=1e-4)
