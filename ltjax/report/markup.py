"""The smallest parts of the page: tables that a script can sort, notes, files, data."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple


class Head(NamedTuple):
    """The head of a column.

    Attributes:
        text: plain.
        method: the run that the column belongs to, if it is one's own.
        descending: whether a first click puts the largest on top.
        title: shown under the pointer.
        kind: class names.
    """

    text: str
    method: str = ""
    descending: bool = False
    title: str = ""
    kind: str = ""


class Entry(NamedTuple):
    """A cell.

    Attributes:
        text: plain, or HTML if `markup`.
        kind: class names.
        value: what it is sorted by; None where the text says it, "" if unknown.
        title: shown under the pointer.
        markup: whether the text is HTML already.
    """

    text: str
    kind: str = ""
    value: float | str | None = None
    title: str = ""
    markup: bool = False


class Line(NamedTuple):
    """A row, led by its head.

    Attributes:
        cells: of the row.
        method: the run that it belongs to; it is hidden with it.
        baseline: the run that it is compared with, if any.
    """

    cells: Sequence[Entry]
    method: str = ""
    baseline: str = ""


def attributes(values: Mapping[str, object]) -> str:
    """HTML attributes with a space in front, without those that are empty or None.

    Example:
        >>> attributes({"class": "best", "title": "", "data-value": 0.5})
        ' class="best" data-value="0.5"'
    """
    known = {name: value for name, value in values.items() if value not in ("", None)}
    return "".join(f' {name}="{escape(str(value))}"' for name, value in known.items())


def _head(head: Head) -> str:
    told = attributes(
        {
            "scope": "col",
            "data-method": head.method,
            "data-first": "descending" if head.descending else "",
            "title": head.title,
            "class": head.kind,
        }
    )
    return f"<th{told}>{escape(head.text)}</th>"


def _cell(entry: Entry, *, leads: bool) -> str:
    value = "" if entry.value is None else f' data-value="{escape(str(entry.value))}"'
    told = attributes({"class": entry.kind, "title": entry.title}) + value
    text = entry.text if entry.markup else escape(entry.text)
    return f'<th scope="row"{told}>{text}</th>' if leads else f"<td{told}>{text}</td>"


def table(
    heads: Sequence[Head],
    lines: Iterable[Line],
    *,
    label: str,
    kind: str = "",
    tall: bool = False,
    **more: str,
) -> str:
    """A table whose columns can be sorted.

    Args:
        heads: of the columns.
        lines: rows, the first cell of each being its head.
        label: what the table holds, for readers who do not see the page.
        kind: class of the table.
        tall: whether it scrolls in a box of its own.
        **more: attributes of the table, "_" for "-": "id", "data_filter" (what is
            filtered), "data_baselines" (JSON list of runs), "data_columns".

    Returns:
        HTML.
    """
    rows = []
    for line in lines:
        cells = [_cell(entry, leads=not i) for i, entry in enumerate(line.cells)]
        of = {"data-method": line.method, "data-baseline": line.baseline}
        rows.append(f"<tr{attributes(of)}>{''.join(cells)}</tr>")
    own = {name.replace("_", "-"): value for name, value in more.items()}
    told = attributes({"class": kind, "aria-label": label, **own})
    top = "".join(map(_head, heads))
    body = "\n".join(rows)
    return (
        f'<div class="wide{" tall" if tall else ""}"><table{told} data-sortable><thead>'
        f"<tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def note(text: str) -> str:
    """A paragraph in small print."""
    return f'<p class="note">{escape(text)}</p>'


def code(text: str) -> Entry:
    """A cell of code."""
    return Entry(f"<code>{escape(text)}</code>", markup=True)


def data_uri(content: bytes, kind: str) -> str:
    """Content as part of the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def file_links(files: Mapping[str, str]) -> str:
    """Links to CSV files that the page carries itself; "" for none."""
    links = [
        f'<a download="{escape(name)}" href="{data_uri(text.encode(), "text/csv")}">'
        f"{escape(name)}</a>"
        for name, text in files.items()
    ]
    return f'<p class="files">Files: {" ".join(links)}</p>' if links else ""


def json_script(identity: str, value: object) -> str:
    r"""Data for the page's script. No text in it can end the element.

    Example:
        >>> json_script("d", {"name": "</script>"})
        '<script type="application/json" id="d">{"name":"\\u003c/script>"}</script>'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="{identity}">{text}</script>'
