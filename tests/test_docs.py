"""The site leaves nothing out: kinds of components, public modules, measured rows."""

import importlib
import inspect
import pathlib
import re
import sys

import pytest

from ltjax.methods.presets import PRESETS
from ltjax.train.sections import kinds

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
MODULES = re.findall(
    r"^\.\. automodule:: (\S+)$",
    "".join(page.read_text() for page in sorted((DOCS / "api").glob("*.rst"))),
    re.M,
)
PUBLIC = {
    "ltjax",
    *(
        f"ltjax.{name}"
        for name in (
            *("losses", "sharpness", "resampling", "classifiers", "pseudo_labels"),
            *("metrics", "class_stats", "reduce", "schedules", "data", "report"),
            *("serving", "sklearn"),
        )
    ),
    *(f"ltjax.train.{name}" for name in ("build", "check", "config", "loop", "run")),
}


def test_the_picture_of_the_report_is_small():
    picture = (DOCS / "_static" / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) < 200_000


@pytest.fixture
def measured(monkeypatch):
    pytest.importorskip("docutils")
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    monkeypatch.delitem(sys.modules, "measured", raising=False)
    return importlib.import_module("measured")


def test_every_kind_has_a_page():
    pages = {page.stem: page.read_text() for page in (DOCS / "options").glob("*.md")}
    assert pages.keys() == {*kinds(), "presets", "engine"}
    for kind, text in pages.items():
        assert f":::{{components}} {kind}\n" in text


def test_every_public_module_has_a_page():
    assert set(MODULES) >= PUBLIC
    assert len(MODULES) == len(set(MODULES))


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_can_be_documented(name):
    # autodoc leaves out, without a word, what has no docstring.
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        found = getattr(module, public)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert inspect.getdoc(found), f"{name}.{public}"


def test_measured_rows_are_those_of_the_files(measured, monkeypatch):
    rows = (
        {"dataset": "a", "m": "LA", "acc_mean": "71.25", "acc_std": "0.5", "s": "1"},
        {"dataset": "b", "m": "LA", "acc_mean": "60.0", "acc_std": "1", "s": "1"},
    )
    monkeypatch.setattr(measured, "rows_of", lambda path: rows)
    found = measured.selected("file", {"dataset": "a"})
    assert found == [rows[0]] and measured.cell(found, "acc") == "71.2 ± 0.5"
    with pytest.raises(ValueError, match="no column 'seed'"):
        measured.selected("file", {"seed": "1"})
    with pytest.raises(ValueError, match="no row"):
        measured.selected("file", {"dataset": "c"})


def test_seeds_of_a_file_are_averaged(measured):
    rows = [
        {"acc": "1.0", "few": "nan", "steps": "5", "seed": "0"},
        {"acc": "3.0", "few": "nan", "steps": "5", "seed": "1"},
    ]
    # Mean 2, deviation sqrt 2.
    assert measured.cell(rows, "acc") == "2.0 ± 1.4"
    assert measured.cell(rows, "steps") == "5"
    assert measured.cell(rows, "few") == "–"  # the split has no such class
    # Two rows of one seed are of different settings: no mean is taken over them.
    with pytest.raises(ValueError, match="several rows of one seed"):
        measured.cell([*rows, rows[0]], "acc")


def test_presets_and_rules_find_their_rows(measured):
    assert measured.result_of("presets", "la").startswith("balanced accuracy 88.8 ± ")
    assert measured.result_of("gradients", "sam").startswith("balanced accuracy 90.1 ±")
    assert measured.result_of("presets", "cvs") == ""  # not in that experiment
    assert "85.8 ± " in measured.result_of("presets", "crt")  # not plain CE's 80.8
    labels = [measured.label_of(name) for name in PRESETS]
    assert len(labels) == len(set(labels))
