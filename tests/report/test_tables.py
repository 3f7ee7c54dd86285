import csv
import dataclasses
import io

import numpy as np
import pytest

from ltjax.metrics.column import CLASSIFICATION, Column
from ltjax.report import csv_table, markdown_table, read_run, results_csv
from ltjax.report.cells import Cell, cell_text
from ltjax.report.runs import LeftOut
from ltjax.report.tables import (
    RESULT_FIELDS,
    best_rows,
    class_table,
    columns_of,
    group_rule,
    hardware_text,
    legend,
    notes,
    table_rows,
)


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_markdown_by_hand(ce, la):
    # CE: recalls (.9, .6, .3) and (1, .6, .1). G-means .162^(1/3) = .545136 and
    # .06^(1/3) = .391487. All predictions have confidence .75, accuracies are .6 and
    # 17/30, so ECE is .15 and .18333. A deviation of two numbers is their difference
    # over sqrt(2). LA: recalls (.8, .7, .6), G-mean .336^(1/3) = .695205, ECE .05.
    lines = markdown_table([read_run(ce), read_run(la)]).splitlines()
    head = "| Method | Seeds | All | Many | Medium | Few | Worst | G-mean | ECE |"
    assert lines[0] == head
    assert lines[2] == (
        "| CE | 2 | 58.33 ± 2.36 | **95.00 ± 7.07** | 60.00 ± 0.00 | 20.00 ± 14.14"
        " | 20.00 ± 14.14 | 46.83 ± 10.86 | 16.67 ± 2.36 |"
    )
    assert lines[3] == (
        "| LA | 1 | **70.00** | 80.00 | **70.00** | **60.00** | **60.00** | **69.52**"
        " | **5.00** |"
    )
    assert len(lines) == 4


def test_an_empty_group_is_a_dash_and_never_best(workdir):
    path = workdir("run", confusion=np.eye(2)[None] * 5, class_counts=[300, 200])
    text = markdown_table([read_run(path)])
    assert text.splitlines()[2].split(" | ")[3:6] == ["100.00", "–", "–"]
    assert "**" not in text  # one row has nothing to win against


def test_a_diverged_replica_makes_the_mean_unknown(ce):
    file = ce / "evaluation" / "test_100.npz"
    arrays = dict(np.load(file))
    arrays["invalid"] = np.array([0, 4])
    np.savez(file, **arrays)
    assert table_rows([read_run(ce)])[0].cells[0] == Cell(None, None)
    assert cell_text(Cell(None, None)) == "–"


def test_best_is_decided_on_the_digits_shown(ce, la):
    rows = table_rows([read_run(ce), read_run(la)])
    tie = rows[0]._replace(cells=(Cell(70.001, None), *rows[0].cells[1:]))
    assert best_rows([rows[0], tie, rows[1]], CLASSIFICATION)[0] == {1, 2}
    assert best_rows([tie, rows[1]], CLASSIFICATION)[0] == set()  # nobody wins a draw
    assert best_rows(rows, CLASSIFICATION)[-1] == {1}  # the lower ECE


def test_csv_by_hand(ce, la):
    first, second = rows_of(csv_table([read_run(ce), read_run(la)]))
    assert first["method"] == "CE" and first["replicas"] == "2"
    assert first["balanced_accuracy_mean"] == "58.3333"
    assert first["balanced_accuracy_std"] == "2.3570"
    assert first["few_std"] == "14.1421"
    assert second["g_mean_mean"] == "69.5205"
    assert second["ece_std"] == "" and second["imbalance_factor"] == "20"


def test_results_carry_their_provenance(ce, la):
    first, second = rows_of(results_csv([read_run(ce), read_run(la)], relative_to=la))
    assert tuple(first) == RESULT_FIELDS
    assert first == {
        "method": "CE",
        "dataset": "toy",
        "imbalance_factor": "20",
        "backbone": "mlp",
        "epochs": "2",
        "steps": "100",
        "seeds": "0 1",
        "top1_mean": "58.33",
        "top1_std": "2.36",
        "many": "95.00",
        "medium": "60.00",
        "few": "20.00",
        "worst": "20.00",
        "judged": "balanced_accuracy",
        "judged_mean": "58.33",
        "judged_std": "2.36",
        "config": "../ce/config.json",
        "code_version": "abc1234",
        "hardware": "Xeon",
        "hours": "0.056",
    }
    assert second["top1_std"] == "" and second["hours"] == ""
    assert second["config"] == "config.json"


def test_the_rule_of_the_groups_is_written_out(ce):
    assert group_rule(read_run(ce)) == (
        "Many: more than 100 training examples per class (1 classes); medium: 20 to 100"
        " (1); few: fewer than 20 (1)."
    )


@pytest.mark.parametrize(
    "hardware, text",
    [
        ({"platform": "tpu", "device": "TPU v4", "devices": 8}, "8 x TPU v4"),
        ({"platform": "cpu", "device": "cpu", "cpu": "Xeon", "devices": 1}, "Xeon"),
        ({}, ""),
        ("a laptop", "a laptop"),
    ],
)
def test_hardware_in_words(ce, hardware, text):
    run = read_run(ce)
    run.info["hardware"] = hardware
    assert hardware_text(run) == text


def test_a_bar_in_a_name_does_not_break_the_table(la):
    text = markdown_table([dataclasses.replace(read_run(la), name="a|b")])
    assert "| a\\|b | 1 |" in text


# What a label must not do to a page that renders the table.
HOSTILE = "<script>alert(1)</script> [x](javascript:alert(1)) `a` *b* c\\d\n| e"


