import re

import numpy as np
import pytest

from ltjax.report import read_run
from ltjax.report.costs import cost_of
from ltjax.report.markup import Entry, Head, Line, attributes, json_script, table
from ltjax.report.page_tables import (
    classes_table,
    costs_table,
    differences_csv,
    differences_table,
    results_table,
)


def test_a_table_escapes_what_it_shows():
    text = table(
        [Head("<a>"), Head("n", descending=True)],
        [Line([Entry('"x"'), Entry("–", value="")], method="a&b")],
        label="x",
    )
    assert '<th scope="col">&lt;a&gt;</th>' in text
    assert '<tr data-method="a&amp;b"><th scope="row">&quot;x&quot;</th>' in text
    assert '<td data-value="">–</td>' in text and 'data-first="descending"' in text
    assert attributes({"a": 0, "b": None}) == ' a="0"'
    assert json_script("i", "</script>").count("</script>") == 1


def test_values_by_seed_are_under_the_pointer(ce):
    text = results_table([read_run(ce)])
    told = 'title="seed 0: 60.00, seed 1: 56.67" data-value="58.333333">58.33 ± 2.36'
    assert told in text


@pytest.fixture
def pair(workdir, toy):
    """Two runs of two seeds; the second has recall .9 of class 0 and more elsewhere."""
    better = [[[9, 1, 0], [2, 7, 1], [4, 0, 6]], [[9, 1, 0], [3, 7, 0], [3, 3, 4]]]
    common = {"class_counts": toy.counts}
    paths = [
        workdir("ce", confusion=toy.two_seeds, **common),
        workdir("la", method="LA", confusion=better, **common),
    ]
    return [read_run(path) for path in paths]


def test_gaps_beyond_the_noise_are_marked(pair):
    text = differences_table(pair)
    # Few: gaps 60 - 30 and 40 - 10, both 30: the interval is a point.
    assert 'class="beyond worse" data-value="-30.0">-30.00' in text
    assert 'class="beyond" data-value="30.0">+30.00' in text
    # The winner is compared with first; one pair has two directions.
    assert text.index('data-baseline="LA"') < text.index('data-baseline="CE"')
    assert 'data-baselines="[&quot;LA&quot;, &quot;CE&quot;]"' in text
    rows = differences_csv(pair).splitlines()
    assert rows[0].startswith("method,baseline,seeds,balanced_accuracy_mean")
    assert rows[2].startswith("CE,LA,2,") and ",-30.0000,-30.0000,-30.0000," in rows[2]


def test_one_common_seed_has_no_interval(ce, la):
    runs = [read_run(ce), read_run(la)]
    assert differences_table(runs) == "" and differences_csv(runs) is None


def test_costs_are_those_of_the_logs(workdir, toy):
    passes = {"train/passes": 2.0, "time/steps_per_s": 4.0}
    records = [
        toy.record(50, [1.0, 1.0], **{"train/passes": 1.0}),
        toy.record(100, [1.0, 1.0], **passes),
    ]
    path = workdir(
        "run", confusion=toy.two_seeds, class_counts=toy.counts, records=records
    )
    run = read_run(path)
    assert cost_of(run) == (100, 1.5, 25.0, 250.0)
    text = re.sub("<[^>]+>", "|", costs_table([run]))
    assert "|1.50|" in text and "|25 s|" in text and "|1,234|" in text
    bare = workdir("bare", confusion=toy.two_seeds, class_counts=toy.counts)
    assert cost_of(read_run(bare)) == (100, None, None, None)
    assert "–" in costs_table([read_run(bare)])


def test_columns_of_classes_belong_to_methods(pair):
    text = classes_table(pair, "s")
    assert 'id="s-classes"' in text and 'data-method="LA"' in text
    assert 'data-value="95.0">95.0 ± 7.1' in text


def test_thousands_of_classes_are_left_to_the_file(workdir):
    classes = 2001
    ones = np.ones((1, classes), int)
    path = workdir("run", confusion=[[[1]]], class_counts=[1])
    arrays = {"correct": ones, "support": ones, "predicted": ones}
    np.savez(path / "evaluation" / "test_100.npz", **arrays)
    info = (path / "run.json").read_text()
    (path / "run.json").write_text(
        info.replace('"class_counts": [1]', f'"class_counts": {ones[0].tolist()}')
    )
    text = classes_table([read_run(path)], "s")
    assert "(2001)" in text and "see classes.csv" in text and "<table" not in text
