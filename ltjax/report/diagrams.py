"""Figures of predictions: confusion matrices and reliability diagrams."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ltjax.report.style import (
    INK,
    PAGE_WIDTH,
    LineStyle,
    figure_style,
    legend_on_top,
    method_styles,
    name_ticks,
    new_figure,
)

# Up to this many classes have their names on the axes of a confusion matrix.
NAMED_CLASSES = 30
# An accuracy of fewer examples is noise and not drawn.
FEWEST = 10


def plot_confusion(
    confusion: ArrayLike,
    *,
    class_counts: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    title: str = "",
):
    """Confusion matrix, each row as shares of its true class, averaged over replicas.

    Args:
        confusion: [R, K, K] or [K, K] counts, rows = true class.
        class_counts: optional [K]; classes are then sorted from most to least frequent.
        class_names: optional K names for the ticks.
        title: optional.

    Returns:
        The Figure. Up to 12 classes the cells carry their percentages.

    Raises:
        ValueError: if the matrix is not square.
    """
    counts = np.asarray(confusion, float)
    counts = counts[None] if counts.ndim == 2 else counts
    num_classes = counts.shape[-1]
    if counts.ndim != 3 or counts.shape[1] != num_classes:
        raise ValueError(
            f"plot_confusion: confusion has shape {counts.shape}, expected [R, K, K]"
        )
    support = counts.sum(-1, keepdims=True)
    share = np.where(support > 0, counts / np.maximum(support, 1), np.nan).mean(0)
    order = np.arange(num_classes)
    if class_counts is not None:
        order = np.argsort(-np.asarray(class_counts, float), kind="stable")
    share = 100 * share[order][:, order]
    named = num_classes <= NAMED_CLASSES
    from matplotlib.colors import PowerNorm

    with figure_style():
        figure = new_figure(4.9, 4.3, fixed_aspect=True)
        axes = figure.subplots()
        image = axes.imshow(
            share, cmap=_blues(), norm=PowerNorm(0.5, 0, 100), interpolation="nearest"
        )
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
        bar.outline.set_visible(False)
        bar.set_label("share of the true class (%), square-root scale")
        bar.set_ticks([0, 1, 5, 10, 20, 40, 60, 80, 100])
        bar.minorticks_off()
        by = "" if class_counts is None else " (frequent to rare)"
        axes.set_xlabel(f"predicted class{by}")
        axes.set_ylabel(f"true class{by}")
        if named:
            names = list(class_names or map(str, range(num_classes)))
            texts = [names[k] for k in order]
            name_ticks(axes, texts, room=45)
            axes.set_yticks(range(num_classes), texts)
            edges = np.arange(num_classes + 1) - 0.5
            axes.hlines(edges, -0.5, num_classes - 0.5, color="white", linewidth=0.8)
            axes.vlines(edges, -0.5, num_classes - 0.5, color="white", linewidth=0.8)
        if num_classes <= 12:
            for i, j in np.argwhere(share >= 0.5):
                axes.text(
                    j,
                    i,
                    f"{share[i, j]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if share[i, j] > 35 else INK,
                )
        if title:
            axes.set_title(title)
    return figure


def _blues():
    """White to dark blue, light enough in the middle for dark figures on top."""
    from matplotlib.colors import LinearSegmentedColormap

    colors = ["#f7f9fb", "#c6dbef", "#6baed6", "#2171b5", "#08306b"]
    return LinearSegmentedColormap.from_list("ltjax_blues", colors)


def plot_reliability(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]]],
    *,
    reference: str | None = None,
    styles: Mapping[str, LineStyle] | None = None,
    title: str = "",
):
    """Reliability diagrams: accuracy against confidence, bin by bin.

    Below the diagonal a network is over-confident. Bins are pooled over replicas, and
    those with fewer than 10 examples are not drawn. Strips below show the share of
    examples per bin, and bars at the bottom the ECE (over all bins, mean of the
    replicas' own).

    Args:
        panels: group of classes ("all classes", "few-shot classes") -> method ->
            bin sums (count, confidence, correct), each [R, bins] or [bins].
        reference: the method to draw in grey.
        styles: of `style.method_styles`, for one look over several figures.
        title: optional.

    Returns:
        The Figure, one panel per group.

    Raises:
        ValueError: for no panel.
    """
    if not panels:
        raise ValueError("plot_reliability: panels is empty, expected at least one")
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    styles = styles or method_styles(names, reference)
    with figure_style():
        bars = 0.16 * len(names) + 0.1
        figure = new_figure(PAGE_WIDTH if len(panels) > 1 else 4.6, 5.3 + bars)
        grid = figure.subplots(
            3,
            len(panels),
            squeeze=False,
            sharex="row",
            sharey="row",
            height_ratios=(3.2, 0.7, bars),
        )
        handles, worst = {}, 0.0
        for column, (group, panel) in enumerate(panels.items()):
            axes, strip, ece = grid[:, column]
            axes.plot(
                [0, 1], [0, 1], color="#9aa5b1", linewidth=1, linestyle=(0, (3, 2))
            )
            errors = {}
            for name, sums in panel.items():
                count, confidence, correct = (
                    np.atleast_2d(np.asarray(x, float)) for x in sums
                )
                total = count.sum(-1)
                if not total.all():
                    continue
                errors[name] = 100 * np.mean(
                    np.abs(correct - confidence).sum(-1) / total
                )
                count, confidence, correct = (
                    x.sum(0) for x in (count, confidence, correct)
                )
                used = count >= FEWEST
                style = styles[name]
                (handles[name],) = axes.plot(
                    confidence[used] / count[used],
                    correct[used] / count[used],
                    color=style.color,
                    linestyle=style.line,
                    linewidth=style.width,
                    marker=style.marker,
                    markeredgecolor="white",
                    markeredgewidth=0.6,
                    # A line without points would upset the layout if not clipped.
                    clip_on=not used.any(),
                    zorder=2.5 if name == reference else 3,
                )
                edges = np.linspace(0, 1, len(count) + 1)
                strip.stairs(
                    100 * count / count.sum(), edges, color=style.color, linewidth=1.3
                )
            axes.set_title(group)
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            axes.tick_params(labelbottom=False)
            axes.grid(True)
            strip.set_xlim(0, 1)
            strip.set_xlabel("confidence")
            strip.grid(axis="y")
            _error_bars(ece, errors, names, styles)
            worst = max(worst, *errors.values(), 0.1)
            ece.set_xlim(0, 1.15 * worst)  # of the whole row, with room for numbers
        grid[0, 0].set_ylabel("accuracy")
        grid[1, 0].set_ylabel("examples\n(%)")
        shown = [name for name in names if name in handles]
        legend_on_top(figure, [handles[n] for n in shown], shown, title)
    return figure


def _error_bars(axes, errors: Mapping[str, float], names, styles) -> None:
    """One bar per method, in the order of the legend, its ECE in percent beside it."""
    for row, name in enumerate(names):
        if name not in errors:
            continue
        axes.barh(row, errors[name], height=0.7, color=styles[name].color)
        axes.annotate(
            f"{errors[name]:.1f}",
            (errors[name], row),
            xytext=(3, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=7.5,
        )
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("expected calibration error (%)")
