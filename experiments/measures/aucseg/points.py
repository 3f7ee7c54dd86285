"""The grid: cross-entropy of pixels, with an AUC loss, and with a memory beside it."""

from experiments.grid import Point
from experiments.seeded import Grid, shipped_points

TOTAL = "600 steps"
RARITY = 20  # of the last digit against the first
KEY = {"rarity": RARITY}
COLUMNS = {
    "mean_iou": "mIoU",
    "iou_many": "many",
    "iou_medium": "medium",
    "iou_few": "few",
    "class_accuracy": "class accuracy",
}
# Name -> (method of `configs/segmentation_scenes.py`, options).
METHODS = {
    "CE": ("ce", {}),
    "LA": ("la", {}),
    "AUC loss": ("aucseg", {"method.memory": 0}),
    "memory": ("aucseg", {"method.weight": 0.0}),
    "AUCSeg": ("aucseg", {}),
}


def points(*, smoke: bool = False) -> list[Point]:
    """Every run."""
    wide = {} if smoke else {"model.width": 8}
    methods = {name: (method, more | wide) for name, (method, more) in METHODS.items()}
    return shipped_points(
        "segmentation_scenes", methods, KEY, f"imf={RARITY}", smoke=smoke, total=TOTAL
    )


GRID = Grid(
    "rarity",
    {RARITY: f"rarity {RARITY}"},
    METHODS,
    COLUMNS,
    [
        ("AUCSeg", "CE", "iou_few"),
        ("AUCSeg", "CE", "mean_iou"),
        ("AUC loss", "CE", "iou_few"),
        ("AUCSeg", "AUC loss", "iou_few"),
        ("memory", "CE", "iou_few"),
        ("AUCSeg", "LA", "mean_iou"),
    ],
)
CLAIMS, measure = GRID.claims(), GRID.measure
