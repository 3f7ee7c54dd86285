"""The grid: losses of the AUC on clean and attacked digits, judged when corrupted."""

import numpy as np

from experiments.grid import Point
from experiments.seeded import Grid, seed_rows, shipped_point, train_seeds

TOTAL, BATCH = "400 steps", 64
ATTACK = {"method.steps": 4, "method.attack_lr": 0.3}  # as far as ten steps of 0.12
SHARES = (0.1,)  # of the positives in training
METHODS = {
    "CE": "ce",
    "AUCM": "aucm",
    "DRAUC, one budget": "drauc",
    "DRAUC, by class": "drauc_aware",
}
KINDS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur"),
    "light": ("fog", "brightness", "contrast"),
    "digital": ("pixelate", "jpeg", "elastic"),
}
# Column -> metric of one case, or metrics of which it is the mean.
COLUMNS = {
    "clean": ("clean",),
    "mean": ("corrupted_mean",),
    "worst": ("corrupted_worst",),
    **{f"severity_{s}": (f"severity_{s}",) for s in range(1, 6)},
    **{kind: tuple(f"corrupted_{x}" for x in names) for kind, names in KINDS.items()},
}


def points(*, smoke: bool = False) -> list[Point]:
    """Every run, those with more positives first."""
    found = []
    for share in SHARES:
        for name, method in METHODS.items():
            key = {"method": name, "share": share}
            arg = f"data=glyphs,method={method},share={share}"
            changes = {"data.corrupted_images": 20 if smoke else 200}
            if not smoke:
                attack = ATTACK if method.startswith("drauc") else {}
                changes |= {"batch_size": BATCH, **attack}
            point = shipped_point(
                key, "robust_auc", arg, changes, smoke=smoke, total=TOTAL
            )
            found.append(point)
    return found


def measure(point: Point) -> list[dict[str, str]]:
    """The rows of a run: areas on the clean and the corrupted images."""
    trained = train_seeds(point.config)
    values = {
        column: np.mean([trained.metric(f"eval/corrupted/{x}") for x in names], axis=0)
        for column, names in COLUMNS.items()
    }
    return seed_rows(point, trained, values)


GRID = Grid(
    "share",
    {share: f"share of positives {share}" for share in SHARES},
    METHODS,
    {name: name.replace("_", " ") for name in COLUMNS},
    [
        ("AUCM", "CE", "clean"),
        ("AUCM", "CE", "mean"),
        ("DRAUC, one budget", "AUCM", "mean"),
        ("DRAUC, by class", "AUCM", "mean"),
        ("DRAUC, by class", "DRAUC, one budget", "mean"),
        ("DRAUC, by class", "AUCM", "severity_5"),
        ("DRAUC, by class", "AUCM", "noise"),
    ],
    corner="AUC",
    kind="expected ordering",
)
CLAIMS = GRID.claims()
