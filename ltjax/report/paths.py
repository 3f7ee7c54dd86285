"""The figure of accuracy over a strength tau, exact at every tau."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from ltjax.report.style import (
    PAGE_WIDTH,
    LineStyle,
    figure_style,
    legend_on_top,
    method_styles,
    new_figure,
)


def plot_accuracy_paths(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]]],
    *,
    chosen: Mapping[str, float] | None = None,
    reference: str | None = None,
    xlabel: str = "tau",
    ylabel: str = "balanced accuracy (%)",
    styles: Mapping[str, LineStyle] | None = None,
    title: str = "",
):
    """Balanced accuracy over tau as a step function, with all of its breakpoints.

    Args:
        panels: title, such as a classifier -> name, such as a split -> (breakpoints
            [P + 1], scores [P], standard errors [P]), an `AccuracyPath` of
            `ltjax.classifiers`, in fractions.
        chosen: optional title -> the tau that was chosen, a dotted line.
        reference: the name to draw in grey.
        xlabel: of the strength.
        ylabel: of the score.
        styles: of `style.method_styles`, for one look over several figures.
        title: optional, above all panels.

    Returns:
        The Figure, panels side by side on one scale; bands are one standard error.

    Raises:
        ValueError: for no panel, a path whose lengths do not fit, or a chosen tau of an
            unknown panel.
    """
    if not panels:
        raise ValueError("plot_accuracy_paths: panels is empty, expected at least one")
    unknown = sorted((chosen or {}).keys() - panels.keys())
    if unknown:
        raise ValueError(
            f"plot_accuracy_paths: chosen names {unknown}, expected some of"
            f" {', '.join(panels)}"
        )
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    styles = styles or method_styles(names, reference)
    with figure_style():
        figure = new_figure(PAGE_WIDTH if len(panels) > 1 else 4.6, 2.9)
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        handles, marks = {}, {}
        for axes, (label, panel) in zip(grid, panels.items(), strict=True):
            stop = 0.0
            for name in sorted(panel, key=lambda n: n != reference):
                edges, *heights = (np.asarray(v, float) for v in panel[name])
                if any(len(edges) != len(values) + 1 for values in heights):
                    raise ValueError(
                        f"plot_accuracy_paths: {name!r} in {label!r} has {len(edges)}"
                        f" breakpoints and {len(heights[0])} scores with"
                        f" {len(heights[1])} standard errors, expected one less"
                    )
                score, error = (100 * np.append(v, v[-1]) for v in heights)
                style = styles[name]
                (handles[name],) = axes.plot(
                    edges,
                    score,
                    drawstyle="steps-post",
                    color=style.color,
                    linestyle=style.line,
                    linewidth=min(style.width, 1.3),
                )
                axes.fill_between(
                    edges,
                    score - error,
                    score + error,
                    step="post",
                    color=style.color,
                    alpha=0.16,
                    linewidth=0,
                )
                stop = max(stop, edges[-1])
            if label in (chosen or {}):
                marks["chosen"] = axes.axvline(
                    (chosen or {})[label], color="#616e7c", linewidth=1, linestyle=":"
                )
            axes.set_title(label)
            axes.set_xlabel(xlabel)
            axes.set_xlim(0, stop)
            axes.grid(axis="y")
        grid[0].set_ylabel(ylabel)
        lines = [*(handles[name] for name in names), *marks.values()]
        legend_on_top(figure, lines, [*names, *marks], title)
    return figure
