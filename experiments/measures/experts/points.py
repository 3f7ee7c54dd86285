"""The grid: one network or several experts, judged under many test priors."""

import importlib

import numpy as np

from experiments.grid import Point
from experiments.seeded import SEEDS, Claim, seed_rows, train_seeds

TOTAL = "1500 steps"
RATIOS = (100, 50)  # of the training set
PRIORS = ("forward_50", "forward_10", "uniform", "backward_10", "backward_50")
COLUMNS = (*(f"priors_{name}" for name in PRIORS), "priors_mean", "few")

# Name -> (method of `configs/experts_lt.py`, how experts are weighted).
METHODS = {
    "CE": ("ce", "mean"),
    "LA": ("la", "mean"),
    "LDAM-DRW": ("ldam_drw", "mean"),
    "RIDE": ("ride", "mean"),
    "SADE": ("sade", "mean"),
    "SADE, weights by stability": ("sade", "stability"),
    "DirMixE": ("dirmixe", "mean"),
    "DirMixE, weights by stability": ("dirmixe", "stability"),
}


def points(*, smoke: bool = False) -> list[Point]:
    """Every run, those of the larger ratio first."""
    module = importlib.import_module("configs.experts_lt")
    found = []
    for ratio in RATIOS:
        for name, (method, weighted) in METHODS.items():
            arg = f"method={method},imf={ratio}"
            config = module.get_config(f"{arg},smoke" if smoke else arg)
            if not smoke:
                config.total, config.replicas.seeds = TOTAL, SEEDS
            config.evaluators.test_priors["experts"] = weighted
            key = {"method": name, "ratio": ratio}
            found.append(Point(key, config, f"configs/experts_lt.py:{arg}"))
    return found


def measure(point: Point) -> list[dict[str, str]]:
    """The rows of a run: accuracy under each test prior."""
    trained = train_seeds(point.config)
    lost = np.full(len(trained.run.info.replicas), np.nan)
    metrics = trained.result.metrics if trained.result else {}
    values = {name: metrics.get(f"eval/test/{name}", lost) for name in COLUMNS}
    return seed_rows(point, trained, values)


CLAIMS = [
    Claim(
        f"{better} above {worse}",
        f"ratio {ratio}",
        {"method": better, "ratio": str(ratio)},
        {"method": worse, "ratio": str(ratio)},
        metric,
    )
    for ratio in RATIOS
    for better, worse, metric in (
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
    )
]
