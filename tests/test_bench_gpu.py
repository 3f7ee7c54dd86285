"""The GPU benchmark, as a toy on the CPU: rows come, and failures leave rows too."""

import importlib
import math
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import pytest

from ltjax.report.tables import read_rows

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def bench(monkeypatch):
    """Imports experiments.bench.<name>."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"experiments.bench.{name}")


def run(bench, names, out):
    """section -> rows of those that JAX has measured; of PyTorch, if it is there."""
    gpu = bench("gpu")
    chosen = [section for section in gpu.SECTIONS if section.name in names]
    gpu.measure(chosen, out, seconds=0, toy=True, commit="abc")
    rows = read_rows(out / "gpu.csv")
    assert list(rows[0]) == list(gpu.FIELDS)
    for row in rows:
        assert row["commit"] == "abc" and not row["error"], row["error"]
        if row["skipped"]:
            assert row["skipped"] == "torch is not installed"
            continue
        low, middle, high = (
            float(row[f"milliseconds{end}"]) for end in ("_low", "", "_high")
        )
        assert 0 < low <= middle <= high < math.inf
        assert row["backend"] == "cpu" and int(row["blocks"]) >= 3
    of_jax = [r for r in rows if not r["framework"].startswith("torch")]
    return {name: [r for r in of_jax if r["section"] == name] for name in names}


@pytest.mark.slow
def test_losses_are_measured(bench, tmp_path):
    found = run(bench, ("contrastive",), tmp_path)
    assert [r["subject"] for r in found["contrastive"]] == [
        "nt_xent[dense]",
        "nt_xent[16]",
    ]


@pytest.mark.slow
def test_rules_are_measured(bench, tmp_path):
    found = run(bench, ("sharpness",), tmp_path)
    assert [r["subject"].split()[-1] for r in found["sharpness"]] == ["plain", "cc_sam"]
    assert all(float(r["compile_s"]) > 0 for r in found["sharpness"])


@pytest.mark.slow
def test_training_and_pairs_are_measured(bench, tmp_path):
    found = run(bench, ("engine", "large", "auc"), tmp_path)
    programs = {
        (r["framework"], r["precision"], r["replicas"], r["steps_per_call"])
        for r in found["engine"]
    }
    assert programs == {
        (framework, precision, "1", "1")
        for framework in ("ltjax", "jax loop")
        for precision in ("tf32", "bfloat16")
    } | {
        ("ltjax", precision, *rest)
        for precision in ("tf32", "bfloat16")
        for rest in (("2", "1"), ("1", "2"))
    }
    gflops = {r["replicas"]: float(r["gflops"]) for r in found["engine"]}
    assert gflops["2"] == pytest.approx(2 * gflops["1"], rel=1e-3)
    assert {r["framework"] for r in found["large"]} == {"ltjax", "jax loop"}
    assert {"auc_hinge[1]", "pixel_auc"} <= {r["subject"] for r in found["auc"]}


@pytest.fixture
def writer(bench, tmp_path):
    """A `Writer`, and `run(code, limit)`, which is a section of this Python program."""
    gpu = bench("gpu")
    made = gpu.Writer(tmp_path / "gpu.csv", {"commit": "abc"})

    def section(code, limit):
        with open(tmp_path / "gpu.log", "ab") as log:
            gpu.run_section(
                [sys.executable, "-c", code],
                {"section": "engine"},
                limit=limit,
                writer=made,
                log=log,
            )
        return read_rows(tmp_path / "gpu.csv")

    return section


ROW = (
    'import json; print(json.dumps({"subject": "a", "milliseconds": "2"}), flush=True)'
)


def test_a_section_that_fails_keeps_its_rows_and_tells_why(writer):
    code = f"{ROW}\nraise RuntimeError('no such kernel')"
    kept, failure = writer(code, None)
    assert (kept["subject"], kept["milliseconds"], kept["error"]) == ("a", "2", "")
    assert failure["error"] == "exit status 1: RuntimeError: no such kernel"
    assert failure["section"] == "engine" and failure["commit"] == "abc"


def test_a_section_ends_at_its_limit(writer):
    *kept, late = writer(f"{ROW}\nimport time; time.sleep(3600)", 3)
    assert late["error"] == "ended after 3 s"
    assert len(kept) <= 1  # where starting Python takes longer than that


def test_what_does_not_fit_is_skipped(bench, tmp_path):
    gpu = bench("gpu")
    sections = [section for section in gpu.SECTIONS if section.module == "gpu_jax"]
    gpu.measure(sections, tmp_path, seconds=0, toy=False)
    rows = read_rows(tmp_path / "gpu.csv")
    assert [row["section"] for row in rows] == [section.name for section in sections]
    assert all(re.match("-?0 s were left, it takes", row["skipped"]) for row in rows)


def test_times_of_a_clock_that_the_calls_advance(bench, monkeypatch):
    timing = bench("gpu_timing")
    now = [0.0]

    def takes(seconds):
        def call():
            now[0] += seconds

        return call

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    cells = {"precision": "bfloat16", "examples": 256, "total_steps": 600}
    # 4 steps of 10 ms that compute 989 GFLOP each: 98.9 of the 989 TFLOP/s.
    subject = timing.Subject(cells, takes(0.04), 4, 989.0)
    other = timing.Subject({}, takes(1.0))
    times, others = timing.in_turn([subject, other], blocks=5, seconds=100.0)
    assert times == pytest.approx([0.01] * 5) and others == pytest.approx([1.0] * 5)
    assert len(timing.in_turn([other], blocks=9, seconds=0.5)[0]) == 3
    found = timing.timed_cells(subject, times, "NVIDIA H100 80GB HBM3")
    assert (found["milliseconds"], found["examples_per_s"]) == ("10", "25600")
    assert (found["extrapolated_steps"], found["extrapolated_minutes"]) == (600, "0.1")
    assert found["mfu"] == "0.1"
    assert "mfu" not in timing.timed_cells(subject, times, "cpu")


def test_operations_of_products_and_convolutions_are_counted(bench):
    gpu_jax = bench("gpu_jax")

    def network(x, kernel, weights):
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.jit(lambda y: y.reshape(2, -1) @ weights)(jnp.tanh(y))

    shapes = ((2, 4, 5, 3), (3, 3, 3, 7), (140, 6))
    found = gpu_jax.forward_gflops(network, *map(jnp.zeros, shapes))
    # 2 x 4 x 5 pixels, 7 channels, 3 x 3 x 3 products each; 2 x 140 x 6 in the end.
    assert found * 1e9 == pytest.approx(2 * (40 * 7 * 27 + 2 * 140 * 6))


def test_table_compares_with_the_first_program(bench):
    gpu = bench("gpu")
    empty = dict.fromkeys(gpu.FIELDS, "")
    assert gpu.table([]) == "No GPU has been measured.\n"
    rows = [
        {**empty, "section": "sharpness", "device": "D", "subject": name, **cells}
        for name, cells in (
            ("plain", {"milliseconds": "9"}),
            ("plain", {"milliseconds": "4"}),
            ("sam", {"milliseconds": "8", "replicas": "3", "framework": "ltjax"}),
            ("asam", {"error": "too much"}),
        )
    ]
    lines = gpu.table(rows).splitlines()
    assert lines[0].startswith("Training steps of sharpness rules, D (")
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in lines[4:]]
    # The newer row counts; what failed is not in the table.
    assert [(c[0], c[1], c[3], c[5]) for c in cells] == [
        ("plain", "", "4", "1"),
        ("sam", "ltjax, 3 replicas", "8", "2"),
    ]


def test_readme_shows_the_rows_that_there_are(bench):
    gpu = bench("gpu")
    text = gpu.README.read_text(encoding="utf-8")
    shown = text.split("<!-- gpu: begin -->\n")[1].split("<!-- gpu: end -->")[0]
    assert shown.strip() == gpu.table(read_rows(gpu.RESULTS / "gpu.csv")).strip()
