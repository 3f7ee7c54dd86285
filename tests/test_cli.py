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

from ltjax.cli import EXIT_FAILED, EXIT_PREEMPTED, EXIT_USAGE, load_config, main
from ltjax.options import ConfigError
from ltjax.train.listing import listing
from ltjax.train.restore import restore_run


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
def ltjax(capsys, monkeypatch):
    """`ltjax(*argv) -> (exit code, out, err)` in this process."""
    monkeypatch.delenv("LTJAX_TRACEBACK", raising=False)

    def go(*argv):
        code = main([str(argument) for argument in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return go


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


def test_eval_of_what_is_no_run(refused, finished, tmp_path):
    assert f"{tmp_path} holds no run (no config.json)" in refused("eval", tmp_path)
    workdir = shutil.copytree(finished[1], tmp_path / "run")
    path = workdir / "config.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    assert f"{path} is damaged" in refused("eval", workdir)
    path.write_text(text.replace('"loss": {', '"loss": {"tua": 1.0, ', 1))
    assert "config.loss.tua is unknown; did you mean 'tau'?" in refused("eval", workdir)
    path.write_text(text)
    shutil.rmtree(workdir / "checkpoints")
    assert "holds no readable checkpoint" in refused("eval", workdir)


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
    from ltjax.train.recipes import METHODS

    from ltjax.data.source import DATASETS
    from ltjax.methods.gradients import RULES
    from ltjax.methods.supervised import LOSSES
    from ltjax.models.registry import MODELS

    assert out == listing() + "\n"
    for table in (DATASETS, RULES, LOSSES, MODELS, METHODS):
        for name in table:
            assert re.search(rf"^  {re.escape(name)} +\S", out, re.MULTILINE), name


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
        (["train", "--workdir", "W"], "--config FILE is missing"),
        (["train", "--workdir", "W", "--config"], "--config"),
        (
            ["train", "--workdir", "W", "--config=CONFIG", "--batch_size=3"],
            "'batch_size'",
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
    with pytest.raises(FileNotFoundError, match="holds no run"):
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
    for command in ("train", "eval", "report", "list", "prepare"):
        assert re.search(rf"^    {command} +\S", out, re.MULTILINE)
