"""What reads a path, given a folder, no file, or a file of another kind, says so.

A `ValueError` or `FileNotFoundError` with words of ours that names the path: what the
system or a library says by itself names neither what was expected nor, often, the file.
"""

import pathlib
import re

import numpy as np
import pytest

import ltjax
from ltjax import report
from ltjax.commands.arguments import read_prior
from ltjax.config_file import load_config
from ltjax.data import load_source
from ltjax.data.folders import read_image_list
from ltjax.evaluators.corruptions import relative_error
from ltjax.methods.registry import GRADIENTS
from ltjax.methods.supervised.bound_schedule import choose_bound_schedule
from ltjax.models.pretrained import describe_file
from ltjax.train.checkpoint_files import restore_params
from ltjax.train.restore import evaluate_run, restore_run


def baseline(path):
    values = {"corruption_cases": np.zeros((1, 1)), "corruption_values": np.eye(2)}
    return relative_error(values, path)


def density_weights(path):
    rule = GRADIENTS["rwsam"]
    return rule.make(rule.options(density_weights=str(path)), None)


def prior(path):
    return read_prior("predict", "--prior", str(path))


# Reader -> (suffix of what it reads, or "" for a folder).
READERS = {
    report.read_metrics: ".jsonl",
    report.read_run: "",
    report.to_dataframe: "",
    ltjax.load: "",
    ltjax.fit: ".csv",
    restore_params: "",
    restore_run: "",
    evaluate_run: "",
    choose_bound_schedule: "",
    describe_file: ".safetensors",
    read_image_list: ".txt",
    baseline: ".npz",
    density_weights: ".npy",
    prior: ".csv",
}
MORE = [
    ("fit", ltjax.fit, ".parquet"),
    ("fit", ltjax.fit, ".npz"),
    ("fit", ltjax.fit, ""),
    ("prior", prior, ".npy"),
    ("load_source", lambda path: load_source(f"npz:{path}"), ".npz"),
    ("config", lambda path: load_config(["--config", str(path)]), ".py"),
    ("write_report", lambda path: report.write_report([path], path.parent / "out"), ""),
]
CASES = [(f.__name__, f, suffix) for f, suffix in READERS.items()] + MORE


def folder(path):
    path.mkdir()


def nothing(path):
    pass


def text(path):
    path.write_text("one\ntwo, three, four\n")


def archive(path):
    path.write_bytes(b"PK\x03\x04\xff\xfe\x00" + bytes(range(256)))


def empty(path):
    path.write_bytes(b"")


# Of these a reader makes something: no records, no rows of numbers.
TAKEN = {("read_metrics", nothing), ("read_metrics", empty), ("prior", empty)}


@pytest.mark.parametrize("make", [folder, nothing, text, archive, empty])
@pytest.mark.parametrize(
    ("name", "read", "suffix"), CASES, ids=[f"{n}{s}" for n, _, s in CASES]
)
def test_another_kind_of_path_is_named(name, read, suffix, make, tmp_path):
    path = tmp_path / f"given{suffix}"
    make(path)
    if (name, make) in TAKEN and suffix != ".npy":
        assert not read(path)
        return
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        read(path)
    said = str(refused.value)
    assert str(path) in said
    assert not re.match(r"\[Errno", said) and "\n\n" not in said
    assert not isinstance(refused.value, UnicodeDecodeError)
    assert f"did you mean '{pathlib.Path(path).name}'" not in said
