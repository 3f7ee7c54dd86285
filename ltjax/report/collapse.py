"""Figures of neural collapse: metrics over training, cosines between classes."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ltjax.report.plots import line_and_band, thousands
from ltjax.report.style import (
    INK,
    PAGE_WIDTH,
    LineStyle,
    figure_style,
    legend_on_top,
    method_styles,
    new_figure,
)

# Up to this many classes have their names on the axes of a heat map.
_NAMED_CLASSES = 12

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
        figure = new_figure(PAGE_WIDTH, 0.6 + 2.2 * rows)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        handles, marks = {}, {}
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
                low, high = axes.get_ylim()
                subs = (1, 2, 5) if high < 100 * low else (1,)
                axes.yaxis.set_major_locator(LogLocator(subs=subs))
                axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
            elif metric != "minority_collapse":
                axes.set_ylim(bottom=0)
            elif num_classes:
                simplex = -1 / (num_classes - 1)
                dotted = axes.axhline(
                    simplex, color=INK, linewidth=1, linestyle=":", zorder=4
                )
                marks["cosine in a simplex"] = dotted
            axes.grid(axis="y")
            axes.set_xlabel(xlabel)
            axes.set_ylabel(label, fontsize=8)
            axes.margins(x=0.03)
            axes.xaxis.set_major_formatter(thousands())
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        lines = [*(handles[name] for name in names), *marks.values()]
        legend_on_top(figure, lines, [*names, *marks], title)
    return figure


def plot_class_cosines(
    cosines: Mapping[str, ArrayLike],
    *,
    class_counts: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    title: str = "",
):
    """Cosines of every pair of class vectors as heat maps, side by side.

    Off the diagonal a simplex has one color, that of -1 / (K - 1); a block
    of warm colors is a group of classes that have come together.

    Args:
        cosines: method -> [K, K], such as `ltjax.metrics.class_cosines` of class means
            or head rows, the same K for all.
        class_counts: optional [K]; classes are then sorted from most to least frequent.
        class_names: optional K names for the ticks, drawn for up to 12 classes.
        title: optional.

    Returns:
        The Figure, panels of three to a row.

    Raises:
        ValueError: for no matrix, or shapes that are not square or not the same.
    """
    matrices = {name: np.asarray(values, float) for name, values in cosines.items()}
    shapes = {values.shape for values in matrices.values()}
    if len(shapes) != 1 or any(len(s) != 2 or s[0] != s[1] for s in shapes):
        raise ValueError(
            f"plot_class_cosines: cosines have shapes {sorted(shapes) or 'of nothing'},"
            " expected [K, K], the same for all"
        )
    ((num_classes, _),) = shapes
    order, by = np.arange(num_classes), ""
    if class_counts is not None:
        order = np.argsort(-np.asarray(class_counts, float), kind="stable")
        by = ", frequent to rare"
    names = list(class_names or map(str, range(num_classes)))
    columns = min(3, len(matrices))
    rows = -(-len(matrices) // columns)
    with figure_style():
        width = min(PAGE_WIDTH, 0.9 + 2.1 * columns + 0.9 * (columns == 1))
        figure = new_figure(width, 0.5 + 2.3 * rows, fixed_aspect=True)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, (name, values) in zip(grid.flat, matrices.items(), strict=False):
            image = axes.imshow(
                values[order][:, order],
                cmap="RdBu_r",
                vmin=-1,
                vmax=1,
                interpolation="nearest",
            )
            axes.set_title(name)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            if num_classes <= _NAMED_CLASSES:
                texts = [names[k] for k in order]
                slant = 90 if max(map(len, texts)) > 2 else 0
                axes.set_xticks(range(num_classes), texts, rotation=slant, fontsize=7)
                axes.set_yticks(range(num_classes), texts, fontsize=7)
        for axes in grid.flat[len(matrices) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel(f"class{by}")
        for axes in grid.flat[max(0, len(matrices) - columns) : len(matrices)]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(f"class{by}")
        bar = figure.colorbar(image, ax=grid, fraction=0.04, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label("cosine")
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    return figure
