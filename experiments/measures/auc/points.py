"""The grid: losses of pairs of examples and losses of single ones."""

from experiments.grid import Point
from experiments.seeded import Grid, shipped_point

TOTAL = "1500 steps"
RATIO = 100  # of the training set
COLUMNS = {
    "auc_ovo": "AUC",
    "auc_few": "of few-shot classes",
    "auc_worst": "worst pair",
    "balanced_accuracy": "accuracy",
    "few": "of few-shot classes",
}
# Name -> method of `configs/auc_lt.py`.
METHODS = {
    "CE": "ce",
    "LA": "la",
    "square": "auc_square",
    "hinge": "auc_hinge",
    "exponential": "auc_exp",
    "logistic": "auc_logistic",
    "AUCM": "aucm",
}
SURROGATES = tuple(name for name in METHODS if name not in ("CE", "LA"))


def points(*, smoke: bool = False) -> list[Point]:
    """Every run."""
    found = []
    for name, method in METHODS.items():
        key, arg = {"method": name, "ratio": RATIO}, f"method={method},imf={RATIO}"
        found.append(shipped_point(key, "auc_lt", arg, smoke=smoke, total=TOTAL))
    return found


GRID = Grid(
    "ratio",
    {RATIO: f"ratio {RATIO}"},
    METHODS,
    COLUMNS,
    [
        *((name, "CE", "auc_ovo") for name in SURROGATES),
        *((name, "LA", "auc_ovo") for name in SURROGATES),
        ("LA", "CE", "auc_ovo"),
        ("LA", "square", "balanced_accuracy"),
    ],
)
CLAIMS, measure = GRID.claims(), GRID.measure
