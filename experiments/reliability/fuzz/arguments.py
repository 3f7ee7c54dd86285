"""Valid arguments for public functions, in a few shapes.

Numbers lie on a grid that bfloat16 holds exactly, so that the same call in another
precision meets the same ties.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.reliability.fuzz.contracts import Argument, Contract


class Sizes(NamedTuple):
    """How large the arrays of a call are: examples, classes, features."""

    n: int
    k: int
    d: int


# Few, since JAX compiles every operation anew for a new shape.
POOL = (Sizes(6, 3, 2), Sizes(0, 3, 2), Sizes(1, 3, 2), Sizes(4, 1, 2))
BINS = 4


def length(axis: str, sizes: Sizes) -> int:
    """The number of entries along an axis of a docstring."""
    fixed = {"P": 2, "E": 3, "V": 2, "bins": BINS, "F": sizes.d}
    if axis.isdecimal():
        return int(axis)
    if axis in ("K", "L", "S", "C", "k"):
        return sizes.k
    return sizes.d if axis == "D" else fixed.get(axis, sizes.n)


def _grid(rng: np.random.Generator, shape, low: int = -48, high: int = 48):
    return (rng.integers(low, high + 1, shape) / 16).astype(np.float32)


def _simplex(rng: np.random.Generator, shape) -> np.ndarray:
    """Rows of positive sixteenths that sum to 1."""
    if not shape or not shape[-1]:
        return np.zeros(shape, np.float32)
    share = np.full(shape[-1], 1 / shape[-1])
    more = rng.multinomial(16 - shape[-1], share, size=shape[:-1])
    return ((1 + more) / 16).astype(np.float32)


def _array(argument: Argument, sizes: Sizes, rng: np.random.Generator) -> np.ndarray:
    """An array such as a docstring describes."""
    shape = tuple(length(axis, sizes) for axis in argument.axes or ())
    words, name = argument.words, argument.name
    if "bool" in words and "class ind" not in words:
        return rng.random(shape) < 0.6
    if name in ("candidates", "positive", "correct"):
        return rng.random(shape) < 0.6
    if "counts" in name or "pixel" in name or name in ("sizes", "positive", "negative"):
        return rng.integers(1, 60, shape)
    if words.startswith(("int", "float or int")):
        return rng.integers(0, max(sizes.k, 1), shape).astype(np.int32)
    if any(said in argument.text for said in ("sums to 1", "sum to 1", "of sum 1")):
        return _simplex(rng, shape)
    if "in [0, 1]" in words or "in (0, 1]" in words or "recall" in name:
        return _grid(rng, shape, 1, 16)
    if ">" in words or "positive" in words or "non-negative" in words:
        return _grid(rng, shape, 1, 48)
    if "probabilities" in name:
        return _simplex(rng, shape)
    return _grid(rng, shape)


Maker = Callable[[Sizes, np.random.Generator, Mapping[str, Any]], Any]


def _confusion(sizes: Sizes, rng: np.random.Generator, given) -> np.ndarray:
    return rng.integers(0, 9, (sizes.k, sizes.k)) + np.eye(sizes.k, dtype=np.int64)


def _groups(sizes: Sizes, rng: np.random.Generator, given) -> dict[str, np.ndarray]:
    many = np.arange(sizes.k) % 2 == 0
    return {"many": many, "few": ~many}


def _bins(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax.metrics import class_bins

    count = rng.integers(0, 5, (sizes.k, BINS))
    part = count * (np.arange(BINS) + 0.5) / BINS
    return class_bins(
        {"bin_count": count, "bin_confidence": part, "bin_correct": count // 2}
    )


def _costs(sizes: Sizes, rng: np.random.Generator, given) -> np.ndarray:
    costs = _grid(rng, (sizes.k, sizes.k), 1, 48)
    np.fill_diagonal(costs, 0)
    return costs


def _duals(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax.losses import SaddleDuals

    return SaddleDuals(*(_grid(rng, (), 0, 16)[()] for _ in range(3)))


def _draws(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax.losses import sample_priors

    key = jax.random.key(int(rng.integers(99)))
    return sample_priors(key, np.arange(1, sizes.k + 1), num_draws=6)


def _averages(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax.losses import AveragePrecisionMeans

    return AveragePrecisionMeans(*(_grid(rng, (sizes.n,), 1, 16) for _ in range(2)))


def _collapse(sizes: Sizes, rng: np.random.Generator, part: str) -> Any:
    from ltjax import metrics

    n = 3 * sizes.k
    labels = np.arange(n) % sizes.k
    features, logits = _grid(rng, (n, sizes.d)), _grid(rng, (n, sizes.k))
    means = metrics.ClassMeanState.empty(sizes.k, sizes.d).update(features, labels)
    if part == "means":
        return means
    geometry = metrics.collapse_geometry(means)
    if part == "geometry":
        return geometry
    state = metrics.CollapseState.empty(sizes.k)
    return state.update(geometry, features, logits, labels)


def _sums(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax import classifiers

    labels = np.arange(2 * sizes.k) % sizes.k
    empty = classifiers.init_class_sums(sizes.k, sizes.d)
    features = _grid(rng, (len(labels), sizes.d))
    return classifiers.update_class_sums(empty, features, labels)


def _means(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax import classifiers

    return classifiers.class_means(_sums(sizes, rng, given))


def _neighbors(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax.metrics import nearest_neighbors

    bank = _grid(rng, (max(sizes.n, 2), sizes.d))
    return nearest_neighbors(_grid(rng, (sizes.n, sizes.d)), bank, k=2)


def _probe(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax.classifiers import LinearProbe

    kernel, bias = _grid(rng, (sizes.d, sizes.k)), _grid(rng, (sizes.k,))
    return LinearProbe(kernel, bias, np.float32(0), np.int32(1), np.int32(1))


def _gaussians(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax.pseudo_labels import class_gaussians

    labels = np.arange(4 * sizes.k) % sizes.k
    return class_gaussians(_grid(rng, (len(labels), sizes.d)), labels, sizes.k)


def _sampler(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax.resampling import instance

    return instance(8, 2)


def _plan(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax.resampling import smote_plan

    labels = np.array([0, 0, 0, 1, 1])
    plan = smote_plan(0, _grid(rng, (5, sizes.d)), labels, k=1)
    return plan._replace(base=plan.base % max(sizes.n, 1), neighbor=plan.neighbor * 0)


def _sub_classes(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax.resampling import cog

    labels = given["labels"]
    return cog(0, np.arange(float(len(labels)))[:, None], labels, restarts=1)


def _buffer(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax.pseudo_labels import init_distribution_buffer

    return init_distribution_buffer(sizes.k, size=3)


def _pesg_state(sizes: Sizes, rng: np.random.Generator, given) -> Any:
    from ltjax.losses import SaddleVariables, pesg

    duals = _duals(sizes, rng, given)
    return pesg(0.1).init(SaddleVariables({"w": _grid(rng, (sizes.d,))}, duals))


def constant(value: Any) -> Maker:
    """A maker of one value."""
    return lambda sizes, rng, given: value


def among(*values: Any) -> Maker:
    """A maker of one of these."""
    return lambda sizes, rng, given: values[int(rng.integers(len(values)))]


def floats(*axes: str, low: int = -48, high: int = 48) -> Maker:
    """A maker of an array of these axes, in sixteenths."""
    return lambda sizes, rng, given: _grid(
        rng, tuple(length(axis, sizes) for axis in axes), low, high
    )


def integers(*axes: str, low: int = 0, high: int = 2) -> Maker:
    """A maker of an int array of these axes in [low, high)."""
    return lambda sizes, rng, given: rng.integers(
        low, high, tuple(length(axis, sizes) for axis in axes)
    )


# What a docstring gives no shape for; a function's own row comes before a name's.
MAKERS: dict[str, Maker] = {
    "arrays": lambda sizes, rng, given: {"confusion": _confusion(sizes, rng, given)},
    "averages": _averages,
    "batch_size": constant(2),
    "beta": among(0.25, 0.5),
    "buffer": _buffer,
    "caller": constant("fuzz"),
    "classifier": _means,
    "cost": _costs,
    "counts": _confusion,
    "dim": lambda sizes, rng, given: sizes.d,
    "draws": _draws,
    "duals": _duals,
    "epoch": among(0, 3, 20),
    "gamma": among(0.25, 2.0),
    "gaussians": _gaussians,
    "generation": constant(1),
    "generations": constant(3),
    "geometry": lambda sizes, rng, given: _collapse(sizes, rng, "geometry"),
    "gradients": lambda sizes, rng, given: {
        "head": {"kernel": _grid(rng, (2, 3))},
        "w": _grid(rng, (3, 2)),
    },
    "groups": _groups,
    "head": lambda sizes, rng, given: {"kernel": _grid(rng, (2, 3))},
    "k": constant(1),
    "key": lambda sizes, rng, given: jax.random.key(int(rng.integers(9))),
    "keep_rate": constant(0.25),
    "l2": constant(0.125),
    "learning_rate": constant(0.125),
    "main": _sampler,
    "majority_count": constant(50),
    "margin_gap": among(0.0, 1.5),
    "max_fpr": among(0.25, 1.0),
    "means": lambda sizes, rng, given: _collapse(sizes, rng, "means"),
    "minority_count": constant(7),
    "neighbors": _neighbors,
    "noise_rate": among(0.0, 0.25),
    "num_classes": lambda sizes, rng, given: sizes.k,
    "num_clusters": constant(2),
    "num_draws": constant(4),
    "num_examples": constant(900),
    "num_features": constant(3),
    "others": lambda sizes, rng, given: [(_sampler(sizes, rng, given), 1)],
    "params": lambda sizes, rng, given: {
        "head": {"kernel": _grid(rng, (2, 3))},
        "w": _grid(rng, (3, 2)),
    },
    "percent": among(0, 100, 250),
    "plan": _plan,
    "positive_share": among(0.25, 0.5),
    "power": among(1.0, 0.5, 2.0),
    "probe": _probe,
    "radius": constant(0.125),
    "rate": among(0.25, 0.5),
    "ratio": among(1.0, 4.0),
    "second": _sampler,
    "size": constant(20),
    "state": lambda sizes, rng, given: _collapse(sizes, rng, "state"),
    "stop": constant(2.0),
    "sub_classes": _sub_classes,
    "sums": _bins,
    "switch_step": constant(3),
    "tau": among(0.0, 0.5, 1.0),
    "temperature": among(0.5, 2.0),
    "threshold": among(0.25, 1.0),
    "total": constant(5),
    "total_epochs": constant(4),
    "transform": among("none", "l2n"),
    "forget_rate": among(0.0, 0.25),
    "alpha": among(0.25, 0.5),
    # Of one function.
    "losses.aucm.labels": integers("B"),
    "losses.best_saddle_duals.labels": integers("B"),
    "losses.aucm.scores": floats("B", low=0, high=16),
    "losses.autkc.scores": floats("B", "K", low=1, high=15),
    "losses.tkpr.scores": floats("B", "L", low=1, high=15),
    "losses.auc_square.labels": integers("B", high=1),
    "losses.ldam.cosines": floats("B", "K", low=-16, high=16),
    "losses.refresh_pesg.state": _pesg_state,
    "losses.song.averages": floats("B", "L", low=1, high=16),
    "losses.update_cvar_thresholds.beta": constant(0.5),
    "metrics.average_precision.labels": integers("N"),
    "metrics.feature_coverage.neighbors": constant(1),
    "metrics.knn_predict.k": constant(1),
    "metrics.margin_bound.labels": lambda sizes, rng, given: (
        np.arange(sizes.n) % max(sizes.k, 1)
    ),
    "metrics.margin_bound.margins": lambda sizes, rng, given: _grid(
        rng, (sizes.n, sizes.k - 1)
    ),
    "metrics.mean_average_precision.labels": lambda sizes, rng, given: rng.integers(
        0, max(sizes.k, 1), sizes.n
    ),
    "metrics.class_bins.arrays": lambda sizes, rng, given: {
        "bin_count": np.full((sizes.k, BINS), 2),
        "bin_confidence": _grid(rng, (sizes.k, BINS), 1, 32),
        "bin_correct": rng.integers(0, 3, (sizes.k, BINS)),
    },
    "metrics.collapse_metrics.weights": floats("D", "K"),
    "metrics.dirichlet_priors.draws": constant(3),
    "metrics.group_auc.matrix": floats("K", "K", low=0, high=16),
    "metrics.neighbor_votes.bank_labels": lambda sizes, rng, given: rng.integers(
        0, max(sizes.k, 1), max(sizes.n, 2)
    ),
    "metrics.prior_accuracy.recall": floats("K", low=0, high=16),
    "metrics.balancedness.recall": floats("K", low=0, high=16),
    "classifiers.class_means.sums": _sums,
    "classifiers.global_mean.sums": _sums,
    "classifiers.update_class_sums.sums": _sums,
    "classifiers.grassmannian_frame.restarts": constant(2),
    "classifiers.grassmannian_frame.steps": constant(3),
    "classifiers.grassmannian_frame.stages": constant(2),
    "classifiers.orthonormal_columns.rows": lambda sizes, rng, given: sizes.d,
    "classifiers.orthonormal_columns.columns": constant(2),
    "classifiers.prediction_stability.second": floats("N", "E", "K"),
    "classifiers.stable_expert_weights.second": floats("N", "E", "K"),
    "classifiers.stable_expert_weights.batch_size": constant(4),
    "resampling.deferred.first": _sampler,
    "resampling.rose_bandwidth.num_examples": constant(40),
    "resampling.instance.num_examples": constant(9),
    "resampling.smote_n.nominal": integers("N", "F", high=3),
    "resampling.smote_nc.nominal": integers("N", "F", high=3),
    "resampling.value_difference_table.codes": integers("N", high=3),
    "resampling.cog_replication.labels": lambda sizes, rng, given: (
        np.arange(8) % sizes.k
    ),
    "pseudo_labels.acr_strength.divergences": lambda sizes, rng, given: _grid(
        rng, (3,), 1, 32
    ),
    "pseudo_labels.write_confidences.index": lambda sizes, rng, given: np.arange(
        sizes.n, dtype=np.int32
    ),
    "pseudo_labels.read_confidences.index": lambda sizes, rng, given: np.arange(
        sizes.n, dtype=np.int32
    ),
}
# Arguments that only make sense together, or whose meaning other arguments decide.
LEFT_OUT = {
    "dtype",
    "mesh",
    "recall_target",
    "itself",
    "rows",
    "num_new",
    "targets",
    "previous",
    "start",
    "reference",
    "members",
    "level",
    "thresholds",
    "labels",
    "num_items",
    "num_relevant",
    "ideal_dcg",
    "initial",
    "class_counts",
    "center",
}


def _chosen(argument: Argument, rng: np.random.Generator) -> bool:
    """Whether an optional argument is given."""
    known = argument.axes is not None or argument.choices
    return bool(known) and argument.name not in LEFT_OUT and rng.random() < 0.5


def valid_call(contract: Contract, sizes: Sizes, seed: int) -> dict[str, Any]:
    """Arguments of a call that the docstring allows, as numpy arrays and numbers."""
    rng, given = np.random.default_rng(seed), {}
    for name, argument in contract.arguments.items():
        maker = MAKERS.get(f"{contract.name}.{name}")
        if maker is None and not argument.required and not _chosen(argument, rng):
            continue
        if maker is None and argument.choices:
            maker = among(*argument.choices)
        if maker is None and argument.axes is not None:
            maker = MAKERS["cost"] if name == "cost" else None
            given[name] = (
                maker(sizes, rng, given) if maker else _array(argument, sizes, rng)
            )
            continue
        maker = maker or MAKERS[name]
        given[name] = maker(sizes, rng, given)
    return given


@functools.cache
def unmakeable(contract: Contract) -> tuple[str, ...]:
    """Required arguments that nothing here makes."""
    return tuple(
        name
        for name, argument in contract.arguments.items()
        if argument.required
        and argument.axes is None
        and name not in MAKERS
        and f"{contract.name}.{name}" not in MAKERS
    )
