"""What is not finite: which step it was, who goes on, what is kept."""

import faulthandler
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.cli import main
from ltjax.train.build import build
from ltjax.train.checkpoint import Checkpoints
from ltjax.train.records import NonFinite
from ltjax.train.restore import evaluate_run
from ltjax.train.state import NEVER

WHEN = "method.posthoc_tau"  # swept, and of no use to a training step


def poisoned(metric: str):
    """`edit` of a run whose `metric` is not finite at the step hyper[WHEN]."""

    def edit(run):
        def step(state, batch, *, program=None):
            new, metrics = run.step(state, batch, program=program)
            value, count = metrics[metric]
            broken = state.step == state.hyper[WHEN]
            metrics[metric] = (jnp.where(broken, jnp.nan, value), count)
            return new, metrics

        return run._replace(step=step)

    return edit


def saved_steps(workdir):
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        return checkpoints.steps()
    finally:
        checkpoints.close()


@pytest.mark.parametrize(
    ("bad", "kept", "logged"),
    [(13, [8], [6, 12, 12]), (15, [8], [6, 12, 12]), (23, [8, 16], [6, 12, 12, 18])],
)
def test_the_first_bad_step_is_named_and_nothing_after_it_is_kept(
    tiny, train, tmp_path, records, bad, kept, logged
):
    changes = {WHEN: float(bad)}
    with pytest.raises(NonFinite) as stopped:
        train(changes, workdir=tmp_path, edit=poisoned("loss"))
    text = str(stopped.value)
    assert f"not finite at step {bad} of replica 0" in text
    rows = build(tiny()).plan(bad)[0][0].tolist()
    assert f"training-set rows of that batch: {rows}" in text
    assert saved_steps(tmp_path) == kept
    assert [line["step"] for line in records(tmp_path)] == logged


def test_a_replica_that_diverges_is_frozen_and_the_others_go_on(
    tiny, train, tmp_path, records, caplog, assert_same
):
    grid = {"replicas.grid": {WHEN: (9.0, 100.0)}, "replicas.layout": "vmap"}
    with caplog.at_level(logging.WARNING, logger="ltjax"):
        found = train(grid, workdir=tmp_path, edit=poisoned("grad_norm"))
    assert found.state.diverged.tolist() == [9, NEVER]
    assert found.state.step.tolist() == [24, 24]
    (warning,) = [r.getMessage() for r in caplog.records if "finite" in r.getMessage()]
    assert f"not finite at step 9 of replica 0 (seed 0, {{'{WHEN}': 9.0}})" in warning
    assert str(build(tiny()).plan(9)[0][0].tolist()) in warning
    assert "this replica stays as it was before, the others go on" in warning

    # The first stays at what nine steps made of it, the second is a run of its own.
    rounding = {"rtol": 1e-5, "atol": 1e-6}
    for r, changes in enumerate(({"total": "9 steps", WHEN: 9.0}, {WHEN: 100.0})):
        alone = train(changes, edit=lambda run: run).state
        for part in ("params", "model_state", "opt_state"):
            own = jax.tree.map(lambda x, r=r: x[r : r + 1], getattr(found.state, part))
            assert_same(own, getattr(alone, part), **rounding)

    # What is reported of the first is not a number.
    for key, values in found.metrics.items():
        assert np.isnan(values[0]), key
    assert np.isfinite(found.metrics["eval/test/balanced_accuracy"][1])
    assert np.isnan(found.evaluation["test"]["summary/balanced_accuracy"][0])
    lines = [line for line in records(tmp_path) if "train/loss" in line]
    assert [line["step"] for line in lines] == [6, 12, 18, 24]
    losses = np.array([line["replicas"]["train/loss"] for line in lines], float)
    assert np.isfinite(losses[:2]).all()
    assert np.isnan(losses[2:, 0]).all() and np.isfinite(losses[2:, 1]).all()


def test_a_resumed_run_knows_who_has_diverged(train, tmp_path, assert_same):
    grid = {"replicas.grid": {WHEN: (9.0, 100.0)}, "replicas.layout": "vmap"}
    whole = train(grid, workdir=tmp_path / "whole", edit=poisoned("loss"))
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "24")
    again = train(grid, workdir=tmp_path / "again", edit=poisoned("loss"))
    assert again.start_step == 16
    assert_same(again.state, whole.state)
    assert_same(again.metrics, whole.metrics)
    finished = train(grid, workdir=tmp_path / "whole", edit=poisoned("loss"))
    assert finished.start_step == 24
    assert_same(finished.metrics, whole.metrics)
    assert_same(evaluate_run(tmp_path / "whole"), whole.metrics)


def test_the_run_ends_when_every_replica_has_diverged(tiny, train, tmp_path):
    changes = {
        "replicas.seeds": (0, 4),
        "replicas.grid": {WHEN: (17.0, 9.0)},
        "replicas.layout": "vmap",
    }
    with pytest.raises(NonFinite) as stopped:
        train(changes, workdir=tmp_path, edit=poisoned("grad_norm"))
    text = str(stopped.value)
    # Replicas: 17 with seeds 0 and 4, then 9 with seeds 0 and 4.
    assert f"not finite at step 17 of replica 0 (seed 0, {{'{WHEN}': 17.0}})" in text
    assert str(build(tiny()).plan(17)[0][0].tolist()) in text
    assert saved_steps(tmp_path) == [8, 16]


def test_a_mended_run_goes_on_from_the_last_good_state(
    train, tmp_path, assert_same, records
):
    changes = {WHEN: 13.0}
    with pytest.raises(NonFinite):
        train(changes, workdir=tmp_path / "broken", edit=poisoned("loss"))
    mended = train(changes, workdir=tmp_path / "broken")
    assert mended.start_step == 8
    whole = train(changes, workdir=tmp_path / "whole")
    assert_same(mended.state, whole.state)


def test_a_rate_that_is_far_too_large(tiny_config, capsys, tmp_path):
    """Step 0 is finite, but moves the parameters by 1e30 times a gradient."""
    code = main(
        [
            "train",
            f"--config={tiny_config}",
            "--config.optimizer.lr=1e30",
            "--config.model.norm=none",
            f"--workdir={tmp_path}",
            "--no-tensorboard",
        ]
    )
    assert code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: loss, gradient or state is not finite at step 1 of")
    assert "Traceback" not in error
    assert saved_steps(tmp_path) == []


def test_the_watchdog_is_disarmed_when_a_run_fails(train, monkeypatch):
    calls = []
    monkeypatch.setattr(
        faulthandler, "dump_traceback_later", lambda *a, **k: calls.append("arm")
    )
    monkeypatch.setattr(
        faulthandler, "cancel_dump_traceback_later", lambda: calls.append("disarm")
    )
    with pytest.raises(NonFinite):
        train({WHEN: 2.0}, edit=poisoned("loss"))
    assert calls[0] == "arm" and calls[-1] == "disarm"
    assert calls.count("disarm") == 1
