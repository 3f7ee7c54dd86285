"""Charts of the page as JSON: what page.js draws, with the values under the pointer.

A chart is {"panels": [...]}, a panel {"x", "y", "series"} and perhaps "bars" (one per
x), "line", "diagonal", "title", "legend". A series belongs to a "method", whose style
the page knows, or has a "name" and "color" of its own; its points are [x, mean,
deviation or null, text or null].
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ltjax.report.collapse import PANELS
from ltjax.report.costs import cost_of
from ltjax.report.diagrams import FEWEST
from ltjax.report.plots import mean_std
from ltjax.report.runs import PROFILES, Run
from ltjax.report.series import (
    Panels,
    calibration_panels,
    class_recalls,
    collapse_curves,
    method_panels,
    other_panels,
    training_panels,
)
from ltjax.report.style import LineStyle
from ltjax.report.tables import cell, columns_of

_SINGLE_CLASSES = 30  # with more classes, a point stands for a bin of them
_BINS = 24
_LONGEST = 160  # points of a curve
_SMALL = 220  # pixels of a panel among many
GROUP_COLORS = {"many": "#0072b2", "medium": "#e69f00", "few": "#d55e00"}
# What evaluators keep for charts in an evaluation file, each followed by a title:
POINTS = "points/"  # [R, n, 3], (x, y, class)
CLASSES = "classes/"  # [R, K] shares, one of each class


def chart_styles(styles: Mapping[str, LineStyle]) -> dict[str, dict]:
    """Method -> color, dashes and width of its lines on the page."""
    dashes = {
        n: "" if isinstance(s.line, str) else s.line[1] for n, s in styles.items()
    }
    return {
        name: {
            "color": style.color,
            "dash": " ".join(f"{2 * length:g}" for length in dashes[name]),
            "width": 1.2 * style.width,
        }
        for name, style in styles.items()
    }


def _points(x, values: np.ndarray) -> list[list]:
    """[x, mean, deviation] of values [n, R], without those that are unknown."""
    mean, std = mean_std(values)
    return [
        [_rounded(x[i]), _rounded(mean[i]), None if std is None else _rounded(std[i])]
        for i in np.flatnonzero(np.isfinite(mean))
    ]


def _rounded(value) -> float:
    return float(f"{float(value):.5g}")


def class_chart(runs: Sequence[Run]) -> dict | None:
    """Accuracy over classes, from frequent to rare; bins of classes if there are many.

    Args:
        runs: comparable ones.

    Returns:
        The chart, or None if no run classifies.
    """
    recalls = class_recalls(runs)
    return _class_chart(runs, recalls, "accuracy (%)") if recalls else None


def _class_chart(
    runs: Sequence[Run], shares: Mapping[str, np.ndarray], label: str
) -> dict:
    """Shares [R, K] of each run over classes, in percent."""
    counts = runs[0].class_counts
    names = runs[0].class_names or tuple(map(str, range(len(counts))))
    order = np.argsort(-counts, kind="stable")
    single = len(order) <= _SINGLE_CLASSES
    bins = np.array_split(order, len(order) if single else _BINS)
    group_of = {
        k: name for name, at in runs[0].groups.items() for k in np.flatnonzero(at)
    }
    if single:
        axis, ticks = "class, most frequent first", [names[k] for k in order]
        texts = [f"{names[k]}: {counts[k]} training examples" for k in order]
    else:
        axis = f"classes in {_BINS} bins, most frequent first"
        ticks = [f"{counts[b[0]]}–{counts[b[-1]]}" for b in bins]
        texts = [
            f"{len(b)} classes of {counts[b[0]]} to {counts[b[-1]]} training examples"
            for b in bins
        ]
    texts = [
        f"{text}, {_span(group_of[b[0]], group_of[b[-1]])}"
        for text, b in zip(texts, bins, strict=True)
    ]
    series = []
    for name, share in shares.items():
        values = np.stack([mean_std(100 * share[:, b])[0] for b in bins])
        series.append({"method": name, "points": _points(range(len(bins)), values)})
    panel = {
        "x": {"label": axis, "names": ticks, "texts": texts},
        "y": {"label": label, "min": 0, "max": 104},
        "bars": {
            "label": "training examples",
            "values": [max(float(counts[b].mean()), 0.5) for b in bins],
        },
        "line": True,
        "series": series,
    }
    return {"panels": [panel]}


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"


def curves_chart(
    panels: Panels, *, small: bool = False, logarithmic: Collection[str] = ()
) -> dict | None:
    """Metrics over training, a panel each.

    Args:
        panels: of `ltjax.report.series`.
        small: whether there are many.
        logarithmic: panels whose values are shown on a logarithmic axis.

    Returns:
        The chart, or None without a panel.
    """
    drawn = []
    for label, lines in panels.items():
        series = []
        for name, (steps, values) in lines.items():
            at = np.unique(np.linspace(0, len(steps) - 1, _LONGEST).round().astype(int))
            points = _points(steps[at], values[at])
            if points:
                series.append({"method": name, "points": points})
        axis = {"label": label} | ({"log": True} if label in logarithmic else {})
        panel = {"x": {"label": "step"}, "y": axis, "line": True, "series": series}
        drawn.append(panel)
    if not drawn:
        return None
    return {"panels": drawn} | ({"least": _SMALL} if small else {})


def collapse_chart(runs: Sequence[Run]) -> dict | None:
    """Neural collapse over training; None if no run was judged by it twice."""
    panels, logarithmic = {}, []
    for metric, lines in collapse_curves(list(runs)).items():
        title, is_log, factor = PANELS[metric]
        panels[title] = {n: (x, factor * values) for n, (x, values) in lines.items()}
        logarithmic += [title] if is_log else []
    return curves_chart(panels, small=True, logarithmic=logarithmic)


def reliability_chart(runs: Sequence[Run]) -> dict | None:
    """Accuracy against confidence, bin by bin; None without calibration bins."""
    panels = []
    for title, sums in calibration_panels(list(runs)).items():
        series = []
        for name, parts in sums.items():
            count, confidence, correct = (
                np.atleast_2d(np.asarray(part, float)).sum(0) for part in parts
            )
            points = [
                [
                    _rounded(confidence[i] / count[i]),
                    _rounded(correct[i] / count[i]),
                    None,
                    f"{count[i]:.0f} examples of confidence"
                    f" {confidence[i] / count[i]:.2f}",
                ]
                for i in np.flatnonzero(count >= FEWEST)
            ]
            series.append({"method": name, "points": points})
        panels.append(
            {
                "title": title,
                "x": {"label": "confidence", "min": 0, "max": 1},
                "y": {"label": "accuracy", "min": 0, "max": 1},
                "diagonal": True,
                "line": True,
                "series": series,
            }
        )
    return {"panels": panels} if panels else None


def cost_chart(runs: Sequence[Run]) -> dict | None:
    """The metric that judges the runs against training time; None for fewer than two.

    Runs of different hardware are no comparison of methods, and not drawn.
    """
    columns = {column.key: column for column in columns_of(runs)}
    column = columns.get(runs[0].judged or "")
    machines = {str(run.info.get("hardware")) for run in runs}
    if column is None or len(machines) > 1:
        return None
    factor = 100.0 if column.percent else 1.0
    series = []
    for run in runs:
        seconds = cost_of(run).seconds
        found = cell(run.summary.get(column.key), factor=factor)
        if seconds and found.mean is not None:
            std = None if found.std is None else _rounded(found.std)
            point = [_rounded(seconds), _rounded(found.mean), std]
            series.append({"method": run.name, "points": [point]})
    if len(series) < 2:
        return None
    times = [one["points"][0][0] for one in series]
    unit = " (%)" if column.percent else ""
    panel = {
        "x": {"label": "training time (s)", "log": max(times) > 10 * min(times)},
        "y": {"label": f"{column.title}{unit}"},
        "dot": 5,
        "named": True,
        "series": series,
    }
    return {"panels": [panel]}


def _kept(runs: Sequence[Run], prefix: str) -> list[str]:
    """Names of the arrays with a prefix, of any run, in their order."""
    names = (key for run in runs for key in run.arrays if key.startswith(prefix))
    return list(dict.fromkeys(names))


def points_charts(runs: Sequence[Run]) -> dict[str, dict]:
    """Title -> chart of the points that an evaluator kept, a panel for each run.

    Args:
        runs: whose evaluation files may hold "points/<title>" [R, n, 3]: two
            coordinates and a class. The first replica is drawn.

    Returns:
        Charts whose series are class groups.
    """
    found = {}
    for key in _kept(runs, POINTS):
        panels = []
        for run in runs:
            if key not in run.arrays or run.diverged[0]:
                continue
            rows = np.asarray(run.arrays[key][0], float)
            panels.append({"title": run.name, "method": run.name, **_cloud(run, rows)})
        if panels:
            found[key.removeprefix(POINTS)] = {"panels": panels}
    return found


def _cloud(run: Run, rows: np.ndarray) -> dict:
    names = run.class_names or tuple(map(str, range(len(run.class_counts))))
    labels = rows[:, 2].astype(int)
    series = [
        {
            "name": group,
            "color": GROUP_COLORS[group],
            "points": [
                [_rounded(x), _rounded(y), None, f"class {names[k]}"]
                for (x, y), k in zip(
                    rows[members[labels], :2], labels[members[labels]], strict=True
                )
            ],
        }
        for group, members in run.groups.items()
    ]
    return {
        "x": {"label": "first axis"},
        "y": {"label": "second axis"},
        "dot": 2.4,
        "legend": True,
        "silent": True,
        "series": [one for one in series if one["points"]],
    }


def classes_charts(runs: Sequence[Run]) -> dict[str, dict]:
    """Title -> chart of what an evaluator found of each class, in percent.

    Args:
        runs: comparable ones, whose evaluation files may hold "classes/<title>" [R, K]:
            shares, NaN where a class has none.
    """
    found = {}
    for key in _kept(runs, CLASSES):
        title = key.removeprefix(CLASSES)
        shares = {
            run.name: np.asarray(run.arrays[key], float)
            for run in runs
            if key in run.arrays
        }
        found[title] = _class_chart(runs, shares, f"{title} (%)")
    return found


def profile_charts(runs: Sequence[Run]) -> dict[str, dict]:
    """Title -> chart of one number under several conditions, a line for each run.

    Args:
        runs: whose evaluation files may hold "profiles/<title>/<condition>" [R].
    """
    conditions: dict[str, list[str]] = {}
    for key in _kept(runs, PROFILES):
        title, _, condition = key.removeprefix(PROFILES).rpartition("/")
        conditions.setdefault(title, []).append(condition)
    found = {}
    for title, names in conditions.items():
        series = []
        for run in runs:
            lost = np.full(len(run.members), np.nan)
            keys = (f"{PROFILES}{title}/{name}" for name in names)
            values = np.stack([run.arrays.get(key, lost) for key in keys])
            points = _points(range(len(names)), values)
            if points:
                series.append({"method": run.name, "points": points})
        axes = {"x": {"label": "", "names": names}, "y": {"label": title}}
        if series:
            found[title] = {"panels": [{**axes, "line": True, "series": series}]}
    return found


def all_charts(runs: Sequence[Run]) -> dict[str, dict]:
    """Name -> chart, of those that the runs have something for."""
    runs = list(runs)
    found = {
        "class_accuracy": class_chart(runs),
        "training_curves": curves_chart(training_panels(runs)),
        "collapse": collapse_chart(runs),
        "reliability": reliability_chart(runs),
        "cost": cost_chart(runs),
        "reported": curves_chart(method_panels(runs), small=True),
        "logged": curves_chart(other_panels(runs), small=True),
    }
    kept = {
        "classes": classes_charts(runs),
        "profiles": profile_charts(runs),
        "points": points_charts(runs),
    }
    return {name: chart for name, chart in found.items() if chart} | {
        f"{kind}: {title}": chart
        for kind, charts in kept.items()
        for title, chart in charts.items()
    }
