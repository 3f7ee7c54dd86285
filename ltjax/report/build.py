"""From workdirs to a folder with tables, figures and one HTML page."""

import io
import os
import pathlib
import re
from collections.abc import Iterable

import numpy as np

from ltjax.report import html, tables
from ltjax.report.collapse import PANELS, plot_collapse
from ltjax.report.diagrams import plot_confusion, plot_reliability
from ltjax.report.plots import plot_class_accuracy, plot_training_curves
from ltjax.report.runs import ReportError, Run, group_runs, is_reference, read_run
from ltjax.report.style import DPI, LineStyle, method_styles


def find_workdirs(path: str | os.PathLike) -> list[pathlib.Path]:
    """The workdirs that a path names: itself, or the folders in it.

    Args:
        path: a workdir, or a folder of workdirs.

    Returns:
        Workdirs, sorted by name.

    Raises:
        ReportError: if there is none.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise ReportError(f"{path} is no folder, expected the workdir of a run")
    if (path / "run.json").exists():
        return [path]
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


def _curves(runs: list[Run], styles: dict[str, LineStyle], reference: str | None):
    """The training-curve figure, or None if nothing was logged twice."""
    rarest = _rarest_group(runs[0])
    wanted = {"training loss (nats)": ("train/loss", 1.0)}
    split = runs[0].split
    wanted[f"balanced accuracy, {split} (%)"] = (
        f"eval/{split}/balanced_accuracy",
        100.0,
    )
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

    binned = {run.name: class_bins(run.arrays) for run in runs if _has_bins(run)}
    if not binned:
        return None
    panels = {"all classes": {n: pool_classes(b) for n, b in binned.items()}}
    rarest = _rarest_group(runs[0])
    if rarest:
        members = runs[0].groups[rarest]
        pooled = {n: pool_classes(b, members) for n, b in binned.items()}
        panels[f"{rarest}-shot classes"] = pooled
    return plot_reliability(panels, reference=reference, styles=styles)


def _has_bins(run: Run) -> bool:
    return {"bin_count", "bin_confidence", "bin_correct"} <= set(run.arrays)


def _pictures(runs: list[Run], *, reference: str) -> dict[str, html.Picture]:
    """File stem -> figure of a group of comparable runs."""
    grey = runs[0].name if is_reference(runs[0], reference) else None
    styles = method_styles([run.name for run in runs], grey)
    names = runs[0].info.get("class_names")
    counts = runs[0].class_counts
    spread = (
        "; bands are one standard deviation over seeds"
        if any(len(run.members) > 1 for run in runs)
        else ""
    )
    figures = {
        "class_accuracy": (
            plot_class_accuracy(
                {run.name: run.recall for run in runs},
                counts,
                reference=grey,
                groups=runs[0].groups,
                class_names=names,
                styles=styles,
            ),
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
        confusion = run.arrays.get("confusion")
        if confusion is None or not np.any(confusion):
            continue
        figure = plot_confusion(
            confusion, class_counts=counts, class_names=names, title=run.name
        )
        caption = f"{run.name}: where the examples of each class go, mean over seeds."
        stem = f"confusion_{slug(run.name)}"
        while stem in pictures:
            stem += "_"
        pictures[stem] = html.Picture(_png(figure), caption, folded=True)
    return pictures


def _markdown(groups: dict[str, list[Run]]) -> str:
    parts = []
    for title, runs in groups.items():
        parts.append(
            f"### {tables.markdown_text(title)}\n\n{tables.markdown_table(runs)}"
        )
        parts.append(f"{tables.group_rule(runs[0])}\n")
    return "\n".join([*parts, f"{tables.legend()} Best mean in bold.\n"])


def write_report(
    run_dirs: str | os.PathLike | Iterable[str | os.PathLike],
    out_dir: str | os.PathLike,
    *,
    reference: str = "CE",
    split: str = "test",
) -> dict[str, pathlib.Path]:
    """Tables, figures and an HTML page of finished runs.

    Runs on the same data and class counts are compared with each other; replicas that
    differ in a hyper-parameter become rows of their own. Prints nothing.

    Args:
        run_dirs: workdirs, or folders of workdirs; the order is that of the tables.
        out_dir: created if need be; files in it are replaced.
        reference: method that comes first and is drawn in grey.
        split: which evaluations to report.

    Returns:
        File name -> path: "table.md", "table.csv", "results.csv", "report.html" and
        the figures, PNG.

    Raises:
        ReportError: for a folder that is empty or holds no run, or a run without an
            evaluation; the message names it.
    """
    if isinstance(run_dirs, (str, os.PathLike)):
        run_dirs = [run_dirs]
    found = [workdir for path in run_dirs for workdir in find_workdirs(path)]
    workdirs = list({path.resolve(): path for path in found}.values())
    if not workdirs:
        raise ReportError("no run to report on: run_dirs is empty")
    runs = [
        part for path in workdirs for part in read_run(path, split=split).settings()
    ]
    groups = group_runs(runs, reference=reference)
    ordered = [run for members in groups.values() for run in members]

    out_dir = pathlib.Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    contents: dict[str, str | bytes] = {
        "table.md": _markdown(groups),
        "table.csv": tables.csv_table(ordered),
        "results.csv": tables.results_csv(ordered, relative_to=out_dir),
    }
    sections = []
    for title, members in groups.items():
        pictures = _pictures(members, reference=reference)
        prefix = f"{slug(title)}_" if len(groups) > 1 else ""
        contents |= {f"{prefix}{stem}.png": p.png for stem, p in pictures.items()}
        sections.append(html.Section(title, members, list(pictures.values())))
    contents["report.html"] = html.render(sections)

    paths = {}
    for name, content in contents.items():
        paths[name] = out_dir / name
        if isinstance(content, str):
            paths[name].write_text(content, encoding="utf-8")
        else:
            paths[name].write_bytes(content)
    return paths
