"""The grid: how two modalities learn together, with readable and unreadable images."""

import importlib

import numpy as np

from experiments.grid import Point
from experiments.seeded import SEEDS, Claim, seed_rows, train_seeds

TOTAL = "600 steps"
ABSENT = (0.3, 0.0)  # share of examples whose image is noise
COLUMNS = ("balanced_accuracy", "few", "alone_image", "alone_signal")

# Name -> (method of `configs/multimodal_digits.py`, its options).
METHODS = {
    "joint training": ("joint", {}),
    "ReconBoost": ("reconboost", {}),
    "late fusion": ("late", {}),
    "OGM": ("ogm", {}),
    "ReconBoost, KL form": ("reconboost", {"residual": "kl"}),
    "ReconBoost without consolidation": ("reconboost", {"consolidation": 0.0}),
}


def points(*, smoke: bool = False) -> list[Point]:
    """Every run, those with unreadable images first."""
    module = importlib.import_module("configs.multimodal_digits")
    found = []
    for absent in ABSENT:
        for name, (method, options) in METHODS.items():
            arg = f"method={method}"
            config = module.get_config(f"{arg},smoke" if smoke else arg)
            if not smoke:
                config.data.train_per_class, config.data.size = 200, 16
                config.model.widths, config.head.hidden = (16, 32), 64
                config.many, config.few = 100, 40
                config.total, config.replicas.seeds = TOTAL, SEEDS
                config.eval_every = config.checkpoint_every = "100%"
            config.data.absent_image = absent
            for option, value in options.items():
                config.method[option] = value
            key = {"method": name, "absent": absent}
            found.append(Point(key, config, f"configs/multimodal_digits.py:{arg}"))
    return found


def measure(point: Point) -> list[dict[str, str]]:
    """The rows of a run: accuracy fused, and of each modality by itself."""
    trained = train_seeds(point.config)
    lost = np.full(len(trained.run.info.replicas), np.nan)
    metrics = trained.result.metrics if trained.result else {}
    values = {name: metrics.get(f"eval/test/{name}", lost) for name in COLUMNS}
    return seed_rows(point, trained, values)


CLAIMS = [
    Claim(
        f"{better} above {worse}",
        f"{metric}, {absent:.0%} of the images are noise",
        {"method": better, "absent": str(absent)},
        {"method": worse, "absent": str(absent)},
        metric,
    )
    for absent in ABSENT
    for better, worse, metric in (
        ("ReconBoost", "joint training", "balanced_accuracy"),
        ("ReconBoost", "joint training", "alone_image"),
        ("ReconBoost", "joint training", "alone_signal"),
        ("ReconBoost", "OGM", "balanced_accuracy"),
        ("ReconBoost", "late fusion", "balanced_accuracy"),
        ("ReconBoost", "ReconBoost without consolidation", "balanced_accuracy"),
        ("late fusion", "joint training", "alone_image"),
    )
]
