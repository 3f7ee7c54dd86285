"""A loss or gradient that is not finite: stop, say where, keep the last good state."""

import faulthandler

import jax.numpy as jnp
import pytest

from ltjax.cli import main
from ltjax.train.build import build
from ltjax.train.checkpoint import Checkpoints
from ltjax.train.records import NonFinite


def poisoned(metric: str):
    """`edit` of a run whose `metric` is not finite at the step hyper["weights.power"].

    The power is that of class weights, which these runs do not have.
    """

    def edit(run):
        def step(state, batch, *, program=None):
            new, metrics = run.step(state, batch, program=program)
            value, count = metrics[metric]
            broken = state.step == state.hyper["weights.power"]
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
    changes = {"weights.power": float(bad)}
    with pytest.raises(NonFinite) as stopped:
        train(changes, workdir=tmp_path, edit=poisoned("loss"))
    text = str(stopped.value)
    assert f"not finite at step {bad} of replica 0" in text
    rows = build(tiny()).plan(bad)[0][0].tolist()
    assert f"training-set rows of that batch: {rows}" in text
    assert saved_steps(tmp_path) == kept
    assert [line["step"] for line in records(tmp_path)] == logged


def test_the_first_of_several_replicas_is_named(tiny, train, tmp_path):
    changes = {
        "replicas.seeds": (0, 4),
        "replicas.grid": {"weights.power": (17.0, 9.0)},
        "replicas.layout": "vmap",
    }
    with pytest.raises(NonFinite) as stopped:
        train(changes, workdir=tmp_path, edit=poisoned("grad_norm"))
    text = str(stopped.value)
    # Replicas: power 17 with seeds 0 and 4, then power 9 with seeds 0 and 4.
    assert "not finite at step 9 of replica 2 ({'seed': 0" in text
    assert "'power': 9.0" in text
    assert str(build(tiny()).plan(9)[0][0].tolist()) in text


def test_a_mended_run_goes_on_from_the_last_good_state(
    train, tmp_path, assert_same, records
):
    changes = {"weights.power": 13.0}
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
    assert error.startswith("error: loss or gradient is not finite at step 1 of repl")
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
        train({"weights.power": 2.0}, edit=poisoned("loss"))
    assert calls == ["arm", "disarm"]
