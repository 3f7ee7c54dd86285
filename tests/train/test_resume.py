"""Stopping and going on in one process: same numbers, same program, same records."""

import json
import os
import pathlib
import shutil
import signal

import jax
import numpy as np
import pytest

from ltjax.methods.registry import LOSSES
from ltjax.options import ConfigError
from ltjax.train.checkpoint_files import restore_params
from ltjax.train.loop import Preempted
from ltjax.train.restore import evaluate_run, restore_run

# Everything that a step may depend on beside its number: an average, moments, dropout,
# a deferred weight (from step 15), a deferred sampler (13), a schedule with warm-up.
RICH = {
    "model.hidden": (16,),
    "model.dropout": 0.2,
    "loss.name": "la",
    "weights.name": "class_balanced",
    "weights.start": "15 steps",
    "sampler.name": "effective_number",
    "sampler.start": "13 steps",
    "optimizer.name": "adamw",
    "optimizer.lr": 0.01,
    "schedule.name": "cosine",
    "schedule.warmup": "4 steps",
    "optimizer.clip_norm": 1.0,
    "ema_decay": 0.9,
    "replicas.seeds": (0, 3),
}


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """The uninterrupted rich run and its workdir."""
    workdir = tmp_path_factory.mktemp("whole")
    return train(RICH, workdir=workdir), workdir


@pytest.fixture(scope="module")
def plain(train, tmp_path_factory):
    """A finished run of the plain config."""
    workdir = tmp_path_factory.mktemp("plain")
    return train(workdir=workdir), workdir


def test_stopped_anywhere_it_ends_at_the_same_bits(
    whole, train, tmp_path, sigterm_during, assert_same, records
):
    result, reference = whole
    for step in (2, 13, 16):
        with pytest.raises(Preempted, match=f"stopped at step {step + 1} of 24"):
            train(RICH, workdir=tmp_path, edit=sigterm_during(step))
    resumed = train(RICH, workdir=tmp_path)
    assert resumed.start_step == 17
    assert_same(resumed.state, result.state)
    assert_same(resumed.metrics, result.metrics)
    assert_same(resumed.evaluation, result.evaluation)
    # Records of evaluations, and of intervals that no stop fell into.
    of = lambda lines, step: [line for line in lines if line["step"] == step]
    for step in (12, 24):
        theirs, ours = of(records(reference), step), of(records(tmp_path), step)
        assert len(ours) == len(theirs) == 2
        assert ours[1] == theirs[1]
    assert of(records(tmp_path), 24)[0] == of(records(reference), 24)[0]


def test_asked_to_stop_while_compiling_it_stops_after_a_step(
    plain, train, assert_same, sigterm_during, tmp_path
):
    def edit(run):
        def init(*args):  # called while the initial state is traced
            os.kill(os.getpid(), signal.SIGTERM)
            return run.init(*args)

        return run._replace(init=init)

    sigterm_during(0)  # only so that the process outlives a run that does not listen
    with pytest.raises(Preempted, match="stopped at step 1 of 24"):
        train(workdir=tmp_path, edit=edit)
    again = train(workdir=tmp_path)
    assert again.start_step == 1
    assert_same(again.state, plain[0].state)


def test_one_trace_across_epochs_the_late_phase_evaluations_and_a_resume(
    whole, train, tmp_path, sigterm_during
):
    result, _ = whole
    # 24 steps are three epochs, two evaluations of three batches, both late phases.
    assert result.traces == {"step": 1, "eval": 1, "refresh": 0}
    with pytest.raises(Preempted):
        train(RICH, workdir=tmp_path, edit=sigterm_during(4))
    resumed = train(RICH, workdir=tmp_path)
    assert resumed.start_step == 5
    assert resumed.traces == {"step": 1, "eval": 1, "refresh": 0}


def test_a_grid_over_hyper_is_one_program(train):
    result = train(
        {
            "loss.name": "la",
            "replicas.grid": {"optimizer.lr": (0.01, 0.1), "loss.tau": (0.5, 1.0, 2.0)},
            "replicas.layout": "vmap",
            "total": "12 steps",
        }
    )
    assert result.traces == {"step": 1, "eval": 1, "refresh": 0}
    rates, taus = [0.01, 0.1] * 3, [0.5] * 2 + [1.0] * 2 + [2.0] * 2
    assert result.state.hyper["optimizer.lr"].tolist() == pytest.approx(rates)
    assert result.state.hyper["loss.tau"].tolist() == pytest.approx(taus)
    # The taus differ in what they learn, so the grid reached the loss.
    kernels = np.asarray(result.state.params["head"]["kernel"])
    assert len({kernel.tobytes() for kernel in kernels}) == 6


def test_one_trace_for_each_stage_that_costs_differently(train):
    changes = {
        "gradient.name": "sse_sam",
        "gradient.eta": 10,
        "gradient.switch": "10 steps",
        "model.norm": "none",
        "total": "20 steps",
        "eval_every": "5 steps",
    }
    assert train(changes).traces == {"step": 2, "eval": 1, "refresh": 0}


