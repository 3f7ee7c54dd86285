"""One self-contained HTML page: tables, charts, pictures and how to reproduce them.

The page carries its style, its script, its data and its CSV files, and its content
security policy forbids the network. Without scripts it shows the same tables, and
pictures in place of charts.
"""

import importlib.resources
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from ltjax.report.cells import slug
from ltjax.report.charts import chart_styles
from ltjax.report.figures import Picture, captions
from ltjax.report.markup import data_uri, file_links, json_script, note
from ltjax.report.page_tables import (
    classes_table,
    costs_table,
    differences_table,
    pairs_table,
    provenance_table,
    results_table,
    settings_tables,
)
from ltjax.report.runs import LeftOut, Run
from ltjax.report.style import LineStyle
from ltjax.report.tables import columns_of, group_rule, legend, notes, shows_groups


class Section(NamedTuple):
    """Comparable runs and what there is to see of them.

    Attributes:
        title: of their data.
        runs: in the order of tables.
        styles: look of each run.
        pictures: file stem -> figure; one that is named as a chart stands in for it.
        charts: name -> chart, see `ltjax.report.charts`.
        files: name -> CSV text.
    """

    title: str
    runs: Sequence[Run]
    styles: Mapping[str, LineStyle]
    pictures: Mapping[str, Picture]
    charts: Mapping[str, dict]
    files: Mapping[str, str]

    @property
    def identity(self) -> str:
        """Of the HTML element."""
        return f"s-{slug(self.title).replace('.', '-')}"


_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'"
)

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

_ALWAYS_TOLD = (
    "method",
    "loss",
    "gradient",
)  # of a glossary, even if all runs have the same

# Charts in the order of the page; the rest are what evaluators kept.
_LEADING = ("class_accuracy", "training_curves", "reported", "collapse", "reliability")


def _asset(name: str) -> str:
    return importlib.resources.files("ltjax.report").joinpath(name).read_text("utf-8")


def _methods(section: Section) -> str:
    """Boxes that show and hide runs; with their lines, the legend of all charts."""
    styles, boxes = chart_styles(section.styles), []
    for run in section.runs:
        name, look = escape(run.name), styles[run.name]
        swatch = (
            '<svg viewBox="0 0 26 12" aria-hidden="true"><line x1="1" x2="25" y1="6"'
            f' y2="6" stroke="{look["color"]}" stroke-width="3"'
            f' stroke-dasharray="{look["dash"]}"></line></svg>'
        )
        box = f'<input type="checkbox" value="{name}" checked>'
        boxes.append(f"<label>{box}{swatch}<span>{name}</span></label>")
    return (
        '<fieldset class="methods"><legend>Methods shown</legend>'
        f"{''.join(boxes)}</fieldset>"
    )


