"""Every benchmark, one after the other, and the tables made of their results.

python -m experiments.bench                      # all suites, into results/*.csv
python -m experiments.bench startup feeds        # some
python -m experiments.bench --small              # tiny sizes, nothing written
python -m experiments.bench --list
python -m experiments.bench --torch-python PYTHON  # with the peers in PyTorch
python -m experiments.bench table                # writes all tables
"""

import argparse
import subprocess
import sys

from experiments.bench import convolution_tables, gpu, suites
from experiments.grid import ROOT


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bench", description=__doc__.splitlines()[0]
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="default: all")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument(
        "--small", action="store_true", help="seconds per suite, nothing written"
    )
    parser.add_argument(
        "--torch-python", metavar="PYTHON", help="an interpreter that has torch"
    )
    args = parser.parse_args(argv)
    if args.list:
        for name, suite in suites.SUITES.items():
            print(f"{name:12} {suite.subject}")
        return 0
    if args.suites == ["table"]:
        suites.write()
        gpu.write_table()
        convolution_tables.write()
        return 0
    if unknown := set(args.suites) - set(suites.SUITES):
        parser.error(
            f"unknown: {', '.join(sorted(unknown))}; expected table or some of"
            f" {', '.join(suites.SUITES)}"
        )
    failed = [
        " ".join(command[2:])
        for name in args.suites or suites.SUITES
        for command in commands(name, small=args.small, torch_python=args.torch_python)
        if run(command)
    ]
    if failed:
        print(f"failed or missed its target: {'; '.join(failed)}", file=sys.stderr)
    return len(failed) > 0


def commands(name: str, *, small: bool, torch_python: str | None) -> list[list[str]]:
    """The command lines of a suite."""
    suite = suites.SUITES[name]
    options = ["--quick"] * small
    if suite.with_torch and torch_python:
        options += ["--torch-python", torch_python]
    module = [sys.executable, "-m", f"experiments.bench.{name}"]
    return [[*module, *call, *options] for call in suite.calls]


def run(command: list[str]) -> int:
    """Runs a suite in a process of its own: what one sets up must not touch others."""
    print(f"== {' '.join(command[2:])}", flush=True)
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
