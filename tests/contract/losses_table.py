"""One row per loss: how it is called and what it means, written out slowly in numpy.

To add a loss: write its definition for one example as a `reference` and add a row to
`ROWS`; every property of the contract suite is then tested on it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

import ltjax.losses as losses
from ltjax._numerics import class_rows

NUM_CLASSES = 5
BATCH = 8
DIM = 4
LABELS = np.array([0, 4, 1, 3, 2, 0, 1, 0], np.int32)


def class_arrays() -> dict[str, np.ndarray]:
    """All the class statistics and parameters that a row may ask for."""
    rng = np.random.default_rng(7)
    k = NUM_CLASSES
    arrays = {
        "class_counts": np.array([100, 40, 20, 5, 1]),
        "alpha": rng.uniform(0.5, 2.0, k),
        "delta": rng.uniform(0.2, 3.0, k),
        "margins": rng.normal(size=(k, k)),
        "weight": rng.uniform(0.5, 2.0, k),
        "scale": rng.uniform(0.5, 2.0, k),
        "shift": rng.normal(size=k),
        "frame": rng.normal(size=(DIM, k)),
    }
    # What an example with true label y comes with, in row y.
    candidates = rng.uniform(size=(k, k)) < 0.5
    candidates |= np.eye(k, dtype=bool)
    confidences = candidates * rng.uniform(0.1, 1.0, (k, k))
    return arrays | {
        "candidates": candidates,
        "confidences": confidences / confidences.sum(axis=1, keepdims=True),
        "leverage": rng.uniform(0.1, 1.0, (k, k)),
    }


def permute_classes(name: str, array: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The array for classes renamed so that new class i is old class order[i]."""
    if name == "frame":
        return array[:, order]
    return array[np.ix_(order, order)] if array.ndim == 2 else array[order]


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A loss, how to call it, and its definition for one example in float64."""

    name: str
    function: Callable[..., Any]
    reference: Callable[..., float]  # (prediction, label, arrays, hyper, labels)
    positional: tuple[str, ...] = ()  # class arrays after the labels, in order
    keywords: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hyper: Mapping[str, float] = dataclasses.field(default_factory=dict)  # traceable
    static: Mapping[str, str] = dataclasses.field(default_factory=dict)
    predictions: str = "logits"  # or "cosines", "features"
    context: tuple[str, ...] = ()  # [K, K] arrays whose rows stand for the labels
    soft: bool | None = False  # takes distributions over the classes as labels
    shift_invariant: bool | None = False  # to a constant added to all logits
    coupled: bool = False  # an example's loss depends on the rest of its batch
    stopped: bool = False  # the gradient is not that of the value
    limits: tuple[tuple[Mapping[str, float], Mapping[str, Any], Callable], ...] = ()

    @property
    def public(self) -> str:
        """The name in `ltjax.losses`; a row's own name may add a variant to it."""
        return self.name.split("[")[0]

    @property
    def counted(self) -> bool:
        """Whether it takes class counts."""
        return "class_counts" in {*self.positional, *self.keywords}

    def __call__(self, predictions, labels, arrays=None, hyper=None, where=None):
        arrays = class_arrays() if arrays is None else arrays
        hyper = self.hyper if hyper is None else hyper
        if self.context:
            given = [self._rows(arrays, n, labels, predictions) for n in self.context]
        else:
            given = [labels]
        return self.function(
            predictions,
            *given,
            *(arrays[name] for name in self.positional),
            **{key: arrays[name] for key, name in self.keywords.items()},
            **hyper,
            **self.static,
            where=where,
        )

    def _rows(self, arrays, name, labels, predictions):
        # Through floats, so that a label out of range gives NaN or no candidate.
        like = predictions
        if not hasattr(like, "dtype"):  # tests of what is not an array
            like = np.zeros((len(np.atleast_1d(labels)), NUM_CLASSES), np.float32)
        dtype = np.float64 if like.dtype == np.float64 else np.float32
        table = jnp.asarray(arrays[name], dtype)
        rows = class_rows(table, labels, like=like)
        return rows > 0 if name == "candidates" else rows

    def example(self, seed: int = 0, batch: int = BATCH) -> np.ndarray:
        """Predictions [batch, K or D], float64."""
        rng = np.random.default_rng(seed)
        if self.predictions == "features":
            features = rng.normal(size=(batch, DIM))
            return features / np.linalg.norm(features, axis=1, keepdims=True)
        if self.predictions == "cosines":
            return rng.uniform(-1, 1, size=(batch, NUM_CLASSES))
        return rng.normal(size=(batch, NUM_CLASSES)) * 2

    def expected(self, predictions, labels, arrays=None, hyper=None) -> np.ndarray:
        """The reference for every example of a batch, [B] float64."""
        arrays = class_arrays() if arrays is None else arrays
        hyper = dict(self.hyper) if hyper is None else hyper
        each = zip(predictions, labels, strict=True)
        return np.array([self.reference(p, y, arrays, hyper, labels) for p, y in each])


