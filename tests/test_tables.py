"""The experiments' grids: their points, and READMEs in which no number was typed."""

import importlib
import pathlib
import shutil

import pytest

from ltjax.train.check import check
from ltjax.train.config import to_dict

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.syspath_prepend(ROOT / "experiments")
    return lambda name: importlib.import_module(f"experiments.{name}.run")


@pytest.mark.parametrize("name", ["supervised_lt", "sharpness", "etf_factorial"])
def test_published_tables_are_those_of_the_published_rows(
    name, experiment, tmp_path, monkeypatch
):
    run, folder = experiment(name), ROOT / "experiments" / name
    shutil.copy(folder / "README.md", tmp_path)
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(run, "HERE", tmp_path)
    run.table()
    assert (tmp_path / "README.md").read_text() == (folder / "README.md").read_text()


@pytest.mark.parametrize("dataset", ["mnist1d", "mnist"])
def test_every_supervised_method_is_a_run_for_every_value_of_its_dial(
    dataset, experiment, tmp_path, monkeypatch
):
    run = experiment("supervised_lt")
    monkeypatch.setattr(run, "RUNS", tmp_path)
    seen = set()
    for name, method in run.METHODS.items():
        assert len(method.values) == (3 if method.dial else 1)
        for value in method.values:
            for tuning in (True, False):
                point = run.point(dataset, 10, "step", name, value, tuning=tuning)
                config = check(point.config)
                if method.dial and not method.classifier:
                    place = run.PLACES.get(method.dial, method.dial)
                    section, field = place.split(".")
                    assert getattr(getattr(config, section), field) == value
                # Tuning and final runs never share what others build on.
                assert ("tune" in point.workdir) == bool(point.workdir and tuning)
                starts = "tune" if tuning else "train"
                if method.second_stage:
                    assert pathlib.Path(config.init_from).name.startswith(starts)
                    assert config.optimizer.train in ("head", "class_scale")
            seen.add(tuple(point.key.values()))
    assert len(seen) == sum(len(method.values) for method in run.METHODS.values())


@pytest.mark.parametrize("dataset", ["mnist1d", "mnist"])
def test_gradient_rules_differ_in_the_rule_alone(
    dataset, experiment, tmp_path, monkeypatch
):
    run = experiment("sharpness")
    monkeypatch.setattr(run, "RUNS", tmp_path)
    run.density_file(dataset, 50, False).touch()  # rwSAM's weights
    for loss in run.LOSSES:
        plain = check(run.point(dataset, "plain", loss, 50, tuned=0.0).config)
        for rule, chosen in run.RULES.items():
            if loss not in chosen.losses:
                continue
            config = check(run.point(dataset, rule, loss, 50, tuned=0.1).config)
            config, plain_config = to_dict(config), to_dict(plain)
            differ = {key for key in config if config[key] != plain_config[key]}
            assert differ <= {"gradient", "label"}


@pytest.mark.parametrize("imf", [10, 50, 100])
def test_tail_is_the_rarer_half_at_any_ratio(imf, experiment):
    run = experiment("sharpness")
    # The exp profile: n_k = floor(n_max imf^(-k / 9)), k = 0..9.
    counts = [int(2000 * imf ** (-k / 9)) for k in range(10)]
    eta = run.point("mnist1d", "imbsam", "ce", imf, tuned=0.1).config.gradient.eta
    assert [n < eta for n in counts] == [False] * 5 + [True] * 5
