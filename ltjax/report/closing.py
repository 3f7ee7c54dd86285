"""The table at the end of a run: accuracy of class groups and of classes, in text."""

from collections.abc import Sequence

import numpy as np

from ltjax.report.runs import Run

_ALL_CLASSES = 30  # with more classes, only some of them are listed
_WORST = 10
_WIDEST = 28  # characters of a name
_PRECISION = "classes/average precision"  # [R, K], of several labels per example


def closing_table(run: Run) -> str:
    """Accuracy of each class group and class on the evaluated split.

    Args:
        run: from `ltjax.report.reading.read_run`.

    Returns:
        Lines of text: the groups, then the classes from most to least frequent in
        training, or the worst ten of more than 30. Percent, mean over replicas; a dash
        for classes without a test example. Of several labels per example the average
        precision of each. "" if the run does not classify.
    """
    if run.recall is None:
        return _label_table(run) if _PRECISION in run.arrays else ""
    recall = _mean(run.recall)
    counts, tested = run.class_counts, _tested(run)
    names = run.class_names or tuple(map(str, range(len(counts))))
    shots = {"many": f"> {run.shot_limits[0]}", "few": f"< {run.shot_limits[1]}"}
    rows = [("", "training", run.split, "accuracy (%)")]
    for group, members in run.groups.items():
        if members.any():
            title = f"{group} {shots.get(group, '')}".strip()
            size = int(members.sum())
            rows.append(
                (
                    f"{title} ({size} class{'es' if size > 1 else ''})",
                    str(counts[members].sum()),
                    str(tested[members].sum()),
                    _percent(_mean(recall[members])),
                )
            )
    every = _percent(_mean(recall))
    rows.append(("all, balanced", str(counts.sum()), str(tested.sum()), every))
    order = np.argsort(-counts, kind="stable")
    title = "classes, most frequent first"
    if len(counts) > _ALL_CLASSES:
        known = order[~np.isnan(recall[order])]
        order = known[np.argsort(recall[known], kind="stable")][:_WORST]
        title = f"the {len(order)} classes of lowest accuracy, of {len(counts)}"
    rows.append((title, "", "", ""))
    for k in order:
        name = f"  {_short(names[k])}"
        rows.append((name, str(counts[k]), str(tested[k]), _percent(recall[k])))
    return _aligned(rows)


def _label_table(run: Run) -> str:
    """Average precision of label groups and of labels, most frequent first."""
    precision = _mean(np.asarray(run.arrays[_PRECISION]))
    counts = run.class_counts
    names = run.class_names or tuple(map(str, range(len(counts))))
    rows = [("", "training", "average precision (%)")]
    for group, members in run.groups.items():
        if members.any():
            title = f"{group} ({int(members.sum())} labels)"
            size = str(counts[members].sum())
            rows.append((title, size, _percent(_mean(precision[members]))))
    rows.append(("all, mean", str(counts.sum()), _percent(_mean(precision))))
    for k in np.argsort(-counts, kind="stable"):
        rows.append((f"  {_short(names[k])}", str(counts[k]), _percent(precision[k])))
    return _aligned(rows)


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Lines of cells, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        ).rstrip()
        for row in rows
    )


def _tested(run: Run) -> np.ndarray:
    """[K] examples of each class in the evaluated split."""
    arrays = run.arrays
    support = arrays.get("support")
    if support is None:
        support = arrays["confusion"].sum(-1)
    return np.asarray(support)[0].astype(int)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the first axis, without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


def _percent(value: np.ndarray | float) -> str:
    return "-" if np.isnan(value) else f"{100 * float(value):.1f}"


def _short(name: str) -> str:
    return name if len(name) <= _WIDEST else f"{name[: _WIDEST - 1]}…"
