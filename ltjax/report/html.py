"""One self-contained HTML page: tables, figures and how to reproduce them."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from ltjax.report.runs import LeftOut, Run
from ltjax.report.tables import (
    best_rows,
    class_table,
    columns_of,
    group_rule,
    hardware_text,
    legend,
    notes,
    shows_groups,
    table_rows,
    table_texts,
)

# A table of more classes than that is for programs: classes.csv.
_LISTED_CLASSES = 1000


class Picture(NamedTuple):
    """A figure of the page: PNG bytes, its caption, whether it is folded away."""

    png: bytes
    caption: str
    folded: bool = False


class Section(NamedTuple):
    """Comparable runs and their figures."""

    title: str
    runs: Sequence[Run]
    pictures: Sequence[Picture]


_CSS = """
:root { color-scheme: light dark; --ink: #1f2933; --soft: #616e7c; --line: #d9dfe6;
  --paper: #ffffff; --panel: #f5f7fa; --best: #d8f0e3; --best-ink: #0b5137; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa5b1;
  --line: #3a4450; --paper: #14181d; --panel: #1d232a; --best: #174b36;
  --best-ink: #d3f5e4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 2.5rem 1.25rem 4rem;
  color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .8rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.8rem 0 .5rem; }
p.note { color: var(--soft); font-size: .875rem; margin: .6rem 0; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
table.results th, table.results td { text-align: right; white-space: nowrap;
  padding: .4rem .5rem; }
table.results th:first-child, table.results td:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 600; }
td.best { background: var(--best); color: var(--best-ink); font-weight: 600; }
figure { margin: 1.6rem 0; }
figure img { display: block; width: 100%; height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: 8px; padding: .6rem; }
figure.half img { max-width: 620px; }
figcaption { color: var(--soft); font-size: .875rem; margin-top: .45rem; }
details { margin: .8rem 0; } summary { cursor: pointer; font-weight: 600; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: .8rem 1rem; overflow-x: auto; font-size: .8125rem; line-height: 1.45; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
"""

_GROUPS = """A long-tailed problem is judged class by class. "All" is the mean accuracy
over classes, however many examples each has. Many, medium and few are the same mean
inside groups of classes, formed by the number of <em>training</em> examples, so that a
gain on rare classes and its price on frequent ones are both visible."""

_REPRODUCE = """import pathlib
from ltjax.train.build import build
from ltjax.train.check import check
from ltjax.train.loop import run
from ltjax.train.workdir import read_json

config = check(read_json(pathlib.Path("WORKDIR/config.json")))
run(build(config), "NEW_WORKDIR")"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are already HTML."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    name = f' class="{kind}"' if kind else ""
    return (
        f'<div class="wide"><table{name}><thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _td(text: object, kind: str = "") -> str:
    return f'<td class="{kind}">{text}</td>' if kind else f"<td>{text}</td>"


def _results(runs: Sequence[Run]) -> str:
    columns = columns_of(runs)
    rows = table_rows(runs, columns)
    best = best_rows(rows, columns)
    lines = []
    for i, (row, texts) in enumerate(
        zip(rows, table_texts(rows, columns), strict=True)
    ):
        line = [_td(escape(row.name)), _td(row.seeds)]
        for j, text in enumerate(texts):
            line.append(_td(text, "best" if i in best[j] else ""))
        lines.append(line)
    head = ["Method", "Seeds", *(escape(column.title) for column in columns)]
    return _table(head, lines, "results")


def _classes(runs: Sequence[Run]) -> str:
    """The recall of every class, folded away; "" if no run classifies."""
    found = class_table(runs)
    if found is None or len(found[1]) > _LISTED_CLASSES:
        return ""
    head, rows = found
    lines = [[_td(escape(text)) for text in row] for row in rows]
    table = _table([escape(text) for text in head], lines, "results")
    return (
        "<details><summary>Accuracy of each class in percent"
        f" ({len(rows)})</summary>{table}</details>"
    )


def flatten(config: Mapping, prefix: str = "") -> dict[str, object]:
    """A nested config as dotted names -> values.

    Example:
        >>> flatten({"loss": {"name": "la", "tau": 1.0}})
        {'loss.name': 'la', 'loss.tau': 1.0}
    """
    flat: dict[str, object] = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def _settings(runs: Sequence[Run]) -> str:
    """What differs between the configs, then what they share."""
    flats = [flatten(run.config) for run in runs]
    names = list(dict.fromkeys(name for flat in flats for name in flat))
    texts = {n: [json.dumps(f[n]) if n in f else "–" for f in flats] for n in names}
    code = lambda text: f"<code>{escape(text)}</code>"  # noqa: E731
    varied = [name for name in names if len(set(texts[name])) > 1]
    shared = [name for name in names if len(set(texts[name])) == 1]
    parts = []
    if varied:
        rows = [[_td(code(n)), *(_td(code(t)) for t in texts[n])] for n in varied]
        head = ["Setting", *(escape(run.name) for run in runs)]
        parts.append("<h3>What differs</h3>" + _table(head, rows))
    if shared:
        rows = [[_td(code(n)), _td(code(texts[n][0]))] for n in shared]
        table = _table(["Setting", "Value"], rows)
        count = f"{len(shared)} settings"
        whose = "that all runs share" if len(runs) > 1 else "of the run"
        parts.append(f"<details><summary>{count} {whose}</summary>{table}</details>")
    return "\n".join(parts)


def duration_text(hours: float | None) -> str:
    """A duration in the unit that fits it, empty if unknown.

    Example:
        >>> [duration_text(hours) for hours in (0.0001, 0.005, 0.25, 3.0)]
        ['0.4 s', '18 s', '15 min', '3.0 h']
    """
    if hours is None:
        return ""
    seconds = 3600 * hours
    if seconds < 90:
        return f"{seconds:.{0 if seconds >= 10 else 1}f} s"
    return f"{seconds / 60:.0f} min" if hours < 1.5 else f"{hours:.1f} h"


def _provenance(runs: Sequence[Run]) -> str:
    """Seeds, code, versions, hardware and training set of each run."""
    rows = []
    for run in runs:
        versions = run.info.get("versions") or {}
        known = ", ".join(f"{name} {number}" for name, number in versions.items())
        facts = (
            run.name,
            ", ".join(map(str, run.seeds)),
            run.step,
            run.info.get("code", ""),
            known,
            hardware_text(run),
            duration_text(run.hours).replace(" ", "\u00a0"),
            run.info.get("subset", ""),
        )
        rows.append([_td(escape(str(fact))) for fact in facts])
    head = (
        "Method",
        "Seeds",
        "Steps",
        "Code",
        "Versions",
        "Hardware",
        "Time",
        "Subset",
    )
    return _table(head, rows)


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    caption = escape(picture.caption)
    image = f'<img src="data:image/png;base64,{data}" alt="{caption}">'
    kind = ' class="half"' if picture.folded else ""
    return f"<figure{kind}>{image}<figcaption>{caption}</figcaption></figure>"


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _section(section: Section) -> str:
    open_ones = [p for p in section.pictures if not p.folded]
    folded = [p for p in section.pictures if p.folded]
    columns = columns_of(section.runs)
    told = [group_rule(section.runs[0])] if shows_groups(columns) else []
    told.append(f"{legend(columns)} The best mean of a column is highlighted.")
    parts = [
        f"<h2>{escape(section.title)}</h2>",
        _results(section.runs),
        *(_note(text) for text in (*told, *notes(section.runs))),
        *(_figure(picture) for picture in open_ones),
        _classes(section.runs),
    ]
    if folded:
        figures = "\n".join(_figure(picture) for picture in folded)
        parts.append(
            f"<details><summary>Confusion matrices ({len(folded)})</summary>"
            f"{figures}</details>"
        )
    parts += [
        "<h3>Configuration</h3>",
        _settings(section.runs),
        "<h3>Provenance</h3>",
        _provenance(section.runs),
    ]
    return "\n".join(parts)


def render(
    sections: Sequence[Section],
    *,
    left_out: Sequence[LeftOut] = (),
    title: str = "Long-tailed runs",
) -> str:
    """The page.

    Args:
        sections: one per group of comparable runs.
        left_out: runs that could not be read.
        title: of the page.

    Returns:
        HTML text that needs no other file and no network.
    """
    count = sum(len(section.runs) for section in sections)
    runs = f"{count} run{'s' if count > 1 else ''}"
    data = f"{len(sections)} data set{'s' if len(sections) > 1 else ''}"
    body = "\n".join(_section(section) for section in sections)
    grouped = any(shows_groups(columns_of(section.runs)) for section in sections)
    intro = f"<p>{_GROUPS}</p>" if grouped else ""
    missing = "".join(_note(text) for text in notes((), left_out))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_CSS}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="note">{runs} on {data}, each as it was last evaluated.</p>
{missing}
{intro}
{body}
<h2>How to reproduce</h2>
<p>Every run keeps its full configuration. With the versions above and the same data
(equal "subset" fingerprints mean equal training examples), this trains it again:</p>
<pre><code>{escape(_REPRODUCE)}</code></pre>
<p class="note">The same kind and number of devices give the same numbers up to
rounding; otherwise expect differences of the size of the spread over seeds.</p>
</body>
</html>
"""
