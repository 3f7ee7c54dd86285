"""The grid: surrogates of the area under the top-k curve, and losses of one class."""

from experiments.grid import Point
from experiments.seeded import Grid, shipped_points

TOTAL = "1500 steps"
RATIO = 100  # of the training set
DEPTH = 3  # k
KEY = {"ratio": RATIO}
COLUMNS = {
    "balanced_accuracy": "accuracy",
    "few": "of few-shot classes",
    "top_k_balanced": f"top-{DEPTH}",
    "top_k_few": "of few-shot classes",
    "autkc_balanced": f"AUTKC@{DEPTH}",
    "autkc_few": "of few-shot classes",
}
SURROGATES = ("square", "exp", "logistic", "hinge")
# Name -> (method of `configs/auc_lt.py`, options).
METHODS = {
    "CE": ("ce", {}),
    "LA": ("la", {}),
    **{
        f"AUTKC, {name}": ("autkc", {"loss.k": DEPTH, "loss.surrogate": name})
        for name in SURROGATES
    },
}


def points(*, smoke: bool = False) -> list[Point]:
    """Every run."""
    found = shipped_points(
        "auc_lt", METHODS, KEY, f"imf={RATIO}", smoke=smoke, total=TOTAL
    )
    for point in found:
        point.config.evaluators = {"classification": {}, "top_k": {"k": DEPTH}}
    return found


GRID = Grid(
    "ratio",
    {RATIO: f"ratio {RATIO}"},
    METHODS,
    COLUMNS,
    [
        *(
            (f"AUTKC, {name}", "CE", metric)
            for name in SURROGATES
            for metric in ("balanced_accuracy", "top_k_balanced", "autkc_balanced")
        ),
        ("AUTKC, logistic", "AUTKC, hinge", "autkc_balanced"),
        ("LA", "CE", "autkc_balanced"),
    ],
)
CLAIMS, measure = GRID.claims(), GRID.measure
