"""How figures look: one palette and one set of sizes for all of them."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

REFERENCE_COLOR = "#6b7280"
INK = "#1f2933"
FAINT = "#d5dae1"

# Okabe and Ito's palette without its yellow, which is too light for lines.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_LINES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1.5, 1, 1.5)))

PAGE_WIDTH = 7.2  # inches
DPI = 200
_HANDLE_WIDTH = 7  # characters: a handle of a legend, and the space around it
_LEGEND_ROW = 0.18  # inches: 8.5 points and the space between rows

_RC: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5b1",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 2.2,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 110,
    "savefig.dpi": DPI,
}


class LineStyle(NamedTuple):
    """Look of one method, the same in every figure; `width` in points."""

    color: str
    marker: str
    line: str | tuple
    width: float = 1.7


def method_styles(
    names: Sequence[str], reference: str | None = None
) -> dict[str, LineStyle]:
    """One style per method; the reference is grey.

    Args:
        names: methods in the order of the table.
        reference: the one drawn in grey, if any; broad, to show beneath the others.

    Returns:
        name -> LineStyle. After six methods colors repeat with another dash pattern.

    Example:
        >>> method_styles(["CE", "LA"], "CE")["LA"].color
        '#0072b2'
    """
    styles, i = {}, 0
    for name in names:
        if name == reference:
            styles[name] = LineStyle(REFERENCE_COLOR, "o", "-", width=2.6)
            continue
        color = PALETTE[i % len(PALETTE)]
        marker = _MARKERS[(i + 1) % len(_MARKERS)]
        styles[name] = LineStyle(color, marker, _LINES[i // len(PALETTE) % len(_LINES)])
        i += 1
    return styles


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Matplotlib settings for the figures of a report, and no others."""
    import matplotlib

    with matplotlib.rc_context(rc=_RC):
        yield


def new_figure(width: float, height: float, *, fixed_aspect: bool = False):
    """An empty Figure that no window and no pyplot registry knows.

    Args:
        width: inches.
        height: inches.
        fixed_aspect: whether the axes keep their shape (images).

    Returns:
        matplotlib.figure.Figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05, compress=fixed_aspect)
    return Figure(figsize=(width, height), layout=engine)


def _legend_columns(labels: Sequence[str], *, room: int) -> int:
    """The most columns whose texts, filled one after the other, fit side by side."""
    for columns in range(len(labels), 1, -1):
        least, further = divmod(len(labels), columns)
        ends = [least * k + min(k, further) for k in range(columns + 1)]
        longest = (
            max(map(len, labels[start:end])) for start, end in itertools.pairwise(ends)
        )
        if sum(longest) + _HANDLE_WIDTH * columns <= room:
            return columns
    return 1


def legend_on_top(figure, handles, labels, title: str = "") -> None:
    """A legend above the axes, in as many rows as the width asks for.

    The figure grows by its second and further rows, so that the axes keep their size.

    Args:
        figure: to put it on.
        handles: one per entry.
        labels: their texts.
        title: of the whole figure, above the entries.
    """
    if not labels:
        return
    # About 13 characters of text per inch.
    columns = _legend_columns(labels, room=int(figure.get_figwidth() * 12.5))
    further = -(-len(labels) // columns) - 1 + bool(title)
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * further)
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=columns,
        title=title or None,
        title_fontproperties={"size": 9.5, "weight": "bold"},
        alignment="left",
    )


def name_ticks(axes, names: Sequence[str], *, room: int) -> None:
    """Names on the x axis, slanted if their characters exceed `room`.

    Args:
        axes: to label at 0, 1, 2, ...
        names: of the ticks.
        room: characters that fit side by side.
    """
    axes.set_xticks(range(len(names)), names)
    if max(map(len, names)) * len(names) > room:
        axes.tick_params(axis="x", rotation=40)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
