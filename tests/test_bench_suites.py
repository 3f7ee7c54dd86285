"""The entry point of the benchmarks, its tables, and the suites of a run's edges."""

import importlib
import pathlib
import sys

import jax
import numpy as np
import pytest

from ltjax.report.tables import append_csv, read_rows

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "experiments" / "bench"
# Parts of suites, sides of the GPU benchmark, and what has an entry of its own.
PARTS = {
    "__main__",
    "auc_pairs",
    "auc_torch",
    "augment_torch",
    "common",
    "contrastive_faiss",
    "contrastive_torch",
    "engine_torch",
    "gpu",
    "gpu_jax",
    "gpu_timing",
    "gpu_torch",
    "peer_process",
    "suites",
    "torch_networks",
    # What is tried in several interpreters, by a command of its own.
    *("convolutions", "convolution_network", "convolution_peer", "convolution_ways"),
    "convolution_tables",
}


@pytest.fixture
def bench(monkeypatch):
    """Imports experiments.bench.<name>, on one device."""
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(jax, "devices", lambda *args, real=jax.devices: real(*args)[:1])
    return lambda name: importlib.import_module(f"experiments.bench.{name}")


def test_every_script_is_a_suite(bench):
    scripts = {path.stem for path in FOLDER.glob("*.py")} - PARTS
    assert scripts == set(bench("suites").SUITES)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("results/*.csv")), ids=str)
def test_kept_results_have_the_columns_of_their_suite(bench, path):
    suites = bench("suites").SUITES
    rows = read_rows(path)
    assert rows and rows[0]["device"] and rows[0]["date"]
    if path.stem in suites:
        suite = suites[path.stem]
        columns = {*suite.names, *suite.more, "ratio", "commit", "cores"}
        assert columns <= rows[0].keys()


def test_command_lines_of_a_suite(bench):
    made = bench("__main__").commands("smote", small=True, torch_python="PYTHON")
    base = [sys.executable, "-m", "experiments.bench.smote"]
    tails = [[], ["small"], ["large"]]
    assert made == [[*base, *tail, "--quick"] for tail in tails]
    (made,) = bench("__main__").commands("engine", small=False, torch_python="PYTHON")
    assert made[2:] == ["experiments.bench.engine", "--torch-python", "PYTHON"]


def test_the_entry_point_goes_on_after_a_failure(bench, monkeypatch, capsys):
    main = bench("__main__")
    seen = []

    def run(command):
        seen.append(command[2].rpartition(".")[2])
        return seen[-1] == "feeds"

    monkeypatch.setattr(main, "run", run)
    assert main.main(["feeds", "startup"]) == 1
    assert seen == ["feeds", "startup"]
    assert "experiments.bench.feeds" in capsys.readouterr().err
    seen.clear()
    assert main.main([]) == 1 and set(seen) == set(bench("suites").SUITES)
    assert main.main(["--list"]) == 0
    assert "NT-Xent" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main.main(["no_such_suite"])


def row(bench, subject, own, base, **cells):
    common = bench("common")
    ratio = common.ratio_of([own, own, own], [base, base, base])
    return common.row(subject, "peer", ratio, **cells)


def test_tables_show_the_newest_row_and_where_we_are_slower(bench, tmp_path):
    suites = bench("suites")
    readme = tmp_path / "README.md"
    blocks = ("suites", "slower", "results")
    readme.write_text(
        "".join(f"<!-- {b}: begin -->\n<!-- {b}: end -->" for b in blocks)
    )
    cells = {"batch": "8", "images_per_s": "100"}
    rows = [
        row(bench, "old|new", 9.0, 1.0, **cells),
        row(bench, "old|new", 0.5, 1.0, **cells),
        row(bench, "behind", 3.0, 2.0, **cells),
    ]
    append_csv(tmp_path / "feeds.csv", rows)
    apart = row(bench, "import", 5.0, 1.0)  # its baseline does another thing
    append_csv(tmp_path / "startup.csv", [apart])
    suites.write(tmp_path, readme)
    text = readme.read_text()
    assert (
        "| old\\|new | peer | 0.500 | 0.500 | 0.500 | 500.000 | 1000.000 | 100 |"
        in text
    )
    assert "9.000" not in text
    slower = text.split("<!-- slower: begin -->\n")[1].split("<!--")[0]
    assert slower == "- feeds: behind, peer: 1.50 times as long\n"
    assert f"{rows[0]['device']}, {rows[0]['cores']} cores" in text
    assert "### darp\n\nNot measured yet." in text


