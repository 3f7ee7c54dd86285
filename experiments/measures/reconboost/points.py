"""The grid: how two modalities learn together, with readable and unreadable images."""

from experiments.grid import Point
from experiments.seeded import Grid, shipped_point

TOTAL = "600 steps"
# Share of examples whose image is noise -> how a table says it.
ABSENT = {share: f"{share:.0%} of the images are noise" for share in (0.3, 0.0)}
COLUMNS = {
    "balanced_accuracy": "fused",
    "few": "few classes",
    "alone_image": "image alone",
    "alone_signal": "signal alone",
}

# Name -> (method of `configs/multimodal_digits.py`, its options).
METHODS = {
    "joint training": ("joint", {}),
    "ReconBoost": ("reconboost", {}),
    "late fusion": ("late", {}),
    "OGM": ("ogm", {}),
    "ReconBoost, KL form": ("reconboost", {"method.residual": "kl"}),
    "ReconBoost without consolidation": ("reconboost", {"method.consolidation": 0.0}),
}
SMALL = {
    "data.train_per_class": 200,
    "data.size": 16,
    "model.widths": (16, 32),
    "head.hidden": 64,
    "many": 100,
    "few": 40,
}


def points(*, smoke: bool = False) -> list[Point]:
    """Every run, those with unreadable images first."""
    found = []
    for absent in ABSENT:
        for name, (method, options) in METHODS.items():
            key = {"method": name, "absent": absent}
            changes = {
                "data.absent_image": absent,
                **options,
                **({} if smoke else SMALL),
            }
            arg = f"method={method}"
            point = shipped_point(
                key, "multimodal_digits", arg, changes, smoke=smoke, total=TOTAL
            )
            found.append(point)
    return found


GRID = Grid(
    "absent",
    ABSENT,
    METHODS,
    COLUMNS,
    [
        ("ReconBoost", "joint training", "balanced_accuracy"),
        ("ReconBoost", "joint training", "alone_image"),
        ("ReconBoost", "joint training", "alone_signal"),
        ("ReconBoost", "OGM", "balanced_accuracy"),
        ("ReconBoost", "late fusion", "balanced_accuracy"),
        ("ReconBoost", "ReconBoost without consolidation", "balanced_accuracy"),
        ("late fusion", "joint training", "alone_image"),
    ],
    corner="balanced accuracy",
)
CLAIMS, measure = GRID.claims(), GRID.measure
