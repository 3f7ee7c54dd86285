"""The figure of Hessian spectra: one panel per group of classes."""

from collections.abc import Mapping

import numpy as np

from ltjax.report.style import (
    PAGE_WIDTH,
    PALETTE,
    figure_style,
    legend_on_top,
    new_figure,
)

# Densities below this share of the highest peak are drawn on the axis.
_FLOOR = 1e-6
# A grid finer than the page only makes the file large.
_MAX_POINTS = 2000


def plot_spectra(
    densities: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    extremes: Mapping[str, tuple[float, float]] | None = None,
    title: str = "",
):
    """Spectral densities on a logarithmic axis, negative curvature shaded.

    Args:
        densities: group -> (grid [G], density [G]).
        extremes: optional group -> (lambda_min, lambda_max), written in the panels.
        title: above all panels.

    Returns:
        A matplotlib Figure, panels of two or three to a row.

    Raises:
        ValueError: if there is no group.
    """
    from matplotlib.patches import Patch

    if not densities:
        raise ValueError("plot_spectra: densities is empty, expected at least a group")
    count = len(densities)
    columns = 2 if count in (2, 4) else min(3, count)
    rows = -(-count // columns)
    peak = max(float(np.max(density)) for _, density in densities.values())
    floor = peak * _FLOOR
    blue, orange = PALETTE[:2]
    with figure_style():
        width = PAGE_WIDTH if count > 1 else 4.6
        figure = new_figure(width, 0.4 + 2.4 * rows)
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        shading = {"color": orange, "alpha": 0.2, "linewidth": 0}
        for axes, (group, (x, density)) in zip(grid, densities.items(), strict=False):
            stride = max(1, len(x) // _MAX_POINTS)
            x, y = np.asarray(x)[::stride], np.maximum(density[::stride], floor)
            axes.fill_between(x, floor, y, color=blue, alpha=0.25, linewidth=0)
            axes.plot(x, y, color=blue, linewidth=1)
            axes.axvspan(min(x[0], 0.0), 0.0, **shading)
            axes.set_yscale("log")
            axes.set_ylim(floor, peak * 2)
            axes.set_title(group)
            axes.set_xlabel("eigenvalue of the Hessian")
            if extremes and group in extremes:
                low, high = extremes[group]
                axes.text(
                    0.97,
                    0.95,
                    f"min {low:.3g}\nmax {high:.3g}",
                    transform=axes.transAxes,
                    ha="right",
                    va="top",
                    fontsize=7.5,
                )
        for axes in grid[::columns]:
            axes.set_ylabel("spectral density")
        for axes in grid[count:]:
            axes.set_visible(False)
        patch = Patch(**shading)
        legend_on_top(figure, [patch], ["negative curvature"], title)
    return figure
