import json
import shutil
import zipfile

import numpy as np
import pytest

from ltjax.report import ReportError, read_metrics, read_run
from ltjax.report.reading import evaluation_steps


def test_a_truncated_last_line_is_left_out_with_a_warning(ce, caplog):
    file = ce / "metrics.jsonl"
    whole = file.read_text()
    file.write_text(whole + whole.splitlines()[0][:37])
    assert [r["step"] for r in read_metrics(file)] == [50, 100]
    assert len(read_run(ce).records) == 2
    assert f"{file}: the last line is cut off and left out" in caplog.text


def test_a_broken_line_elsewhere_is_named(ce):
    file = ce / "metrics.jsonl"
    file.write_text("{broken\n" + file.read_text())
    with pytest.raises(ReportError, match="line 1"):
        read_metrics(file)


def test_metrics_are_in_order_of_steps_and_may_be_missing(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 5}\n{"step": 2}\n')
    assert [r["step"] for r in read_metrics(file)] == [2, 5]
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_the_last_evaluation_counts_not_the_best(ce):
    old = ce / "evaluation" / "test_100.npz"
    shutil.copy(old, ce / "evaluation" / "test_20.npz")
    shutil.copy(old, ce / "evaluation" / "test_extra_900.npz")
    assert list(evaluation_steps(ce)) == [20, 100]
    assert read_run(ce).step == 100
    assert read_run(ce, step=20).step == 20
    assert read_run(ce, split="test_extra").step == 900


def test_faults_are_named(ce, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReportError, match="empty is empty, expected run.json and conf"):
        read_run(tmp_path / "empty")
    with pytest.raises(ReportError, match="nowhere is not a folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ReportError, match="no evaluation of step 7"):
        read_run(ce, step=7)
    (ce / "evaluation" / "test_100.npz").unlink()
    with pytest.raises(ReportError, match="run 'CE' in .*ce has no evaluation"):
        read_run(ce)


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "not JSON"),
        ("[1]", "JSON list, expected an object"),
        (json.dumps({"class_counts": [1], "method": "x"}), "no 'replicas'"),
        (
            json.dumps({"class_counts": [1], "method": "x", "replicas": [{}]}),
            r"\(2, 3\), but run.json says \(1, 1\)",
        ),
    ],
)
def test_a_damaged_run_json_is_named(ce, text, words):
    (ce / "run.json").write_text(text)
    with pytest.raises(ReportError, match=words):
        read_run(ce)


def test_the_training_set_is_never_the_split_to_report(ce):
    file = ce / "evaluation" / "test_100.npz"
    shutil.copy(file, ce / "evaluation" / "train_900.npz")
    assert read_run(ce).step == 100
    with pytest.raises(ReportError, match="'train' are diagnostics of the training"):
        read_run(ce, split="train")
    file.unlink()
    with pytest.raises(ReportError, match="no evaluation on split 'test'"):
        read_run(ce)


def test_damaged_arrays_are_named(ce):
    file = ce / "evaluation" / "test_100.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReportError, match="test_100.npz cannot be read"):
        read_run(ce)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("summary/auc.npy", b"not numpy's")
    with pytest.raises(ReportError, match="cannot be read: 'summary/auc' is no array"):
        read_run(ce)
    np.savez(file, **{"summary/auc": np.zeros(3)})
    with pytest.raises(ReportError, match=r"'summary/auc' of shape \(3,\), but run.js"):
        read_run(ce)
    np.savez(file, scores=np.zeros((2, 7)))
    with pytest.raises(ReportError, match="neither summaries nor counts of classes"):
        read_run(ce)


@pytest.mark.parametrize(
    "facts, words",
    [
        ({"class_names": ["a"]}, "has 1 class names for 3 classes"),
        (
            {"columns": [{"key": "a"}]},
            r"column \{'key': 'a'\}, expected key, title",
        ),
        ({"replicas": []}, r"has replicas = \[\], expected a list"),
        ({"class_counts": ["many"]}, "class_counts of another type"),
    ],
)
def test_facts_that_make_no_sense_are_named(ce, facts, words):
    path = ce / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    with pytest.raises(ReportError, match=words):
        read_run(ce)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("class_names", 3, "class_names = 3, expected a list"),
        ("columns", 1.5, "columns = 1.5, expected a list"),
        ("columns", 0, "columns = 0, expected a list"),
        ("class_names", "", "class_names = '', expected a list"),
        ("columns", [{"key": {}, "title": "", "best": "max", "meaning": ""}], "lists"),
        ("class_counts", [10**30, 1], "no counts"),
        ("shot_groups", [100, 20], "expected two counts"),
        ("shot_groups", {"many": "x", "few": 20}, "expected two counts"),
        ("shot_groups", {"many": 10, "few": 10**30}, "overlap"),
    ],
)
def test_facts_of_another_type_name_the_file(workdir, key, value, told):
    folder = workdir("a", confusion=[[[5, 1], [2, 3]]], class_counts=[6, 5])
    facts = json.loads((folder / "run.json").read_text()) | {key: value}
    (folder / "run.json").write_text(json.dumps(facts))
    with pytest.raises(ReportError, match=rf"run\.json .*{told}"):
        read_run(folder)


def test_metrics_and_facts_that_no_parser_likes(workdir):
    folder = workdir("a", confusion=[[[5, 1], [2, 3]]], class_counts=[6, 5])
    (folder / "metrics.jsonl").write_text('{"step": Infinity}\n')
    with pytest.raises(ReportError, match=r"metrics\.jsonl: line 1"):
        read_run(folder)
    (folder / "run.json").write_text("[" * 100_000)
    with pytest.raises(ReportError, match=r"run\.json is damaged: not JSON"):
        read_run(folder)


def test_profiles_of_the_other_splits_are_shown_beside(ce):
    folder = ce / "evaluation"
    profile = {"profiles/AUC/severity 1": np.array([0.5, 0.6]), "other": np.ones(2)}
    for name in ("corrupted_100", "train_100", "corrupted_50"):
        np.savez(folder / f"{name}.npz", **profile)
    found = {name for name in read_run(ce).arrays if "AUC" in name or name == "other"}
    assert found == {"profiles/corrupted: AUC/severity 1"}
    np.savez(folder / "corrupted_100.npz", **{"profiles/AUC/severity 1": np.ones(3)})
    with pytest.raises(ReportError, match=r"corrupted_100.npz holds .* says 2 replica"):
        read_run(ce)
