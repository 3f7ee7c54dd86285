"""The grid: every learner on a long-tailed set and on a balanced one of equal size."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.grid import Point
from experiments.seeded import Claim, Trained, seed_rows, shipped_point, train_seeds
from experiments.selfsup.trials import OWN, chosen, trials
from ltjax.train.config import copy_config

RATIO = 100
TOTAL = "1000 steps"
SETS = ("long-tailed", "balanced")
PER_CLASS = 500  # training examples of a class that probe and neighbors see
NEIGHBORS = 10
L2 = 1e-4

RANDOM = "random encoder"
# Name -> the learner of `configs/selfsup_lt.py`.
METHODS = {
    RANDOM: "simclr",
    "SimCLR": "simclr",
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
    "DnC": "dnc",
}
# GH is published on five learners, with a batch normalization of each view and
# projections of 128. With these, a learner is what GH adds its loss to.
_WIDE = {"head.dim": 128}
_APART = {"method.joint": False, **_WIDE}
NETWORK_OF_GH = {
    "SimCLR": _APART,
    "Focal": _APART,
    "SDCLR": _WIDE,
    "BCL": _APART,
    "DnC": _WIDE,
}
# Of the 1000 steps of the others, of which an epoch is 19; each expert makes as many
# passes over its own cluster as the base over everything.
DNC_LENGTHS = {"base": "400 steps", "clusters": "5 epochs", "pretrain": "200 steps"}
DNC_EXPERT = "21 epochs"


def harmonized(base: str) -> str:
    """The name of a learner with the loss of GH."""
    return "GH" if base == "SimCLR" else f"{base} + GH"


def control(base: str) -> str:
    """The name of a learner in the network that it has under GH, without its loss."""
    return f"{base}, as in GH"


def tuned(method: str) -> str:
    """The name of a learner with its best trial."""
    trial = chosen().get(method)
    return f"{method}, {trial}" if trial else method


def _loss_of_gh() -> dict[str, Any]:
    """The options of GH's loss, without those of its network."""
    changes = importlib.import_module("configs.selfsup_lt").METHODS["gh"]
    return {path: x for path, x in changes.items() if ".harmony" in path}


# What is no learner of the config family as it is: name -> options by dotted name.
CHANGES: dict[str, Mapping[str, Any]] = {}
for _method, _trial in chosen().items():
    METHODS[tuned(_method)] = METHODS[_method]
    CHANGES[tuned(_method)] = trials(_method)[_trial]
for _base, _network in NETWORK_OF_GH.items():
    METHODS[control(_base)] = METHODS[_base]
    CHANGES[control(_base)] = _network
    if harmonized(_base) not in METHODS:
        METHODS[harmonized(_base)] = METHODS[_base]
        CHANGES[harmonized(_base)] = {**_network, **_loss_of_gh()}
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
    point = shipped_point(key, "selfsup_lt", arg, changes, smoke=smoke, total=TOTAL)
    if METHODS[method] == "dnc":
        _fit_stages(point.config, smoke=smoke)
    return point


def _fit_stages(config: Any, *, smoke: bool) -> None:
    """Stages of divide and contrast in the budget, with projections of one width."""
    stages = [dict(stage) for stage in config.stages]
    for stage in stages:
        if not smoke:
            stage["total"] = DNC_LENGTHS.get(stage["name"], DNC_EXPERT)
        if "head" in stage:
            stage["head"] = {**stage["head"], "dim": config.head.dim}
    config.stages = tuple(stages)


def points(*, smoke: bool = False) -> list[Point]:
    """Every run, the long-tailed ones first; the plain learners on the balanced set."""
    found = []
    for data in SETS:
        for name in METHODS:
            if data == "balanced" and name in CHANGES:
                continue
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
    if any("columns_from" in stage for stage in point.config.get("stages", ())):
        # What earlier stages say of an example is that of one seed.
        configs = [copy_config(point.config) for _ in point.config.replicas.seeds]
        for config, seed in zip(configs, point.config.replicas.seeds, strict=True):
            config.replicas.seeds = (seed,)
    else:
        configs = [point.config]
    return [row for config in configs for row in _measured(point, config)]


def _measured(point: Point, config: Any) -> list[dict[str, str]]:
    """A row for every seed of a config of the point."""
    trained = train_seeds(config)
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


TAIL_AWARE = ("Focal", "SDCLR", "BCL", "BCL-D", "TS", "GH", "DnC")
# What is tuned is compared with SimCLR that is tuned too, once it is.
TAIL_TUNED = tuple(
    method
    for method in TAIL_AWARE
    if method in OWN and {method, "SimCLR"} & chosen().keys()
)
WITH_GH = tuple((harmonized(base), control(base)) for base in NETWORK_OF_GH)
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
            *WITH_GH,
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
            *((base, method) for method, base in WITH_GH),
        )
    ),
]
