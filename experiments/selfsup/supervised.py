"""Supervised long-tailed training from weights that were learned without labels.

python -m experiments.selfsup.supervised --jobs 2
python -m experiments.selfsup.supervised table

Self-supervised pre-training (SSP; Yang and Xu, NeurIPS 2020) puts a stage without
labels before a supervised run on the same long-tailed set. The run from scratch has as
many supervised steps, and one as many steps as both stages together.
"""

import sys

from experiments.grid import Point
from experiments.seeded import Grid, shipped_point
from experiments.seeded_cli import main
from experiments.selfsup.points import RATIO, TOTAL

LOSSES = {"ce": "cross-entropy", "la": "logit adjustment", "ldam_drw": "LDAM-DRW"}
SCRATCH, LONGER = "from scratch", "from scratch, longer"
STEPS = {SCRATCH: "1500 steps", LONGER: "2500 steps"}
# Name -> learner of `configs/selfsup_lt.py`.
LEARNERS = {"after SimCLR": "simclr", "after rotation": "rotation"}

GRID = Grid(
    column="loss",
    settings=LOSSES,
    methods=(*STEPS, *LEARNERS),
    columns={
        "balanced_accuracy": "balanced accuracy",
        "many": "many",
        "medium": "medium",
        "few": "few",
    },
    orderings=[
        (learner, scratch, metric)
        for learner in LEARNERS
        for scratch in STEPS
        for metric in ("balanced_accuracy", "few")
    ],
)
measure = GRID.measure


def points(*, smoke: bool = False) -> list[Point]:
    """Every loss from scratch and after every learner."""
    found = []
    for loss in LOSSES:
        for name, total in STEPS.items():
            key, arg = {"method": name, "loss": loss}, f"method={loss},imf={RATIO}"
            found.append(
                shipped_point(key, "mnist1d_lt", arg, smoke=smoke, total=total)
            )
        for name, learner in LEARNERS.items():
            key = {"method": name, "loss": loss}
            arg = f"method={learner},imf={RATIO},then={loss}"
            point = shipped_point(key, "selfsup_lt", arg, smoke=smoke, total=TOTAL)
            first, then = (dict(stage) for stage in point.config.stages)
            if not smoke:
                then["total"] = STEPS[SCRATCH]
            point.config.stages = (first, then)
            found.append(point)
    return found


if __name__ == "__main__":
    here = sys.modules[__name__]
    sys.exit(main("experiments.selfsup.supervised", __doc__, here, GRID.text))
