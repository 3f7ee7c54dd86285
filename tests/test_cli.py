"""The command line: what each command prints, and its exit codes."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from ltjax import __version__
from ltjax._seal import unsealed
from ltjax.cli import EXIT_FAILED, EXIT_PREEMPTED, EXIT_USAGE, main
from ltjax.commands.arguments import metric_lines
from ltjax.config_file import load_config
from ltjax.methods.presets import PRESETS
from ltjax.options import ConfigError
from ltjax.train.listing import listing
from ltjax.train.restore import restore_run
from ltjax.train.sections import kinds

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """A finished run of two replicas: (result, workdir)."""
    workdir = tmp_path_factory.mktemp("finished")
    changes = {
        "replicas.seeds": (0, 1),
        "replicas.layout": "vmap",
        "total": "120 steps",
        "checkpoint_every": "60 steps",
    }
    return train(changes, workdir=workdir), workdir


@pytest.fixture
def refused(ltjax):
    """`refused(*argv) -> message` of a command that ends with exit code 2."""

    def go(*argv):
        code, out, err = ltjax(*argv)
        assert code == EXIT_USAGE
        assert out == ""
        assert err.startswith("error: ") and err.count("error: ") == 1
        assert "Traceback" not in err
        return err.removeprefix("error: ")

    return go


@pytest.fixture
def refused_run(refused, tiny_config, tmp_path):
    """`refused_run(*flags) -> message` of a `ltjax train` with exit code 2."""

    def go(*flags, config=tiny_config, workdir=tmp_path / "run"):
        return refused("train", "--config", config, "--workdir", workdir, *flags)

    return go


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_the_version_and_the_help_need_not_wait_for_jax(flag):
    code = (
        "import sys; from ltjax.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert not {'jax', 'numpy', 'flax', 'absl'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, flag]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    if flag == "--version":
        assert done.stdout == f"ltjax {__version__}\n"
    else:
        assert "predict" in done.stdout and "export" in done.stdout


def numbers(out: str) -> dict[str, float]:
    """{metric: mean} of the lines "eval/...  mean ± deviation"."""
    rows = re.findall(r"^(eval/\S+)\s+(\S+)", out, re.MULTILINE)
    return {key: float(value) for key, value in rows}


def test_exit_codes_are_those_that_schedulers_know():
    assert (EXIT_FAILED, EXIT_USAGE, EXIT_PREEMPTED) == (1, 2, 75)


def test_training_prints_the_last_evaluation(ltjax, tiny_config, tmp_path, devices):
    with devices(1):
        code, out, _ = ltjax(
            "train",
            f"--config={tiny_config}",
            "--config.total=8 steps",
            "--config.optimizer.lr=0.1",
            "--workdir",
            tmp_path,
        )
    assert code == 0
    assert (tmp_path / "checkpoints" / "8").is_dir()
    found = numbers(out)
    assert {"eval/test/balanced_accuracy", "eval/test/few"} <= found.keys()
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["total"], config["optimizer"]["lr"]) == ("8 steps", 0.1)
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_overrides_take_the_type_of_the_field(tiny_config):
    config = load_config(
        [
            "--config",
            str(tiny_config),
            "--config.optimizer.lr=1",
            "--config.replicas.seeds=(3,4)",
            "--config.evaluate_ema=true",
            "--config.data.name=mnist",
        ]
    )
    assert config.optimizer.lr == 1.0 and isinstance(config.optimizer.lr, float)
    assert config.replicas.seeds == (3, 4)
    assert config.evaluate_ema is True
    assert config.data.name == "mnist"
    with pytest.raises(ConfigError, match=r"config\.optimizer\.l is unknown"):
        load_config(["--config", str(tiny_config), "--config.optimizer.l=1"])


def test_eval_repeats_the_numbers_of_the_run(ltjax, finished):
    result, workdir = finished
    code, out, _ = ltjax("eval", workdir)
    assert code == 0
    found = numbers(out)
    for key, values in result.metrics.items():
        assert found[key] == pytest.approx(values.mean(), abs=5.1e-5, nan_ok=True)
    spread = result.metrics["eval/test/balanced_accuracy"].std(ddof=1)
    line = next(x for x in out.splitlines() if x.startswith("eval/test/balanced_acc"))
    assert line.endswith(f"± {spread:.4f}")


def test_a_metric_without_meaning_has_no_line():
    nothing, part = np.full(2, np.nan), np.array([0.5, np.nan])
    lines = metric_lines({"many": nothing, "few": part, "all": np.array(0.25)})
    names = [line.split()[0] for line in lines.splitlines()]
    assert names == ["few", "all"]  # of "few" one replica is lost


def test_eval_adjusts_the_logits_by_tau(ltjax, finished):
    _, workdir = finished
    code, out, _ = ltjax("eval", workdir, "--posthoc-tau", 1.5)
    assert code == 0
    run, state, _ = restore_run(workdir)
    prior = run.info.class_counts / run.info.class_counts.sum()
    arrays = run.eval_sets[0].feed.arrays
    scores = []
    for r in range(2):
        one = jax.tree.map(lambda x, r=r: x[r], state)
        logits = np.asarray(run.predict(one, arrays["inputs"])["logits"], np.float64)
        predicted = np.argmax(logits - 1.5 * np.log(prior), axis=-1)
        hits = predicted == arrays["label"]
        scores.append(np.mean([hits[arrays["label"] == k].mean() for k in range(10)]))
    found = numbers(out)["eval/test/balanced_accuracy"]
    assert found == pytest.approx(np.mean(scores), abs=5.1e-5)
    plain = numbers(ltjax("eval", workdir)[1])["eval/test/balanced_accuracy"]
    assert found != plain


def test_eval_prints_one_json_object_and_nothing_else(ltjax, finished):
    result, workdir = finished
    code, out, _ = ltjax("eval", workdir, "--json", "--checkpoint", "60")
    assert code == 0 and out.count("\n") == 1
    early = json.loads(out)
    assert (early["step"], early["checkpoint"]) == (60, 60)
    code, out, _ = ltjax("eval", workdir, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["workdir"], found["step"]) == (str(workdir), 120)
    assert [replica["seed"] for replica in found["replicas"]] == [0, 1]
    assert found["metrics"].keys() == {"test"}
    for key, values in result.metrics.items():
        told = found["metrics"]["test"][key.removeprefix("eval/test/")]
        expected = [None if np.isnan(v) else v for v in values.tolist()]
        assert told == pytest.approx(expected, abs=1e-6), key
    assert found["metrics"] != early["metrics"] and "chosen" not in found


def test_eval_of_another_classifier_as_json(ltjax, finished):
    options = ("--classifier", "la", "--tau", "1.5", "--json")
    code, out, _ = ltjax("eval", finished[1], *options)
    found = json.loads(out)
    assert code == 0
    assert found["chosen"]["classifier/tau"] == [1.5, 1.5]
    assert len(found["metrics"]["test"]["balanced_accuracy"]) == 2


def test_the_help_of_train_lists_every_option_of_the_engine(capsys):
    from ltjax.options import options_of
    from ltjax.train.config import EngineOptions, ReplicaOptions

    with pytest.raises(SystemExit) as done:
        main(["train", "--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    for name in (*options_of(EngineOptions), *options_of(ReplicaOptions)):
        assert re.search(rf"^  {name} = ", out, re.MULTILINE), name
    assert "--config" in out and "--tracker" in out


def test_eval_of_what_is_no_run(refused, finished, tmp_path):
    assert f"{tmp_path} does not hold a run (no config.json)" in refused(
        "eval", tmp_path
    )
    workdir = shutil.copytree(finished[1], tmp_path / "run")
    path = workdir / "config.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    assert f"{path} is damaged" in refused("eval", workdir)
    changed = text.replace('"optimizer": {', '"optimizer": {"rl": 1.0, ', 1)
    path.write_text(changed)
    assert "was edited (then delete the 'crc32' entry)" in refused("eval", workdir)
    path.write_text(json.dumps(unsealed(text) | {"optimizer": {"rl": 1.0}}))
    message = "config.optimizer.rl is unknown to 'sgd'; did you mean 'lr'?"
    assert message in refused("eval", workdir)
    path.write_text(text)
    shutil.rmtree(workdir / "checkpoints")
    assert "does not hold a readable checkpoint" in refused("eval", workdir)


def test_report_writes_a_table(ltjax, finished, tmp_path):
    code, out, _ = ltjax("report", finished[1], "--out", tmp_path / "report")
    assert code == 0
    assert "table.md" in out and "| " in out
    table = (tmp_path / "report" / "table.md").read_text()
    assert table.strip() in out
    assert list((tmp_path / "report").glob("*.html"))


def test_list_names_everything_that_a_config_may(ltjax):
    code, out, _ = ltjax("list")
    assert code == 0
    assert out == listing() + "\n"
    for table in (*kinds().values(), PRESETS):
        for name in table:
            assert re.search(rf"^  {re.escape(name)} +\S", out, re.MULTILINE), name


def test_options_of_a_component_and_of_the_engine(ltjax, refused):
    code, out, _ = ltjax("options", "losses", "vs")
    assert code == 0
    assert re.search(r"gamma = 0\.2 .*\[>= 0\] \(sweepable\)", out)
    assert "tau = 1.2" in out and "max_margin" not in out
    code, out, _ = ltjax("options", "engine")
    assert code == 0 and "batch_size = 128" in out and "[a duration]" in out
    code, out, _ = ltjax("options", "gradients")
    assert code == 0 and "rho_tail" in out and "focal_lambda" in out
    assert "did you mean 'losses'?" in refused("options", "loses")
    assert "did you mean 'ldam'?" in refused("options", "losses", "ladm")


def test_list_of_one_kind(ltjax, refused):
    code, out, _ = ltjax("list", "losses")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "losses"
    assert all(line.startswith("  ") for line in lines[1:])
    assert "list: 'loses' is unknown; did you mean 'losses'?" in refused(
        "list", "loses"
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["trian"], "invalid choice: 'trian'"),
        (["list", "losses", "--all"], "ltjax list: unknown argument '--all'"),
        (["eval"], "the following arguments are required: workdir"),
        (["eval", "x", "--posthoc-tau", "much"], "invalid float value: 'much'"),
        (["train"], "the following arguments are required: --workdir"),
        (["train", "--workdir", "W"], "--config FILE (or --data PATH) is missing"),
        (["train", "--workdir", "W", "--config"], "--config"),
        (
            ["train", "--workdir", "W", "--config=CONFIG", "--batch_size=3"],
            "'--batch_size'; did you mean '--config.batch_size'?",
        ),
        (["train", "--workdir", "W", "--config=CONFIG", "stray"], "'stray'"),
        (
            ["train", "--workdir", "W", "--config=CONFIG", "--process-id=one"],
            "invalid int value: 'one'",
        ),
        (["prepare", "cifra10"], "did you mean 'cifar10'?"),
        (["report", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_on_the_command_line(refused, tiny_config, argv, message):
    argv = [argument.replace("CONFIG", str(tiny_config)) for argument in argv]
    assert message in refused(*argv)


def test_a_traceback_on_demand(ltjax, monkeypatch, tmp_path):
    monkeypatch.setenv("LTJAX_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError, match="does not hold a run"):
        main(["eval", str(tmp_path)])


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch):
    def broken(kind):
        raise RuntimeError("not the user's fault")

    monkeypatch.setattr("ltjax.train.listing.listing", broken)
    with pytest.raises(RuntimeError, match="not the user's"):
        main(["list"])


def test_the_module_is_the_command():
    root = pathlib.Path(__file__).resolve().parents[1]

    def python(*argv):
        return subprocess.run(
            [sys.executable, "-m", "ltjax", *argv],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=root,
        )

    good, bad = python("list", "samplers"), python("list", "smplers")
    assert good.returncode == 0 and good.stdout.startswith("samplers\n")
    assert good.stderr == ""
    assert bad.returncode == 2 and bad.stdout == ""
    assert bad.stderr.startswith("error: list: 'smplers' is unknown")
    assert "Traceback" not in bad.stderr


def test_help_shows_every_command(capsys):
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    for command in ("train", "sweep", "eval", "report", "configs", "list", "prepare"):
        assert re.search(rf"^    {command} +\S", out, re.MULTILINE)


# -------------------------------------------------- faults of `ltjax train`


def test_faults_of_a_config(refused_run, tmp_path):
    assert "config.optimizer.lrr is unknown; did you mean 'lr'?" in refused_run(
        "--config.optimizer.lrr=1"
    )
    assert "config.batch_size is -3, expected a number >= 1" in refused_run(
        "--config.batch_size=-3"
    )
    text = refused_run("--config.loss.name=lda")
    assert "config.loss.name is 'lda', unknown; did you mean 'ldam'?" in text
    both = refused_run("--config.batch_size=0", "--config.optimizer.lr=-1")
    assert both.startswith("invalid config, 2 fault(s):")
    assert "config.optimizer.lr is -1.0" in both and "config.batch_size is 0" in both
    # The name is set first, whatever the order: then there is a tau.
    text = refused_run("--config.loss.tau=-1", "--config.loss.name=la")
    assert "config.loss.tau is -1.0, expected a number >= 0" in text
    assert "config.loss.tau is unknown" in refused_run("--config.loss.tau=1")
    assert "batch_size" in refused_run("--config.batch_size=many")
    assert "config.nothing is unknown" in refused_run("--config.nothing.at_all=1")
    assert not (tmp_path / "run").exists()


def test_faults_of_a_config_file(refused_run, tmp_path):
    missing = tmp_path / "missing.py"
    assert f"there is no config file '{missing}'" in refused_run(config=missing)
    broken = tmp_path / "broken.py"
    broken.write_text("def get_config(arg=''):\n    return 1 +\n")
    assert "broken.py' failed: SyntaxError" in refused_run(config=broken)
    broken.write_text("config = 3\n")
    assert "broken.py' has no function get_config" in refused_run(config=broken)
    named = tmp_path / "named.py"
    named.write_text(
        "from ltjax.train.config import default_config, parse_arg\n"
        "def get_config(arg=''):\n"
        "    parse_arg(arg, method='ce', imf=100.0)\n"
        "    return default_config()\n"
    )
    text = refused_run(config=f"{named}:methd=la,imf=lots")
    assert "config argument 'methd' is unknown; did you mean 'method'?" in text
    assert "config argument imf is 'lots', expected float" in text
    demo = pathlib.Path(__file__).resolve().parents[1] / "configs" / "mnist1d_lt.py"
    text = refused_run(config=f"{demo}:method=ldma_drw")
    assert "method is 'ldma_drw', unknown; did you mean 'ldam_drw'?" in text
    typo = tmp_path / "typo.py"
    typo.write_text(
        "from ltjax.train.config import default_config\n"
        "def get_config(arg=''):\n"
        "    config = default_config()\n"
        "    config.optimizer.learning_rate = 0.1\n"
        "    return config\n"
    )
    assert "learning_rate" in refused_run(config=typo)


def test_faults_of_data_and_places(refused_run, tmp_path, monkeypatch):
    monkeypatch.delenv("LTJAX_DATA_DIR", raising=False)
    data = ["--config.data.name=mnist"]
    data += [f"--config.data.data_dir={tmp_path}"]
    assert "ltjax prepare mnist" in refused_run(*data)
    (tmp_path / "file").write_text("in the way")
    place = tmp_path / "file" / "run"
    assert f"workdir {place} cannot be written" in refused_run(workdir=place)
    # Eight devices here; the workdir stays free for a batch that fits.
    text = refused_run("--config.batch_size=20")
    assert "config.batch_size is 20, expected a multiple of the 8 devices" in text
    assert not (tmp_path / "run").exists()


def test_faults_of_bad_data(refused_run, tmp_path):
    labels = np.repeat(np.arange(3), 12)
    inputs = np.zeros((len(labels), 5), np.float32)
    np.savez(tmp_path / "test.npz", inputs=inputs[::12], labels=labels[::12])
    inputs[30] = np.nan
    np.savez(tmp_path / "train.npz", inputs=inputs, labels=labels)
    text = refused_run(f"--config.data.name=npz:{tmp_path}/{{split}}.npz")
    assert "input 30 is not finite" in text
