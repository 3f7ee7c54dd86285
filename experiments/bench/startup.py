"""Time until an import or a command of ltjax is done, against importing JAX.

    python -m experiments.bench.startup            # appends to results/startup.csv
    python -m experiments.bench.startup --quick    # once each, prints only

Every measurement is a Python process from start to end. The baseline imports what the
base installation needs (jax, optax) and nothing else. `ltjax --version` and `--help`
should not need JAX at all.
"""

import functools
import subprocess
import sys

from experiments.bench import common
from experiments.grid import ROOT

BASELINE = ("-c", "import jax, optax")
SUBJECTS = {
    "python": ("-c", "pass"),
    "import ltjax": ("-c", "import ltjax"),
    "import ltjax.losses": ("-c", "import ltjax.losses"),
    "ltjax --version": ("-m", "ltjax", "--version"),
    "ltjax --help": ("-m", "ltjax", "--help"),
    "ltjax list": ("-m", "ltjax", "list"),
}


def finish(arguments: tuple[str, ...]) -> None:
    """Runs Python with these arguments, from the root of the repository."""
    subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )


def measure(quick: bool, repeats: int, names=tuple(SUBJECTS)):
    calls = {name: functools.partial(finish, SUBJECTS[name]) for name in names}
    found = common.interleaved_ratios(
        functools.partial(finish, BASELINE), calls, repeats=repeats, least_seconds=0.0
    )
    for name, ratio in found.items():
        yield common.row(name, "import jax, optax", ratio)


if __name__ == "__main__":
    common.command(__doc__, "startup.csv", measure, repeats=7, quick_repeats=1)
