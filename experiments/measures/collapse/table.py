"""What the README shows of the rows."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import f as f_distribution
from scipy.stats import rankdata

from experiments.measures.collapse.points import (
    CLAIMS,
    END,
    FRAMES,
    OWN,
    TIMES,
    TITLES,
)
from experiments.seeded import by_seed, claims_table, joined, results_table

HEAD = {
    "balanced_accuracy": "test accuracy",
    "margin_smallest": "smallest margin",
    "margin_low": "5 % quantile",
    "margin_mean": "mean margin",
    "margin_bound": "bound",
    "nc1": "NC1",
}


def by_frame(
    rows: Sequence[Mapping[str, str]], dim: int, metric: str
) -> tuple[list[str], np.ndarray]:
    """Frames, and a metric at the end of their runs, [frames, seeds]."""
    found = {
        name: by_seed(rows, {"dim": str(dim), "frame": name, "at": END}, metric)
        for name in FRAMES[dim]
    }
    found = {name: one for name, one in found.items() if one}
    shared = sorted(set.intersection(*map(set, found.values()))) if found else []
    table = [[one[seed] for seed in shared] for one in found.values()]
    return list(found), np.array(table).reshape(len(found), len(shared))


def frame_effect(values: np.ndarray) -> tuple[float, float, float]:
    """Whether frames differ by more than their runs do, of [frames, seeds].

    Returns:
        (Deviation of the frames' means, that which the noise of single runs would give,
        p of the F test of two-way layouts without interaction.)
    """
    frames, seeds = values.shape
    means = values.mean(axis=1)
    rest = values - means[:, None] - values.mean(axis=0) + values.mean()
    noise = np.sum(rest**2) / ((frames - 1) * (seeds - 1)) / seeds
    spread = means.var(ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = spread / noise
    p = f_distribution.sf(ratio, frames - 1, (frames - 1) * (seeds - 1))
    return spread**0.5, noise**0.5, float(p)


def effects(rows: Sequence[Mapping[str, str]]) -> str:
    """Whether equally good frames differ, a sentence for each dimension and measure."""
    lines = []
    for dim, title in TITLES.items():
        for metric, what in (
            ("margin_mean", "mean training margins"),
            ("balanced_accuracy", "test accuracies"),
        ):
            names, values = by_frame(rows, dim, metric)
            if min(values.shape) < 2 or not np.isfinite(values).all():
                continue
            spread, noise, p = frame_effect(values)
            lines.append(
                f"Of {title}, {len(names)} frames of equal inner products: the {what}"
                f" deviate by {spread:.2f}, where runs alone would make it {noise:.2f}"
                f" (p = {p:.2g})."
            )
    return "\n".join(lines)


def agreement(rows: Sequence[Mapping[str, str]]) -> str:
    """Whether margins foretell which frame generalizes, in a sentence a dimension."""
    lines = []
    for dim, title in TITLES.items():
        _, margins = by_frame(rows, dim, "margin_low")
        _, accuracy = by_frame(rows, dim, "balanced_accuracy")
        if len(margins) < 3 or margins.shape != accuracy.shape or not margins.size:
            continue
        sides = [rankdata(one.mean(axis=1)) for one in (margins, accuracy)]
        if np.isfinite(sides).all():
            rho = np.corrcoef(*sides)[0, 1]
            lines.append(
                f"Of {title}, the rank correlation over frames of the margins' 5 %"
                f" quantile with test accuracy is {rho:.2f}."
            )
    return "\n".join(lines)


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """Everything of the README that is a number."""
    tables = []
    for dim, title in TITLES.items():
        key = {"dim": str(dim)}
        frames = {name: {**key, "frame": name, "at": END} for name in FRAMES[dim]}
        times = {time: {**key, "frame": OWN, "at": time} for time in TIMES}
        tables += [
            results_table(rows, frames, HEAD, title=title.capitalize(), corner="frame"),
            results_table(
                rows,
                times,
                HEAD,
                title=f"{title.capitalize()}, {OWN}, over training",
                corner="of the run",
            ),
        ]
    return joined(claims_table(rows, CLAIMS), effects(rows), agreement(rows), *tables)
