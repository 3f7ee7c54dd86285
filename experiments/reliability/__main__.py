"""Attacks on running training, and what became of them.

python -m experiments.reliability kills --count 10
python -m experiments.reliability flips --count 1000
python -m experiments.reliability pairs --count 20
python -m experiments.reliability disk
python -m experiments.reliability fuzz
python -m experiments.reliability table
"""

import argparse
import pathlib
import sys
import tempfile

from experiments.reliability import disk, flips, kills, pairs, processes, table
from experiments.reliability.fuzz import attack as fuzz


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.reliability", description=__doc__.splitlines()[0]
    )
    parser.add_argument("attack", choices=(*ATTACKS, "table"))
    parser.add_argument("--count", type=int, default=0, help="per row; 0: as published")
    parser.add_argument("--only", nargs="*", default=(), help="rows of the table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=pathlib.Path, default=table.RESULTS)
    args = parser.parse_args(argv)
    if args.attack == "table":
        table.write()
        return 0
    processes.preload()
    attack, names, count = ATTACKS[args.attack]
    failed = False
    for name in args.only or names:
        with tempfile.TemporaryDirectory() as place:
            folder = pathlib.Path(place)
            row = attack(name, args.count or count, folder, seed=args.seed)
            print(row, flush=True)
            table.append(args.results / f"{args.attack}.csv", row, place=folder)
        failed |= row["survived"] != row["attacks"]
    return int(failed)


# Attack -> (function, its rows, attacks a row).
ATTACKS = {
    "kills": (kills.torment, tuple(kills.SUBJECTS), 12),
    "flips": (flips.torment, tuple(flips.FILES), 250),
    "pairs": (pairs.torment, ("two at once",), 20),
    "disk": (disk.torment, disk.CASES, 5),
    "fuzz": (fuzz.torment, fuzz.NAMES, 0),
}

if __name__ == "__main__":
    sys.exit(main())
