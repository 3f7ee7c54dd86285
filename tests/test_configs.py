"""Every config file: each of its arguments gives a run that can be built."""

import importlib.util
import json
import pathlib

import pytest

from ltjax.options import ConfigError
from ltjax.train.check import check
from ltjax.train.config import to_dict
from ltjax.train.stages import check_stages


def _load_golden():
    path = pathlib.Path(__file__).parent / "golden" / "regenerate.py"
    spec = importlib.util.spec_from_file_location("ltjax_golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = _load_golden()
FILES = golden.files()


def test_there_is_a_golden_file_for_every_config_and_none_besides():
    stored = {path.stem for path in golden.GOLDEN.glob("*.json")}
    assert stored == {path.stem for path in FILES} | {"defaults"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_argument_is_valid_and_asks_for_what_it_did(path):
    found = json.loads(golden.text(golden.describe(path)))
    stored = json.loads((golden.GOLDEN / f"{path.stem}.json").read_text())
    hint = "if this is meant: python tests/golden/regenerate.py"
    assert found.keys() == stored.keys(), hint
    for argument, fields in found.items():
        assert fields == stored[argument], f"{path.stem}:{argument}; {hint}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_an_argument_asks_for_fits_in_every_stage(path):
    module = golden.load(path)
    for argument in json.loads((golden.GOLDEN / f"{path.stem}.json").read_text()):
        assert check_stages(module.get_config(argument))


def test_the_defaults_are_what_they_were():
    found = json.loads(golden.text(golden.contents()["defaults.json"]))
    stored = json.loads((golden.GOLDEN / "defaults.json").read_text())
    assert found == stored, "if this is meant: python tests/golden/regenerate.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_survives_its_json(path):
    config = check(golden.load(path).get_config(""))
    stored = json.loads(json.dumps(to_dict(config)))
    again = check(stored)
    assert json.loads(json.dumps(to_dict(again))) == stored
    # What stages change is read when its turn comes; till then JSON's lists are lists.
    assert config.stages or again == config


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_says_how_to_run_it_and_refuses_what_it_does_not_know(path):
    module = golden.load(path)
    assert f"ltjax train --config configs/{path.name}" in module.__doc__
    for name in golden.accepted(path):
        assert name in module.__doc__, f"the docstring does not name {name}"
    with pytest.raises(ConfigError, match="config argument 'smokey' is unknown; did"):
        module.get_config("smokey")
