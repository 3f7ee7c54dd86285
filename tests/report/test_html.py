import json
import re

from ltjax.report import write_report

PARTS = {
    "method": {"name": "supervised", "about": "labelled examples"},
    "loss": {"name": "la", "about": "logit <adjustment> (Menon 2021)"},
    "gradient": {"name": "plain", "about": "one gradient"},
    "model": {"name": "mlp", "about": "a perceptron"},
}
SAM = PARTS | {"gradient": {"name": "sam", "about": "SAM (Foret 2021)"}}


def page_of(paths):
    return paths["report.html"].read_text()


def test_a_glossary_says_in_what_the_methods_differ(workdir, tmp_path, toy):
    common = {"confusion": toy.one_seed, "class_counts": toy.counts}
    workdirs = [
        workdir("la", method="LA", components=PARTS, **common),
        workdir("sam", method="LA + SAM", components=SAM, **common),
        workdir("old", method="old", **common),  # of an engine that said nothing
    ]
    page = page_of(write_report(workdirs, tmp_path / "out"))
    terms = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert set(terms) == {"LA", "LA + SAM"}
    assert terms["LA + SAM"].split("<br>") == [
        "method <code>supervised</code>: labelled examples",
        "loss <code>la</code>: logit &lt;adjustment&gt; (Menon 2021)",
        "gradient <code>sam</code>: SAM (Foret 2021)",
    ]
    one = page_of(write_report(workdirs[:1], tmp_path / "one"))
    assert "<code>la</code>" in one and "a perceptron" not in one


def test_titles_and_contents(workdir, tmp_path, ce, la, toy):
    other = workdir("b", confusion=toy.one_seed, class_counts=toy.counts, data="toy2")
    two = page_of(write_report([ce, la, other], tmp_path / "two"))
    assert "<title>3 runs on toy, toy2</title>" in two
    targets = re.findall(r'<a href="#([^"]+)"', two)
    assert len(targets) == 3  # two data sets and how to reproduce
    assert all(f'id="{target}"' in two for target in targets)
    one = page_of(write_report([ce, la], tmp_path / "one"))
    assert "<title>2 runs on toy, exp profile, imbalance factor 20</title>" in one
    assert "<nav" not in one
    alone = page_of(write_report(ce, tmp_path / "alone"))
    assert "<title>CE on toy, exp profile, imbalance factor 20</title>" in alone


def test_data_cannot_end_the_script(workdir, tmp_path, toy):
    name = "</script><img src=x>"
    path = workdir("run", method=name, confusion=toy.one_seed, class_counts=toy.counts)
    page = page_of(write_report(path, tmp_path / "out"))
    (text,) = re.findall(
        r'<script type="application/json" id="page-data">(.*?)</script>', page, re.S
    )
    (styles,) = json.loads(text)["methods"].values()
    assert list(styles) == [name] and "<img src=x>" not in page
