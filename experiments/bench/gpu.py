"""Training steps, losses and their peers in PyTorch on one GPU, within minutes.

    python -m experiments.bench.gpu                          # into results/gpu.csv
    python -m experiments.bench.gpu --seconds 420 --out DIR  # DIR/gpu.csv, DIR/gpu.log
    python -m experiments.bench.gpu --sections large         # one of them
    python -m experiments.bench.gpu --toy --out DIR          # tiny, runs on a CPU
    python -m experiments.bench.gpu --table                  # the table of README.md

Every section is a process of its own for JAX and one for PyTorch (left out where it is
not installed), the most important first. Rows are written as they come; a section that
fails or takes too long leaves a row that says so, and the next one begins. What no
longer fits into --seconds is skipped.
"""

import argparse
import collections
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from experiments.grid import replace_block
from ltjax.report.tables import append_csv, markdown_grid, markdown_text, read_rows
from ltjax.train import provenance as made_by

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results"
README = HERE / "README.md"

FIELDS = (
    "section",
    "subject",
    "framework",
    "precision",
    "batch",
    "replicas",
    "steps_per_call",
    "size",
    "milliseconds",
    "milliseconds_low",
    "milliseconds_high",
    "blocks",
    "steps_per_block",
    "examples",
    "examples_per_s",
    "extrapolated_steps",
    "extrapolated_minutes",
    "trace_s",
    "compile_s",
    "compiled_together",
    "peak_mib",
    "process_peak_mib",
    "gflops",
    "xla_gflops",
    "mfu",
    "error",
    "skipped",
    "date",
    "ltjax",
    "commit",
    "jax",
    "torch",
    "numpy",
    "optax",
    "python",
    "backend",
    "device",
    "devices",
    "cores",
)


class Section(NamedTuple):
    """A process: what it measures, with which framework, and what it may take."""

    name: str
    module: str
    least: int  # seconds; with less than that left it is not started
    most: int


SECTIONS = (
    Section("engine", "gpu_jax", 40, 170),
    Section("engine", "gpu_torch", 30, 140),
    Section("contrastive", "gpu_jax", 20, 60),
    Section("contrastive", "gpu_torch", 20, 45),
    Section("large", "gpu_jax", 45, 100),
    Section("large", "gpu_torch", 45, 110),
    Section("sharpness", "gpu_jax", 45, 120),
    Section("auc", "gpu_jax", 30, 80),
    Section("auc", "gpu_torch", 20, 45),
)


def provenance(commit: str | None) -> dict[str, str]:
    """With what was measured; the device is told by the processes that see it."""
    found = made_by.versions()
    versions = found["versions"]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "ltjax": versions["ltjax"],
        "commit": commit or str(found["code"]),
        "jax": versions["jax"],
        "numpy": versions["numpy"],
        "optax": versions["optax"],
        "python": platform.python_version(),
        "cores": str(os.cpu_count()),
    }


class Writer:
    """Appends rows to a CSV file as they come, and prints them."""

    def __init__(self, path: pathlib.Path, origin: Mapping[str, str]):
        self._path, self._origin = path, dict(origin)
        self.rows = 0

    def write(self, **cells: str) -> None:
        row = {**self._origin, **cells}
        unknown = row.keys() - set(FIELDS)
        if unknown:
            raise ValueError(f"gpu.csv has no column {sorted(unknown)}")
        append_csv(self._path, [{name: row.get(name, "") for name in FIELDS}])
        self.rows += 1
        names = ("section", "subject", "framework", "precision", "replicas", "size")
        told = [cells[name] for name in names if cells.get(name)]
        if cells.get("milliseconds"):
            told.append(f"{cells['milliseconds']} ms")
        for name in ("steps_per_call", "mfu", "error", "skipped"):
            if cells.get(name):
                told.append(f"{name} {cells[name]}")
        print("  ".join(told), flush=True)


def run_section(
    command: Sequence[str],
    base: Mapping[str, str],
    *,
    limit: float | None,
    writer: Writer,
    log,
) -> None:
    """Runs a process, writes the rows that it prints, and ends it at its limit.

    Args:
        command: prints a JSON object per row.
        base: columns of all its rows.
        limit: seconds, or None.
        writer: of the rows.
        log: open binary file, for its standard error.
    """
    environment = {
        **os.environ,
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "PYTHONUNBUFFERED": "1",
    }
    log.write(f"\n== {' '.join(command)}\n".encode())
    log.flush()
    begins = log.tell()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(limit or threading.TIMEOUT_MAX, end)
    timer.daemon = True
    timer.start()
    columns = dict(base)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if not line.startswith("{"):
                log.write(line.encode())
                continue
            try:
                cells = json.loads(line)
            except ValueError:  # it was ended while it wrote
                continue
            if cells.pop("origin", None):
                columns |= cells
            else:
                writer.write(**{**columns, **cells})
        code = process.wait()
    finally:
        timer.cancel()
        _kill(process)  # and what it has started
        process.stdout.close()
    if late.is_set():
        writer.write(**columns, error=f"ended after {limit:.0f} s")
    elif code:
        with open(log.name, "rb") as file:
            file.seek(begins)
            lines = file.read().decode(errors="replace").split("\n")
        said = [line for line in lines if line.strip() and not line.startswith("---")]
        errors = [line for line in said if "Error" in line] or said
        last = errors[-1].strip()[:300] if errors else ""
        writer.write(**columns, error=f"exit status {code}: {last}")


