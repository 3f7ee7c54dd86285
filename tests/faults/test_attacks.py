"""A few of the attacks of experiments/reliability; `make soak` makes many."""

import csv
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 900  # seconds; only a hanging attack waits that long
pytestmark = pytest.mark.multihost


@pytest.fixture
def attack(tmp_path):
    """`attack(*arguments) -> [row]`, once all were survived."""

    def go(*arguments):
        command = [sys.executable, "-m", "experiments.reliability", *arguments]
        done = subprocess.run(
            [*command, "--results", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        with (tmp_path / f"{arguments[0]}.csv").open() as file:
            return list(csv.DictReader(file))

    return go


# The other feed, whose workers have to end too; the others are slow.
QUICK = ("supervised, streaming",)
SLOW = ("fixmatch", "proden", "auc", "dense labels", "supervised", "sse_sam")
SLOW += ("supervised, 1 worker", "moco", "sdclr", "bcl", "simclr and probe")
SLOW += ("memory bank", "dual variables", "attacked inputs", "modality stages")
SLOW += ("low-rank updates",)


@pytest.mark.parametrize(
    "subject", [*QUICK, *(pytest.param(x, marks=pytest.mark.slow) for x in SLOW)]
)
def test_a_killed_run_ends_at_the_bits_of_a_calm_one(attack, subject):
    (row,) = attack("kills", "--count", "1", "--only", subject)
    assert row["attack"] == f"kill -9: {subject}"
    assert row["attacks"] == row["survived"] == "1"
    assert row["remark"].startswith("1 kills")


@pytest.mark.slow
def test_flipped_bits_are_noticed_or_harmless(attack):
    rows = attack("flips", "--count", "15")
    assert [row["attacks"] for row in rows] == ["15"] * 6
    assert [row["survived"] for row in rows] == ["15"] * 6


@pytest.mark.slow
def test_of_two_on_one_workdir_one_trains(attack):
    (row,) = attack("pairs", "--count", "1")
    assert row["survived"] == "1"
