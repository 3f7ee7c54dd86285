"""A few settings of each contrastive learner, as many for each, on data of their own.

python -m experiments.selfsup.tuning --jobs 2
python -m experiments.selfsup.tuning table
"""

import sys
from collections.abc import Mapping, Sequence

from experiments.grid import Point
from experiments.seeded_cli import main
from experiments.selfsup.points import measure as measure
from experiments.selfsup.points import point_of
from experiments.selfsup.trials import OWN, best_trials, trials
from ltjax.report.cells import markdown_grid

# Neither these signals nor this seed are in a final run.
DATA_SEED, SEED = 7, 100
TOTAL = "500 steps"
SHOWN = ("probe_all", "probe_few", "probe_std")


def points(*, smoke: bool = False) -> list[Point]:
    """Every trial of every learner."""
    found = []
    for method in OWN:
        for trial, changes in trials(method).items():
            key = {"method": method, "trial": trial}
            point = point_of(key, method, changes, smoke=smoke)
            config = point.config
            config.data.seed, config.replicas.seeds = DATA_SEED, (SEED,)
            config.total = config.total if smoke else TOTAL
            found.append(point)
    return found


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """One line for every trial, by learner; the chosen ones are bold."""
    if not rows:
        return "No trials yet."
    best, place = best_trials(rows), list(OWN)
    lines = []
    for row in sorted(rows, key=lambda row: place.index(row["method"])):
        is_best = best.get(row["method"]) == row["trial"]
        trial = f"**{row['trial']}**" if is_best else row["trial"]
        lines.append([row["method"], trial, *(row[name] for name in SHOWN)])
    head = ["", "trial", "probe, all", "few", "std of groups"]
    return markdown_grid(head, lines)


if __name__ == "__main__":
    here = sys.modules[__name__]
    sys.exit(main("experiments.selfsup.tuning", __doc__, here, text))
