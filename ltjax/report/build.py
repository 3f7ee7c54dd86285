"""From workdirs to a folder with tables, figures and one HTML page."""

import os
import pathlib
from collections.abc import Iterable

from ltjax.report import html, tables
from ltjax.report.cells import csv_grid, slug
from ltjax.report.charts import all_charts
from ltjax.report.confusions import confused_pairs
from ltjax.report.figures import all_pictures
from ltjax.report.page_tables import differences_csv
from ltjax.report.reading import TRAIN, ReportError, read_facts, read_run
from ltjax.report.runs import LeftOut, Run, group_runs, is_reference
from ltjax.report.series import confusion_of
from ltjax.report.style import method_styles

SWEEP = "sweep.json"  # of a sweep's folder: its runs


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


def _pairs_csv(runs: list[Run]) -> str | None:
    """The pairs of classes that each run confuses most; None if none classifies."""
    rows = []
    for run in runs:
        confusion = confusion_of(run)
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


def _section_files(runs: list[Run]) -> list[tuple[str, str]]:
    """Name and text of the CSV files about comparable runs."""
    classes = tables.class_table(runs)
    found = {
        "classes.csv": csv_grid([classes[0], *classes[1]]) if classes else None,
        "confused.csv": _pairs_csv(runs),
        "differences.csv": differences_csv(runs),
    }
    return [(name, text) for name, text in found.items() if text]


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
        where they make sense, "classes.csv", "confused.csv", "differences.csv" and the
        figures, PNG.

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
    shared = {
        "table.csv": tables.csv_table(ordered),
        "results.csv": tables.results_csv(ordered, relative_to=out_dir),
    }
    contents: dict[str, str | bytes] = {"table.md": _markdown(groups, left_out)}
    sections = []
    for title, members in groups.items():
        grey = members[0].name if is_reference(members[0], reference) else None
        styles = method_styles([run.name for run in members], grey)
        pictures = all_pictures(members, styles, grey)
        prefix = f"{slug(title)}_" if len(groups) > 1 else ""
        contents |= {f"{prefix}{stem}.png": p.png for stem, p in pictures.items()}
        files = {f"{prefix}{name}": text for name, text in _section_files(members)}
        contents |= files
        charts = all_charts(members)
        files = shared | files
        sections.append(html.Section(title, members, styles, pictures, charts, files))
    contents |= shared
    contents["report.html"] = html.render(sections, left_out=left_out)

    paths = {}
    for name, content in contents.items():
        paths[name] = out_dir / name
        if isinstance(content, str):
            paths[name].write_text(content, encoding="utf-8")
        else:
            paths[name].write_bytes(content)
    return paths
