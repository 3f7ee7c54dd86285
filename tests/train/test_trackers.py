"""Sinks beside metrics.jsonl: what they are told, and that they never end a run."""

import json
import sys
import types

import numpy as np
import pytest

from ltjax._seal import unsealed
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.loop import Preempted
from ltjax.train.trackers import Guarded, MLflow, Opening, WandB, make_writers

PAIR = {"replicas.seeds": (0, 1), "replicas.layout": "vmap"}


class FakeRun:
    """What W&B's run is asked; strict about what it does not know."""

    def __init__(self, calls):
        self._calls = calls

    def define_metric(self, name, step_metric):
        self._calls.append(("define_metric", name, step_metric))

    def log(self, values):
        self._calls.append(("log", values))

    def finish(self):
        self._calls.append(("finish",))


class FakeWandb(types.ModuleType):
    """`wandb`, with the signature of `init` as far as it is used."""

    def __init__(self):
        super().__init__("wandb")
        self.calls = []

    def init(self, *, project, name, dir, id, resume, config, tags=None):
        told = {"project": project, "name": name, "dir": dir, "id": id, "tags": tags}
        self.calls.append(("init", told | {"resume": resume, "config": config}))
        return FakeRun(self.calls)

    def named(self, name):
        return [call[1:] for call in self.calls if call[0] == name]


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


class FakeClient:
    """`MlflowClient`, which keeps runs in a dict."""

    runs: dict = {}
    experiments: dict = {}

    def __init__(self, tracking_uri):
        self.uri = tracking_uri

    def get_experiment_by_name(self, name):
        found = self.experiments.get(name)
        return found and types.SimpleNamespace(experiment_id=found)

    def create_experiment(self, name):
        self.experiments[name] = f"e{len(self.experiments)}"
        return self.experiments[name]

    def create_run(self, experiment_id, run_name):
        run_id = f"r{len(self.runs)}"
        self.runs[run_id] = {
            "experiment": experiment_id,
            "name": run_name,
            "uri": self.uri,
            "metrics": [],
            "params": {},
            "status": ["RUNNING"],
        }
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id))

    def update_run(self, run_id, status):
        self.runs[run_id]["status"].append(status)

    set_terminated = update_run

    def log_batch(self, run_id, metrics=(), params=()):
        assert len(params) <= 100  # as the server has it
        for param in params:
            assert param.key not in self.runs[run_id]["params"]
            self.runs[run_id]["params"][param.key] = param.value
        self.runs[run_id]["metrics"] += metrics


@pytest.fixture
def mlflow(monkeypatch):
    class Param(types.SimpleNamespace):
        def __init__(self, key, value):
            super().__init__(key=key, value=value)

    class Metric(types.SimpleNamespace):
        def __init__(self, key, value, timestamp, step):
            super().__init__(key=key, value=value, timestamp=timestamp, step=step)

    client = type("Client", (FakeClient,), {"runs": {}, "experiments": {}})
    module = types.ModuleType("mlflow")
    module.MlflowClient = client
    module.get_tracking_uri = lambda: "sqlite:///default.db"
    entities = types.ModuleType("mlflow.entities")
    entities.Param, entities.Metric = Param, Metric
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return client


def expected_scalars(lines):
    """{key: [(step, value)]} of metrics.jsonl, deviations under `<key>_std`."""
    found = {}
    for line in lines:
        for suffix, part in (("", line), ("_std", line.get("std", {}))):
            for key, value in part.items():
                if isinstance(value, float) and key != "epoch":
                    point = (line["step"], value)
                    found.setdefault(f"{key}{suffix}", []).append(point)
    return {k: v for k, v in found.items() if not k.startswith("time/")}


def interrupted(tiny, devices, workdir, sigterm_during, writers):
    """A run that was stopped in step 13, started again and finished."""
    with devices(1):
        run = build(tiny(PAIR))
        with pytest.raises(Preempted):
            loop.run(
                sigterm_during(13)(run), workdir, tensorboard=False, writers=writers
            )
        # As if a later part had been lost with its checkpoint.
        (workdir / "checkpoints" / "14").rename(workdir / "lost")
        loop.run(run, workdir, tensorboard=False, writers=writers)
    return run


def test_a_resumed_run_goes_on_in_the_same_run_of_wandb(
    tiny, devices, tmp_path, wandb, records, sigterm_during
):
    writers = [WandB(tags=["a"])]
    run = interrupted(tiny, devices, tmp_path, sigterm_during, writers)
    (first,), (second,) = wandb.named("init")
    assert first == second
    assert first["project"] == "ltjax" and first["name"] == run.info.name
    assert first["dir"] == str(tmp_path) and first["tags"] == ["a"]
    assert first["resume"] == "allow"
    assert (
        first["id"] == unsealed((tmp_path / "trackers.json").read_text())["wandb"]["id"]
    )
    assert first["config"]["optimizer"]["lr"] == 0.05
    assert wandb.named("define_metric") == [("*", "step")] * 2
    assert len(wandb.named("finish")) == 2 and wandb.calls[-1] == ("finish",)
    # By step, the last word of each is that of metrics.jsonl.
    logged = {}
    for (values,) in wandb.named("log"):
        for key in values.keys() - {"step"}:
            logged.setdefault(key, {})[values["step"]] = values[key]
    for key, points in expected_scalars(records(tmp_path)).items():
        assert logged[key] == dict(points), key


