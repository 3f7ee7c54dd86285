"""Figures of neural collapse over training."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from ltjax.report.plots import line_and_band, thousands
from ltjax.report.style import (
    PAGE_WIDTH,
    LineStyle,
    figure_style,
    legend_on_top,
    method_styles,
    new_figure,
)

# Logged metric -> (axis label, logarithmic axis, factor). All but the last fall to 0 as
# the training set collapses.
PANELS = {
    "nc1_balanced": ("NC1, within / between classes", True, 1.0),
    "nc2_equinorm_means": ("NC2, spread of the means' norms", False, 1.0),
    "nc2_equiangle_means": ("NC2, deviation of their angles", False, 1.0),
    "nc3": ("NC3, head against means", False, 1.0),
    "nc4": ("NC4, unlike the nearest mean (%)", False, 100.0),
    "minority_collapse": ("cosine among few-shot vectors", False, 1.0),
}


def plot_collapse(
    curves: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    *,
    num_classes: int | None = None,
    reference: str | None = None,
    xlabel: str = "step",
    styles: Mapping[str, LineStyle] | None = None,
    title: str = "",
):
    """NC1-NC4 of the training set over training, and whether the rare classes merge.

    Args:
        curves: name of a metric (a key of `PANELS`) -> method -> (x [T], values [T, R]
            or [T]). Metrics without a curve get no panel.
        num_classes: K; draws the cosine of a simplex, -1 / (K - 1), beside the one
            among the few-shot class vectors.
        reference: the method to draw in grey.
        xlabel: of the shared quantity on the x axis.
        styles: of `style.method_styles`, for one look over several figures.
        title: optional.

    Returns:
        The Figure; bands are one sample standard deviation over replicas.

    Raises:
        ValueError: for no curve or an unknown metric.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    shown = [name for name in PANELS if curves.get(name)]
    unknown = sorted(curves.keys() - PANELS)
    if unknown or not shown:
        raise ValueError(
            f"plot_collapse: curves of {unknown or 'nothing'}, expected some of"
            f" {', '.join(PANELS)}"
        )
    names = list(dict.fromkeys(name for metric in shown for name in curves[metric]))
    styles = styles or method_styles(names, reference)
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    with figure_style():
        figure = new_figure(PAGE_WIDTH, 0.6 + 2.1 * rows)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        handles = {}
        for axes, metric in zip(grid, shown, strict=False):
            label, logarithmic, factor = PANELS[metric]
            for name in sorted(curves[metric], key=lambda n: n != reference):
                x, values = (np.asarray(v, float) for v in curves[metric][name])
                values = factor * (values[:, None] if values.ndim == 1 else values)
                marked = len(x) <= 20
                handles[name] = line_and_band(
                    axes, x, values, styles[name], marked=marked
                )
            if logarithmic:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
            elif metric != "minority_collapse":
                axes.set_ylim(bottom=0)
            elif num_classes:
                simplex = -1 / (num_classes - 1)
                axes.axhline(simplex, color="#9aa5b1", linewidth=0.8, linestyle=":")
            axes.grid(axis="y")
            axes.set_xlabel(xlabel)
            axes.set_ylabel(label, fontsize=8)
            axes.margins(x=0.03)
            axes.xaxis.set_major_formatter(thousands())
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        legend_on_top(figure, [handles[n] for n in names], names, title)
    return figure
