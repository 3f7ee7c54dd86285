import csv
import dataclasses
import io

import numpy as np
import pytest

from ltjax.report import csv_table, markdown_table, read_run, results_csv
from ltjax.report.tables import (
    RESULT_FIELDS,
    Cell,
    best_rows,
    cell,
    cell_text,
    csv_text,
    group_rule,
    hardware_text,
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


def test_cells():
    assert cell(None) == Cell(None, None)
    assert cell(np.array([0.25])) == Cell(25.0, None)
    mean, std = cell(np.array([0.1, 0.2, 0.6]))
    assert mean == pytest.approx(30) and std == pytest.approx(700**0.5)


def test_best_is_decided_on_the_digits_shown(ce, la):
    rows = table_rows([read_run(ce), read_run(la)])
    tie = rows[0]._replace(cells=(Cell(70.001, None), *rows[0].cells[1:]))
    assert best_rows([rows[0], tie, rows[1]])[0] == {1, 2}
    assert best_rows([tie, rows[1]])[0] == set()  # nobody wins a draw
    assert best_rows(rows)[-1] == {1}  # the lower ECE


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


def test_numbers_in_csv_stay_numbers():
    assert [csv_text(x) for x in ("-1.5", "+2", "-inf", "")] == [
        "-1.5",
        "+2",
        "-inf",
        "",
    ]