def test_names_are_text_in_markdown(la):
    lines = markdown_table([dataclasses.replace(read_run(la), name=HOSTILE)])
    assert len(lines.splitlines()) == 3
    assert lines.splitlines()[2].startswith(
        "| &lt;script&gt;alert(1)&lt;/script&gt; \\[x\\](javascript:alert(1)) \\`a\\`"
        " \\*b\\* c\\\\d \\| e | 1 |"
    )


@pytest.mark.parametrize("name", ["=1+1", "+SAM", "-cmd|' /C calc'!A0", "@SUM(A1)"])
def test_names_are_no_formulas_in_csv(la, name):
    run = dataclasses.replace(read_run(la), name=name)
    for text in (csv_table([run]), results_csv([run])):
        assert rows_of(text)[0]["method"] == f"'{name}"


# A run that was judged by something else than a classifier's counts.
COLUMNS = [
    {
        "key": "knn",
        "title": "k-NN",
        "best": "max",
        "meaning": "accuracy of 20-NN",
        "yet_unknown": 1,  # what a later version may add
    },
    {
        "key": "uniformity",
        "title": "Uniformity",
        "best": "min",
        "meaning": "log of the mean potential; lower is better",
        "percent": False,
    },
]


@pytest.fixture
def other(judged_workdir):
    """Workdirs of two self-supervised runs, of two seeds and of one."""
    return [
        judged_workdir(
            name,
            method=name,
            columns=COLUMNS,
            judged=["eval/test/knn", "max"],
            summary={"knn": knn, "uniformity": uniformity, "extra": knn},
        )
        for name, knn, uniformity in (
            ("simclr", [0.5, 0.6], [-2.0, -3.0]),
            ("moco", [0.58], [-2.25]),
        )
    ]


def test_columns_are_those_of_the_evaluators(other):
    # 55 and its deviation .1 / sqrt(2); -2.5 likewise with 1 / sqrt(2).
    runs = [read_run(path) for path in other]
    assert markdown_table(runs).splitlines() == [
        "| Method | Seeds | k-NN | Uniformity |",
        "| :-- | --: | --: | --: |",
        "| simclr | 2 | 55.00 ± 7.07 | **-2.500 ± 0.707** |",
        "| moco | 1 | **58.00** | -2.250 |",
    ]
    assert "In percent (except Uniformity), mean ±" in legend(columns_of(runs))
    first, second = rows_of(csv_table(runs))
    assert first["uniformity_mean"] == "-2.50000" and first["knn_std"] == "7.0711"
    assert second["uniformity_std"] == ""


def test_results_name_what_was_judged_where_there_is_no_accuracy(other):
    first, _ = rows_of(results_csv([read_run(path) for path in other]))
    assert (first["judged"], first["judged_mean"]) == ("knn", "55.00")
    assert first["top1_mean"] == first["many"] == ""
    assert first["backbone"] == "resnet18"  # of run.json


def test_runs_judged_by_different_metrics_share_a_table(ce, other):
    ce_run, simclr = read_run(ce), read_run(other[0])
    lines = markdown_table([ce_run, simclr]).splitlines()
    assert lines[0].endswith("| ECE | k-NN | Uniformity |")
    assert lines[2].endswith("| – | – |") and lines[3].count("–") == 7
    assert class_table([simclr]) is None
    head, _ = class_table([ce_run, simclr])
    assert head == ["Class", "Group", "Training examples", "CE"]


def test_a_column_that_nobody_computed_is_not_shown(judged_workdir):
    path = judged_workdir("a", columns=COLUMNS, summary={"knn": [0.5]})
    assert [column.key for column in columns_of([read_run(path)])] == ["knn"]


def test_stored_summaries_are_not_computed_again(ce):
    # What a future evaluator stores is what is shown, whatever the counts say.
    file = ce / "evaluation" / "test_100.npz"
    arrays = dict(np.load(file))
    arrays["summary/balanced_accuracy"] = np.array([0.25, 0.75])
    np.savez(file, **arrays)
    run = read_run(ce)
    assert list(run.summary) == ["balanced_accuracy"]
    (row,) = table_rows([run])
    assert row.cells[0].mean == 50.0 and len(row.cells) == 1


def test_classes_have_their_names_and_come_from_frequent_to_rare(workdir):
    # Recalls 1/4, 2/4, 3/4 of classes with 10, 200, 50 training examples.
    confusion = [[[1, 3, 0], [2, 2, 0], [0, 1, 3]]]
    path = workdir(
        "run",
        confusion=confusion,
        class_counts=[10, 200, 50],
        class_names=["ant", "bee", "cat"],
    )
    head, rows = class_table([read_run(path)])
    assert head == ["Class", "Group", "Training examples", "CE"]
    assert rows == [
        ["bee", "many", "200", "50.0"],
        ["cat", "medium", "50", "75.0"],
        ["ant", "few", "10", "25.0"],
    ]


def test_what_is_not_whole_is_noted(ce, la):
    run = read_run(la)
    run.info["total_steps"] = 400
    file = ce / "evaluation" / "test_100.npz"
    arrays = dict(np.load(file))
    arrays["summary/balanced_accuracy"] = np.array([0.6, np.nan])
    np.savez(file, **arrays)
    assert notes([read_run(ce), run], [LeftOut(la, "no evaluation")]) == [
        "CE: 1 of 2 replicas diverged; figures show the others.",
        "LA: evaluated at step 100 of 400, not at the end of training.",
        "Left out: no evaluation.",
    ]
    np.testing.assert_array_equal(
        read_run(ce).recall, [[0.9, 0.6, 0.3], [np.nan, np.nan, np.nan]]
    )


def test_an_empty_table_has_no_legend_of_percents():
    column = Column("loss", "Loss", "min", "nats", percent=False)
    assert legend([column]).startswith("Loss: nats. Mean ± sample")
