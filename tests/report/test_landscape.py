import io

import numpy as np
import pytest

from ltjax.report import plot_slices
from ltjax.report.style import PALETTE, REFERENCE_COLOR

RADII = np.array([-1.0, 0.0, 0.5, 1.0])
# Two directions; their mean is 3, 1, 2, 4 and their deviation sqrt(2) times 1, 0, 1, 2.
TWO = np.array([[2.0, 4.0], [1.0, 1.0], [1.0, 3.0], [2.0, 6.0]])


def curves_of(axes):
    return [line for line in axes.lines if len(line.get_xdata()) > 2]


def test_a_panel_for_each_group_and_a_line_for_each_method():
    figure = plot_slices(
        {
            "head": {"LA + SAM": (RADII, [1.0, 0.5, 1.0, 2.0]), "LA": (RADII, TWO)},
            "tail": {"LA": (RADII, 10 * TWO)},
        },
        reference="LA",
        xlabel="radius in units of each filter",
        marks={"rho": 0.5},
    )
    head, tail = figure.axes
    assert [a.get_title(loc="left") for a in figure.axes] == ["head", "tail"]
    assert {a.get_xlabel() for a in figure.axes} == {"radius in units of each filter"}
    assert head.get_ylabel() == "loss (nats)" and tail.get_ylabel() == ""
    la, sam = curves_of(head)  # the reference lies beneath
    np.testing.assert_allclose(la.get_xydata(), np.stack([RADII, [3, 1, 2, 4]], 1))
    np.testing.assert_allclose(sam.get_ydata(), [1.0, 0.5, 1.0, 2.0])
    assert la.get_color() == REFERENCE_COLOR and sam.get_color() == PALETTE[0]
    (band,) = (c.get_paths()[0].get_extents() for c in head.collections)
    np.testing.assert_allclose((band.y0, band.y1), (2 - 2**0.5, 4 + 2 * 2**0.5))
    np.testing.assert_allclose(curves_of(tail)[0].get_ydata(), [30, 10, 20, 40])
    zero, mark = (line.get_xdata()[0] for line in head.lines[:2])
    assert (zero, mark) == (0, 0.5)
    assert [text.get_text() for text in head.texts] == ["rho"]
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["LA + SAM", "LA"]
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    assert buffer.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "panels, words",
    [
        ({}, "panels is empty"),
        ({"head": {"LA": (RADII, [1.0, 2.0])}}, "'LA' in 'head' has 4 radii and 2"),
    ],
)
def test_errors_name_what_came(panels, words):
    with pytest.raises(ValueError, match=words):
        plot_slices(panels)
