import io

import matplotlib
import numpy as np
import pytest

from ltjax.report import (
    method_styles,
    plot_class_accuracy,
    plot_collapse,
    plot_confusion,
    plot_reliability,
    plot_training_curves,
)
from ltjax.report.style import (
    PALETTE,
    REFERENCE_COLOR,
    _legend_columns,
    figure_style,
)

COUNTS = [10, 200, 50]
RECALLS = {
    "LA": np.array([[0.6, 0.8, 0.7]]),
    "CE": np.array([[0.3, 0.9, 0.6], [0.1, 1.0, 0.6]]),
}


def lines_of(axes):
    return [line for line in axes.lines if len(line.get_xdata()) > 2]


def bands_of(axes):
    return [c.get_paths()[0].get_extents() for c in axes.collections]


def test_class_accuracy_shows_means_deviations_and_counts():
    groups = {
        "many": np.array([False, True, False]),
        "medium": np.array([False, False, True]),
        "few": np.array([True, False, False]),
    }
    names = ["owl", "cat", "dog"]
    figure = plot_class_accuracy(
        RECALLS, COUNTS, reference="CE", groups=groups, class_names=names
    )
    axes, bars = figure.axes
    # From most to least frequent: classes 1, 2, 0.
    assert [t.get_text() for t in axes.get_xticklabels()] == ["cat", "dog", "owl"]
    np.testing.assert_allclose([p.get_height() for p in bars.patches], [200, 50, 10])
    assert bars.get_yscale() == "log"
    ce, la = lines_of(axes)  # the reference lies beneath the others
    np.testing.assert_allclose(ce.get_ydata(), [95, 60, 20])
    np.testing.assert_allclose(la.get_ydata(), [80, 70, 60])
    assert ce.get_color() == REFERENCE_COLOR and la.get_color() == PALETTE[0]
    (band,) = bands_of(axes)  # one seed has none
    np.testing.assert_allclose(band.y1, 95 + 50**0.5)  # 90 and 100: deviation sqrt(50)
    np.testing.assert_allclose(band.y0, 20 - 200**0.5)  # 30 and 10: sqrt(200)
    assert [t.get_text() for t in axes.texts] == ["many (1)", "medium (1)", "few (1)"]
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["LA", "CE"]


def test_many_classes_are_smoothed_and_the_axis_says_so():
    recall = np.zeros(41)
    recall[20] = 1.0
    recall[40] = np.nan
    figure = plot_class_accuracy({"CE": recall}, np.arange(41, 0, -1))
    axes = figure.axes[0]
    assert "moving average over 5 classes" in axes.get_ylabel()
    y = lines_of(axes)[0].get_ydata()
    np.testing.assert_allclose(y[17:24], [0, 20, 20, 20, 20, 20, 0])
    assert y[40] == 0  # its own NaN is left out


def test_training_curves_have_a_panel_each():
    x = np.array([0, 10, 20])
    ce = np.array([[3.0, 1.0], [2.0, 2.0], [1.0, np.nan]])
    panels = {
        "loss (nats)": {"LA": (x, [3.0, 2.0, 1.0]), "CE": (x, ce)},
        "accuracy (%)": {"CE": (x, 10 * ce)},
    }
    figure = plot_training_curves(panels, reference="CE")
    left, right = figure.axes
    assert left.get_ylabel() == "loss (nats)" and right.get_xlabel() == "step"
    ce_line, la_line = lines_of(left)
    np.testing.assert_allclose(ce_line.get_ydata(), [2, 2, 1])
    np.testing.assert_allclose(la_line.get_ydata(), [3, 2, 1])
    (band,) = bands_of(left)
    np.testing.assert_allclose(band.y1, 2 + 2**0.5)
    np.testing.assert_allclose(lines_of(right)[0].get_ydata(), [20, 20, 10])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["LA", "CE"]


def test_confusion_is_normalized_by_row_averaged_and_sorted():
    confusion = [[[8, 2], [5, 5]], [[4, 0], [0, 20]]]
    figure = plot_confusion(
        confusion, class_counts=[10, 90], class_names=["rare", "common"], title="CE"
    )
    axes = figure.axes[0]
    # Rows of class 1 first. Class 1: (.5, .5) and (0, 1); class 0: (.8, .2) and (1, 0).
    expected = [[75, 25], [10, 90]]
    np.testing.assert_allclose(axes.images[0].get_array(), expected)
    texts = {t.get_position(): t.get_text() for t in axes.texts}
    assert texts == {(0, 0): "75", (1, 0): "25", (0, 1): "10", (1, 1): "90"}
    assert [t.get_text() for t in axes.get_yticklabels()] == ["common", "rare"]
    assert axes.get_title(loc="left") == "CE"


def test_a_class_without_examples_is_blank():
    figure = plot_confusion([[3, 1], [0, 0]])
    image = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    np.testing.assert_allclose(image, [[75, 25], [np.nan, np.nan]])


