"""experiments/scale: its batches, its cost model, its tables, and its processes."""

import csv
import importlib
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATIENCE = 1800  # seconds; only a hanging job waits that long


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


@pytest.fixture
def cost():
    return importlib.import_module("experiments.scale.cost")


# ------------------------------------------------------------------------ processes


@pytest.mark.parametrize("layout", ["batch", "devices"])
def test_the_batch_of_two_processes_has_the_hash_of_one(tmp_path, layout):
    jobs = importlib.import_module("experiments.scale.jobs")
    index = np.arange(24, dtype=np.int32).reshape(4, 6)
    whole = {"index": index, "mask": index > 3, "more": {"index": index.repeat(2, 1)}}
    changes = {"replicas.layout": layout}
    one, two = (jobs.Job("", changes, processes=p) for p in (1, 2))
    pick = {"batch": (np.s_[:, :3], np.s_[:, 3:]), "devices": (np.s_[:2], np.s_[2:])}
    wide = {"batch": (np.s_[:, :6], np.s_[:, 6:]), "devices": (np.s_[:2], np.s_[2:])}
    halves = [
        {
            "index": whole["index"][own],
            "mask": whole["mask"][own],
            "more": {"index": whole["more"]["index"][more]},
        }
        for own, more in zip(pick[layout], wide[layout], strict=True)
    ]
    for name, parts in (("one", [whole]), ("two", halves)):
        for process, rows in enumerate(parts):
            with jobs.numbered(tmp_path / name, process).open("wb") as file:
                np.save(file, jobs.digests(rows))
    (alone,) = jobs.batches(tmp_path / "one", one)
    (together,) = jobs.batches(tmp_path / "two", two)
    assert alone == together
    halves[1]["more"]["index"][0, 0] += 1
    with jobs.numbered(tmp_path / "two", 1).open("wb") as file:
        np.save(file, jobs.digests(halves[1]))
    assert jobs.batches(tmp_path / "two", two) != [alone]


@pytest.mark.slow
@pytest.mark.multihost
@pytest.mark.parametrize(
    "case",
    ["sse_sam", "fixmatch, darp", "moco", "process 2 of 0..3", "fsdp 2"],
)
def test_a_job_of_several_processes_ends_as_one_alone(tmp_path, case):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.scale", "processes", "--only", case]
        + ["--results", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "processes.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["case"] == case and row["processes"].startswith(("2 x 4", "4 x 2"))


# ----------------------------------------------------------------------- cost model


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_the_model_knows_every_parameter(cost, name):
    from ltjax.models.resnet import ResNet
    from ltjax.models.vit import ViT

    backbone, network = {
        "resnet": (ResNet(), cost.resnet(*cost.RESNET50, 0, side=224)),
        "vit": (
            ViT(patch=16, width=768, num_heads=12),
            cost.vit(patch=16, width=768, depth=12, heads=12, classes=0, side=224),
        ),
    }[name]
    sample = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
    found = jax.eval_shape(
        lambda key, x: backbone.init(key, x, train=False), jax.random.key(0), sample
    )
    shapes = [leaf.shape for leaf in jax.tree.leaves(found["params"])]
    assert sorted(shapes) == sorted(network.shapes)
    statistics = jax.tree.leaves(found.get("batch_stats", {}))
    assert sum(leaf.size for leaf in statistics) == 2 * network.channels


def test_the_formulas_by_hand(cost):
    network = cost.Network(((128, 256), (256,), (3, 5)), channels=7, activations=11)
    step = cost.Step(
        network, 64, chips=8, fsdp=4, input_bytes=10, slots=2, average=True
    )
    split, whole = 4 * 128 * 256, 4 * (256 + 15)
    assert cost.split(step) == (split, whole)
    assert cost.moved(step) == {
        "all-reduce": whole + split + split // 4 + 3 * 4 * 7,
        "all-gather": split,
    }
    sent = cost.sent(step)
    assert sent["parameters"] == 0.75 * split
    assert sent["gradients"] == pytest.approx(
        2 * 7 / 8 * (whole + 84) + 0.75 * split + 2 * 0.5 * split / 4
    )
    found = cost.estimated(step)
    own = split / 4 + whole
    assert found["arguments"] == 4 * own + 8 * 7 + 8 * 10
    assert found["temporaries"] == 8 * 11 * 4 + split + (whole + split + own)
    alone = step._replace(fsdp=1, views=2, features=30)
    assert cost.split(alone) == (0, split + whole)
    assert cost.moved(alone)["all-gather"] == 2 * 128 * 32 * 4


@pytest.mark.parametrize(
    "name",
    ["a small ViT, fsdp 2", pytest.param("SimCLR, 256 views", marks=pytest.mark.slow)],
)
def test_the_model_is_near_the_compiled_program(name, tmp_path):
    compiled = importlib.import_module("experiments.scale.compiled")
    rows = list(compiled.compared(name, tmp_path))
    assert [row["quantity"] for row in rows] == list(compiled.PROGRAMS[name].claims)
    for row in rows:
        assert abs(float(row["ratio"]) - 1) <= compiled.CLOSE, row


# --------------------------------------------------------------------------- tables


def test_the_readme_is_what_the_csv_files_say(tmp_path):
    table = importlib.import_module("experiments.scale.table")
    kept = ROOT / "experiments" / "scale" / "README.md"
    copy = tmp_path / "README.md"
    copy.write_text(kept.read_text())
    table.write(readme=copy)
    assert copy.read_text() == kept.read_text()
