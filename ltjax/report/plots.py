"""Figures over classes and over time: arrays in, a `matplotlib.figure.Figure` out.

Nothing is shown or saved here, and pyplot is never touched: in a notebook with
`%matplotlib inline` a returned figure draws itself, elsewhere call its `savefig`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ltjax.report.style import (
    FAINT,
    PAGE_WIDTH,
    LineStyle,
    figure_style,
    legend_on_top,
    method_styles,
    name_ticks,
    new_figure,
)

# Up to this many classes each has its own marker and tick; beyond, lines are smoothed.
_SINGLE_CLASSES = 30


def _styles(series: Mapping, reference: str | None, styles) -> dict[str, LineStyle]:
    return styles or method_styles(list(series), reference)


def mean_std(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Over the last axis (replicas), leaving NaN out; no spread for one replica."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.where(known, values, 0.0).sum(-1)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    if values.shape[-1] < 2:
        return mean, None
    squares = np.where(known, np.square(values - mean[..., None]), 0.0).sum(-1)
    return mean, np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), 0.0)


def line_and_band(axes, x, values, style: LineStyle, *, marked: bool):
    """Mean over the last axis as a line, one standard deviation as a band around it."""
    mean, std = mean_std(values)
    (line,) = axes.plot(
        x,
        mean,
        color=style.color,
        linestyle=style.line,
        linewidth=style.width,
        marker=style.marker if marked else "",
        markeredgecolor="white",
        markeredgewidth=0.6,
    )
    if std is not None:
        axes.fill_between(
            x, mean - std, mean + std, color=style.color, alpha=0.16, linewidth=0
        )
    return line


def _moving_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Centered moving average over classes, without NaNs; shorter at the ends."""
    known = ~np.isnan(values)
    kernel = np.ones(width)
    total = np.convolve(np.where(known, values, 0.0), kernel, mode="same")
    count = np.convolve(known.astype(float), kernel, mode="same")
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def plot_class_accuracy(
    recalls: Mapping[str, ArrayLike],
    class_counts: ArrayLike,
    *,
    reference: str | None = None,
    groups: Mapping[str, ArrayLike] | None = None,
    class_names: Sequence[str] | None = None,
    styles: Mapping[str, LineStyle] | None = None,
    title: str = "",
):
    """Accuracy per class against class frequency.

    Classes are sorted from most to least frequent. Grey bars are their numbers of
    training examples, on a logarithmic axis; bands are one sample standard deviation
    over replicas. More than 30 classes are smoothed by a moving average, named on the
    axis.

    Args:
        recalls: method -> recall [R, K] or [K], fractions.
        class_counts: [K] training examples per class.
        reference: the method to draw in grey.
        groups: optional name -> bool [K]; their boundaries are drawn.
        class_names: optional K names for the ticks.
        styles: of `style.method_styles`, for one look over several figures.
        title: optional.

    Returns:
        The Figure.

    Raises:
        ValueError: if a recall does not have K classes.
    """
    counts = np.asarray(class_counts, float)
    num_classes = len(counts)
    order = np.argsort(-counts, kind="stable")
    styles = _styles(recalls, reference, styles)
    single = num_classes <= _SINGLE_CLASSES
    width = 1 if single else 2 * (num_classes // 40) + 3
    position = np.arange(num_classes)
    with figure_style():
        figure = new_figure(PAGE_WIDTH, 3.5)
        axes = figure.subplots()
        bars = axes.twinx()
        bars.bar(position, counts[order], width=0.84 if single else 1.0, color=FAINT)
        bars.set_yscale("log")
        bars.set_ylabel("training examples per class", color="#7b8794")
        bars.tick_params(axis="y", colors="#7b8794", which="both")
        bars.minorticks_off()
        top = int(np.ceil(np.log10(counts.max())))
        bars.set_yticks([10.0**k for k in range(top + 1)])
        bars.set_ylim(0.7 * counts[counts > 0].min(), 40 * counts.max())
        bars.spines["right"].set_visible(True)
        axes.set_zorder(bars.get_zorder() + 1)
        axes.patch.set_visible(False)

        lines = {}
        for name in sorted(recalls, key=lambda n: n != reference):
            values = np.atleast_2d(np.asarray(recalls[name], float))
            if values.shape[1] != num_classes:
                raise ValueError(
                    f"plot_class_accuracy: {name!r} has recalls of"
                    f" {values.shape[1]} classes, but class_counts has {num_classes}"
                )
            values = 100 * values[:, order]
            if not single:
                values = np.stack([_moving_mean(v, width) for v in values])
            lines[name] = line_and_band(
                axes, position, values.T, styles[name], marked=single
            )
        axes.set_ylim(0, 108)
        axes.set_yticks(range(0, 101, 20))
        axes.set_xlim(-0.6, num_classes - 0.4)
        smoothed = "" if single else f"\n(moving average over {width} classes)"
        axes.set_ylabel(f"accuracy per class (%){smoothed}")
        axes.set_xlabel("class, from most to least frequent in training")
        if single:
            names = list(class_names or map(str, range(num_classes)))
            name_ticks(axes, [names[k] for k in order], room=75)
        if groups:
            _mark_groups(axes, groups, order)
        handles = [lines[name] for name in recalls]
        legend_on_top(figure, handles, list(recalls), title)
    return figure


def _mark_groups(axes, groups: Mapping[str, ArrayLike], order: np.ndarray) -> None:
    """Names of contiguous groups along the top, and the lines between them."""
    for name, members in groups.items():
        at = np.flatnonzero(np.asarray(members)[order])
        if not at.size:
            continue
        if at[0] > 0:
            axes.axvline(at[0] - 0.5, color="#9aa5b1", linewidth=0.8, linestyle=":")
        axes.text(
            (at[0] + at[-1]) / 2,
            107,
            f"{name} ({at.size})",
            ha="center",
            va="top",
            fontsize=7.5,
            color="#616e7c",
        )


def plot_training_curves(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    *,
    reference: str | None = None,
    xlabel: str = "step",
    styles: Mapping[str, LineStyle] | None = None,
    title: str = "",
):
    """Metrics over training, mean and one sample standard deviation over replicas.

    Args:
        panels: axis label (with unit) -> method -> (x [T], values [T, R] or [T]).
        reference: the method to draw in grey.
        xlabel: of the shared quantity on the x axis.
        styles: of `style.method_styles`, for one look over several figures.
        title: optional.

    Returns:
        The Figure, one panel per entry of `panels`.

    Raises:
        ValueError: for no panel, or if x and values differ in length.
    """
    if not panels:
        raise ValueError("plot_training_curves: panels is empty, expected at least one")
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    styles = _styles(dict.fromkeys(names), reference, styles)
    with figure_style():
        figure = new_figure(PAGE_WIDTH, 3.0 if len(panels) > 1 else 3.4)
        handles: dict[str, object] = {}
        for axes, (label, panel) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0],
            panels.items(),
            strict=True,
        ):
            for name in sorted(panel, key=lambda n: n != reference):
                x, values = panel[name]
                x, values = np.asarray(x, float), np.asarray(values, float)
                values = values[:, None] if values.ndim == 1 else values
                if len(x) != len(values):
                    raise ValueError(
                        f"plot_training_curves: {name!r} in {label!r} has {len(x)} x"
                        f" and {len(values)} values"
                    )
                # A few evaluations are points that were measured; a log is a line.
                marked = len(x) <= 20
                line = line_and_band(axes, x, values, styles[name], marked=marked)
                if name not in handles or marked:
                    handles[name] = line
            axes.grid(axis="y")
            axes.set_xlabel(xlabel)
            axes.set_ylabel(label)
            axes.margins(x=0.02)
            axes.xaxis.set_major_formatter(thousands())
        legend_on_top(figure, [handles[n] for n in names], names, title)
    return figure


def thousands():
    """Ticks such as 500 and 20k."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(
        lambda v, _: f"{v / 1000:g}k" if abs(v) >= 10_000 else f"{v:g}"
    )
