"""The figure of neural collapse: panels and scales, and when a report has one."""

import numpy as np
import pytest

from ltjax.report import plot_collapse, write_report
from ltjax.report.collapse import PANELS

# Recalls (.9, .6, .3) of one seed.
CONFUSION = [[[9, 1, 0], [3, 6, 1], [4, 3, 3]]]


def data_lines(axes):
    """Lines of methods, without grid and reference lines."""
    return [line for line in axes.get_lines() if len(line.get_xdata()) > 2]


def test_a_panel_for_each_metric_in_the_order_of_the_theory():
    x = [100, 200, 300]
    ce = np.array([[4.0, 2.0], [2.0, 1.0], [0.4, 0.2]])
    curves = {
        "minority_collapse": {"CE": (x, [0.5, 0.7, 0.9])},
        "nc4": {"CE": (x, [0.2, 0.1, 0.0])},
        "nc1_balanced": {"LA": (x, [3.0, 2.0, 1.0]), "CE": (x, ce)},
        "nc3": {},
    }
    figure = plot_collapse(curves, num_classes=5, reference="CE", title="toy")
    nc1, nc4, cosine = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == [
        PANELS[name][0] for name in ("nc1_balanced", "nc4", "minority_collapse")
    ]
    assert nc1.get_yscale() == "log" and nc4.get_yscale() == "linear"
    reference, la = data_lines(nc1)  # the reference lies beneath
    np.testing.assert_allclose(reference.get_ydata(), [3, 1.5, 0.3])
    np.testing.assert_allclose(la.get_ydata(), [3, 2, 1])
    (percent,) = data_lines(nc4)
    np.testing.assert_allclose(percent.get_ydata(), [20, 10, 0])
    assert nc4.get_ylim()[0] == 0
    simplex = [
        line.get_ydata()[0] for line in cosine.get_lines() if len(line.get_xdata()) == 2
    ]
    assert simplex == [-1 / 4]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["LA", "CE"]


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"curves of \['nc9'\], expected some of nc1"):
        plot_collapse({"nc9": {"CE": ([1], [1.0])}})
    with pytest.raises(ValueError, match="curves of nothing"):
        plot_collapse({"nc3": {}})


@pytest.mark.parametrize(
    "values, drawn",
    [([0.4, 0.3], True), ([None, None], False), ([0.4], False), ([], False)],
    ids=["twice", "undefined", "once", "never"],
)
def test_a_report_shows_it_where_it_was_logged_twice(workdir, tmp_path, values, drawn):
    records = [
        {"step": 10 * k, "epoch": float(k), "eval/train/nc3": value}
        for k, value in enumerate(values, start=1)
    ]
    path = workdir(
        "run", confusion=CONFUSION, class_counts=[200, 50, 10], records=records
    )
    files = write_report(path, tmp_path / "report")
    assert ("collapse.png" in files) is drawn
    assert ("Neural collapse" in files["report.html"].read_text()) is drawn
