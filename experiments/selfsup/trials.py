"""What each learner is tried with, and which of it is chosen: one budget for all."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.grid import ROOT, read_rows

DEFAULTS = "defaults"
# Every learner has four trials: its defaults, another learning rate, and two other
# values of what it depends on most, one of them the temperature where it has one.
RATE = {"rate 1": {"optimizer.lr": 1.0}}
COLD = {"temperature 0.1": {"method.temperature": 0.1}}
OWN: dict[str, dict[str, dict[str, Any]]] = {
    "SimCLR": {**COLD, "temperature 0.5": {"method.temperature": 0.5}},
    "MoCo": {**COLD, "momentum 0.9": {"method.momentum": 0.9}},
    # The published rate and weight decay on CIFAR are 0.06 and 5e-4.
    "SimSiam": {
        "rate 0.06": {"optimizer.lr": 0.06},
        "decay 0.0005": {"optimizer.weight_decay": 5e-4},
    },
    "BYOL": {
        "momentum 0.9": {"method.momentum": 0.9},
        "momentum 0.996": {"method.momentum": 0.996},
    },
    "MoCLR": {**COLD, "momentum 0.9": {"method.momentum": 0.9}},
    "Focal": {**COLD, "gamma 1": {"method.focal_gamma": 1.0}},
    "SDCLR": {**COLD, "prune 0.5": {"method.prune": 0.5}},
    "BCL": {**COLD, "beta 0.8": {"method.boost_beta": 0.8}},
    "BCL-D": {**COLD, "beta 0.8": {"method.boost_beta": 0.8}},
    "TS": {
        "lowest 0.05": {"method.temperature": 0.05},
        "highest 0.5": {"method.temperature_high": 0.5},
    },
    "GH": {**COLD, "weight 0.3": {"method.harmony": 0.3}},
}
RESULTS = ROOT / "experiments" / "selfsup" / "results" / "tuning.csv"


def trials(method: str) -> dict[str, dict[str, Any]]:
    """Trial -> what it changes; the defaults are the first one."""
    return {DEFAULTS: {}, **RATE, **OWN[method]}


def best_trials(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Learner -> its trial with the highest accuracy of the probe over all classes.

    A learner without all of its trials has none yet. One that diverged does not count.
    """
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        accuracy = np.nan_to_num(float(row["probe_all"]), nan=-np.inf)
        found.setdefault(row["method"], {})[row["trial"]] = float(accuracy)
    return {
        method: max(tried, key=tried.__getitem__)
        for method, tried in found.items()
        if method in OWN and tried.keys() >= trials(method).keys()
    }


@functools.cache
def chosen() -> dict[str, str]:
    """Learner -> its best trial of results/tuning.csv, where it is not the defaults."""
    best = best_trials(read_rows(RESULTS))
    return {method: trial for method, trial in best.items() if trial != DEFAULTS}
