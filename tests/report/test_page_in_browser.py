"""The page in a real browser: what its script does, at the widths of desk and phone."""

import html
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from ltjax.report import write_report

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")

# In front of the page's own script: every complaint of the browser is kept.
WATCH = """<script>
const complaints = [];
addEventListener("error", (event) => complaints.push(String(event.message)));
addEventListener("securitypolicyviolation", ({ blockedURI }) =>
  complaints.push(blockedURI));
console.error = console.warn = (...words) => complaints.push(words.join(" "));
</script>"""

# Behind it: a driver that posts what it found to the page around.
DRIVE = """<script>
const rows = (table) => [...table.tBodies[0].rows].filter((row) => !row.hidden);
const firsts = (table) => rows(table).map((row) => row.cells[0].textContent);
const table = (label) => document.querySelector(`table[aria-label^="${label}"]`);
const head = (table, at) => table.tHead.rows[0].cells[at];
const click = (table, at) => {
  head(table, at).querySelector("button").click();
  return [head(table, at).getAttribute("aria-sort"), firsts(table)];
};
const shown = (figure) => figure.querySelectorAll("svg.plot path[stroke]").length;
const drive = () => {
  const found = {};
  %s
  parent.postMessage(JSON.stringify({ ...found, complaints }), "*");
};
addEventListener("load", () => setTimeout(drive, 50));
</script>"""

AROUND = """<!DOCTYPE html><meta charset="utf-8"><iframe src="page.html"
 style="width:%dpx;height:900px;border:0"></iframe><pre id="found"></pre><script>
addEventListener("message", ({ data }) => {
  document.getElementById("found").textContent = data;
});
</script>"""


@pytest.fixture(scope="module")
def chromium():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(
            "no Chromium on this machine: `make browser`, as root, installs Debian's"
        )
    return found


