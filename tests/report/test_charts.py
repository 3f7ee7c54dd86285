import json

import numpy as np
import pytest

from ltjax.report import read_run
from ltjax.report.charts import (
    all_charts,
    chart_styles,
    class_chart,
    classes_charts,
    points_charts,
    profile_charts,
)
from ltjax.report.style import method_styles


def test_accuracies_of_few_classes_are_points_with_names(ce, la, toy):
    chart = class_chart([read_run(ce), read_run(la)])
    (panel,) = chart["panels"]
    assert panel["x"]["names"] == ["0", "1", "2"]
    assert panel["x"]["texts"][2] == "2: 10 training examples, few"
    assert panel["bars"]["values"] == toy.counts
    first, second = panel["series"]
    # Recalls .9 and 1: mean 95, deviation .1 / sqrt 2.
    assert first["points"][0] == [0, 95, pytest.approx(7.0711)]
    assert second["points"] == [[0, 80, None], [1, 70, None], [2, 60, None]]


def test_many_classes_share_bins(workdir):
    classes = 48
    counts = np.arange(200, 200 - 3 * classes, -3)
    confusion = 4 * np.eye(classes, dtype=int)
    confusion[0, 0], confusion[0, 1] = 1, 3  # recall 1/4; the next one has 1
    path = workdir("run", confusion=[confusion], class_counts=counts.tolist())
    (panel,) = class_chart([read_run(path)])["panels"]
    (series,) = panel["series"]
    assert len(series["points"]) == 24
    assert series["points"][0] == [0, 62.5, None] and series["points"][1][1] == 100
    assert panel["x"]["names"][0] == "200–197"
    assert panel["x"]["texts"][0] == ("2 classes of 200 to 197 training examples, many")


def test_curves_are_told_by_whose_they_are(workdir, toy):
    own = {"train/mask_rate": 0.5, "train/grad_norm": 2.0}
    records = [
        {**toy.record(step, [1.0 / step]), **own, "eval/test/macro_f1": 0.5}
        for step in (50, 100)
    ]
    path = workdir(
        "run", confusion=toy.one_seed, class_counts=toy.counts, records=records
    )
    charts = all_charts([read_run(path)])

    def labels(name):
        return [panel["y"]["label"] for panel in charts[name]["panels"]]

    assert labels("training_curves") == ["training loss (nats)"]
    assert labels("reported") == ["mask rate"]
    assert labels("logged") == ["grad norm", "macro f1, test"]
    assert "cost" not in charts  # one run is no comparison


def test_long_curves_are_thinned(workdir, toy):
    records = [toy.record(step, [1.0 / step]) for step in range(1, 1001)]
    path = workdir(
        "run", confusion=toy.one_seed, class_counts=toy.counts, records=records
    )
    (panel,) = all_charts([read_run(path)])["training_curves"]["panels"]
    points = panel["series"][0]["points"]
    assert len(points) <= 160 and points[0][0] == 1 and points[-1][0] == 1000


def test_accuracy_against_time(workdir, toy):
    paths = [
        workdir(
            name,
            method=name,
            confusion=toy.two_seeds,
            class_counts=toy.counts,
            records=[toy.record(100, [1.0, 1.0], **{"time/steps_per_s": rate})],
        )
        for name, rate in (("fast", 10.0), ("slow", 0.5))
    ]
    runs = [read_run(path) for path in paths]
    (panel,) = all_charts(runs)["cost"]["panels"]
    # 100 steps at 10 and at 0.5 a second.
    assert [one["points"][0][0] for one in panel["series"]] == [10, 200]
    assert panel["series"][0]["points"][0][1] == pytest.approx(58.333)
    assert panel["x"]["log"]


def test_points_of_an_evaluator(ce):
    file = ce / "evaluation" / "test_100.npz"
    points = np.array([[0.5, -1.0, 2], [1.0, 1.0, 0], [2.0, 1.0, 2]])
    np.savez(file, **np.load(file), **{"points/features": np.stack([points] * 2)})
    (panel,) = points_charts([read_run(ce)])["features"]["panels"]
    assert [one["name"] for one in panel["series"]] == ["many", "few"]
    assert panel["series"][1]["points"] == [
        [0.5, -1.0, None, "class 2"],
        [2.0, 1.0, None, "class 2"],
    ]


def keep(run, **arrays):
    """Adds arrays to the evaluation file of a run."""
    file = run / "evaluation" / "test_100.npz"
    np.savez(file, **np.load(file), **arrays)


def test_shares_of_classes_that_an_evaluator_kept(ce, la):
    keep(ce, **{"classes/AUC": np.array([[0.9, 0.7, np.nan], [1.0, 0.7, np.nan]])})
    found = classes_charts([read_run(ce), read_run(la)])
    (panel,) = found["AUC"]["panels"]
    (series,) = panel["series"]  # the other run has none
    # The mean of 90 and 100, the deviation 10 / sqrt 2; none of a class without.
    assert series["points"] == [[0, 95, pytest.approx(7.0711)], [1, 70, 0]]
    assert panel["y"]["label"] == "AUC (%)" and panel["bars"]["values"]


def test_a_number_by_condition_is_a_line(ce, la):
    for run, conditions in ((ce, {"flat": [1, 3], "steep": [5, 5]}), (la, {"flat": 4})):
        for name, values in conditions.items():
            values = np.broadcast_to(values, len(read_run(run).members))
            keep(run, **{f"profiles/accuracy (%)/{name}": values})
    found = profile_charts([read_run(ce), read_run(la)])
    (panel,) = found["accuracy (%)"]["panels"]
    assert panel["x"]["names"] == ["flat", "steep"]
    first, second = panel["series"]
    assert first["points"] == [[0, 2, pytest.approx(2**0.5, abs=1e-4)], [1, 5, 0]]
    assert second["points"] == [[0, 4, None]]


def test_charts_are_json(ce, la):
    text = json.dumps(all_charts([read_run(ce), read_run(la)]), allow_nan=False)
    assert json.loads(text)


def test_styles_of_lines():
    names = [f"m{k}" for k in range(8)]
    styles = chart_styles(method_styles(["CE", *names], "CE"))
    assert styles["CE"]["width"] > styles["m0"]["width"]
    assert styles["m0"]["dash"] == "" and styles["m6"]["dash"] == "10 3"
    assert styles["m0"]["color"] == styles["m6"]["color"]