def test_a_rate_below_the_peers_is_slower(bench):
    found = {"model": "m", "replicas": "1", "peer": "loop", "ratio": "0.5"}
    (line,) = bench("suites").slower("engine", [found])
    assert "2.00 times" in line
    assert not bench("suites").slower("engine", [found | {"ratio": "2.0"}])


@pytest.mark.slow
@pytest.mark.parametrize("make", ["fixmatch_run", "image_run"])
def test_both_fixmatch_loops_end_at_the_same_parameters(bench, make):
    fixmatch = bench("fixmatch")
    run = getattr(fixmatch, make)(small=True)

    def rows(step):
        (found,) = run.feed.iterate(run.plan, step, step + 1)
        return jax.tree.map(lambda x: x[0], found)

    ours, hand = fixmatch.Ours(run, 3), fixmatch.HandWritten(run, 3, rows)
    ours()
    assert np.isfinite(hand())
    for own, other in zip(
        jax.tree.leaves(ours.params), jax.tree.leaves(hand.params), strict=True
    ):
        np.testing.assert_allclose(own[0], other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "subjects"),
    [
        ("checkpoint", ["stall", "whole"]),
        ("evaluation", ["evaluation pass"]),
        ("feeds", ["resident feed", "streaming feed"]),
    ],
)
def test_small_suites_measure(bench, name, subjects):
    rows = list(bench(name).measure(True, 1))
    assert [row["subject"] for row in rows] == subjects
    suite = bench("suites").SUITES[name]
    for found in rows:
        assert float(found["ratio"]) > 0
        assert {*suite.names, *suite.more} <= found.keys()
    if name == "checkpoint":
        stall, whole = (float(row["milliseconds"]) for row in rows)
        assert stall <= whole


def test_processes_are_measured(bench):
    startup = bench("startup")
    (found,) = startup.measure(True, 1, names=("python",))
    assert 0 < float(found["ratio"]) < 1  # nothing is imported


@pytest.mark.slow
def test_compiling_is_measured_in_processes(bench):
    cold, cached = bench("compiling").measure(True, 1)
    assert (cold["subject"], cached["subject"]) == ("compile cold", "compile cached")
    assert float(cold["milliseconds"]) > 0 and float(cached["ratio"]) > 0


def test_a_peer_that_does_not_start_is_left_out(bench, interpreter, capsys):
    fake = interpreter("print()")
    found = bench("contrastive").measure_peer(32, (8,), 1, fake)
    assert found == []
    assert (
        "Lightly is left out: the process of contrastive_torch said"
        in capsys.readouterr().err
    )


def test_nt_xent_is_measured_against_a_peer(bench, interpreter):
    """A process that answers with the dense loss in float64 takes Lightly's place."""
    fake = interpreter(
        "import sys\nimport numpy as np\n"
        "print('ready 0.0', flush=True)\n"
        "for line in sys.stdin:\n"
        "    if line.strip():\n"
        "        z = np.concatenate(np.load(line.strip())).astype(float)\n"
        "        z /= np.linalg.norm(z, axis=1, keepdims=True)\n"
        "        s = z @ z.T / 0.2\n"
        "        np.fill_diagonal(s, -np.inf)\n"
        "        own = np.diag(np.roll(s, len(z) // 2, axis=1))\n"
        "        loss = np.mean(np.log(np.exp(s).sum(axis=1)) - own)\n"
        "    print('done', loss, flush=True)\n"
    )
    dense, blocked = bench("contrastive").measure_peer(32, (8,), 1, fake)
    assert [dense["subject"], blocked["subject"]] == ["nt_xent", "nt_xent[8]"]
    assert dense["baseline"] == "Lightly, torch 0.0"
    assert float(dense["gap"]) < 1e-5 and float(blocked["gap"]) < 1e-5


def test_neighbors_are_measured_against_a_peer(bench, interpreter):
    """A process that votes in float64, one query after the other, is faiss's place."""
    fake = interpreter(
        "import sys\nimport numpy as np\n"
        "print('ready 0.0', flush=True)\n"
        "for line in sys.stdin:\n"
        "    if line.strip():\n"
        "        found = np.load(line.strip())\n"
        "        bank, votes = found['bank'].astype(float), []\n"
        "        for query in found['queries']:\n"
        "            near = np.argsort(((bank - query) ** 2).sum(1))[:10]\n"
        "            votes.append(np.bincount(found['labels'][near]).argmax())\n"
        "        np.save(line.strip() + '.votes.npy', votes)\n"
        "    print('done', 0, flush=True)\n"
    )
    rows = bench("contrastive").measure_knn(8, 120, 1, fake)
    assert [row["baseline"] for row in rows] == ["scikit-learn", "faiss 0.0"]
    assert all(float(row["gap"]) == 0 and float(row["ratio"]) > 0 for row in rows)
