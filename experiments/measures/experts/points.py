"""The grid: one network or several experts, judged under many test priors."""

from experiments.grid import Point
from experiments.seeded import Grid, shipped_point

TOTAL = "1000 steps"
RATIOS = (100, 50)  # of the training set
COLUMNS = {
    "priors_forward_50": "long-tailed 50",
    "priors_forward_10": "10",
    "priors_uniform": "uniform",
    "priors_backward_10": "reversed 10",
    "priors_backward_50": "50",
    "priors_mean": "mean of priors",
    "few": "few classes",
}

# Name -> (method of `configs/experts_lt.py`, how experts are weighted).
METHODS = {
    "CE": ("ce", "mean"),
    "LA": ("la", "mean"),
    "RIDE": ("ride", "mean"),
    "SADE": ("sade", "mean"),
    "SADE, weights by stability": ("sade", "stability"),
    "DirMixE": ("dirmixe", "mean"),
    "DirMixE, weights by stability": ("dirmixe", "stability"),
    "LDAM-DRW": ("ldam_drw", "mean"),
}


def points(*, smoke: bool = False) -> list[Point]:
    """Every run, those of the larger ratio first."""
    found = []
    for ratio in RATIOS:
        for name, (method, weighted) in METHODS.items():
            key = {"method": name, "ratio": ratio}
            arg = f"method={method},imf={ratio}"
            point = shipped_point(key, "experts_lt", arg, smoke=smoke, total=TOTAL)
            point.config.evaluators.test_priors["experts"] = weighted
            found.append(point)
    return found


GRID = Grid(
    "ratio",
    {ratio: f"ratio {ratio}" for ratio in RATIOS},
    METHODS,
    COLUMNS,
    [
        ("LA", "CE", "priors_uniform"),
        ("CE", "LA", "priors_forward_50"),
        ("RIDE", "CE", "priors_uniform"),
        ("SADE", "RIDE", "priors_uniform"),
        ("SADE, weights by stability", "SADE", "priors_backward_50"),
        ("SADE, weights by stability", "SADE", "priors_forward_50"),
        ("DirMixE", "SADE", "priors_mean"),
        (
            "DirMixE, weights by stability",
            "SADE, weights by stability",
            "priors_mean",
        ),
    ],
    corner="test prior",
)
CLAIMS, measure = GRID.claims(), GRID.measure
