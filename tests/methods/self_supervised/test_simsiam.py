"""SimSiam: views one after the other, negative cosines, a measure of collapse."""

import jax
import numpy as np
import pytest


def test_a_step_minimizes_the_cosines_of_prediction_and_projection(
    smoked, pair_batch, unit_outputs
):
    run, state = smoked("selfsup_lt", "method=simsiam,probe=false", "model.norm=none")
    new, metrics = jax.jit(run.step)(state, pair_batch)
    # Batch statistics are of one view at a time, and see the padding rows that the
    # config's sampler does not make.
    found = unit_outputs(run, state.params, state.model_state, pair_batch)
    p, z = found["prediction"], found["projection"]
    want = -0.5 * ((p[0] * z[1]).sum(1) + (p[1] * z[0]).sum(1))
    assert float(metrics["loss"][0]) == pytest.approx(want.mean(), abs=2e-5)
    spread = z[0].std(axis=0).mean() * 8  # the projection has 64 entries
    assert float(metrics["spread"][0]) == pytest.approx(spread, rel=1e-4)
    # The last normalization has no scale and no offset.
    assert "norm2" not in new.params["head"]
    assert "norm2" in new.model_state["batch_stats"]["head"]
    moved = jax.tree.map(
        lambda a, b: bool(np.any(a != b)), new.params["head"], state.params["head"]
    )
    assert moved["predictor1"]["kernel"] and moved["dense1"]["kernel"]
