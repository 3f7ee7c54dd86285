"""The grid: every learner on a long-tailed set and on a balanced one of equal size."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.grid import Point
from experiments.seeded import Claim, Trained, seed_rows, shipped_point, train_seeds

RATIO = 100
TOTAL = "1000 steps"
SETS = ("long-tailed", "balanced")
PER_CLASS = 500  # training examples of a class that probe and neighbors see
NEIGHBORS = 10
L2 = 1e-4

# Name -> the learner of `configs/selfsup_lt.py`.
METHODS = {
    "random encoder": "simclr",
    "SimCLR": "simclr",
    "SimCLR, as in GH": "simclr",
    "MoCo": "moco",
    "SimSiam": "simsiam",
    "BYOL": "byol",
    "MoCLR": "moclr",
    "Focal": "focal",
    "SDCLR": "sdclr",
    "BCL": "bcl",
    "BCL-D": "bcl_d",
    "TS": "ts",
    "GH": "gh",
}
# What a learner is tried with beside its defaults: a higher learning rate, and another
# value of what is its own. As many trials for each.
RATE = {"rate 1": {"optimizer.lr": 1.0}}
OWN = {
    "SimCLR": ("temperature 0.1", {"method.temperature": 0.1}),
    "TS": ("highest 0.5", {"method.temperature_high": 0.5}),
    "SDCLR": ("prune 0.5", {"method.prune": 0.5}),
    "GH": ("weight 0.3", {"method.harmony": 0.3}),
    "BCL": ("beta 0.8", {"method.boost_beta": 0.8}),
    "Focal": ("gamma 1", {"method.focal_gamma": 1.0}),
}
DEFAULTS = "defaults"
# The best trials of results/tuning.csv, where they are not the defaults.
CHOSEN = {
    "SimCLR": "temperature 0.1",
    "TS": "rate 1",
    "BCL": "beta 0.8",
    "Focal": "gamma 1",
}


def trials(method: str) -> dict[str, dict[str, Any]]:
    """Trial -> what it changes; the defaults are the first one."""
    name, changes = OWN[method]
    return {DEFAULTS: {}, **RATE, name: changes}


def tuned(method: str) -> str:
    """The name of a learner with its best trial."""
    return f"{method}, tuned" if method in CHOSEN else method


METHODS |= {tuned(method): METHODS[method] for method in CHOSEN}
# GH is published with a batch normalization of each view and projections of 128. With
# these, SimCLR is what GH adds its loss to.
CONTROL = "SimCLR, as in GH"
CHANGES = {
    CONTROL: {"method.joint": False, "head.dim": 128},
    **{tuned(method): trials(method)[trial] for method, trial in CHOSEN.items()},
}
RANDOM = "random encoder"
COLUMNS = {
    "probe_all": "probe, all",
    "probe_many": "many",
    "probe_medium": "medium",
    "probe_few": "few",
    "probe_std": "std of groups",
    "knn_all": "10-NN, all",
    "knn_few": "10-NN, few",
}


def point_of(
    key: Mapping[str, object],
    method: str,
    changes: Mapping[str, Any] | None = None,
    *,
    smoke: bool = False,
) -> Point:
    """The run of a learner on the long-tailed set, with options by dotted name."""
    arg = f"method={METHODS[method]},imf={RATIO},probe=false"
    changes = {**CHANGES.get(method, {}), **(changes or {})}
    return shipped_point(key, "selfsup_lt", arg, changes, smoke=smoke, total=TOTAL)


def points(*, smoke: bool = False) -> list[Point]:
    """Every run, the long-tailed ones first."""
    found = []
    for data in SETS:
        for name in METHODS:
            key = {"method": name, "data": data, "ratio": RATIO}
            point = point_of(key, name, smoke=smoke)
            config = point.config
            if name == RANDOM:  # its batch norm still gets to know the data
                config.optimizer.lr = config.optimizer.weight_decay = 0.0
                config.total = config.total if smoke else "50 steps"
            if data == "balanced":
                _balance(config)
            found.append(point)
    return found


def _counts(data: Any) -> np.ndarray:
    """Training examples of every class."""
    from ltjax.data.long_tail import long_tail_counts

    return long_tail_counts(10, data.max_count, data.imbalance_factor)


def _balance(config: Any) -> None:
    """The same number of classes and, but for rounding, of examples, without a tail."""
    config.data.max_count = int(_counts(config.data).mean())
    config.data.imbalance_factor = 1.0


def shot_classes() -> dict[str, np.ndarray]:
    """The class groups of the long-tailed set, by which both sets are judged."""
    from ltjax.class_stats import shot_groups

    config = importlib.import_module("configs.selfsup_lt").get_config(f"imf={RATIO}")
    return shot_groups(_counts(config.data), many=config.many, few=config.few)


def measure(point: Point) -> list[dict[str, str]]:
    """The rows of a run: a probe and a vote on features of balanced training data."""
    trained = train_seeds(point.config)
    count = len(trained.run.info.replicas)
    if trained.result is None:
        lost = np.full(count, np.nan)
        return seed_rows(point, trained, dict.fromkeys(COLUMNS, lost))
    found = [judge_features(trained, r) for r in range(count)]
    values = {name: np.asarray([one[name] for one in found]) for name in COLUMNS}
    return seed_rows(point, trained, values)


def judge_features(trained: Trained, replica: int) -> dict[str, float]:
    """`COLUMNS` of one replica, as fractions; "std" is the deviation of the groups."""
    import jax

    from ltjax.classifiers import logistic_probe, probe_logits
    from ltjax.metrics import knn_predict

    run, state = trained.run, trained.result.state
    weights = jax.tree.map(lambda x: x[replica], (state.params, state.model_state))
    embed = jax.jit(run.model.embed)
    inputs, labels = _signals("train", run.config.data, PER_CLASS)
    test_inputs, truth = _signals("test", run.config.data, None)
    train, test = embed(*weights, inputs), embed(*weights, test_inputs)
    classes = len(np.unique(labels))
    probe = logistic_probe(train, labels, num_classes=classes, l2=L2)
    votes = knn_predict(test, train, labels, num_classes=classes, k=NEIGHBORS)
    by_probe = _recalls(np.argmax(probe_logits(probe, test), axis=1), truth)
    by_votes = _recalls(np.asarray(votes), truth)
    groups = shot_classes()
    means = {name: by_probe[members].mean() for name, members in groups.items()}
    return {
        **{f"probe_{name}": value for name, value in means.items()},
        "probe_all": by_probe.mean(),
        "probe_std": np.std(list(means.values()), ddof=1),
        "knn_all": by_votes.mean(),
        "knn_few": by_votes[groups["few"]].mean(),
    }


def _signals(split: str, data: Any, per_class: int | None) -> tuple:
    """Signals and labels of a split, at most `per_class` of each class."""
    from ltjax.data.mnist1d import NUM_CLASSES, open_mnist1d

    opened = open_mnist1d(
        split,
        train_per_class=data.train_per_class,
        test_per_class=data.test_per_class,
        seed=data.seed,
    )
    members = [np.flatnonzero(opened.labels == k) for k in range(NUM_CLASSES)]
    kept = np.concatenate([rows[:per_class] for rows in members])
    return opened.reader(kept), opened.labels[kept]


def _recalls(guess: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.asarray([(guess[truth == k] == k).mean() for k in np.unique(truth)])


TAIL_AWARE = ("Focal", "SDCLR", "BCL", "BCL-D", "TS", "GH")
TAIL_TUNED = tuple(method for method in OWN if method in TAIL_AWARE)
CLAIMS = [
    *(
        Claim(
            f"{method}: balanced above long-tailed",
            f"ratio {RATIO}",
            {"method": method, "data": "balanced"},
            {"method": method, "data": "long-tailed"},
            metric,
        )
        for method in METHODS
        if method != RANDOM and method not in CHANGES
        for metric in ("probe_all", "probe_few")
    ),
    *(
        Claim(
            f"{better} above {worse}",
            f"long-tailed, ratio {RATIO}",
            {"method": better, "data": "long-tailed"},
            {"method": worse, "data": "long-tailed"},
            metric,
        )
        for better, worse in (
            *((method, RANDOM) for method in METHODS if method != RANDOM),
            *((method, "SimCLR") for method in TAIL_AWARE),
            *((tuned(method), tuned("SimCLR")) for method in TAIL_TUNED),
            ("GH", CONTROL),
        )
        for metric in (
            ("probe_all",) if worse == RANDOM else ("probe_all", "probe_few")
        )
    ),
    *(
        Claim(
            f"{base}: groups further apart than {method}'s",
            f"long-tailed, ratio {RATIO}",
            {"method": base, "data": "long-tailed"},
            {"method": method, "data": "long-tailed"},
            "probe_std",
        )
        for base, method in (
            *(("SimCLR", method) for method in TAIL_AWARE),
            *((tuned("SimCLR"), tuned(method)) for method in TAIL_TUNED),
            (CONTROL, "GH"),
        )
    ),
]
