"""Records on disk, in TensorBoard and on the console."""

import json
import math
import warnings

import numpy as np
import pytest

from ltjax._seal import unsealed
from ltjax.train import loop, writers
from ltjax.train.build import build
from ltjax.train.loop import Preempted
from ltjax.train.writers import JsonLines, Progress, record


def test_a_record_of_one_replica():
    line = record(10, 1 / 3, {"train/loss": [0.5], "eval/test/many": [math.nan]})
    expected = {"step": 10, "epoch": 0.3333, "train/loss": 0.5, "eval/test/many": None}
    assert line == expected


def test_a_record_of_several_replicas():
    line = record(np.int64(3), 2, {"a": np.array([1.0, 2.0, 6.0]), "b": [1, math.inf]})
    # Mean 3; sample variance (4 + 1 + 9) / 2 = 7.
    assert line["a"] == 3.0
    assert line["std"]["a"] == pytest.approx(math.sqrt(7))
    assert line["replicas"] == {"a": [1.0, 2.0, 6.0], "b": [1.0, None]}
    assert line["b"] is None and line["std"]["b"] is None
    json.dumps(line, allow_nan=False)


def lines_of(path):
    return [unsealed(line) for line in path.read_text().splitlines()]


def test_json_lines_start_after_the_resumed_step(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 5, "a": 1.0}\n'
        '{"step": 10, "a": 2.0}\n'
        "[1, 2]\n"
        '{"a": 3}\n'
        '{"step": 15, "a": 4.0}\n'
        '{"step": 1'
    )
    sink = JsonLines(path, resume_step=10)
    assert [line["step"] for line in lines_of(path)] == [5, 10]
    sink.write({"step": 15, "a": 5.0})
    assert lines_of(path)[-1] == {"step": 15, "a": 5.0}  # on disk at once
    sink.close()
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
    # What is lost is said, but for the line that the interrupted run was writing.
    dropped = [line.split(": ")[1] for line in caplog.text.splitlines()]
    assert dropped == ["line 3 is dropped", "line 4 is dropped"]


def test_json_lines_of_a_fresh_run_forget_an_earlier_attempt(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5, "a": 1.0}\n')
    JsonLines(path, resume_step=0).close()
    assert path.read_text() == ""


def scalars(workdir):
    """{key: [(step, value)]} as TensorBoard shows them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing import event_accumulator

        events = event_accumulator.EventAccumulator(str(workdir)).Reload()
        return {
            key: [(event.step, event.value) for event in events.Scalars(key)]
            for key in events.Tags()["scalars"]
        }


def test_tensorboard_shows_what_metrics_jsonl_holds_after_a_resume(
    tiny, devices, tmp_path, records, sigterm_during
):
    with devices(1):
        run = build(tiny({"replicas.seeds": (0, 1), "replicas.layout": "vmap"}))
        with pytest.raises(Preempted):
            loop.run(sigterm_during(13)(run), tmp_path)
        # As if a later part had been lost with its checkpoint.
        (tmp_path / "checkpoints" / "14").rename(tmp_path / "lost")
        assert loop.run(run, tmp_path).start_step == 8
    shown = scalars(tmp_path)
    lines = records(tmp_path)
    for key in ("train/loss", "eval/test/balanced_accuracy", "train/lr"):
        for part, name in ((lambda r: r, key), (lambda r: r["std"], f"{key}_std")):
            expected = [(r["step"], part(r)[key]) for r in lines if key in r]
            assert [step for step, _ in shown[name]] == [step for step, _ in expected]
            np.testing.assert_allclose(
                [value for _, value in shown[name]],
                [value for _, value in expected],
                rtol=1e-6,
                atol=1e-9,
            )


class Clock:
    """A clock that goes when told."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(writers.time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_rates_leave_out_compilation_and_pauses(clock):
    progress = Progress(100, start=20, examples_per_step=32, label="CE")
    assert progress.rates() == {}
    clock.now += 60  # compiling, in the first step
    progress.advance(21)
    progress.resume()
    clock.now += 2
    progress.advance(31)
    progress.pause()
    clock.now += 500  # evaluating
    progress.resume()
    clock.now += 3
    progress.advance(41)
    # 20 steps in 5 seconds.
    expected = {"time/steps_per_s": 4.0, "time/examples_per_s": 128.0}
    assert progress.rates() == pytest.approx(expected)


def test_a_line_of_progress(capsys):
    shown = {"eval/test/few": "few"}
    progress = Progress(
        300, start=0, examples_per_step=10, label="LDAM-DRW", shown=shown
    )
    progress.show(
        {
            "step": 50,
            "epoch": 2.5,
            "train/loss": 1.23456,
            "train/accuracy": None,
            "eval/test/few": 0.25,
            "time/steps_per_s": 2.0,
            "time/examples_per_s": 20.0,
        }
    )
    progress.close()
    # 250 steps are left, at 2 a second: 125 s.
    assert capsys.readouterr().out == (
        "LDAM-DRW step 50/300 (epoch 2.5)  loss 1.235  few 0.250  20 ex/s  ETA 2:05\n"
    )


def test_lines_of_a_run(train, capsys):
    train({"label": "a name"})
    lines = capsys.readouterr().out.splitlines()
    heads = [line.split("  ")[0] for line in lines]
    assert heads == [
        "a name step 6/24 (epoch 0.7)",
        "a name step 12/24 (epoch 1.3)",
        "a name step 12/24 (epoch 1.3)",
        "a name step 18/24 (epoch 2.0)",
        "a name step 24/24 (epoch 2.7)",
        "a name step 24/24 (epoch 2.7)",
    ]
    assert "loss" in lines[0] and "acc" in lines[0]
    assert "test bal" in lines[2] and "few" in lines[2] and "worst" in lines[2]
    assert "ex/s" in lines[-1] and "ETA 0:00" in lines[-1]


def test_interval_metrics_are_the_means_of_its_steps(train, tmp_path, records):
    train({"log_every": "1 steps"}, workdir=tmp_path / "single")
    train({"log_every": "6 steps"}, workdir=tmp_path / "six")
    singles = [r for r in records(tmp_path / "single") if "train/loss" in r]
    for line in (r for r in records(tmp_path / "six") if "train/loss" in r):
        of = singles[line["step"] - 6 : line["step"]]
        for key in ("train/loss", "train/accuracy", "train/grad_norm"):
            mean = np.mean([r[key] for r in of])
            assert line[key] == pytest.approx(mean, rel=1e-5)
