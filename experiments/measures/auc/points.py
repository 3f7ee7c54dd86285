"""The grid: losses of pairs of examples and losses of single ones."""

from experiments.grid import Point
from experiments.seeded import Grid, shipped_points

TOTAL = "1500 steps"
RATIO = 100  # of the training set
KEY = {"ratio": RATIO}
COLUMNS = {
    "auc_ovo": "AUC",
    "auc_few": "of few-shot classes",
    "auc_worst": "worst pair",
    "balanced_accuracy": "accuracy",
    "few": "of few-shot classes",
}
# Name -> (method of `configs/auc_lt.py`, options).
METHODS = {
    "CE": ("ce", {}),
    "LA": ("la", {}),
    "square": ("auc_square", {}),
    "hinge": ("auc_hinge", {}),
    "exponential": ("auc_exp", {}),
    "logistic": ("auc_logistic", {}),
    "AUCM": ("aucm", {}),
}
SURROGATES = tuple(name for name in METHODS if name not in ("CE", "LA"))


def points(*, smoke: bool = False) -> list[Point]:
    """Every run."""
    return shipped_points(
        "auc_lt", METHODS, KEY, f"imf={RATIO}", smoke=smoke, total=TOTAL
    )


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
    kind="expected ordering",
)
CLAIMS, measure = GRID.claims(), GRID.measure
