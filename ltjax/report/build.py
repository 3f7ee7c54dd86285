"""From workdirs to a folder with tables, figures and one HTML page."""

import io
import os
import pathlib
import re
from collections.abc import Iterable

import numpy as np

from ltjax.report import html, tables
from ltjax.report.cells import csv_grid
from ltjax.report.collapse import PANELS, plot_collapse
from ltjax.report.confusions import confused_pairs, plot_many_confusions
from ltjax.report.diagrams import NAMED_CLASSES, plot_confusion, plot_reliability
from ltjax.report.plots import plot_class_accuracy, plot_training_curves
from ltjax.report.reading import TRAIN, ReportError, read_facts, read_run
from ltjax.report.runs import LeftOut, Run, group_runs, is_reference
from ltjax.report.style import DPI, LineStyle, method_styles

SWEEP = "sweep.json"  # of a sweep's folder: its runs
_BINS = {"bin_count", "bin_confidence", "bin_correct"}


def find_workdirs(path: str | os.PathLike) -> list[pathlib.Path]:
    """The workdirs that a path names: itself, or the folders in it.

    Args:
        path: a workdir, a folder of workdirs, or of a sweep (whose runs may have
            stages, of which the last is meant).

    Returns:
        Workdirs, sorted by name.

    Raises:
        ReportError: if there is none.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise ReportError(f"{path} is not a folder, expected the workdir of a run")
    if (path / "run.json").exists():
        return [path]
    if (path / SWEEP).exists():
        runs = read_facts(path / SWEEP)["runs"]
        found = [path / run["folder"] / run["last"] for run in runs]
        found = [place for place in found if (place / "run.json").exists()]
    else:
        found = sorted(p.parent for p in path.glob("*/run.json"))
    if not found:
        state = "holds no run.json" if any(path.iterdir()) else "is empty"
        raise ReportError(
            f"{path} {state}, expected the workdir of a run or a folder of workdirs"
        )
    return found


def slug(text: str) -> str:
    """`text` as part of a file name.

    Example:
        >>> slug("LA + SAM (rho=0.05)")
        'la_sam_rho_0.05'
    """
    return re.sub(r"[^a-z0-9.]+", "_", text.lower()).strip("_.") or "run"


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _rarest_group(run: Run) -> str | None:
    """few, else medium: the group to look at beside all classes; None if it is all."""
    for name in ("few", "medium"):
        members = run.groups[name]
        if members.any() and not members.all():
            return name
    return None


def _judged_label(runs: list[Run]) -> tuple[str, str, float] | None:
    """(key, axis label, factor) of the metric that most tells about these runs."""
    columns = {column.key: column for column in tables.columns_of(runs)}
    for run in runs:
        column = columns.get(run.judged or "")
        if column is None:
            continue
        name = {"balanced_accuracy": "balanced accuracy"}.get(column.key, column.title)
        split, unit = run.split, " (%)" if column.percent else ""
        factor = 100.0 if column.percent else 1.0
        return f"eval/{split}/{column.key}", f"{name}, {split}{unit}", factor
    return None


def _curves(runs: list[Run], styles: dict[str, LineStyle], reference: str | None):
    """The training-curve figure, or None if nothing was logged twice."""
    rarest, split = _rarest_group(runs[0]), runs[0].split
    wanted = {"training loss (nats)": ("train/loss", 1.0)}
    judged = _judged_label(runs)
    if judged:
        key, label, factor = judged
        wanted[label] = (key, factor)
    if rarest:
        label = f"{rarest}-shot accuracy, {split} (%)"
        wanted[label] = (f"eval/{split}/{rarest}", 100.0)
    panels = {}
    for label, (key, scale) in wanted.items():
        lines = {run.name: run.curve(key) for run in runs}
        lines = {n: (x, scale * y) for n, (x, y) in lines.items() if len(x) > 1}
        if lines:
            panels[label] = lines
    if not panels:
        return None
    return plot_training_curves(panels, reference=reference, styles=styles)


def _collapse(runs: list[Run], styles: dict[str, LineStyle], reference: str | None):
    """The figure of neural collapse, or None if no run logged it twice."""
    curves = {
        metric: {
            run.name: curve
            for run in runs
            if len((curve := run.curve(f"eval/train/{metric}"))[0]) > 1
        }
        for metric in PANELS
    }
    # A metric may be undefined, as the cosines of fewer than two few-shot classes are.
    curves = {
        metric: lines
        for metric, lines in curves.items()
        if any(np.isfinite(values).any() for _, values in lines.values())
    }
    if not curves:
        return None
    num_classes = len(runs[0].class_counts)
    return plot_collapse(
        curves, num_classes=num_classes, reference=reference, styles=styles
    )


def _reliability(runs: list[Run], styles: dict[str, LineStyle], reference: str | None):
    """The reliability figure, or None without calibration bins."""
    from ltjax.metrics import class_bins, pool_classes

    binned = {
        run.name: class_bins({k: run.arrays[k][~run.diverged] for k in _BINS})
        for run in runs
        if _BINS <= set(run.arrays) and not run.diverged.all()
    }
    if not binned:
        return None
    panels = {"all classes": {n: pool_classes(b) for n, b in binned.items()}}
    rarest = _rarest_group(runs[0])
    if rarest:
        members = runs[0].groups[rarest]
        pooled = {n: pool_classes(b, members) for n, b in binned.items()}
        panels[f"{rarest}-shot classes"] = pooled
    return plot_reliability(panels, reference=reference, styles=styles)


def _class_accuracy(
    runs: list[Run], styles: dict[str, LineStyle], reference: str | None
):
    """The figure of accuracy over classes, or None if no run classifies."""
    recalls = {run.name: run.recall for run in runs}
    recalls = {name: recall for name, recall in recalls.items() if recall is not None}
    if not recalls:
        return None
    return plot_class_accuracy(
        recalls,
        runs[0].class_counts,
        reference=reference,
        groups=runs[0].groups,
        class_names=runs[0].class_names,
        styles=styles,
    )


def _pictures(runs: list[Run], *, reference: str) -> dict[str, html.Picture]:
    """File stem -> figure of a group of comparable runs."""
    grey = runs[0].name if is_reference(runs[0], reference) else None
    styles = method_styles([run.name for run in runs], grey)
    spread = (
        "; bands are one standard deviation over seeds"
        if any(len(run.members) > 1 for run in runs)
        else ""
    )
    figures = {
        "class_accuracy": (
            _class_accuracy(runs, styles, grey),
            "Accuracy of each class against its number of training examples (bars,"
            f" logarithmic){spread}.",
        ),
        "training_curves": (
            _curves(runs, styles, grey),
            "Over training. Losses of different methods have different scales; compare"
            f" a loss with itself only{spread}.",
        ),
        "collapse": (
            _collapse(runs, styles, grey),
            "Neural collapse of the training set (evaluation mode, no augmentation;"
            " classes weighted equally). All but the last panel go to 0 under complete"
            " collapse; in the last the dotted line is a simplex, and 1 means that the"
            f" few-shot classes' vectors have merged{spread}.",
        ),
        "reliability": (
            _reliability(runs, styles, grey),
            "Accuracy against confidence; below the diagonal a network is"
            " over-confident. Confidence is that of the logits the prediction is made"
            " from. Bins are pooled over seeds; the expected calibration error is the"
            " mean of the seeds' own.",
        ),
    }
    pictures = {
        stem: html.Picture(_png(figure), caption)
        for stem, (figure, caption) in figures.items()
        if figure is not None
    }
    for run in runs:
        confusion = _confusion(run)
        if confusion is None:
            continue
        if len(run.class_counts) > NAMED_CLASSES:
            figure = plot_many_confusions(
                confusion,
                groups=run.groups,
                class_names=run.class_names,
                title=run.name,
            )
            caption = (
                f"{run.name}: where the examples of each class group go, and the pairs"
                " that are confused most (at least two examples), mean over seeds."
            )
        else:
            figure = plot_confusion(
                confusion,
                class_counts=run.class_counts,
                class_names=run.class_names,
                title=run.name,
            )
            caption = (
                f"{run.name}: where the examples of each class go, mean over seeds."
            )
        stem = f"confusion_{slug(run.name)}"
        while stem in pictures:
            stem += "_"
        pictures[stem] = html.Picture(_png(figure), caption, folded=True)
    return pictures


def _confusion(run: Run) -> np.ndarray | None:
    """[R, K, K] of the replicas that did not diverge; None if there is nothing."""
    if "confusion" not in run.arrays or run.diverged.all():
        return None
    confusion = run.arrays["confusion"][~run.diverged]
    return confusion if np.any(confusion) else None


def _pairs_csv(runs: list[Run]) -> str | None:
    """The pairs of classes that each run confuses most; None if none classifies."""
    rows = []
    for run in runs:
        confusion = _confusion(run)
        if confusion is None:
            continue
        names = run.class_names or tuple(map(str, range(len(run.class_counts))))
        rows += [
            [
                run.name,
                names[pair.true],
                names[pair.predicted],
                f"{100 * pair.share:.1f}",
                f"{pair.count:g}",
            ]
            for pair in confused_pairs(confusion)
        ]
    head = ["method", "true class", "predicted class", "share (%)", "examples"]
    return csv_grid([head, *rows]) if rows else None


def _markdown(groups: dict[str, list[Run]], left_out: list[LeftOut]) -> str:
    parts = []
    for title, runs in groups.items():
        columns = tables.columns_of(runs)
        parts.append(
            f"### {tables.markdown_text(title)}\n\n"
            f"{tables.markdown_table(runs, columns)}"
        )
        if tables.shows_groups(columns):
            parts.append(f"{tables.group_rule(runs[0])}\n")
    runs = [run for members in groups.values() for run in members]
    notes = map(tables.markdown_text, tables.notes(runs, left_out))
    parts += [f"{note}\n" for note in notes]
    legend = tables.legend(tables.columns_of(runs))
    return "\n".join([*parts, f"{legend} Best mean in bold.\n"])


def _read_all(
    run_dirs: list[str | os.PathLike], split: str
) -> tuple[list[Run], list[LeftOut]]:
    """The runs that can be read, and why others cannot.

    Raises:
        ReportError: for a path that is not a folder, which is a mistake of whoever
            asked; of the first run, if none can be read.
    """
    runs, left_out = [], []
    workdirs: dict[pathlib.Path, pathlib.Path] = {}  # each of them once
    for path in map(pathlib.Path, run_dirs):
        try:
            workdirs |= {found.resolve(): found for found in find_workdirs(path)}
        except ReportError as error:
            if not path.is_dir():
                raise
            left_out.append(LeftOut(path, str(error)))
    for path in workdirs.values():
        try:
            settings = read_run(path, split=split).settings()
            # Computed here, so that counts that make no sense cost this run only.
            runs += [run for run in settings if run.summary is not None]
        except ReportError as error:
            left_out.append(LeftOut(path, str(error)))
        except ValueError as error:
            left_out.append(LeftOut(path, f"{path}: {error}"))
    if not runs:
        raise ReportError(left_out[0].reason)
    return runs, left_out


def write_report(
    run_dirs: str | os.PathLike | Iterable[str | os.PathLike],
    out_dir: str | os.PathLike,
    *,
    reference: str = "CE",
    split: str = "test",
) -> dict[str, pathlib.Path]:
    """Tables, figures and an HTML page of finished runs.

    Runs on the same data and class counts are compared with each other; replicas that
    differ in a hyper-parameter become rows of their own. One run among several that
    cannot be read (it diverged before its first evaluation, or a file of it is damaged)
    is named with the reason, and the others are reported. Prints nothing.

    Args:
        run_dirs: workdirs, or folders of workdirs; the order is that of the tables.
        out_dir: created if need be; files in it are replaced.
        reference: method that comes first and is drawn in grey.
        split: which evaluations to report.

    Returns:
        File name -> path: "table.md", "table.csv", "results.csv", "report.html" and,
        where they make sense, "classes.csv", "confused.csv" and the figures, PNG.

    Raises:
        ReportError: for a path that is not a folder, or if none of the runs can be
            read; the message names the run and says why.
    """
    if isinstance(run_dirs, (str, os.PathLike)):
        run_dirs = [run_dirs]
    run_dirs = list(run_dirs)
    if not run_dirs:
        raise ReportError("no run to report on: run_dirs is empty")
    if split == TRAIN:
        raise ReportError(
            "split is 'train', whose evaluations are diagnostics of the training set;"
            " expected an evaluation split such as 'test'"
        )
    runs, left_out = _read_all(run_dirs, split)
    groups = group_runs(runs, reference=reference)
    ordered = [run for members in groups.values() for run in members]

    out_dir = pathlib.Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    contents: dict[str, str | bytes] = {
        "table.md": _markdown(groups, left_out),
        "table.csv": tables.csv_table(ordered),
        "results.csv": tables.results_csv(ordered, relative_to=out_dir),
    }
    sections = []
    for title, members in groups.items():
        pictures = _pictures(members, reference=reference)
        prefix = f"{slug(title)}_" if len(groups) > 1 else ""
        contents |= {f"{prefix}{stem}.png": p.png for stem, p in pictures.items()}
        classes = tables.class_table(members)
        if classes:
            contents[f"{prefix}classes.csv"] = csv_grid([classes[0], *classes[1]])
        pairs = _pairs_csv(members)
        if pairs:
            contents[f"{prefix}confused.csv"] = pairs
        sections.append(html.Section(title, members, list(pictures.values())))
    contents["report.html"] = html.render(sections, left_out=left_out)

    paths = {}
    for name, content in contents.items():
        paths[name] = out_dir / name
        if isinstance(content, str):
            paths[name].write_text(content, encoding="utf-8")
        else:
            paths[name].write_bytes(content)
    return paths
