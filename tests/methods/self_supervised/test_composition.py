"""What may be combined: learners, boosting, temperature schedules, harmonization."""

import itertools

import jax
import numpy as np
import pytest

LEARNERS = {
    "simclr": (),
    "focal": ("method.focal_gamma=2.0",),
    "sdclr": (),
}
EXTENSIONS = {
    "bcl": ("method.boost=true",),
    "ts": ("method.temperature_shape=cosine", "method.temperature_period=3 epochs"),
    "gh": ("method.harmony=1.0", "method.harmony_classes=5", "method.harmony_start=0%"),
}
MATRIX = [
    (learner, *(name for name, on in zip(EXTENSIONS, chosen, strict=True) if on))
    for learner in LEARNERS
    for chosen in itertools.product((False, True), repeat=len(EXTENSIONS))
]
# Everything at once; the other cells take minutes.
QUICK = ("sdclr", *EXTENSIONS)
CELLS = [
    pytest.param(
        cell, id="+".join(cell), marks=() if cell == QUICK else pytest.mark.slow
    )
    for cell in MATRIX
]


def first_step(smoked, batch, cell, *more):
    """(run, first state, state and metrics after a step) of a cell of the matrix."""
    learner, *extensions = cell
    changes = [*LEARNERS[learner], *more]
    for name in extensions:
        changes += EXTENSIONS[name]
    run, state = smoked("selfsup_lt", f"method={learner},probe=false", *changes)
    step = jax.jit(run.step, static_argnames="program")
    return run, state, *step(state, batch, program=run.program(0))


def test_the_matrix_is_whole():
    assert len(MATRIX) == len(set(MATRIX)) == 3 * 2 * 2 * 2


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_takes_a_step_and_sam_commits_it_once(
    smoked, pair_batch, cell, assert_same
):
    run, state, new, metrics = first_step(smoked, pair_batch, cell)
    assert set(run.method.tables) == {
        table for name, table in (("bcl", "boost"), ("gh", "latent")) if name in cell
    }
    assert ("temperature" in metrics) == ("ts" in cell)
    assert ("harmony" in metrics) == ("gh" in cell)
    assert np.isfinite(float(metrics["loss"][0]))
    # The rows of the batch, and no others, are in the tables; padding is not.
    seen = np.sort(np.asarray(pair_batch["index"])[:13])
    kept = new.method_state or {}
    for table, mark in (("boost", "visited"), ("latent", "seen")):
        if table in kept:
            assert np.flatnonzero(kept[table][mark]).tolist() == seen.tolist()
    # At the radius 0 the second pass of SAM sees what the first one saw: all that a
    # step commits, batch statistics and tables, has to be committed once.
    _, _, sharp, _ = first_step(
        smoked, pair_batch, cell, "gradient.name=sam", "gradient.rho=0"
    )
    assert_same(
        (sharp.params, sharp.model_state, sharp.method_state),
        (new.params, new.model_state, new.method_state),
        rtol=1e-4,
        atol=1e-5,
    )
