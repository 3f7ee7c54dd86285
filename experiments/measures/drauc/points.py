"""The grid: losses of the AUC on clean and attacked digits, judged when corrupted."""

import importlib

import numpy as np

from experiments.grid import Point
from experiments.seeded import SEEDS, Claim, seed_rows, train_seeds

TOTAL, BATCH = "400 steps", 64
ATTACK = {"steps": 4, "attack_lr": 0.3}  # the way of ten steps of 0.12
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
COLUMNS = ("clean", "mean", "worst", *(f"severity_{s}" for s in range(1, 6)), *KINDS)


def points(*, smoke: bool = False) -> list[Point]:
    """Every run, those with more positives first."""
    module = importlib.import_module("configs.robust_auc")
    found = []
    for share in SHARES:
        for name, method in METHODS.items():
            arg = f"data=glyphs,method={method},share={share}"
            config = module.get_config(f"{arg},smoke" if smoke else arg)
            config.data.corrupted_images = 20 if smoke else 200
            if not smoke:
                config.total, config.batch_size = TOTAL, BATCH
                config.replicas.seeds = SEEDS
                if config.method.name == "drauc":
                    config.method.update(ATTACK)
            key = {"method": name, "share": share}
            found.append(Point(key, config, f"configs/robust_auc.py:{arg}"))
    return found


def measure(point: Point) -> list[dict[str, str]]:
    """The rows of a run: areas on the clean and the corrupted images."""
    trained = train_seeds(point.config)
    lost = np.full(len(trained.run.info.replicas), np.nan)
    metrics = trained.result.metrics if trained.result else {}

    def of(name: str) -> np.ndarray:
        return np.asarray(metrics.get(f"eval/corrupted/{name}", lost))

    values = {
        "clean": of("clean"),
        "mean": of("corrupted_mean"),
        "worst": of("corrupted_worst"),
        **{f"severity_{s}": of(f"severity_{s}") for s in range(1, 6)},
        **{
            kind: np.mean([of(f"corrupted_{name}") for name in names], axis=0)
            for kind, names in KINDS.items()
        },
    }
    return seed_rows(point, trained, values)


CLAIMS = [
    Claim(
        f"{better} above {worse}",
        f"share {share}",
        {"method": better, "share": str(share)},
        {"method": worse, "share": str(share)},
        metric,
    )
    for share in SHARES
    for better, worse, metric in (
        ("AUCM", "CE", "clean"),
        ("AUCM", "CE", "mean"),
        ("DRAUC, one budget", "AUCM", "mean"),
        ("DRAUC, by class", "AUCM", "mean"),
        ("DRAUC, by class", "DRAUC, one budget", "mean"),
        ("DRAUC, by class", "AUCM", "severity_5"),
        ("DRAUC, by class", "AUCM", "noise"),
    )
]