def _figure(picture: Picture) -> str:
    caption = escape(picture.caption)
    image = f'<img src="{data_uri(picture.png, "image/png")}" alt="{caption}">'
    kind = {"confusions": ' class="half"', "pixels": ' class="pixels"'}
    of = f' data-method="{escape(picture.method)}"' if picture.method else ""
    return (
        f"<figure{kind.get(picture.place, '')}{of}>{image}"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _chart(section: Section, name: str, caption: str) -> str:
    """A chart, or until the script has drawn it the picture of the same name."""
    picture = section.pictures.get(name)
    if name not in section.charts:
        return _figure(picture) if picture else ""
    stand_in = "<noscript><p>A script draws this chart.</p></noscript>"
    if picture:
        uri = data_uri(picture.png, "image/png")
        stand_in = f'<img src="{uri}" alt="{escape(caption)}">'
    key = escape(f"{section.identity} {name}")
    return (
        f'<figure data-chart="{key}">{stand_in}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _confusions(section: Section) -> str:
    figures = [p for p in section.pictures.values() if p.place == "confusions"]
    if not figures:
        return ""
    shown = "\n".join(map(_figure, figures))
    return (
        f"<details><summary>Confusion matrices ({len(figures)})</summary>"
        f"{pairs_table(section.runs)}{shown}</details>"
    )


# What evaluators keep -> caption of its chart.
_KEPT = {
    "classes": "By class, against its number of training examples (bars): {}.",
    "profiles": "By condition: {}.",
    "points": "Points of {}, first replica; colors are class groups.",
}


def _kept(section: Section) -> str:
    parts = []
    for name in section.charts:
        kind, _, title = name.partition(": ")
        if kind in _KEPT:
            parts.append(_chart(section, name, _KEPT[kind].format(title)))
    return "\n".join(parts)


def _section(section: Section) -> str:
    runs, told = section.runs, captions(list(section.runs))
    columns = columns_of(runs)
    rule = [group_rule(runs[0])] if shows_groups(columns) else []
    rule.append(f"{legend(columns)} The best mean of a column is highlighted.")
    logged = _chart(section, "logged", told["logged"])
    parts = [
        f'<section id="{section.identity}">',
        f"<h2>{escape(section.title)}</h2>",
        _methods(section),
        results_table(runs),
        file_links(section.files),
        *map(note, (*rule, *notes(runs))),
        differences_table(runs) if len(runs) > 1 else "",
        costs_table(runs),
        _chart(section, "cost", told["cost"]),
        "<h3>Figures</h3>" if section.charts or section.pictures else "",
        *(_chart(section, name, told[name]) for name in _LEADING),
        _kept(section),
        *(_figure(p) for p in section.pictures.values() if p.place == "pixels"),
        classes_table(runs, section.identity),
        _confusions(section),
        f"<details><summary>Other logged numbers</summary>{logged}</details>"
        if logged
        else "",
        "<h3>Configuration</h3>",
        settings_tables(runs),
        "<h3>Provenance</h3>",
        provenance_table(runs),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _glossary(sections: Sequence[Section]) -> str:
    """What each method is made of, with the papers; "" if no run says."""
    runs = [run for section in sections for run in section.runs if run.components]
    kinds = dict.fromkeys(kind for run in runs for kind in run.components)
    chosen = {kind: {_component(run, kind) for run in runs} for kind in kinds}
    entries = {
        run.method: "<br>".join(
            _component(run, kind)
            for kind in run.components
            if kind in _ALWAYS_TOLD or len(chosen[kind]) > 1
        )
        for run in runs
    }
    if not entries:
        return ""
    terms = "\n".join(
        f"<dt>{escape(name)}</dt><dd>{text}</dd>" for name, text in entries.items()
    )
    return (
        '<h2 id="glossary">What the methods are</h2>'
        f'<dl class="glossary">{terms}</dl>'
        + note("The components in which these runs differ.")
    )


def _component(run: Run, kind: str) -> str:
    part = run.components.get(kind)
    if part is None:
        return ""
    name, about = escape(part["name"]), escape(part["about"])
    return f"{escape(kind.replace('_', ' '))} <code>{name}</code>: {about}"


def _contents(sections: Sequence[Section], *, glossary: bool) -> str:
    entries = [(section.identity, section.title) for section in sections]
    entries += [("glossary", "What the methods are")] if glossary else []
    entries.append(("reproduce", "How to reproduce"))
    items = "".join(
        f'<li><a href="#{identity}">{escape(title)}</a></li>'
        for identity, title in entries
    )
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def title_of(sections: Sequence[Section]) -> str:
    """A title that says which runs the page is about.

    Args:
        sections: of the page, at least one.

    Returns:
        Their data, and the method if there is one run only.
    """
    runs = [run for section in sections for run in section.runs]
    names = dict.fromkeys(run.data or "data" for run in runs)
    if len(runs) == 1:
        return f"{runs[0].name} on {sections[0].title}"
    if len(sections) == 1:
        return f"{len(runs)} runs on {sections[0].title}"
    return f"{len(runs)} runs on {', '.join(names)}"


def render(sections: Sequence[Section], *, left_out: Sequence[LeftOut] = ()) -> str:
    """The page.

    Args:
        sections: one per group of comparable runs.
        left_out: runs that could not be read.

    Returns:
        HTML text that needs no other file and no network.
    """
    count = sum(len(section.runs) for section in sections)
    runs = f"{count} run{'s' if count > 1 else ''}"
    data = f"{len(sections)} data set{'s' if len(sections) > 1 else ''}"
    title, glossary = escape(title_of(sections)), _glossary(sections)
    body = "\n".join(map(_section, sections))
    grouped = any(shows_groups(columns_of(section.runs)) for section in sections)
    intro = f"<p>{_GROUPS}</p>" if grouped else ""
    missing = "".join(note(text) for text in notes((), left_out))
    page_data = {
        "methods": {s.identity: chart_styles(s.styles) for s in sections},
        "charts": {
            f"{s.identity} {name}": chart
            for s in sections
            for name, chart in s.charts.items()
        },
    }
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{title}</title>
<style>{_asset("page.css")}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="note">{runs} on {data}, each as it was last evaluated.</p>
{missing}
{_contents(sections, glossary=bool(glossary)) if len(sections) > 1 else ""}
{intro}
{body}
{glossary}
<h2 id="reproduce">How to reproduce</h2>
<p>Every run keeps its full configuration. With the versions above and the same data
(equal "subset" fingerprints mean equal training examples), this trains it again:</p>
<pre><code>{escape(_REPRODUCE)}</code></pre>
<p class="note">The same kind and number of devices give the same numbers up to
rounding; otherwise expect differences of the size of the spread over seeds.</p>
</main>
{json_script("page-data", page_data)}
<script>{_asset("page.js")}</script>
</body>
</html>
"""
