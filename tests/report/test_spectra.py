import io

import numpy as np
import pytest

from ltjax.report import plot_spectra
from ltjax.report.style import PAGE_WIDTH


def density(grid, centers):
    """Equal narrow peaks; integrates to one."""
    bumps = [np.exp(-0.5 * ((grid - c) / 0.05) ** 2) for c in centers]
    return sum(bumps) / (len(centers) * 0.05 * np.sqrt(2 * np.pi))


# Three equal peaks, one of negative curvature, and two of positive only.
HEAD = np.linspace(0.5, 4.5, 401)
TAIL = np.linspace(-1.5, 3.5, 401)
DENSITIES = {
    "head": (HEAD, density(HEAD, [1.0, 4.0])),
    "tail": (TAIL, density(TAIL, [-1.0, 0.0, 3.0])),
}


def spans_of(axes):
    """(left, right) of the shaded rectangles."""
    return [(p.get_x(), p.get_x() + p.get_width()) for p in axes.patches]


def test_a_panel_for_each_group_on_one_logarithmic_axis():
    figure = plot_spectra(
        DENSITIES, extremes={"tail": (-1.0, 3.0)}, title="Hessian, LA + SAM"
    )
    head, tail = figure.axes
    assert [a.get_title(loc="left") for a in figure.axes] == ["head", "tail"]
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "Hessian, LA + SAM"
    assert [t.get_text() for t in legend.get_texts()] == ["negative curvature"]
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}
    assert {axes.get_xlabel() for axes in figure.axes} == {"eigenvalue of the Hessian"}
    assert head.get_ylabel() == "spectral density"
    # The highest peak of both: one of two, at 1 / (2 * 0.05 * sqrt(2 pi)).
    peak = 1 / (0.1 * np.sqrt(2 * np.pi))
    for axes in figure.axes:
        np.testing.assert_allclose(axes.get_ylim(), (peak * 1e-6, 2 * peak), rtol=1e-6)
    for axes, (grid, values) in zip(figure.axes, DENSITIES.values(), strict=True):
        (line,) = axes.lines
        np.testing.assert_allclose(line.get_xdata(), grid)
        # What is below the axis lies on it, so that nothing is log(0).
        expected = np.maximum(values, peak * 1e-6)
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
    assert [t.get_text() for t in tail.texts] == ["min -1\nmax 3"]
    assert not head.texts


def test_negative_curvature_is_shaded_where_there_is_any():
    figure = plot_spectra(DENSITIES)
    head, tail = figure.axes
    assert spans_of(tail) == [(-1.5, 0.0)]
    assert spans_of(head) == [(0.0, 0.0)]


def test_a_fine_grid_is_thinned_and_a_single_group_fits_the_page():
    grid = np.linspace(-1, 1, 10_000)
    figure = plot_spectra({"all": (grid, np.ones(10_000))})
    (axes,) = figure.axes
    x = axes.lines[0].get_xdata()
    np.testing.assert_allclose(x, grid[::5])
    assert figure.get_figwidth() >= 4.5
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    assert buffer.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize("count, columns", [(2, 2), (3, 3), (4, 2), (5, 3)])
def test_panels_stay_on_the_page(count, columns):
    grid = np.linspace(-1, 1, 50)
    figure = plot_spectra({f"group {i}": (grid, np.ones(50)) for i in range(count)})
    assert figure.get_figwidth() == PAGE_WIDTH
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == count
    assert shown[0].get_subplotspec().get_gridspec().ncols == columns
    labelled = [i for i, axes in enumerate(shown) if axes.get_ylabel()]
    assert labelled == list(range(0, count, columns))
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in shown]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_no_group_is_an_error():
    with pytest.raises(ValueError, match="densities is empty, expected at least a gro"):
        plot_spectra({})