def cross_entropy(z, y):
    return -np.log(np.exp(z[y]) / np.sum(np.exp(z)))


def rivals(z, y):
    return [k for k in range(len(z)) if k != y]


def prior(counts):
    return counts / np.sum(counts)


def binary_terms(z, y, gamma=0.0):
    """Sum over classes of -(1 - p)^gamma log p, with p that of the right answer."""
    total = 0.0
    for k, logit in enumerate(z):
        p = 1 / (1 + np.exp(-logit if k == y else logit))
        total += -((1 - p) ** gamma) * np.log(p)
    return total


def class_balanced_weight(counts, y, beta):
    effective = np.array([sum(beta**i for i in range(n)) for n in counts])
    return len(counts) / effective[y] / np.sum(1 / effective)


def ldam_margin(counts, y, max_margin):
    raw = counts**-0.25
    return raw[y] * max_margin / np.max(raw)


def ref_softmax(z, y, a, h, ys):
    return cross_entropy(z, y)


def ref_affine(z, y, a, h, ys):
    moved = (a["scale"] * z + a["shift"]) / h["temperature"]
    return a["weight"][y] * cross_entropy(moved, y)


def ref_affine_rows(z, y, a, h, ys):
    return cross_entropy((z + a["margins"][y]) / h["temperature"], y)


def ref_balanced_softmax(z, y, a, h, ys):
    n = a["class_counts"]
    return -np.log(n[y] * np.exp(z[y]) / np.sum(n * np.exp(z)))


def ref_class_balanced_softmax(z, y, a, h, ys):
    weight = class_balanced_weight(a["class_counts"], y, h["beta"])
    return weight * cross_entropy(z, y)


def ref_class_balanced_sigmoid(z, y, a, h, ys):
    weight = class_balanced_weight(a["class_counts"], y, h["beta"])
    return weight * binary_terms(z, y)


def ref_class_balanced_focal(z, y, a, h, ys):
    weight = class_balanced_weight(a["class_counts"], y, h["beta"])
    return weight * binary_terms(z, y, h["gamma"])


def ref_label_aware_smoothing(z, y, a, h, ys):
    n = a["class_counts"]
    share = (n[y] - n.min()) / (n.max() - n.min()) if n.max() > n.min() else 0.0
    smoothing = h["tail"] + (h["head"] - h["tail"]) * np.sin(np.pi / 2 * share)
    log_p = z - np.log(np.sum(np.exp(z)))
    return -(1 - smoothing) * log_p[y] - smoothing * np.mean(log_p)


def ref_cdt(z, y, a, h, ys):
    n = a["class_counts"]
    return cross_entropy(z / (n.max() / n) ** h["gamma"], y)


def regress(h, column, length):
    """Released form, with the class vector rescaled to `length` times its own."""
    column = length * column
    norm = np.linalg.norm(h)
    return 0.5 * (column @ h - np.linalg.norm(column) * norm) ** 2 / norm


def batch_length(y, ys):
    present, counts = np.unique(ys, return_counts=True)
    return np.sqrt((len(ys) / len(present)) / counts[list(present).index(y)])


def ref_dot(h, y, a, hy, ys):
    return regress(h, a["frame"][:, y], 1.0)


def ref_dot_penalty(h, y, a, hy, ys):
    return regress(h, a["frame"][:, y], 1.0) + hy["norm_penalty"] * np.sqrt(h @ h)


def ref_dot_batch(h, y, a, hy, ys):
    return regress(h, a["frame"][:, y], batch_length(y, ys))


