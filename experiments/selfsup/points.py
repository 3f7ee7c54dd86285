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
MILD = 10  # a second ratio, for a few learners
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
# rwSAM weights the perturbation of adaptive SAM by how rare an example's features are.
_ASAM = {"gradient.name": "asam", "gradient.rho": 0.5}
SHARP = {"SimSiam": "rwsam", "MoCo": "rwsam_moco"}
for _method, _trial in chosen().items():
    METHODS[tuned(_method)] = METHODS[_method]
    CHANGES[tuned(_method)] = trials(_method)[_trial]
for _base, _network in NETWORK_OF_GH.items():
    METHODS[control(_base)] = METHODS[_base]
    CHANGES[control(_base)] = _network
    if harmonized(_base) not in METHODS:
        METHODS[harmonized(_base)] = METHODS[_base]
        CHANGES[harmonized(_base)] = {**_network, **_loss_of_gh()}
for _base, _learner in SHARP.items():
    METHODS[f"{_base} + ASAM"] = METHODS[_base]
    CHANGES[f"{_base} + ASAM"] = _ASAM
    METHODS[f"{_base} + rwSAM"], CHANGES[f"{_base} + rwSAM"] = _learner, {}
AT_MILD = ("SimCLR", "SDCLR", *map(tuned, ("SimCLR", "Focal")))
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
    ratio: int = RATIO,
    images: str = "",
    smoke: bool = False,
) -> Point:
    """The run of a learner on a long-tailed set, with options by dotted name.

    Args:
        key: see `Point`.
        method: a key of `METHODS`.
        changes: options beside those of the method.
        ratio: of the set.
        images: data set of the config family; "" is MNIST-1D.
        smoke: whether it is a few steps of one seed.
    """
    own = f",data={images}" if images else ""
    arg = f"method={METHODS[method]}{own},imf={ratio},probe=false"
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
    return [
        point_on(method, data, ratio, smoke=smoke)
        for ratio, methods in {RATIO: tuple(METHODS), MILD: AT_MILD}.items()
        for data in SETS
        for method in methods
        if data != "balanced" or method not in CHANGES
    ]


def point_on(
    method: str, data: str, ratio: int = RATIO, *, images: str = "", smoke: bool
) -> Point:
    """The run of a learner on one of `SETS`; see `point_of`."""
    key = {"method": method, "data": data, "ratio": ratio}
    point = point_of(key, method, ratio=ratio, images=images, smoke=smoke)
    config = point.config
    if method == RANDOM:  # its batch norm still gets to know the data
        config.optimizer.lr = config.optimizer.weight_decay = 0.0
        config.total = config.total if smoke else "50 steps"
    if data == "balanced":
        _balance(config)
    return point


def _counts(data: Any) -> np.ndarray:
    """Training examples of every class."""
    from ltjax.data.long_tail import long_tail_counts

    return long_tail_counts(10, data.max_count, data.imbalance_factor)


def _balance(config: Any) -> None:
    """The same number of classes and, but for rounding, of examples, without a tail."""
    config.data.max_count = int(_counts(config.data).mean())
    config.data.imbalance_factor = 1.0


def shot_classes(data: str = "mnist1d") -> dict[str, np.ndarray]:
    """The class groups of the long-tailed set, by which both sets are judged."""
    from ltjax.class_stats import shot_groups

    arg = f"data={data},imf={RATIO}"
    config = importlib.import_module("configs.selfsup_lt").get_config(arg)
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
    inputs, labels = _examples("train", run.config.data, PER_CLASS)
    test_inputs, truth = _examples("test", run.config.data, None)
    train, test = (_features(run, weights, x) for x in (inputs, test_inputs))
    classes = len(np.unique(labels))
    probe = logistic_probe(train, labels, num_classes=classes, l2=L2)
    votes = knn_predict(test, train, labels, num_classes=classes, k=NEIGHBORS)
    by_probe = _recalls(np.argmax(probe_logits(probe, test), axis=1), truth)
    by_votes = _recalls(np.asarray(votes), truth)
    groups = shot_classes(run.config.data.name)
    means = {name: by_probe[members].mean() for name, members in groups.items()}
    return {
        **{f"probe_{name}": value for name, value in means.items()},
        "probe_all": by_probe.mean(),
        "probe_std": np.std(list(means.values()), ddof=1),
        "knn_all": by_votes.mean(),
        "knn_few": by_votes[groups["few"]].mean(),
    }


