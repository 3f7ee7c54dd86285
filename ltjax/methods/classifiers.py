"""Other classifiers on the features of a finished run: nothing is trained.

What has to be fitted (class means, a strength tau) is fitted for each replica by
itself, on the training set without augmentation or on held-out examples, never on the
test set.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax.classifiers import (
    adjust_logits,
    class_means,
    global_mean,
    init_class_sums,
    select_tau,
    select_tau_norm,
    transform_features,
    update_class_sums,
)
from ltjax.classifiers.posthoc import RULES
from ltjax.methods.supervised import decoupled
from ltjax.options import Component, option


class Finished(NamedTuple):
    """What a classifier may ask of a finished run; arrays have a leading axis R.

    Attributes:
        name: of the run, for messages.
        class_counts: [K] training counts.
        num_features: D.
        head: name of its head.
        scaled: whether a learnable scale per class lies on top of it.
        params: on the host.
        outputs: name of a split (not "test") -> (name -> [R, N, ...], labels [N]).
        sweep: (update, empty, extra) -> sums over the training set, on the host;
            `update` is (outputs, sums, batch, extra) -> sums.
        replicas: R.
    """

    name: str
    class_counts: np.ndarray
    num_features: int
    head: str
    scaled: bool
    params: Any
    outputs: Callable[[str], tuple[dict[str, np.ndarray], np.ndarray]]
    sweep: Callable[..., Any]
    replicas: int


class Posthoc(NamedTuple):
    """A classifier on top of a finished run.

    Attributes:
        label: what tables call it, beside the run's name.
        fitted: arrays with a leading axis R.
        logits: (fitted, outputs of the run) -> [B, K], of one replica.
        values: name -> [R], what was chosen, such as "tau".
    """

    label: str
    fitted: Any
    logits: Callable[[Any, dict], jax.Array]
    values: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TauOptions:
    """Shared by the classifiers of one strength."""

    tau: float | str = option("", "strength; '' = chosen on select_on", low=0)
    rule: str = option(
        "one_standard_error", "how tau is chosen, see select_tau", choices=RULES
    )
    select_on: str = option(
        "val",
        "held-out examples, or the training set of a network that has not learned it"
        " by heart",
        choices=("val", "train"),
    )

    def __post_init__(self):
        if isinstance(self.tau, str) and self.tau:
            raise ValueError(f"tau is {self.tau!r}, expected a number >= 0")


@dataclasses.dataclass(frozen=True)
class TauNormOptions(TauOptions):
    """Of the tau-normalized head."""

    bias_mode: str = option(
        "drop", "of the head's bias; keep needs a given tau", choices=("drop", "keep")
    )


@dataclasses.dataclass(frozen=True)
class NCMOptions:
    """Of the nearest class mean."""

    transform: str = option("cl2n", "of the features", choices=("none", "l2n", "cl2n"))
    average: str = option(
        "examples", "what cl2n centers by", choices=("examples", "classes")
    )
    score: str = option("euclidean", "of a class", choices=("euclidean", "dot"))


def fit_la(options: TauOptions, run: Finished) -> Posthoc:
    """Logit adjustment with a given tau, or the one chosen on held-out examples."""
    counts = run.class_counts
    if options.tau == "":
        outputs, labels = run.outputs(options.select_on)
        taus = np.asarray(
            [
                select_tau(z, labels, counts, rule=options.rule).tau
                for z in outputs["logits"]
            ],
            np.float32,
        )
    else:
        taus = np.full(run.replicas, options.tau, np.float32)
    return Posthoc(
        "LA post hoc",
        taus,
        lambda tau, outputs: adjust_logits(outputs["logits"], counts, tau=tau),
        {"tau": taus},
    )


def fit_tau_norm(options: TauNormOptions, run: Finished) -> Posthoc:
    """The tau-normalized head with a given tau, or the one chosen on held-out examples.

    Raises:
        ValueError: if the run's head is not linear, or tau is to be chosen with a bias.
    """
    if run.head != "linear" or run.scaled:
        raise ValueError(
            f"tau_norm: the head of {run.name} is {run.head!r}"
            f"{' with a class scale' if run.scaled else ''}, expected 'linear' without"
            " one: the norms of its columns are what tau takes away"
        )
    kernel, bias = run.params["head"]["kernel"], run.params["head"].get("bias")
    if options.tau == "":
        if options.bias_mode == "keep":
            raise ValueError(
                "tau_norm: with the bias kept there is no exact search for tau,"
                " expected a given tau (or bias_mode='drop')"
            )
        outputs, labels = run.outputs(options.select_on)
        found = [
            select_tau_norm(
                z,
                labels,
                kernel[r],
                None if bias is None else bias[r],
                rule=options.rule,
            ).tau
            for r, z in enumerate(outputs["logits"])
        ]
    else:
        found = [options.tau] * run.replicas
    taus = np.asarray(found, np.float32)
    fitted = {"tau": taus, "kernel": kernel}
    if bias is not None:
        fitted["bias"] = bias
    logits_of = decoupled.tau_normalized(bias_mode=options.bias_mode)
    return Posthoc("tau-norm", fitted, logits_of, {"tau": taus})


def fit_ncm(options: NCMOptions, run: Finished) -> Posthoc:
    """Nearest class means of the training set's features, streamed."""
    logits, transform = decoupled.nearest_mean(score=options.score), options.transform
    empty = init_class_sums(len(run.class_counts), run.num_features)

    def sums(how: str, center=None):
        def update(outputs, sums, batch, center):
            features = transform_features(outputs["features"], center, transform=how)
            return update_class_sums(
                sums, features, batch["label"], where=batch["mask"]
            )

        return run.sweep(update, empty, center)

    center = None
    if transform == "cl2n":
        mean = jax.vmap(lambda sums: global_mean(sums, average=options.average))
        center = jax.device_get(mean(sums("none")))
    fit = jax.vmap(lambda sums, center: class_means(sums, center, transform=transform))
    fitted = jax.device_get(fit(sums(transform, center), center))
    label = "NCM" if transform == "cl2n" else f"NCM {transform}"
    return Posthoc(label, fitted, logits, {})


# `make` takes the options and the `Finished` run.
CLASSIFIERS: dict[str, Component] = {
    "la": Component("post-hoc logit adjustment (Menon 2021)", TauOptions, fit_la),
    "tau_norm": Component(
        "tau-normalized head (Kang 2020)", TauNormOptions, fit_tau_norm
    ),
    "ncm": Component("nearest class mean (Kang 2020)", NCMOptions, fit_ncm),
}
