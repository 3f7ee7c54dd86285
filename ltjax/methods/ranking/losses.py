"""The components of losses over pairs of examples and over the top of a ranking.

The functions are those of `ltjax.losses`; losses of one example are in
`ltjax.methods.losses`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ltjax import losses
from ltjax.losses.component import Loss, LossContext, LossFacts
from ltjax.options import Component, ConfigError, NoOptions, option, options_of


@dataclasses.dataclass(frozen=True)
class PairwiseOptions:
    """Of the surrogates of the area under the ROC curve."""

    pairs: str = option(
        "ovo",
        "classes count alike (one against one), or examples do (one against the rest)",
        choices=("ovo", "ovr"),
    )
    scores: str = option(
        "softmax", "what is ranked", choices=("softmax", "sigmoid", "logits")
    )


@dataclasses.dataclass(frozen=True)
class MarginOptions(PairwiseOptions):
    """Of the square and the hinge surrogate."""

    margin: float = option(1.0, "in units of the scores", above=0, sweep=True)


@dataclasses.dataclass(frozen=True)
class PartialOptions:
    """Shared by the surrogates of partial areas, of one class against the rest."""

    scores: str = option(
        "softmax", "what is ranked", choices=("softmax", "sigmoid", "logits")
    )
    margin: float = option(1.0, "in units of the scores", above=0, sweep=True)


@dataclasses.dataclass(frozen=True)
class RelaxedOptions(PartialOptions):
    """Of the relaxed partial AUC."""

    scores: str = option("softmax", "what is ranked", choices=("softmax", "sigmoid"))
    gamma: float = option(1.0, "how fast weights grow with hardness", low=0, sweep=True)
    weighting: str = option("poly", "of the weights", choices=("poly", "exp"))
    kind: str = option(
        "two_way",
        "hard positives and negatives, or hard negatives only",
        choices=("two_way", "one_way"),
    )


@dataclasses.dataclass(frozen=True)
class CVaROptions(PartialOptions):
    """Of the mean over the hardest pairs."""

    alpha: float = option(1.0, "share of the positives", above=0, high=1, sweep=True)
    beta: float = option(0.3, "share of the negatives", above=0, high=1, sweep=True)
    power: int = option(2, "1 for the hinge, 2 for its square", low=1, high=2)


@dataclasses.dataclass(frozen=True)
class KLOptions(PartialOptions):
    """Of the exponentially weighted pairs."""

    temperature: float = option(
        1.0, "of the negatives; small means hard ones only", above=0, sweep=True
    )
    positive_temperature: float = option(
        0.0, "of the positives; 0 = all alike (one-way)", low=0
    )
    power: int = option(2, "1 for the hinge, 2 for its square", low=1, high=2)


@dataclasses.dataclass(frozen=True)
class RankingOptions:
    """Shared by the losses of the top of a ranking."""

    surrogate: str = option(
        "logistic",
        "of a pair of labels",
        choices=("square", "exp", "logistic", "hinge"),
    )
    scores: str = option(
        "auto",
        "what is ranked; auto: what the surrogate is published with",
        choices=("auto", "softmax", "sigmoid", "logits"),
    )
    self_pairs: bool = option(False, "keeps the pairs of a label with itself")


@dataclasses.dataclass(frozen=True)
class AUTKCOptions(RankingOptions):
    """Of the area under the top-k curve."""

    k: int = option(5, "K, depth of the curve", low=1)
    competitors: str = option(
        "all",
        "the K + 1 largest of all scores, or of the other classes (released code)",
        choices=("all", "negatives"),
    )


@dataclasses.dataclass(frozen=True)
class TKPROptions(RankingOptions):
    """Of top-K pairwise ranking."""

    k: int = option(3, "K; 0 = the number of the example's labels", low=0)
    normalizer: str = option(
        "labels",
        "what the sum is divided by",
        choices=("none", "k", "labels", "capped", "ideal"),
    )


@dataclasses.dataclass(frozen=True)
class DistributionBalancedOptions:
    """Of the distribution-balanced loss: the published VOC-MLT setting."""

    alpha: float = option(0.1, "lower end of the weights", low=0, sweep=True)
    beta: float = option(10.0, "slope of their sigmoid", sweep=True)
    mu: float = option(0.3, "its center; 0.2 for COCO-MLT", sweep=True)
    negative_scale: float = option(
        5.0, "lambda, of negative logits; 2 for COCO-MLT", above=0, sweep=True
    )
    bias_scale: float = option(0.05, "kappa, of the logits' shift", sweep=True)
    gamma: float = option(2.0, "focusing exponent", low=0, sweep=True)
    balance: float = option(2.0, "factor of the loss", low=0, sweep=True)


_SCORES = {
    "softmax": jax.nn.softmax,
    "sigmoid": jax.nn.sigmoid,
    "logits": lambda logits: logits,
}


PAIRS = LossFacts(couples_batch=True, compares_rows=True)


# Surrogates that are published with logits; the others have probabilities.
_OF_LOGITS = {"softmax": ("hinge",), "sigmoid": ("hinge", "logistic")}


def ranked(logits, options: RankingOptions, probabilities: str) -> jax.Array:
    """The scores of a loss whose probabilities are those of "softmax" or "sigmoid"."""
    found = options.scores
    if found == "auto":
        bounded = options.surrogate not in _OF_LOGITS[probabilities]
        found = probabilities if bounded else "logits"
    return _SCORES[found](logits)


def pairwise(surrogate, **fixed) -> Loss:
    """A loss over pairs of examples, one value per anchor."""

    def fn(outputs, labels, options, context: LossContext):
        margin = {"margin": options.margin} if hasattr(options, "margin") else {}
        return surrogate(
            _SCORES[options.scores](outputs["logits"]),
            labels,
            pairs=options.pairs,
            where=context.mask,
            **margin,
            **fixed,
        )

    return Loss(fn)


def _pairs(about: str, surrogate, options: type) -> Component:
    return Component(
        about,
        options,
        lambda options, setting: pairwise(surrogate),
        facts=lambda options: PAIRS,
    )


def one_vs_rest(surrogate, scores, labels, *, where=None) -> jax.Array:
    """A binary surrogate on class 1 of two classes, or on each class of more.

    Args:
        surrogate: (scores [B], positives [B] bool, where) -> [B] whose mean is a loss.
        scores: [B, K].
        labels: [B] int.
        where: optional [B] bool.

    Returns:
        [B] whose mean is the mean loss of the classes that have a pair in the batch.
    """
    size = scores.shape[1]
    if size == 2:
        return surrogate(scores[:, 1], labels == 1, where)
    positives = labels[:, None] == jnp.arange(size)[None, :]
    real = jnp.ones(labels.shape, bool) if where is None else where
    counts = jnp.sum(positives & real[:, None], axis=0)
    paired = jnp.sum((counts > 0) & (counts < jnp.sum(real)))
    each = jax.vmap(lambda s, y: surrogate(s, y, where), in_axes=1)(scores, positives)
    return jnp.sum(each, axis=0) / jnp.maximum(paired, 1)


def _partial(about: str, surrogate, options: type) -> Component:
    """A partial area; `surrogate` takes the options but `scores` as keywords."""
    names = [name for name in options_of(options) if name != "scores"]

    def fn(outputs, labels, options, context: LossContext):
        chosen = {name: getattr(options, name) for name in names}
        if chosen.get("positive_temperature") == 0:
            chosen["positive_temperature"] = None

        def binary(scores, positives, where):
            return surrogate(scores, positives, where=where, **chosen)

        scores = _SCORES[options.scores](outputs["logits"])
        return one_vs_rest(binary, scores, labels, where=context.mask)

    loss = Loss(fn)
    return Component(
        about, options, lambda options, setting: loss, facts=lambda options: PAIRS
    )


def _autkc(outputs, labels, options: AUTKCOptions, context: LossContext):
    """Cross-entropy in the first phase (the paper's warm-up), then the curve."""
    logits = outputs["logits"]
    values = losses.autkc(
        ranked(logits, options, "softmax"),
        labels,
        k=options.k,
        surrogate=options.surrogate,
        competitors=options.competitors,
        self_pairs=options.self_pairs,
    )
    first = losses.softmax_cross_entropy(logits, labels)
    return jnp.where(context.phase > 0, values, first)


def _of_the_top(fn: Callable, of: str) -> Callable[..., Loss]:
    """Makes the loss, and refuses a depth beyond the number of classes or labels."""

    def make(options, setting) -> Loss:
        size = len(setting.class_counts)
        if options.k > size:
            raise ConfigError(
                [f"config.loss.k is {options.k}, expected at most the {size} {of}"]
            )
        return Loss(fn)

    return make


def _several_sigmoids(outputs, labels, options, context: LossContext):
    logits = outputs["logits"]
    return losses.sigmoid_cross_entropy(logits, labels.astype(logits.dtype))


def _tkpr(outputs, labels, options: TKPROptions, context: LossContext):
    """Binary cross-entropy in the first phase, then the ranking."""
    number = jnp.sum(labels > 0, axis=1).astype(jnp.int32)
    values = losses.tkpr(
        ranked(outputs["logits"], options, "sigmoid"),
        labels,
        k=options.k or number,
        surrogate=options.surrogate,
        normalizer=options.normalizer,
        self_pairs=options.self_pairs,
    )
    first = _several_sigmoids(outputs, labels, options, context)
    return jnp.where(context.phase > 0, values, first)


def _distribution_balanced(options: DistributionBalancedOptions, setting) -> Loss:
    names = options_of(DistributionBalancedOptions)

    def fn(outputs, labels, options, context: LossContext):
        chosen = {name: getattr(options, name) for name in names}
        counts = context.class_counts
        return losses.distribution_balanced(
            outputs["logits"],
            labels,
            counts,
            num_examples=setting.num_examples,
            **chosen,
        )

    return Loss(fn)


AUC_SQUARE = _pairs(
    "square surrogate of the AUC (Gao 2013, Yang 2021)",
    losses.auc_square,
    MarginOptions,
)
AUC_HINGE = _pairs("hinge surrogate of the AUC", losses.auc_hinge, MarginOptions)
AUC_EXP = _pairs("exponential surrogate of the AUC", losses.auc_exp, PairwiseOptions)
AUC_LOGISTIC = _pairs(
    "logistic surrogate of the AUC", losses.auc_logistic, PairwiseOptions
)
PARTIAL_AUC = _partial(
    "relaxed partial AUC: harder examples weigh more (Yang 2021)",
    losses.partial_auc,
    RelaxedOptions,
)
PARTIAL_AUC_CVAR = _partial(
    "partial AUC as the mean over the hardest pairs of the batch (Zhu 2022)",
    losses.partial_auc_cvar,
    CVaROptions,
)
PARTIAL_AUC_KL = _partial(
    "partial AUC with exponentially weighted pairs (Zhu 2022)",
    losses.partial_auc_kl,
    KLOptions,
)
AUTKC = Component(
    "area under the top-k curve, after cross-entropy in the first phase (Wang 2023)",
    AUTKCOptions,
    _of_the_top(_autkc, "classes"),
)
MULTI_LABEL = LossFacts(multi_label=True)
SIGMOIDS = Component(
    "binary cross-entropy of every label, summed",
    NoOptions,
    lambda options, setting: Loss(_several_sigmoids),
    facts=lambda options: MULTI_LABEL,
)
TKPR = Component(
    "top-K pairwise ranking, after 'sigmoids' in the first phase (Wang 2024)",
    TKPROptions,
    _of_the_top(_tkpr, "labels"),
    facts=lambda options: MULTI_LABEL,
)
DISTRIBUTION_BALANCED = Component(
    "distribution-balanced loss of several labels (Wu 2020)",
    DistributionBalancedOptions,
    _distribution_balanced,
    facts=lambda options: MULTI_LABEL,
)