@pytest.fixture
def drive(chromium, tmp_path):
    """(report, statements of JavaScript, width) -> what they put into `found`."""

    def run(report, statements, width=1280):
        page = report["report.html"].read_text()
        page = page.replace("<head>", f"<head>{WATCH}", 1)
        page = page.replace("</body>", f"{DRIVE % statements}</body>")
        (tmp_path / "page.html").write_text(page)
        (tmp_path / "around.html").write_text(AROUND % width)
        done = subprocess.run(
            [
                chromium,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--virtual-time-budget=20000",
                f"--user-data-dir={tmp_path / 'profile'}",
                "--dump-dom",
                (tmp_path / "around.html").as_uri(),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        (text,) = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
        assert text, f"the driver did not report: {done.stderr[-2000:]}"
        found = json.loads(html.unescape(text))
        assert found.pop("complaints") == []
        return found

    return run


@pytest.fixture(scope="module")
def small(compared, tmp_path_factory):
    """Two methods, three classes."""
    return write_report(compared, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def large(tmp_path_factory, write_runs):
    """Twelve methods of two seeds, a thousand classes."""
    root, classes = tmp_path_factory.mktemp("large"), 1000
    counts = np.maximum(1280 * 0.995 ** np.arange(classes), 5).astype(int).tolist()
    for k in range(12):
        path = write_runs(
            root / f"run{k:02d}",
            method=f"method {k}",
            confusion=np.ones((2, 1, 1)),
            class_counts=counts,
            class_names=[f"kind {i}" for i in range(classes)],
        )
        right = np.stack([np.arange(classes) % (10 + k), np.full(classes, 9 + k)])
        support = np.full((2, classes), 25)
        arrays = {"correct": right, "support": support, "predicted": support}
        np.savez(path / "evaluation" / "test_100.npz", **arrays)
    return write_report(root, tmp_path_factory.mktemp("large_report"))


def test_a_click_on_a_head_sorts_and_another_turns(small, drive):
    found = drive(
        small,
        """
        const results = table("Results");
        found.before = firsts(results);
        found.all = click(results, 2);
        found.again = click(results, 2);
        found.ece = click(results, 8);
        found.other = head(results, 2).getAttribute("aria-sort");
        """,
    )
    assert found["before"] == ["CE", "LA <b>"]
    # 58.33 and 70; ECE 16.67 and 5, less is better and comes first.
    assert found["all"] == ["descending", ["LA <b>", "CE"]]
    assert found["again"] == ["ascending", ["CE", "LA <b>"]]
    assert found["ece"] == ["ascending", ["LA <b>", "CE"]]
    assert found["other"] == "none"


def test_a_hidden_method_leaves_tables_charts_and_columns(small, drive):
    found = drive(
        small,
        """
        document.querySelectorAll("details").forEach((node) => { node.open = true; });
        const figure = document.querySelector("figure[data-chart$=' class_accuracy']");
        found.lines = shown(figure);
        found.picture = figure.querySelector("img").hidden;
        document.querySelector("fieldset.methods input[value='CE']").click();
        found.rows = firsts(table("Results"));
        found.less = shown(figure);
        const classes = table("Accuracy of each class");
        found.columns = [...classes.tHead.rows[0].cells].map(
          (cell) => getComputedStyle(cell).display !== "none");
        found.matrices = [...document.querySelectorAll("figure.half")].map(
          (node) => node.hidden);
        """,
    )
    assert (found["lines"], found["less"], found["picture"]) == (2, 1, True)
    assert found["rows"] == ["LA <b>"]
    assert found["columns"][-2:] == [False, True]
    assert found["matrices"] == [True, False]


def test_values_are_read_by_pointer_and_by_keys(small, drive):
    found = drive(
        small,
        """
        const plot = document.querySelector("figure[data-chart] svg.plot");
        const tip = document.querySelector("div.tip");
        const key = (name) => {
          plot.dispatchEvent(new KeyboardEvent("keydown", { key: name }));
          return tip.textContent;
        };
        found.first = key("ArrowRight");
        found.next = key("ArrowRight");
        found.line = key("ArrowDown");
        plot.dispatchEvent(new PointerEvent("pointerleave"));
        found.gone = tip.hidden;
        const box = plot.getBoundingClientRect();
        plot.dispatchEvent(new PointerEvent("pointermove",
          { clientX: box.left + 5, clientY: box.top + 5 }));
        found.pointed = tip.textContent.split("\\n")[0] !== "" && !tip.hidden;
        """,
    )
    assert found["first"] == (
        "CE\n0: 200 training examples, many\naccuracy (%): 95 ± 7.071"
    )
    assert found["next"].startswith("CE\n1: 50 training examples, medium")
    assert found["line"].startswith("LA <b>\n1: 50")
    assert found["gone"] and found["pointed"]


def test_a_thousand_classes_are_filtered_by_name(large, drive):
    found = drive(
        large,
        """
        document.querySelectorAll("details").forEach((node) => { node.open = true; });
        const classes = table("Accuracy of each class");
        found.all = rows(classes).length;
        const input = classes.closest("details").querySelector("input[type=search]");
        input.value = "KIND 77";
        input.dispatchEvent(new Event("input"));
        found.filtered = firsts(classes);
        found.told = classes.closest("details").querySelector("output").textContent;
        const points = document.querySelectorAll(
          "figure[data-chart$=' class_accuracy'] circle:not(.at)");
        found.points = points.length;
        """,
    )
    assert found["all"] == 1000
    expected = [f"kind {k}" for k in range(1000) if "77" in str(k)]
    assert found["filtered"] == expected and found["told"] == "19 rows"
    assert found["points"] == 12 * 24  # bins of classes


def test_the_menu_chooses_whom_to_compare_with(large, drive):
    found = drive(
        large,
        """
        const gaps = table("Differences");
        const menu = gaps.closest("div").previousElementSibling.querySelector("select");
        found.best = [menu.value, rows(gaps).length];
        menu.value = "method 0";
        menu.dispatchEvent(new Event("change"));
        found.rows = firsts(gaps);
        """,
    )
    assert found["best"] == ["method 11", 11]
    assert found["rows"] == [f"method {k}" for k in range(1, 12)]


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(large, drive, width):
    found = drive(
        large,
        """
        document.querySelectorAll("details").forEach((node) => { node.open = true; });
        found.width = document.documentElement.clientWidth;
        found.needed = document.documentElement.scrollWidth;
        found.plots = [...document.querySelectorAll("svg.plot")].map(
          (plot) => plot.getBoundingClientRect().right <= found.width);
        """,
        width,
    )
    assert found["needed"] <= found["width"] <= width
    assert found["plots"] and all(found["plots"])
