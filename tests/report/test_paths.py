"""The figure of exact accuracy paths: steps, bands, the chosen strength."""

import io

import numpy as np
import pytest

from ltjax.classifiers import accuracy_path
from ltjax.report import plot_accuracy_paths
from ltjax.report.style import PALETTE, REFERENCE_COLOR

# Example 0 is right up to t = 1, example 1 from t = 0.5 on: accuracies 1/2, 1, 1/2.
PATH = accuracy_path(
    np.array([[2.0, 1.0], [1.0, 0.5]]),
    np.array([0, 1]),
    np.array([0.0, 1.0]),
    stop=2.0,
)


def test_every_breakpoint_is_a_step():
    flat = (np.array([0.0, 3.0]), np.array([0.25]), np.array([0.1]))
    figure = plot_accuracy_paths(
        {"logit adjustment": {"val": PATH, "test": flat}, "tau-norm": {"val": PATH}},
        chosen={"tau-norm": 0.75},
        reference="test",
        title="Exact",
    )
    left, right = figure.axes
    assert left.get_ylabel() == "balanced accuracy (%)" and left.get_xlabel() == "tau"
    assert [a.get_title(loc="left") for a in figure.axes] == [
        "logit adjustment",
        "tau-norm",
    ]
    test, val = left.lines  # the reference lies beneath
    assert test.get_color() == REFERENCE_COLOR and val.get_color() == PALETTE[0]
    assert val.get_drawstyle() == "steps-post"
    np.testing.assert_allclose(val.get_xdata(), [0, 0.5, 1, 2])
    np.testing.assert_allclose(val.get_ydata(), [50, 100, 50, 50])
    band = left.collections[0].get_paths()[0].get_extents()
    np.testing.assert_allclose((band.y0, band.y1), (15, 35))
    assert left.get_xlim() == (0, 3) and right.get_xlim() == (0, 2)
    val, chosen = right.lines
    assert list(chosen.get_xdata()) == [0.75, 0.75]
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["val", "test", "chosen"]
    assert legend.get_title().get_text() == "Exact"
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    assert buffer.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "panels, chosen, words",
    [
        ({}, None, "panels is empty"),
        (
            {"la": {"val": PATH}},
            {"tau": 1.0},
            r"chosen names \['tau'\], expected .* la",
        ),
        (
            {"la": {"val": ([0.0, 1.0], [0.5, 0.6], [0.1, 0.1])}},
            None,
            "'val' in 'la' has 2 breakpoints and 2 scores with 2 standard errors",
        ),
    ],
)
def test_errors_name_what_came(panels, chosen, words):
    with pytest.raises(ValueError, match=words):
        plot_accuracy_paths(panels, chosen=chosen)
