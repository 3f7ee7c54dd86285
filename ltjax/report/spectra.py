"""The figure of Hessian spectra: one panel per group of classes, side by side."""

from collections.abc import Mapping

import numpy as np


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
        A matplotlib Figure.

    Raises:
        ValueError: if there is no group.
    """
    from matplotlib.figure import Figure

    if not densities:
        raise ValueError("plot_spectra: densities is empty, expected at least a group")
    width = 3.2 * len(densities)
    figure = Figure(figsize=(max(width, 4.5), 3.0), layout="constrained")
    axes = figure.subplots(1, len(densities), sharey=True, squeeze=False)[0]
    peak = max(float(np.max(density)) for _, density in densities.values())
    floor = peak * 1e-6
    for axis, (group, (grid, density)) in zip(axes, densities.items(), strict=True):
        # A grid finer than the page only makes the file large.
        stride = max(1, len(grid) // 2000)
        x, y = np.asarray(grid)[::stride], np.maximum(density[::stride], floor)
        axis.fill_between(x, floor, y, color="#c8d3e0", linewidth=0)
        axis.plot(x, y, color="#1f5a8c", linewidth=1)
        axis.axvspan(min(x[0], 0.0), 0.0, color="#d1495b", alpha=0.12, linewidth=0)
        axis.set_yscale("log")
        axis.set_ylim(floor, peak * 2)
        axis.set_title(group, fontsize=10)
        axis.set_xlabel("eigenvalue")
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        if extremes and group in extremes:
            low, high = extremes[group]
            axis.text(
                0.97,
                0.95,
                f"min {low:.3g}\nmax {high:.3g}",
                transform=axis.transAxes,
                ha="right",
                va="top",
                fontsize=8,
            )
    axes[0].set_ylabel("spectral density")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure
