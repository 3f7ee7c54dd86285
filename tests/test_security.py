"""What SECURITY.md promises: no file that is read can make the package run code."""

import ast
import pathlib

import numpy as np
import pytest

import ltjax
from ltjax.data import load_source

ROOT = pathlib.Path(ltjax.__file__).parent

# Modules whose reading functions run what they read.
UNSAFE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
# Sends plans to worker processes of its own; reads nothing.
SENDS = {"data/feed.py"}
# The config file of `ltjax train`, which is a program.
EXECUTES = {"config_file.py": {"exec_module"}}
CALLS = {"eval", "exec", "compile", "__import__", "exec_module"}


def names_of(node) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return set()


def called(node) -> str:
    """The name of a builtin, or of any method that runs a module."""
    if isinstance(node.func, ast.Name):
        return node.func.id
    is_method = isinstance(node.func, ast.Attribute)
    return "exec_module" if is_method and node.func.attr == "exec_module" else ""


def test_nothing_is_unpickled_or_evaluated():
    faults = []
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if names_of(node) & UNSAFE and name not in SENDS:
                faults.append(f"{name} imports {names_of(node) & UNSAFE}")
            if not isinstance(node, ast.Call):
                continue
            if called(node) in CALLS - EXECUTES.get(name, set()):
                faults.append(f"{name} calls {called(node)}")
            allowed = [k.value for k in node.keywords if k.arg == "allow_pickle"]
            if any(getattr(value, "value", True) is not False for value in allowed):
                faults.append(f"{name} allows pickles")
    assert not faults


def test_the_feed_only_writes_pickles():
    tree = ast.parse((ROOT / "data" / "feed.py").read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert "dumps" in used and not used & {"load", "loads", "Unpickler"}


class Payload:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self._path,)


def test_an_npz_that_holds_objects_is_refused_and_runs_nothing(tmp_path):
    ran = tmp_path / "ran"
    inputs = np.empty(4, object)
    inputs[:] = [Payload(ran)] * 4
    np.savez(tmp_path / "train.npz", inputs=inputs, labels=np.zeros(4, int))
    with pytest.raises(ValueError):
        load_source(f"npz:{tmp_path}/train.npz")
    assert not ran.exists()