def _examples(split: str, data: Any, per_class: int | None) -> tuple:
    """Inputs and labels of a stored split, at most `per_class` of each class."""
    from ltjax.data import load_source

    drawn = ("train_per_class", "test_per_class", "seed")  # what MNIST-1D depends on
    options = {name: getattr(data, name) for name in drawn if hasattr(data, name)}
    opened = load_source(data.name, split, data_dir=data.data_dir or None, **options)
    members = [np.flatnonzero(opened.labels == k) for k in range(opened.num_classes)]
    kept = np.concatenate([rows[:per_class] for rows in members])
    return opened.read(kept), opened.labels[kept]


def _features(run: Any, weights: Any, inputs: np.ndarray) -> np.ndarray:
    """Features of examples that are prepared as for an evaluation."""
    import jax

    embed = jax.jit(run.model.embed)  # one function, so replicas share the program
    parts = []
    for start in range(0, len(inputs), 1000):
        part = inputs[start : start + 1000]
        index = np.arange(len(part))
        rows = {"index": index, "mask": np.ones(len(part), bool)}
        arrays = {"inputs": part, "label": np.zeros_like(index)}
        batch = run.train_set.feed.batch(arrays, rows, None, train=False)
        parts.append(np.asarray(embed(*weights, batch["inputs"])))
    return np.concatenate(parts)


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
SHARPER = tuple(
    pair
    for base in SHARP
    for pair in (
        (f"{base} + ASAM", base),
        (f"{base} + rwSAM", base),
        (f"{base} + rwSAM", f"{base} + ASAM"),
    )
)


def _claim(
    text: str,
    better: tuple[str, str],
    worse: tuple[str, str],
    metric: str,
    ratio: int = RATIO,
) -> Claim:
    """A claim about (method, set) pairs of one ratio."""
    sides = (
        {"method": method, "data": data, "ratio": str(ratio)}
        for method, data in (better, worse)
    )
    return Claim(text, f"ratio {ratio}", *sides, metric)


def tail_costs(method: str, ratio: int) -> list[Claim]:
    """That a learner is worse on the long-tailed set, for all and for rare classes."""
    text = f"{method}: balanced above long-tailed"
    sides = (method, "balanced"), (method, "long-tailed")
    return [_claim(text, *sides, x, ratio) for x in ("probe_all", "probe_few")]


def above(better: str, worse: str, ratio: int = RATIO) -> list[Claim]:
    """That one learner is above another on the long-tailed set."""
    text = f"{better} above {worse}"
    sides = (better, "long-tailed"), (worse, "long-tailed")
    metrics = ("probe_all",) if worse == RANDOM else ("probe_all", "probe_few")
    return [_claim(text, *sides, metric, ratio) for metric in metrics]


def closer(method: str, base: str, ratio: int = RATIO) -> Claim:
    """That a learner's groups of classes are closer together than another's."""
    text = f"{base}: groups further apart than {method}'s"
    sides = (base, "long-tailed"), (method, "long-tailed")
    return _claim(text, *sides, "probe_std", ratio)


# (learner, what it is compared with)
_AWARE = tuple((method, "SimCLR") for method in TAIL_AWARE)
_TUNED = tuple((tuned(method), tuned("SimCLR")) for method in TAIL_TUNED)
_MILD = (("SDCLR", "SimCLR"), (tuned("Focal"), tuned("SimCLR")))
CLAIMS = [
    *(
        claim
        for method in METHODS
        if method != RANDOM and method not in CHANGES
        for claim in tail_costs(method, RATIO)
    ),
    *(
        claim
        for pair in (
            *((method, RANDOM) for method in METHODS if method != RANDOM),
            *_AWARE,
            *_TUNED,
            *WITH_GH,
            *SHARPER,
        )
        for claim in above(*pair)
    ),
    *(closer(*pair) for pair in (*_AWARE, *_TUNED, *WITH_GH, *SHARPER)),
    *tail_costs("SimCLR", MILD),
    *(claim for pair in _MILD for claim in (*above(*pair, MILD), closer(*pair, MILD))),
]
