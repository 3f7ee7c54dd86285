"""Several processes, and what a step costs on many chips.

python -m experiments.scale processes             # all checks, minutes
python -m experiments.scale processes --only preempted
python -m experiments.scale cost                  # the model beside compiled programs
python -m experiments.scale table                 # README.md from results/
"""

import argparse
import os
import pathlib
import sys
import tempfile

# Before jax is imported: forks of this process use the CPU, whatever else there is.
os.environ["JAX_PLATFORMS"] = "cpu"

from experiments.scale import table  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.scale", description=__doc__.splitlines()[0]
    )
    parser.add_argument("what", choices=("processes", "cost", "table"))
    parser.add_argument(
        "--only", nargs="*", default=(), help="checks or cases of them, or programs"
    )
    parser.add_argument("--results", type=pathlib.Path, default=table.RESULTS)
    args = parser.parse_args(argv)
    if args.what == "table":
        table.write()
        return 0
    with tempfile.TemporaryDirectory() as place:
        work = _processes if args.what == "processes" else _cost
        return work(args, pathlib.Path(place))


def _processes(args: argparse.Namespace, place: pathlib.Path) -> int:
    from experiments.reliability.processes import preload
    from experiments.scale.processes import CHECKS, Place, holds

    preload()
    failed, runs = False, Place(place)
    for check, (function, cases) in CHECKS.items():
        for case in cases:
            if args.only and not {check, case} & set(args.only):
                continue
            for row in function(case, runs):
                print(row, flush=True)
                table.append(args.results / "processes.csv", row, place=place)
                failed |= not holds(row)
    return int(failed)


def _cost(args: argparse.Namespace, place: pathlib.Path) -> int:
    import jax

    from experiments.scale.compiled import DEVICES, PROGRAMS, compared, holds

    jax.config.update("jax_num_cpu_devices", DEVICES)
    failed = False
    for name in args.only or PROGRAMS:
        for row in compared(name, place):
            print(row, flush=True)
            table.append(args.results / "cost.csv", row, place=None)
            failed |= not holds(row)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
