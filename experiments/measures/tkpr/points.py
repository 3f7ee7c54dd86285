"""The grid: losses of several labels, and K of the ranking."""

from experiments.grid import Point
from experiments.seeded import Grid, shipped_points

TOTAL = "1000 steps"
RARITY = 20  # of the last digit against the first
KEY = {"rarity": RARITY}
COLUMNS = {
    "map": "mAP",
    "map_few": "of rare labels",
    "precision_at_3": "P@3",
    "recall_at_3": "R@3",
    "ap_at_3": "AP@3",
    "ndcg_at_3": "NDCG@3",
    "tkpr_at_3": "TKPR@3",
    "ranking_loss": "ranking loss",
}
BCE, OF_EACH = "binary cross-entropy", "TKPR, K of each example"
# Name -> (method of `configs/multilabel_scenes.py`, options).
METHODS = {
    BCE: ("sigmoids", {}),
    "distribution-balanced": ("distribution_balanced", {}),
    "TKPR, K = 1": ("tkpr", {"loss.k": 1}),
    "TKPR, K = 3": ("tkpr", {"loss.k": 3}),
    OF_EACH: ("tkpr", {"loss.k": 0}),
}


def points(*, smoke: bool = False) -> list[Point]:
    """Every run."""
    return shipped_points(
        "multilabel_scenes", METHODS, KEY, f"imf={RARITY}", smoke=smoke, total=TOTAL
    )


GRID = Grid(
    "rarity",
    {RARITY: f"rarity {RARITY}"},
    METHODS,
    COLUMNS,
    [
        *(
            (name, BCE, metric)
            for name in ("TKPR, K = 3", OF_EACH)
            for metric in ("precision_at_3", "ap_at_3", "ndcg_at_3", "tkpr_at_3", "map")
        ),
        (BCE, "TKPR, K = 3", "ranking_loss"),  # the smaller one is better
        ("distribution-balanced", BCE, "map_few"),
    ],
)
CLAIMS, measure = GRID.claims(), GRID.measure