def ref_dot_sqrt_batch(h, y, a, hy, ys):
    length = batch_length(y, ys)
    return regress(h, a["frame"][:, y], length) / length


def ref_dot_global(h, y, a, hy, ys):
    n = a["class_counts"]
    return regress(h, a["frame"][:, y], np.sqrt(n.sum() / (len(n) * n[y])))


def ref_focal(z, y, a, h, ys):
    p = np.exp(z[y]) / np.sum(np.exp(z))
    return -((1 - p) ** h["gamma"]) * np.log(p)


def ref_ldam(z, y, a, h, ys):
    moved = z.copy()
    moved[y] -= ldam_margin(a["class_counts"], y, h["max_margin"])
    return cross_entropy(h["scale"] * moved, y)


def ref_ldam_hinge(z, y, a, h, ys):
    margin = ldam_margin(a["class_counts"], y, h["max_margin"])
    return max(max(z[k] for k in rivals(z, y)) - z[y] + margin, 0.0)


def ref_logit_adjusted(z, y, a, h, ys):
    pi = prior(a["class_counts"])
    ratio = [(pi[k] / pi[y]) ** h["tau"] * np.exp(z[k] - z[y]) for k in rivals(z, y)]
    return np.log(1 + sum(ratio))


def ref_pairwise_consistent(z, y, a, h, ys):
    delta, pi = a["delta"], prior(a["class_counts"])
    total = sum(delta[k] / delta[y] * np.exp(z[k] - z[y]) for k in rivals(z, y))
    return delta[y] / pi[y] * np.log(1 + total)


def ref_pairwise_margin(z, y, a, h, ys):
    total = sum(np.exp(a["margins"][y, k] + z[k] - z[y]) for k in rivals(z, y))
    return a["alpha"][y] * np.log(1 + total)


def ref_sigmoid(z, y, a, h, ys):
    return binary_terms(z, y)


def ref_sigmoid_focal(z, y, a, h, ys):
    return binary_terms(z, y, h["gamma"])


def ref_vs(z, y, a, h, ys):
    n = a["class_counts"]
    moved = z / (n.max() / n) ** h["gamma"] + h["tau"] * np.log(prior(n))
    return cross_entropy(moved, y)


def softmax(z):
    return np.exp(z) / np.sum(np.exp(z))


def ref_proden(z, y, a, h, ys):
    return -np.sum(a["confidences"][y] * np.log(softmax(z)))


def ref_corr(z, y, a, h, ys):
    p, t, inside = softmax(z), a["confidences"][y], a["candidates"][y]
    total = sum(t[k] * np.log(t[k] / p[k]) for k in range(len(z)) if t[k] > 0)
    out = sum(
        -np.log(sum(p[j] for j in rivals(z, k))) for k in range(len(z)) if not inside[k]
    )
    return h["consistency_weight"] * total + h["exclusion_weight"] * out


def ref_cavl(z, y, a, h, ys):
    inside = [k for k in range(len(z)) if a["candidates"][y][k]]
    return cross_entropy(z, max(inside, key=lambda k: z[k] * abs(1 - z[k])))


def ref_lwc(z, y, a, h, ys):
    p, total = softmax(z), 0.0
    for k, w in enumerate(a["leverage"][y]):
        if a["candidates"][y][k]:
            total -= w * np.log(p[k])
        else:
            total -= w * h["beta"] * np.log(sum(p[j] for j in rivals(z, k)))
    return total


def ref_squared_error(z, y, a, h, ys):
    return np.mean((softmax(z) - (np.arange(len(z)) == y)) ** 2)


def _plain(z, y, a):
    return losses.softmax_cross_entropy(z, y)


def _scaled(z, y, a):
    return losses.softmax_cross_entropy(30.0 * z, y)


def _one_vs_rest(z, y, a):
    return losses.sigmoid_cross_entropy(z, y)


def _adjusted(z, y, a):
    return losses.logit_adjusted(z, y, a["class_counts"])


COUNTS = ("class_counts",)
EQUAL = {"class_counts": np.full(NUM_CLASSES, 9)}
EVERYTHING = np.ones((NUM_CLASSES, NUM_CLASSES), bool)
NEUTRAL = {name: np.ones(NUM_CLASSES) for name in ("weight", "scale")}