def test_a_resumed_run_goes_on_in_the_same_run_of_mlflow(
    tiny, devices, tmp_path, mlflow, records, sigterm_during
):
    interrupted(tiny, devices, tmp_path, sigterm_during, [MLflow(experiment="mine")])
    (found,) = mlflow.runs.values()
    assert mlflow.experiments == {"mine": found["experiment"]}
    assert found["uri"] == "sqlite:///default.db"
    assert found["status"] == ["RUNNING", "KILLED", "RUNNING", "FINISHED"]
    assert found["params"]["optimizer.lr"] == "0.05"
    assert found["params"]["replicas.seeds"] == "[0, 1]"
    logged = {}
    for metric in found["metrics"]:  # in order of time
        logged.setdefault(metric.key, {})[metric.step] = metric.value
    for key, points in expected_scalars(records(tmp_path)).items():
        assert logged[key] == dict(points), key


def test_another_store_gets_a_run_of_its_own(mlflow, tmp_path):
    for uri in ("sqlite:///a.db", "sqlite:///b.db", "sqlite:///b.db"):
        sink = MLflow(uri=uri)
        sink.open(Opening(tmp_path, "LA", {}, 10))
        sink.close()
    assert [run["uri"] for run in mlflow.runs.values()] == [
        "sqlite:///a.db",
        "sqlite:///b.db",
    ]


class Broken:
    """A sink that fails in one of its three methods."""

    def __init__(self, where):
        self._where, self.calls = where, []

    def _call(self, name):
        self.calls.append(name)
        if name == self._where:
            raise ConnectionError("no route to host")

    def open(self, opening):
        self._call("open")

    def write(self, record):
        self._call("write")

    def close(self):
        self._call("close")


@pytest.mark.parametrize("where", ["open", "write", "close"])
def test_a_sink_that_fails_is_told_once_and_left_alone(where, caplog, tmp_path):
    broken = Broken(where)
    sink = Guarded(broken)
    sink.open(Opening(tmp_path, "LA", {}, 10))
    for step in (1, 2, 3):
        sink.write({"step": step})
    sink.close()
    expected = {
        "open": ["open"],
        "write": ["open", "write"],
        "close": ["open", "write", "write", "write", "close"],
    }
    assert broken.calls == expected[where]
    (told,) = [r.getMessage() for r in caplog.records]
    assert told.startswith("Broken failed (ConnectionError: no route to host)")
    assert "the run" in told.replace("this run, which", "the run")


def test_a_run_goes_on_without_the_sink_that_fails(train, tmp_path, records):
    class Plain:
        def __init__(self):
            self.steps = []

        def write(self, record):
            self.steps.append(record["step"])

    def with_sinks(run):
        return run

    broken, plain = Broken("write"), Plain()
    with pytest.MonkeyPatch.context() as patch:
        real = loop.run
        patch.setattr(
            loop, "run", lambda *a, **k: real(*a, **k, writers=[broken, plain])
        )
        result = train(workdir=tmp_path, edit=with_sinks)
    assert np.isfinite(result.metrics["eval/test/balanced_accuracy"]).all()
    assert broken.calls == ["open", "write"]
    assert plain.steps == [line["step"] for line in records(tmp_path)]


def test_names_and_sinks_are_taken_and_nothing_else(wandb):
    sink = Broken("")
    made = make_writers(["wandb", sink])
    assert isinstance(made[0], WandB) and made[1] is sink
    with pytest.raises(
        ValueError, match="tracker is 'wanbd', unknown; did you mean 'w"
    ):
        make_writers(["wanbd"])
    with pytest.raises(
        ValueError, match=r"writers has a int, expected a sink with wri"
    ):
        make_writers([3])


@pytest.mark.parametrize(("make", "name"), [(WandB, "wandb"), (MLflow, "mlflow")])
def test_a_tracker_that_is_not_installed_says_what_to_install(make, name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"pip install 'ltjax\[{name}\]'"):
        make()


def test_the_command_line_chooses_trackers(
    ltjax, tiny_config, tmp_path, wandb, devices
):
    command = ["train", "--config", f"{tiny_config}:{json.dumps({'total': '6 steps'})}"]
    with devices(1):
        both = ("--tracker", "wandb", "--tracker", "tensorboard")
        code, _, err = ltjax(*command, "--workdir", tmp_path / "both", *both)
        assert code == 0, err
        code, _, _ = ltjax(*command, "--workdir", tmp_path / "one", "--tracker=wandb")
        assert code == 0
    assert list((tmp_path / "both").glob("events.*"))
    assert not list((tmp_path / "one").glob("events.*"))
    assert len(wandb.named("init")) == 2
    code, _, err = ltjax(*command, "--workdir", tmp_path / "no", "--tracker", "wanbd")
    assert code == 2 and not (tmp_path / "no").exists()
    assert "ltjax train: --tracker is 'wanbd', unknown; did you mean 'wandb'?" in err
