"""Config files that are found by name."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from ltjax import shipped_configs
from ltjax.config_file import UsageError, load_config
from ltjax.shipped_configs import find_config, listing, shipped

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_every_file_of_the_folder_is_found_by_its_name():
    files = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"__init__"}
    assert set(shipped()) == files
    assert find_config("mnist1d_lt") == ROOT / "configs" / "mnist1d_lt.py"
    assert find_config("mnist1d_lt.py") == ROOT / "configs" / "mnist1d_lt.py"


def test_a_wheel_has_its_own_copies(tmp_path, monkeypatch):
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "other.py").write_text('"""About it.\n\nMore."""\n')
    places = (tmp_path, ROOT / "configs")
    monkeypatch.setattr(shipped_configs, "_PLACES", places)
    assert shipped() == {"other": tmp_path / "other.py"}
    assert listing() == "other  About it."


def test_a_path_comes_before_a_name(tmp_path, monkeypatch):
    (tmp_path / "mnist1d_lt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert find_config("mnist1d_lt") == pathlib.Path("mnist1d_lt")


def test_a_config_is_chosen_by_name_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(["--config", "mnist1d_lt:method=la,imf=10"])
    assert config.loss.name == "la" and config.data.imbalance_factor == 10


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist1d", "there is no config file 'mnist1d'; did you mean 'mnist1d_lt'?"),
        ("configs/cifar_lt.py", "'configs/cifar_lt.py'; did you mean 'cifar_lt'?"),
        ("here/mine2.py", "'here/mine2.py'; did you mean 'here/mine.py'?"),
        ("zzz", "'zzz'; valid: auc_lt, cifar_lt, "),
    ],
)
def test_what_is_not_there_gets_the_nearest_name(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.py").write_text("")
    with pytest.raises(UsageError) as refusal:
        load_config(["--config", name])
    assert message in str(refusal.value)


def test_the_listing_needs_nothing_heavy(ltjax):
    code, out, _ = ltjax("configs")
    assert code == 0 and out == listing() + "\n"
    for name in shipped():
        assert re.search(rf"^{name} +\S", out, re.MULTILINE)
    code = (
        "import sys; from ltjax.cli import main; code = main(['configs'])\n"
        "assert not {'jax', 'numpy', 'ml_collections', 'flax'} & set(sys.modules)\n"
        "sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode()