ROWS = (
    Row(
        "softmax_cross_entropy",
        losses.softmax_cross_entropy,
        ref_softmax,
        soft=True,
        shift_invariant=True,
    ),
    Row(
        "affine_softmax",
        losses.affine_softmax,
        ref_affine,
        keywords={"weight": "weight", "scale": "scale", "shift": "shift"},
        hyper={"temperature": 0.7},
        soft=True,
        limits=(
            (
                {"temperature": 1.0},
                {**NEUTRAL, "shift": np.full(NUM_CLASSES, 3.0)},
                _plain,
            ),
        ),
    ),
    Row(
        "affine_softmax[rows]",
        losses.affine_softmax,
        ref_affine_rows,
        keywords={"shift": "margins"},
        hyper={"temperature": 0.7},
        shift_invariant=True,
        limits=(
            (
                {"temperature": 1.0},
                {"margins": np.tile(np.arange(5.0)[:, None], 5)},
                _plain,
            ),
        ),
    ),
    Row(
        "balanced_softmax",
        losses.balanced_softmax,
        ref_balanced_softmax,
        COUNTS,
        soft=True,
        shift_invariant=True,
        limits=(({}, EQUAL, _plain), ({}, {}, _adjusted)),
    ),
    Row(
        "class_balanced[softmax]",
        losses.class_balanced,
        ref_class_balanced_softmax,
        COUNTS,
        hyper={"beta": 0.99},
        static={"base": "softmax"},
        shift_invariant=True,
        limits=(({"beta": 0.0}, {}, _plain), ({"beta": 0.9}, EQUAL, _plain)),
    ),
    Row(
        "class_balanced[sigmoid]",
        losses.class_balanced,
        ref_class_balanced_sigmoid,
        COUNTS,
        hyper={"beta": 0.99},
        static={"base": "sigmoid"},
        limits=(({"beta": 0.0}, {}, _one_vs_rest),),
    ),
    Row(
        "class_balanced[focal]",
        losses.class_balanced,
        ref_class_balanced_focal,
        COUNTS,
        hyper={"beta": 0.99, "gamma": 0.5},
        static={"base": "focal"},
        limits=(({"beta": 0.0, "gamma": 0.0}, {}, _one_vs_rest),),
    ),
    Row(
        "label_aware_smoothing",
        losses.label_aware_smoothing,
        ref_label_aware_smoothing,
        COUNTS,
        hyper={"head": 0.3, "tail": 0.1},
        shift_invariant=True,
        limits=(({"head": 0.0, "tail": 0.0}, {}, _plain),),
    ),
    Row(
        "class_dependent_temperature",
        losses.class_dependent_temperature,
        ref_cdt,
        COUNTS,
        hyper={"gamma": 0.2},
        soft=True,
        limits=(({"gamma": 0.0}, {}, _plain), ({"gamma": 0.3}, EQUAL, _plain)),
    ),
    Row(
        "consistency[squared_error]",
        losses.consistency,
        ref_squared_error,
        static={"distance": "squared_error"},
        soft=None,  # takes them, but is not linear in them
        shift_invariant=True,
    ),
    Row(
        "corr",
        losses.corr,
        ref_corr,
        context=("confidences", "candidates"),
        hyper={"consistency_weight": 0.8, "exclusion_weight": 0.6},
        soft=None,
        shift_invariant=True,
        limits=(
            (
                {"consistency_weight": 1.0, "exclusion_weight": 0.0},
                {"confidences": np.eye(NUM_CLASSES)},
                _plain,
            ),
            (
                {"consistency_weight": 1.0, "exclusion_weight": 9.0},
                {"confidences": np.eye(NUM_CLASSES), "candidates": EVERYTHING},
                _plain,
            ),
        ),
    ),
    Row(
        "cavl",
        losses.cavl,
        ref_cavl,
        context=("candidates",),
        soft=None,
        shift_invariant=None,  # only while the same candidate wins
        limits=(({}, {"candidates": np.eye(NUM_CLASSES, dtype=bool)}, _plain),),
    ),
    Row(
        "leveraged_weighted[softmax]",
        losses.leveraged_weighted,
        ref_lwc,
        context=("leverage", "candidates"),
        hyper={"beta": 2.0},
        static={"base": "softmax"},
        soft=None,
        shift_invariant=True,
        limits=(
            (
                {"beta": 0.0},
                {"leverage": np.eye(5), "candidates": np.eye(5, dtype=bool)},
                _plain,
            ),
        ),
    ),
    Row(
        "proden",
        losses.proden,
        ref_proden,
        context=("confidences",),
        soft=None,
        shift_invariant=True,
        limits=(({}, {"confidences": np.eye(NUM_CLASSES)}, _plain),),
    ),
    Row(
        "dot_regression[none]",
        losses.dot_regression,
        ref_dot,
        ("frame",),
        static={"class_balance": "none"},
        predictions="features",
        stopped=True,
    ),
    Row(
        "dot_regression[penalty]",
        losses.dot_regression,
        ref_dot_penalty,
        ("frame",),
        hyper={"norm_penalty": 0.3},
        static={"class_balance": "none"},
        predictions="features",
        stopped=True,
    ),
    Row(
        "dot_regression[batch]",
        losses.dot_regression,
        ref_dot_batch,
        ("frame",),
        static={"class_balance": "batch"},
        predictions="features",
        coupled=True,
        stopped=True,
    ),
    Row(
        "dot_regression[sqrt_batch]",
        losses.dot_regression,
        ref_dot_sqrt_batch,
        ("frame",),
        static={"class_balance": "sqrt_batch"},
        predictions="features",
        coupled=True,
        stopped=True,
    ),
    Row(
        "dot_regression[global]",
        losses.dot_regression,
        ref_dot_global,
        ("frame",),
        keywords={"class_counts": "class_counts"},
        static={"class_balance": "global"},
        predictions="features",
        stopped=True,
    ),
    Row(
        "focal",
        losses.focal,
        ref_focal,
        hyper={"gamma": 0.5},
        shift_invariant=True,
        limits=(({"gamma": 0.0}, {}, _plain),),
    ),
    Row(
        "ldam",
        losses.ldam,
        ref_ldam,
        COUNTS,
        hyper={"max_margin": 0.5, "scale": 30.0},
        predictions="cosines",
        shift_invariant=True,
        limits=(({"max_margin": 0.0, "scale": 30.0}, {}, _scaled),),
    ),
    Row(
        "ldam_hinge",
        losses.ldam_hinge,
        ref_ldam_hinge,
        COUNTS,
        hyper={"max_margin": 0.5},
        predictions="cosines",
        shift_invariant=True,
    ),
    Row(
        "logit_adjusted",
        losses.logit_adjusted,
        ref_logit_adjusted,
        COUNTS,
        hyper={"tau": 1.3},
        soft=True,
        shift_invariant=True,
        limits=(({"tau": 0.0}, {}, _plain), ({"tau": 1.0}, EQUAL, _plain)),
    ),
    Row(
        "pairwise_consistent",
        losses.pairwise_consistent,
        ref_pairwise_consistent,
        ("class_counts", "delta"),
        soft=True,
        shift_invariant=True,
        limits=(
            ({}, {"delta": prior(class_arrays()["class_counts"])}, _adjusted),
            ({}, {"delta": np.full(5, 0.2), **EQUAL}, _plain),
        ),
    ),
    Row(
        "pairwise_margin",
        losses.pairwise_margin,
        ref_pairwise_margin,
        ("alpha", "margins"),
        shift_invariant=True,
        limits=(({}, {"alpha": np.ones(5), "margins": np.zeros((5, 5))}, _plain),),
    ),
    Row(
        "sigmoid_cross_entropy",
        losses.sigmoid_cross_entropy,
        ref_sigmoid,
        soft=True,
    ),
    Row(
        "sigmoid_focal",
        losses.sigmoid_focal,
        ref_sigmoid_focal,
        hyper={"gamma": 0.5},
        soft=True,
        limits=(({"gamma": 0.0}, {}, _one_vs_rest),),
    ),
    Row(
        "vector_scaling",
        losses.vector_scaling,
        ref_vs,
        COUNTS,
        hyper={"gamma": 0.2, "tau": 1.2},
        soft=True,
        limits=(
            ({"gamma": 0.0, "tau": 0.0}, {}, _plain),
            ({"gamma": 0.0, "tau": 1.0}, {}, _adjusted),
        ),
    ),
)
