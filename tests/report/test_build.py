import base64
import json
import os
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from ltjax.report import ReportError, write_report
from ltjax.report.build import find_workdirs
from ltjax.report.cells import slug
from ltjax.report.page_tables import flatten


class Page(HTMLParser):
    """Checks that tags nest, and collects cells, links and pictures."""

    VOID = {"meta", "img", "br", "hr", "link", "input"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.attributes, self.cells, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *attribute) for attribute in attrs]
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data):
        self.text.append(data)
        tag, attributes = self.open[-1] if self.open else ("", {})
        if tag == "td" or attributes.get("scope") == "row":
            self.cells.append((data, attributes.get("class")))


@pytest.fixture(scope="module")
def report(compared, tmp_path_factory):
    return write_report(compared, tmp_path_factory.mktemp("report"))


def test_every_file_is_written_where_it_says(report):
    assert set(report) == {
        "table.md",
        "table.csv",
        "results.csv",
        "report.html",
        "classes.csv",
        "confused.csv",
        "class_accuracy.png",
        "training_curves.png",
        "reliability.png",
        "confusion_ce.png",
        "confusion_la_b.png",
    }
    for name, path in report.items():
        assert path.name == name and path.stat().st_size > 0
        if name.endswith(".png"):
            assert path.read_bytes().startswith(b"\x89PNG")


def test_the_reference_is_first_and_the_columns_are_explained(report):
    text = report["table.md"].read_text()
    lines = text.splitlines()
    assert lines[0] == "### toy, exp profile, imbalance factor 20"
    assert lines[4].startswith("| CE | 2 | 58.33 ± 2.36 |")
    assert lines[5].startswith("| LA &lt;b&gt; | 1 | **70.00** |")
    assert "few: fewer than 20 (1)" in text and "ECE: expected calibration" in text


def test_the_page_is_well_formed_and_needs_nothing_else(report):
    text = report["report.html"].read_text()
    page = Page(text)
    links = [(t, k, v) for t, k, v in page.attributes if k in ("src", "href", "srcset")]
    pictures = [source for tag, _, source in links if tag == "img"]
    files = [source for tag, _, source in links if tag == "a"]
    assert len(pictures) == 5 and len(links) == len(pictures) + len(files)
    for source in pictures:
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
    assert all(source.startswith("data:text/csv;base64,") for source in files)
    assert not re.search(r"https?://|url\(|@import|<link|<script[^>]*src", text)
    assert "default-src 'none'" in text  # the browser refuses the network
    assert all(value for tag, key, value in page.attributes if key == "alt")
    assert "prefers-color-scheme: dark" in text


def test_the_page_carries_its_files(report):
    page = report["report.html"].read_text()
    links = re.findall(r'download="([^"]+)" href="data:text/csv;base64,([^"]+)"', page)
    assert {name for name, _ in links} == {
        "table.csv",
        "results.csv",
        "classes.csv",
        "confused.csv",
    }
    for name, data in links:
        assert base64.b64decode(data).decode() == report[name].read_text()


def test_the_page_shows_the_numbers_and_marks_the_best(report):
    page = Page(report["report.html"].read_text())
    shown = set(page.cells)
    assert {("58.33 ± 2.36", None), ("70.00", "best")} <= shown
    assert {("95.00 ± 7.07", "best"), ("5.00", "best")} <= shown
    assert ("LA <b>", None) in shown  # escaped, not a tag
    text = "".join(page.text)
    assert "jax 0.10.2" in text and "abc1234" in text and "9f2c" in text
    assert '"WORKDIR/config.json"' in text
    assert "more than 100 training examples" in text


def test_configs_are_told_apart(report):
    page = Page(report["report.html"].read_text())
    text = "".join(page.text)
    differs = text[text.index("What differs") : text.index("settings that all runs")]
    assert "loss.name" in differs and "label" in differs
    assert "loss.tau" not in differs and "loss.tau" in text


def test_two_data_sets_keep_their_files_apart(ce, workdir, tmp_path, capsys):
    other = workdir(
        "other", confusion=[np.eye(2) * 9], class_counts=[90, 3], data="toy2"
    )
    paths = write_report([ce, other, ce], tmp_path / "out")
    assert "toy_exp_profile_imbalance_factor_20_class_accuracy.png" in paths
    assert "toy2_exp_profile_imbalance_factor_30_confusion_ce.png" in paths
    assert paths["table.md"].read_text().count("### toy") == 2
    assert paths["table.csv"].read_text().count("\n") == 3  # the repeated run is one
    assert capsys.readouterr() == ("", "")


def test_runs_without_curves_bins_or_matrix_still_report(workdir, tmp_path):
    path = workdir("run", confusion=np.ones((1, 2, 2)), class_counts=[300, 3])
    file = path / "evaluation" / "test_100.npz"
    vectors = {"correct": [[1, 3]], "support": [[2, 4]], "predicted": [[3, 3]]}
    np.savez(file, **{k: np.array(v) for k, v in vectors.items()})
    (path / "metrics.jsonl").unlink()
    paths = write_report(path, tmp_path / "out")
    assert [name for name in paths if name.endswith(".png")] == ["class_accuracy.png"]
    assert "| CE | 1 | 62.50 |" in paths["table.md"].read_text()
    Page(paths["report.html"].read_text())


