"""The figure of loss slices: a panel per group of classes, a line per run."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from ltjax.report.plots import line_and_band
from ltjax.report.style import (
    PAGE_WIDTH,
    LineStyle,
    figure_style,
    legend_on_top,
    method_styles,
    new_figure,
)


def plot_slices(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    *,
    reference: str | None = None,
    xlabel: str = "radius",
    ylabel: str = "loss (nats)",
    marks: Mapping[str, float] | None = None,
    styles: Mapping[str, LineStyle] | None = None,
):
    """Losses along directions through a point, such as `loss_slices` returns them.

    Args:
        panels: title, such as a group of classes -> method -> (radii [S], losses [S] or
            [S, D]). D directions are drawn as their mean and a band of one sample
            standard deviation.
        reference: the method to draw in grey.
        xlabel: of the radius, the same in all panels; says along what.
        ylabel: of the loss; each panel has its own scale.
        marks: optional label -> radius of a dotted line, such as {"rho": 0.1}.
        styles: of `style.method_styles`, for one look over several figures.

    Returns:
        The Figure, panels side by side.

    Raises:
        ValueError: for no panel, or if radii and losses differ in length.
    """
    if not panels:
        raise ValueError("plot_slices: panels is empty, expected at least one")
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    styles = styles or method_styles(names, reference)
    with figure_style():
        figure = new_figure(PAGE_WIDTH, 3.0)
        handles = {}
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (label, panel) in zip(grid, panels.items(), strict=True):
            axes.axvline(0, color="#9aa5b1", linewidth=0.8)
            for mark, radius in (marks or {}).items():
                axes.axvline(radius, color="#9aa5b1", linewidth=0.8, linestyle=":")
                axes.annotate(
                    mark,
                    (radius, 1),
                    xytext=(3, -1),
                    xycoords=("data", "axes fraction"),
                    textcoords="offset points",
                    va="top",
                    fontsize=7.5,
                    color="#616e7c",
                )
            for name in sorted(panel, key=lambda n: n != reference):
                radii, losses = (np.asarray(v, float) for v in panel[name])
                losses = losses[:, None] if losses.ndim == 1 else losses
                if len(radii) != len(losses):
                    raise ValueError(
                        f"plot_slices: {name!r} in {label!r} has {len(radii)} radii and"
                        f" {len(losses)} losses"
                    )
                handles[name] = line_and_band(
                    axes, radii, losses, styles[name], marked=False
                )
            axes.grid(axis="y")
            axes.margins(x=0)
            axes.set_title(label)
            axes.set_xlabel(xlabel)
        grid[0].set_ylabel(ylabel)
        legend_on_top(figure, [handles[n] for n in names], names)
    return figure
