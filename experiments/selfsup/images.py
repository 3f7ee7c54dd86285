"""Self-supervised pre-training on MNIST-LT, with crops of images.

python -m experiments.selfsup.images --jobs 2
python -m experiments.selfsup.images table

MNIST has to be prepared as a TFDS folder, below LTJAX_DATA_DIR.
"""

import sys
from collections.abc import Mapping, Sequence

from experiments.grid import Point
from experiments.seeded import claims_table, joined
from experiments.seeded_cli import main
from experiments.selfsup.points import (
    RANDOM,
    RATIO,
    SETS,
    above,
    closer,
    point_on,
    tail_costs,
)
from experiments.selfsup.points import measure as measure
from experiments.selfsup.table import set_table

AWARE = ("Focal", "SDCLR", "TS")
LEARNERS = ("SimCLR", *AWARE)
CLAIMS = [
    *(claim for learner in LEARNERS for claim in above(learner, RANDOM)),
    *tail_costs("SimCLR", RATIO),
    *(claim for learner in AWARE for claim in above(learner, "SimCLR")),
    *(closer(learner, "SimCLR") for learner in AWARE),
]


def points(*, smoke: bool = False) -> list[Point]:
    """Every learner on the long-tailed set, and SimCLR on the balanced one too."""
    chosen = {"long-tailed": (RANDOM, *LEARNERS), "balanced": ("SimCLR",)}
    return [
        point_on(method, data, images="mnist", smoke=smoke)
        for data in SETS
        for method in chosen[data]
    ]


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """The claims, and a table for each set."""
    return joined(
        claims_table(rows, CLAIMS), *(set_table(rows, data, RATIO) for data in SETS)
    )


if __name__ == "__main__":
    here = sys.modules[__name__]
    sys.exit(main("experiments.selfsup.images", __doc__, here, text))
