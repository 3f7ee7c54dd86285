"""Supervised contrastive learning: the loss of a step by the definition."""

import jax
import numpy as np
import pytest


def test_a_step_pulls_together_all_views_of_a_class(smoked, pair_batch, unit_outputs):
    changes = ("model.norm=none", "head.norm=none")
    run, state = smoked("selfsup_lt", "method=sup_con,probe=false", *changes)
    _, metrics = jax.jit(run.step)(state, pair_batch)
    found = unit_outputs(run, state.params, state.model_state, pair_batch)
    u = np.concatenate(found["projection"])
    labels = np.tile(np.arange(13) % 3, 2)
    s = u @ u.T / 0.1
    np.fill_diagonal(s, -np.inf)
    log_p = s - np.log(np.exp(s).sum(1, keepdims=True))
    total = 0.0
    for i in range(26):
        same = (labels == labels[i]) & (np.arange(26) != i)
        total -= log_p[i, same].mean()
    assert float(metrics["loss"][0]) == pytest.approx(total / 26, rel=1e-4)
