"""The figure of neural collapse: panels and scales, and when a report has one."""

import numpy as np
import pytest

from ltjax.report import plot_class_cosines, plot_collapse, write_report
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
    (legend,) = figure.legends
    names = [t.get_text() for t in legend.get_texts()]
    assert names == ["LA", "CE", "cosine in a simplex"]


@pytest.mark.parametrize("lowest, ticks", [(1.0, (1, 2, 5, 10)), (1e-3, (0.01, 1))])
def test_ticks_of_the_logarithmic_axis_are_numbers_one_can_read(lowest, ticks):
    lines = {"CE": ([1, 2, 3], [12.0, 5.0, lowest])}
    figure = plot_collapse({"nc1_balanced": lines})
    (axes,) = figure.axes
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    shown = {
        float(text.get_text())
        for value, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        if low <= value <= high
    }
    assert shown.issuperset(ticks) and len(shown) <= 6


# Vectors (1, 0), (0, 1), (-1, 0): cosines 0, -1 and 0.
RIGHT_ANGLES = np.array([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]])


def test_class_cosines_are_sorted_by_frequency_on_one_scale():
    figure = plot_class_cosines(
        {"CE": RIGHT_ANGLES, "LA": np.eye(3)},
        class_counts=[5, 9, 7],
        class_names=["rare", "common", "middle"],
        title="Class means",
    )
    ce, la, bar = figure.axes
    # From most to least frequent: classes 1, 2, 0.
    expected = [[1, 0, 0], [0, 1, -1], [0, -1, 1]]
    np.testing.assert_allclose(ce.images[0].get_array(), expected)
    np.testing.assert_allclose(la.images[0].get_array(), np.eye(3))
    assert ce.images[0].get_clim() == la.images[0].get_clim() == (-1, 1)
    names = ["common", "middle", "rare"]
    assert [t.get_text() for t in ce.get_xticklabels()] == names
    assert [a.get_title(loc="left") for a in (ce, la)] == ["CE", "LA"]
    assert ce.get_ylabel() == "class, frequent to rare" and bar.get_ylabel() == "cosine"
    assert figure.get_suptitle() == "Class means"


def test_heat_maps_that_do_not_fill_their_rows():
    figure = plot_class_cosines({f"m{i}": np.eye(20) for i in range(4)})
    *panels, bar = figure.axes
    assert [axes.get_visible() for axes in panels] == [True] * 4 + [False] * 2
    # The lowest panel of each column says what its axis is.
    assert [axes.get_xlabel() for axes in panels[:4]] == ["", "class", "class", "class"]
    figure.draw_without_rendering()
    (right,) = (axes.get_window_extent().x1 for axes in panels[2:3])
    assert right <= bar.get_window_extent().x0


@pytest.mark.parametrize(
    "cosines, words",
    [
        ({}, "of nothing"),
        ({"CE": np.eye(3), "LA": np.eye(2)}, "[(2, 2), (3, 3)]"),
        ({"CE": np.ones((2, 3))}, "[(2, 3)]"),
        ({"CE": np.ones((2, 3, 3))}, "[(2, 3, 3)]"),
    ],
)
def test_heat_maps_want_one_square_matrix_each(cosines, words):
    with pytest.raises(ValueError, match="expected \\[K, K\\], the same") as caught:
        plot_class_cosines(cosines)
    assert words in str(caught.value)


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
