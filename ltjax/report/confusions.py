"""Confusions among many classes: between groups, and the pairs that lead the list."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ltjax.report.style import INK, PAGE_WIDTH, figure_style, new_figure

_LONGEST_NAME = 18  # characters of a class name beside a bar


class Pair(NamedTuple):
    """Examples of one class that are taken for another.

    Attributes:
        true: number of the true class.
        predicted: number of the other one.
        share: of the examples of the true class, mean over replicas.
        count: examples, mean over replicas.
    """

    true: int
    predicted: int
    share: float
    count: float


def _counts(confusion: ArrayLike) -> np.ndarray:
    counts = np.asarray(confusion, float)
    counts = counts[None] if counts.ndim == 2 else counts
    if counts.ndim != 3 or counts.shape[1] != counts.shape[2]:
        raise ValueError(f"confusion has shape {counts.shape}, expected [R, K, K]")
    return counts


def confused_pairs(
    confusion: ArrayLike, *, at_most: int = 100, fewest: float = 2.0
) -> list[Pair]:
    """The pairs of classes that are confused most, by the share of the true class.

    Args:
        confusion: [R, K, K] or [K, K] counts, rows = true class.
        at_most: pairs that are returned.
        fewest: examples (mean over replicas) below which a pair is left out: one of two
            test examples is half of the class, and says little.

    Returns:
        Pairs, from the largest share on; of equal shares the one of more examples.

    Raises:
        ValueError: if the matrix is not square.

    Example:
        >>> pairs = confused_pairs([[6, 4, 0], [0, 9, 1], [5, 0, 5]])
        >>> [(p.true, p.predicted, p.share) for p in pairs]
        [(2, 0, 0.5), (0, 1, 0.4)]
    """
    counts = _counts(confusion).mean(0)
    support = counts.sum(-1, keepdims=True)
    share = counts / np.maximum(support, 1)
    off = (counts >= fewest) & ~np.eye(len(counts), dtype=bool)
    rows, columns = np.nonzero(off)
    order = np.lexsort((-counts[rows, columns], -share[rows, columns]))[:at_most]
    return [
        Pair(
            int(i), int(j), round(float(share[i, j]), 6), round(float(counts[i, j]), 6)
        )
        for i, j in zip(rows[order], columns[order], strict=True)
    ]


def group_confusion(
    confusion: ArrayLike, groups: Mapping[str, ArrayLike]
) -> tuple[np.ndarray, np.ndarray]:
    """Where the examples of each class group go.

    Args:
        confusion: [R, K, K] or [K, K] counts, rows = true class.
        groups: name -> bool [K].

    Returns:
        (share [G, G] of the examples of the row's group that are predicted as a class
        of the column's, right and wrong together; correct [G], the share of the group
        that gets its own class). Means over replicas, classes weighted equally.
    """
    counts = _counts(confusion)
    support = counts.sum(-1, keepdims=True)
    rows = np.where(support > 0, counts / np.maximum(support, 1), np.nan).mean(0)
    members = [np.asarray(one, bool) for one in groups.values()]
    known = ~np.isnan(rows[:, 0])
    share = [
        [rows[one & known][:, other].sum(1).mean() for other in members]
        for one in members
    ]
    correct = [np.diag(rows)[one & known].mean() for one in members]
    return np.array(share), np.array(correct)


def plot_many_confusions(
    confusion: ArrayLike,
    *,
    groups: Mapping[str, ArrayLike],
    class_names: Sequence[str] | None = None,
    title: str = "",
    pairs: int = 15,
):
    """What a matrix of hundreds of classes hides: groups, and the leading pairs.

    Args:
        confusion: [R, K, K] or [K, K] counts, rows = true class.
        groups: name -> bool [K]; empty groups are left out.
        class_names: optional K names.
        title: optional.
        pairs: how many are shown.

    Returns:
        The Figure: groups on the left, on the right the most confused pairs.
    """
    groups = {name: one for name, one in groups.items() if np.any(one)}
    share, correct = group_confusion(confusion, groups)
    found = confused_pairs(confusion, at_most=pairs)
    num_classes = _counts(confusion).shape[-1]
    names = list(class_names or map(str, range(num_classes)))
    with figure_style():
        figure = new_figure(PAGE_WIDTH, 1.6 + 0.2 * max(len(found), 6))
        left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
        left.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
        left.spines[:].set_visible(False)
        left.tick_params(length=0)
        for i, j in np.ndindex(share.shape):
            text = f"{100 * share[i, j]:.1f}"
            if i == j:
                text += f"\n{100 * correct[i]:.1f} right"
            left.text(
                j,
                i,
                text,
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if share[i, j] > 0.5 else INK,
            )
        left.set_xticks(range(len(groups)), list(groups))
        left.set_yticks(range(len(groups)), list(groups))
        left.set_xlabel("predicted class is")
        left.set_ylabel("true class is")
        left.set_title("groups (%)")
        _bars(right, found, names)
        if title:
            figure.suptitle(title)
    return figure


def _bars(axes, found: list[Pair], names: list[str]) -> None:
    labels = [f"{_short(names[p.true])} → {_short(names[p.predicted])}" for p in found]
    axes.barh(range(len(found)), [100 * p.share for p in found], color="#6baed6")
    axes.set_yticks(range(len(found)), labels, fontsize=7)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("of the true class (%)")
    axes.set_title("confused pairs" if found else "no confused pair")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