def test_reliability_pools_replicas_and_averages_their_errors():
    # Two bins. Seed 0: 20 at .4 (10 right), 20 at .9 (10 right); seed 1: the same
    # confidences, all right. ECE: (2 + 8) / 40 = .25 and (12 + 2) / 40 = .35.
    count = np.array([[20.0, 20.0], [20.0, 20.0]])
    confidence = count * [0.4, 0.9]
    correct = np.array([[10.0, 10.0], [20.0, 20.0]])
    few = (np.array([[0.0, 12.0]]), np.array([[0.0, 9.0]]), np.array([[0.0, 3.0]]))
    panels = {
        "all classes": {"CE": (count, confidence, correct)},
        "few-shot classes": {"CE": few},
    }
    figure = plot_reliability(panels, reference="CE")
    axes, few_axes, _, _, ece, few_ece = figure.axes
    line = axes.lines[1]
    np.testing.assert_allclose(line.get_xdata(), [0.4, 0.9])
    np.testing.assert_allclose(line.get_ydata(), [0.75, 0.75])
    assert [t.get_text() for t in ece.texts] == ["30.0"]
    np.testing.assert_allclose([bar.get_width() for bar in ece.patches], [30])
    assert [t.get_text() for t in ece.get_yticklabels()] == ["CE"]
    np.testing.assert_allclose(few_axes.lines[1].get_xydata(), [[0.75, 0.25]])
    assert [t.get_text() for t in few_ece.texts] == ["50.0"]
    assert ece.get_xlim() == few_ece.get_xlim() and ece.get_xlim()[1] > 50
    assert few_axes.get_title(loc="left") == "few-shot classes"


def test_reliability_leaves_out_bins_of_few_examples_and_empty_methods():
    sums = (np.array([[9.0, 30.0]]), np.array([[4.0, 27.0]]), np.array([[0.0, 27.0]]))
    nothing = tuple(np.zeros((1, 2)) for _ in range(3))
    figure = plot_reliability({"all classes": {"CE": sums, "none": nothing}})
    (line,) = figure.axes[0].lines[1:]
    np.testing.assert_allclose(line.get_xydata(), [[0.9, 0.9]])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["CE"]


def test_a_legend_takes_as_many_columns_as_fit():
    # 90 characters on a page, 7 of each column for the handle.
    short = ["CE", "cRT", "LWS", "LA", "fixed simplex"]  # 23 + 5 * 7
    assert _legend_columns(short, room=90) == 5
    # 4 columns take 62 + 4 * 7, and 3 of them (CE and a, b, c) 60 + 3 * 7.
    assert _legend_columns(["CE", "a" * 20, "b" * 20, "c" * 20], room=80) == 2
    assert _legend_columns(["a" * 200, "b"], room=90) == 1


METHODS = [f"method {i} with a name" for i in range(14)]


@pytest.mark.parametrize("count", [1, 14])
@pytest.mark.parametrize("kind", ["classes", "curves", "reliability", "collapse"])
def test_title_and_legend_meet_nothing_and_take_no_room_from_the_axes(kind, count):
    names = METHODS[:count]
    sums = tuple(np.full((1, 15), n) for n in (20.0, 10.0, 15.0))
    make = {
        "classes": lambda **title: plot_class_accuracy(
            dict.fromkeys(names, [0.9, 0.5, 0.2]), COUNTS, **title
        ),
        "curves": lambda **title: plot_training_curves(
            {"loss (nats)": dict.fromkeys(names, ([1, 2, 3], [3, 2, 1]))}, **title
        ),
        "reliability": lambda **title: plot_reliability(
            {"all classes": dict.fromkeys(names, sums)}, **title
        ),
        "collapse": lambda **title: plot_collapse(
            {"nc3": dict.fromkeys(names, ([1, 2, 3], [3, 2, 1]))}, **title
        ),
    }[kind]
    figure = make(title="A title above all")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "A title above all"
    box, title = legend.get_window_extent(), legend.get_title().get_window_extent()
    assert title.y0 >= max(t.get_window_extent().y1 for t in legend.get_texts())
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    for axes in figure.axes:
        assert axes.get_tightbbox().y1 <= box.y0

    # As tall as with one method and no title, up to what the layout rounds.
    names[1:] = []
    alone = make()
    alone.draw_without_rendering()
    heights = [f.axes[0].get_window_extent().height for f in (figure, alone)]
    assert heights[0] > 0.9 * heights[1]


def test_styles_are_distinct_and_stable():
    names = [f"m{i}" for i in range(20)]
    styles = method_styles(["CE", *names], "CE")
    assert styles["CE"].color == REFERENCE_COLOR
    assert len({(s.color, s.line) for s in styles.values()}) == 21
    assert styles["m3"] == method_styles(["CE", *names[:4]], "CE")["m3"]


def test_figures_touch_no_global_state():
    before = dict(matplotlib.rcParams)
    figure = plot_class_accuracy({"CE": [0.5, 0.4]}, [20, 10])
    assert dict(matplotlib.rcParams) == before
    assert matplotlib._pylab_helpers.Gcf.get_num_fig_managers() == 0
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    assert buffer.getvalue().startswith(b"\x89PNG")
    with figure_style():
        assert matplotlib.rcParams["axes.spines.top"] is False


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: plot_class_accuracy({"CE": [[0.5, 0.4]]}, [3, 2, 1]),
            "'CE' has recalls of 2 classes",
        ),
        (lambda: plot_training_curves({}), "panels is empty"),
        (
            lambda: plot_training_curves({"loss": {"CE": ([1, 2], [3.0])}}),
            "2 x and 1 values",
        ),
        (lambda: plot_confusion(np.ones((2, 3))), "expected [R, K, K]"),
        (lambda: plot_reliability({}), "panels is empty"),
    ],
)
def test_errors_name_what_came(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert words in str(caught.value)