def test_faults_are_named(ce, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "hollow").mkdir()
    with pytest.raises(ReportError, match="hollow is empty"):
        write_report(tmp_path / "hollow", out)
    (tmp_path / "hollow" / "notes.txt").touch()
    with pytest.raises(ReportError, match="hollow holds no run.json"):
        write_report(tmp_path / "hollow", out)
    with pytest.raises(ReportError, match="nowhere is not a folder"):
        write_report([ce, tmp_path / "nowhere"], out)  # a typo, not a run
    with pytest.raises(ReportError, match="run_dirs is empty"):
        write_report([], out)
    with pytest.raises(ReportError, match="diagnostics of the training set"):
        write_report(ce, out, split="train")
    shutil.rmtree(ce / "evaluation")
    with pytest.raises(ReportError, match="run 'CE' in .*ce has no evaluation"):
        write_report(ce, out)
    assert not out.exists()


def test_one_bad_run_does_not_cost_the_report(ce, la, workdir, tmp_path):
    (tmp_path / "hollow").mkdir()
    shutil.rmtree(la / "evaluation")  # it diverged before its first evaluation
    cut = workdir("cut", confusion=np.ones((1, 2, 2)), class_counts=[30, 30])
    file = cut / "evaluation" / "test_100.npz"
    file.write_bytes(file.read_bytes()[:100])
    odd = workdir("odd", confusion=np.ones((1, 2, 2)), class_counts=[30, 30])
    vectors = {"correct": [[1, 3, 5]], "support": [[2, 4]], "predicted": [[3, 3]]}
    np.savez(odd / "evaluation" / "test_100.npz", **vectors)
    paths = write_report([tmp_path / "hollow", ce, la, cut, odd], tmp_path / "out")
    text = paths["table.md"].read_text()
    assert "| CE | 2 | 58.33 ± 2.36 |" in text
    reasons = [line for line in text.splitlines() if line.startswith("Left out: ")]
    words = ("hollow is empty", "no evaluation on split", "cannot be read", "odd")
    assert len(reasons) == 4
    for reason, word in zip(reasons, words, strict=True):
        assert word in reason
    page = "".join(Page(paths["report.html"].read_text()).text)
    assert page.count("Left out: ") == 4


def test_runs_judged_otherwise_get_their_table(judged_workdir, tmp_path):
    column = {"key": "miou", "title": "mIoU", "best": "max", "meaning": "mean IoU"}
    records = [{"step": 50 * k, "eval/test/miou": 0.1 * k} for k in (1, 2)]
    path = judged_workdir(
        "run",
        columns=[column],
        judged=["eval/test/miou", "max"],
        summary={"miou": [0.2]},
        records=records,
    )
    paths = write_report(path, tmp_path / "out")
    assert set(paths) == {
        "table.md",
        "table.csv",
        "results.csv",
        "report.html",
        "training_curves.png",
    }
    text = paths["table.md"].read_text()
    assert "| run | 1 | 20.00 |" in text and "mIoU: mean IoU" in text
    assert "Many: more than" not in text
    page = "".join(Page(paths["report.html"].read_text()).text)
    assert "judged class by class" not in page and "mIoU" in page


def test_class_names_reach_files_and_page(workdir, tmp_path):
    names = ["ant", "bee & co"]
    path = workdir(
        "run",
        confusion=[[[3, 1], [2, 2]]],
        class_counts=[10, 200],
        class_names=names,
    )
    paths = write_report(path, tmp_path / "out")
    assert paths["classes.csv"].read_text().splitlines() == [
        "Class,Group,Training examples,CE",
        "bee & co,many,200,50.0",
        "ant,few,10,75.0",
    ]
    cells = dict(Page(paths["report.html"].read_text()).cells)
    assert "bee & co" in cells and "ant" in cells


def test_a_folder_of_workdirs_is_opened(ce, la):
    assert find_workdirs(ce) == [ce]
    assert find_workdirs(os.path.dirname(ce)) == [ce, la]


def test_slugs_and_flattening():
    assert slug("LDAM-DRW + SSE-SAM (rho=0.1)") == "ldam_drw_sse_sam_rho_0.1"
    assert slug("±") == "run"
    assert flatten({"a": {"b": 1, "c": {}}, "d": [2]}) == {
        "a.b": 1,
        "a.c": {},
        "d": [2],
    }


def test_the_workdirs_of_a_sweep_are_those_of_its_runs(workdir, tmp_path):
    numbers = {"confusion": [np.eye(3)], "class_counts": (200, 50, 5)}
    for name in ("00_tau=1", "01/1_crt", "01/0_first", "report"):
        workdir(f"sweep/{name}", **numbers)
    runs = [
        {"folder": "00_tau=1", "last": ""},
        {"folder": "01", "last": "1_crt"},
        {"folder": "02", "last": ""},  # not begun
    ]
    sweep = tmp_path / "sweep"
    (sweep / "sweep.json").write_text(json.dumps({"runs": runs}))
    assert find_workdirs(sweep) == [sweep / "00_tau=1", sweep / "01" / "1_crt"]