def _kill(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def measure(
    sections: Iterable[Section],
    out: pathlib.Path,
    *,
    seconds: float,
    toy: bool,
    commit: str | None = None,
) -> Writer:
    """Runs the sections in order, into out/gpu.csv and out/gpu.log.

    Args:
        sections: the most important first.
        out: folder; made if need be.
        seconds: for all of them.
        toy: tiny sizes, as long as they take.
        commit: what the rows name; default that of the working tree.

    Returns:
        The `Writer`, which knows how many rows there are.
    """
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    writer = Writer(out / "gpu.csv", provenance(commit))
    with open(out / "gpu.log", "ab") as log:
        for section in sections:
            left = seconds - (time.monotonic() - began)
            cells = {"section": section.name}
            if section.module == "gpu_torch":
                cells["framework"] = "torch"
                if importlib.util.find_spec("torch") is None:
                    writer.write(**cells, skipped="torch is not installed")
                    continue
            if left < section.least and not toy:
                why = f"{left:.0f} s were left, it takes at least {section.least} s"
                writer.write(**cells, skipped=why)
                continue
            module = f"experiments.bench.{section.module}"
            command = [sys.executable, "-m", module, section.name]
            command += ["--toy"] * toy
            limit = None if toy else min(left, section.most)
            start = time.monotonic()
            try:
                run_section(command, cells, limit=limit, writer=writer, log=log)
            except Exception as error:  # the others go on
                writer.write(**cells, error=f"{type(error).__name__}: {error}"[:300])
            took = time.monotonic() - start
            print(f"-- {section.module} {section.name}: {took:.0f} s", flush=True)
    return writer


# ---------------------------------------------------------------------------- table

HEAD = (
    "subject",
    "program",
    "precision",
    "ms",
    "quartiles",
    "of the first",
    "examples/s",
    "200 epochs, min",
    "MFU",
    "peak MiB",
    "compile s",
)
TITLES = {
    "engine": "Training steps of the CIFAR recipe",
    "large": "Training steps of a network that fills the device",
    "sharpness": "Training steps of sharpness rules",
    "contrastive": "NT-Xent of 128 features, value and gradient",
    "auc": "Pairwise losses, value and gradient",
}


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: a table per section and device, from the newest row of each program.

    Args:
        rows: of gpu.csv.

    Returns:
        Markdown; says so if there are no rows.
    """
    newest: dict[tuple, Mapping[str, str]] = {}
    for row in rows:
        if row["milliseconds"]:
            names = ("section", "device", *FIELDS[1:8])
            newest[tuple(row[name] for name in names)] = row
    if not newest:
        return "No GPU has been measured.\n"
    parts: dict[tuple[str, str], list] = collections.defaultdict(list)
    for row in newest.values():
        parts[row["section"], row["device"]].append(row)
    text = []
    for (section, device), found in sorted(
        parts.items(), key=lambda part: (list(TITLES).index(part[0][0]), part[0][1])
    ):
        made = {
            f"{row['date']}, commit {row['commit']}, jax {row['jax']}"
            + (f", torch {row['torch']}" if row["torch"] else "")
            for row in found
        }
        text.append(f"{TITLES[section]}, {device} ({'; '.join(sorted(made))}):\n")
        text.append(markdown_grid(HEAD, _cells(found), align="lll" + "r" * 8))
    return "\n".join(text)


def write_table(out: pathlib.Path = RESULTS) -> None:
    """Writes the table of README.md from out/gpu.csv."""
    replace_block(README, "gpu", table(read_rows(out / "gpu.csv")))


def _cells(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
    first: dict[tuple[str, str], float] = {}
    shown = []
    for row in rows:
        step = float(row["milliseconds"])
        # All of a recipe against its first row; a loss against its own first program.
        subject = "" if row["section"] == "sharpness" else row["subject"].split("[")[0]
        if row["section"] == "auc":
            subject = row["subject"]
        base = first.setdefault((subject, row["size"]), step)
        program = row["framework"]
        for name, words in (
            ("steps_per_call", "{} steps per call"),
            ("replicas", "{} replicas"),
        ):
            if row[name] not in ("", "1"):
                program += f", {words.format(row[name])}"
        low, high = row["milliseconds_low"], row["milliseconds_high"]
        size = f" at {row['size']}" if row["size"] else ""
        shown.append(
            (
                markdown_text(row["subject"] + size),
                program,
                row["precision"],
                row["milliseconds"],
                f"{low} to {high}",
                f"{step / base:.3g}",
                row["examples_per_s"],
                row["extrapolated_minutes"],
                row["mfu"],
                row["peak_mib"],
                row["compile_s"],
            )
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=420.0, help="for everything")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=RESULTS,
        help="folder of gpu.csv and gpu.log (default: %(default)s)",
    )
    names = list(dict.fromkeys(section.name for section in SECTIONS))
    parser.add_argument("--sections", nargs="+", choices=names, default=names)
    parser.add_argument("--toy", action="store_true", help="tiny sizes, on a CPU too")
    parser.add_argument("--commit", help="of a copy that has no .git, for the rows")
    parser.add_argument(
        "--table", action="store_true", help="write the table of README.md, and nothing"
    )
    args = parser.parse_args()
    if args.table:
        write_table(args.out)
        return
    if args.toy and args.out == RESULTS:
        parser.error("--toy measures nothing worth keeping: give it a folder by --out")
    chosen = [section for section in SECTIONS if section.name in args.sections]
    measure(chosen, args.out, seconds=args.seconds, toy=args.toy, commit=args.commit)


if __name__ == "__main__":
    main()