def test_the_best_checkpoint_of_a_run_is_kept(train, tmp_path, records, caplog):
    changes = {
        "total": "80 steps",
        "eval_every": "10 steps",
        "checkpoint_every": "10 steps",
        "keep_latest": 1,
        "keep_best": True,
    }
    train(changes, workdir=tmp_path)
    key = "eval/test/balanced_accuracy"
    scores = {r["step"]: r[key] for r in records(tmp_path) if key in r}
    assert len(scores) == 8
    best = {step for step, score in scores.items() if score == max(scores.values())}
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
    assert 80 in kept and kept & best and len(kept) <= 2
    # It is found by its name, and said to be chosen on the test split.
    with caplog.at_level("INFO", "ltjax"):
        _, state, step = restore_run(tmp_path, step="best")
    assert step == max(kept & best) == int(state.step[0])
    assert f"the best of {len(kept)} by {key}" in caplog.text
    assert "it was chosen on the test split" in caplog.text
    assert restore_run(tmp_path)[2] == 80
    found = evaluate_run(tmp_path, step="best")
    assert found[key][0] == pytest.approx(max(scores.values()), abs=1e-6)


def test_no_checkpoint_is_the_best_where_none_was_evaluated(train, tmp_path):
    short = {"total": "8 steps", "eval_every": "0 steps", "checkpoint_every": "4 steps"}
    train(short, workdir=tmp_path)
    for path in (tmp_path / "checkpoints").iterdir():
        if path.name == "8":  # the end of a run is evaluated in any case
            shutil.rmtree(path)
    with pytest.raises(FileNotFoundError, match="eval_every and checkpoint_every"):
        restore_run(tmp_path, step="best")
    with pytest.raises(ValueError, match="expected 'last' or 'best'|which"):
        restore_run(tmp_path, step="newest")


def test_a_finished_run_is_only_evaluated_again(plain, train, assert_same, records):
    result, workdir = plain
    before = records(workdir)
    again = train(workdir=workdir)
    assert again.start_step == 24
    assert again.traces == {"step": 0, "eval": 1, "refresh": 0}
    assert_same(again.state, result.state)
    assert_same(again.metrics, result.metrics)
    assert records(workdir) == before


@pytest.mark.usefixtures("failing_reads")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_half_written_record_and_later_ones_are_dropped(
    plain, train, tmp_path, records
):
    _, finished = plain
    workdir = shutil.copytree(finished, tmp_path / "run")
    newest = workdir / "checkpoints" / "24"
    (newest / "state" / "manifest.ocdbt").write_bytes(b"")
    path = workdir / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 24, "epo')
    resumed = train(workdir=workdir)
    assert resumed.start_step == 16
    ours, theirs = records(workdir), records(finished)
    assert [line["step"] for line in ours] == [6, 12, 12, 18, 24, 24]
    # The interval of steps 13 to 18 began before the checkpoint.
    del ours[3], theirs[3]
    assert ours == theirs


FREE = {
    "log_every": "4 steps",
    "eval_every": "6 steps",
    "eval_batch_size": 100,
    "checkpoint_every": "12 steps",
    "keep_latest": 1,
    "keep_every": "8 steps",
    "keep_best": True,
    "watchdog_minutes": 0.0,
    "label": "another name",
    "data.feed": "streaming",
}


def test_what_does_not_change_the_result_may_change_on_resume(
    plain, train, tmp_path, sigterm_during, assert_same
):
    result, _ = plain
    with pytest.raises(Preempted):
        train(workdir=tmp_path, edit=sigterm_during(9))
    resumed = train(FREE, workdir=tmp_path)
    assert resumed.start_step == 10
    assert_same(resumed.state, result.state)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["label"] == "another name"
    assert json.loads((tmp_path / "run.json").read_text())["name"] == "another name"


def test_another_config_is_refused_with_every_difference(plain, train):
    _, workdir = plain
    changes = {"optimizer.lr": 0.1, "loss.name": "la", "replicas.seeds": (1,)}
    with pytest.raises(ConfigError) as refused:
        train(changes, workdir=workdir)
    assert len(refused.value.faults) == 3
    text = str(refused.value)
    assert "optimizer.lr = 0.05, but this config has 0.1" in text
    assert "loss.name = 'ce', but this config has 'la'" in text
    assert "use another workdir" in text


def test_a_workdir_without_checkpoint_takes_another_config(train, tmp_path):
    with pytest.raises(ConfigError, match="init_from"):
        train({"init_from": str(tmp_path / "nowhere")}, workdir=tmp_path)
    assert (tmp_path / "config.json").exists()
    assert train({"total": "8 steps"}, workdir=tmp_path).start_step == 0


def test_a_refused_start_leaves_nothing_behind(train, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(ConfigError, match="multiple of steps_per_call"):
        train({"steps_per_call": 5}, workdir=workdir)
    assert not workdir.exists()


def test_a_damaged_config_file_is_written_anew(plain, train, tmp_path):
    """What the run is stands in its checkpoints; the file is for people and reports."""
    workdir = shutil.copytree(plain[1], tmp_path / "run")
    (workdir / "config.json").write_text('{"batch_size": 1')
    assert train(workdir=workdir).start_step == 24
    whole = json.loads((plain[1] / "config.json").read_text())
    assert json.loads((workdir / "config.json").read_text()) == whole


def initial(run_changes, train, *, count=1):
    """State before the first step: the rate is 0, so one step changes no parameter."""
    still = {"optimizer.lr": 0.0, "optimizer.weight_decay": 0.0, "total": "1 steps"}
    return train(still | run_changes, count=count).state


def test_parameters_start_from_another_run(plain, train, assert_same):
    result, workdir = plain
    state = initial({"init_from": str(workdir)}, train)
    assert_same(state.params, result.state.params)


@pytest.mark.slow
def test_low_rank_updates_go_on_at_the_same_bits(
    plain, train, tmp_path, sigterm_during, assert_same
):
    changes = {
        "init_from": str(plain[1]),
        "adapter.name": "lora",
        "adapter.rank": 2,
        "optimizer.train": "lora,head",
        "model.dropout": 0.2,
    }
    calm = train(changes)
    assert np.any(calm.state.params["lora"]["dense1"]["kernel"]["b"])
    assert_same(calm.state.params["backbone"], plain[0].state.params["backbone"])
    with pytest.raises(Preempted):
        train(changes, workdir=tmp_path, edit=sigterm_during(10))
    resumed = train(changes, workdir=tmp_path)
    assert resumed.start_step == 11
    assert_same(resumed.state, calm.state)
    for step in ("16", "24"):  # all that a kill -9 leaves is the last complete one
        shutil.rmtree(tmp_path / "checkpoints" / step)
    again = train(changes, workdir=tmp_path)
    assert again.start_step == 11
    assert_same(again.state, calm.state)


def test_one_replica_starts_all(plain, train, assert_same):
    result, workdir = plain
    state = initial(
        {
            "init_from": str(workdir),
            "replicas.seeds": (0, 1, 2),
            "replicas.layout": "vmap",
        },
        train,
    )
    for r in range(3):
        one = jax.tree.map(lambda x, r=r: x[r : r + 1], state.params)
        assert_same(one, result.state.params)


def test_skipped_modules_start_fresh(plain, train, assert_same):
    result, workdir = plain
    fresh = initial({}, train).params
    changes = {"init_from": str(workdir), "init_skip": ("head",)}
    params = initial(changes, train).params
    assert_same(params["head"], fresh["head"])
    assert_same(params["backbone"], result.state.params["backbone"])
    with pytest.raises(ConfigError, match="init_skip has 'haed'.*did you mean 'head'"):
        initial({**changes, "init_skip": ("haed",)}, train)


def test_an_unfit_run_to_start_from_is_refused(plain, whole, train, tmp_path):
    wider = {"init_from": str(plain[1]), "model.hidden": (24,)}
    with pytest.raises(ConfigError) as refused:
        initial(wider, train)
    text = str(refused.value)
    assert "params.backbone.dense1.kernel is of shape (1, 40, 16)" in text
    assert "expected (1, 40, 24)" in text
    assert "params.head.kernel" in text
    deeper = {"init_from": str(plain[1]), "model.hidden": (16, 16)}
    with pytest.raises(ConfigError, match=r"params\.backbone\.dense2\.kernel is missi"):
        initial(deeper, train)
    # Two replicas cannot start three.
    three = {"init_from": str(whole[1]), "replicas.seeds": (0, 1, 2)}
    with pytest.raises(ConfigError, match="or one replica"):
        initial(three, train)


def test_saved_parameters_are_those_of_the_result(plain, assert_same):
    result, workdir = plain
    params, model_state, step = restore_params(workdir)
    assert step == 24
    assert_same(params, result.state.params)
    assert_same(model_state, result.state.model_state)


def test_files_of_a_finished_run(plain):
    _, workdir = plain
    assert {path.name for path in pathlib.Path(workdir).iterdir()} == {
        "config.json",
        "run.json",
        "metrics.jsonl",
        "checkpoints",
        "evaluation",
    }
    facts = json.loads((workdir / "run.json").read_text())
    assert facts["class_counts"] == [40, 30, 23, 18, 14, 11, 8, 6, 5, 4]
    assert facts["num_train"] == 159 and facts["num_test"] == 100
    assert facts["replicas"] == [{"seed": 0, "hyper": facts["replicas"][0]["hyper"]}]
    # 40 x 16 kernel, 16 + 16 of the norm, 16 x 10 kernel and 10 biases of the head.
    assert facts["num_params"] == 40 * 16 + 32 + 160 + 10
    assert facts["hardware"]["devices"] == 1
    assert facts["versions"]["jax"] == jax.__version__
    assert facts["components"]["loss"] == {"name": "ce", "about": LOSSES["ce"].about}
    with np.load(workdir / "evaluation" / "test_24.npz") as arrays:
        assert arrays["confusion"].shape == (1, 10, 10)
        # Every test example once, although the last batch is padded.
        assert arrays["confusion"].sum(axis=2).tolist() == [[10] * 10]
