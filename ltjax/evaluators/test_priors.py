"""Accuracy on test sets of other class priors, from one pass over the test set.

Priors are uniform, long-tailed as the training set or the other way round at several
ratios, and random ones around these. Experts predict by the mean of their logits, or by
weights that each prior's test set gives without its labels (`stable_expert_weights`).
With `correct`, a network is also judged by predictions that know each prior, as Bayes'
rule makes them of its logits.

References:
    Zhang et al., NeurIPS 2022 (SADE), for the ratios; Yang et al., ICML 2024 (DirMixE),
    for the draws. Weights are adapted on the examples that are judged.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.classifiers import stable_expert_weights
from ltjax.evaluators.evaluator import (
    Evaluator,
    EvaluatorSetting,
    Sweep,
    affine_needs,
)
from ltjax.methods.method import averaged
from ltjax.metrics import dirichlet_priors, exponential_prior, prior_accuracy
from ltjax.metrics.column import Column
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class PriorOptions:
    """Of the accuracy under other test priors."""

    ratios: tuple[float, ...] = option(
        (50.0, 25.0, 10.0, 5.0, 2.0), "of the long-tailed priors, both ways", above=1
    )
    draws: int = option(3, "random priors around each of three", low=0)
    draw_ratio: float = option(100.0, "of the two that are long-tailed", low=1)
    size: float = option(
        100.0, "concentration of the draws: test examples of a class", above=0
    )
    seed: int = option(0, "of the draws, the views and the batches", low=0, below=2**31)
    experts: str = option(
        "mean",
        "their logits' mean, or weights learned on each test set without labels",
        choices=("mean", "stability"),
    )
    correct: str = option(
        "none",
        "the class prior that logits have, to predict anew under each test prior: that"
        " of the loss, of the training set, or none (uniform)",
        choices=("none", "loss", "training", "uniform"),
    )
    shift: int = option(2, "stability: largest shift of a view, in pixels", low=0)
    noise: float = option(
        0.1, "stability: standard deviation of the noise added to a view", low=0
    )


class Priors(NamedTuple):
    """Names and shares [P, K] of test priors."""

    names: tuple[str, ...]
    shares: np.ndarray


# Arrays [R, P] -> what a chart of them is called.
TITLES = {
    "priors_accuracy": "accuracy by test prior",
    "priors_corrected": "accuracy by test prior, which is known",
}


def named_priors(options: PriorOptions, class_counts: np.ndarray) -> Priors:
    """The priors that a run is judged under.

    Args:
        options: see `PriorOptions`.
        class_counts: [K] training counts.

    Returns:
        `Priors`: "forward_<ratio>" from steep to flat, "uniform", "backward_<ratio>",
        then the draws "forward_draw_1", ...
    """
    ratios = sorted(options.ratios, reverse=True)

    def exponential(ratio, backward=False):
        return exponential_prior(class_counts, ratio=ratio, backward=backward)

    found = {f"forward_{r:g}": exponential(r) for r in ratios}
    found["uniform"] = exponential(1.0)
    found |= {f"backward_{r:g}": exponential(r, True) for r in ratios[::-1]}
    centers = {
        "forward": exponential(options.draw_ratio),
        "uniform": exponential(1.0),
        "backward": exponential(options.draw_ratio, True),
    }
    for k, (name, center) in enumerate(centers.items()):
        drawn = dirichlet_priors(
            center, size=options.size, draws=options.draws, seed=3 * options.seed + k
        )
        found |= {f"{name}_draw_{i}": row for i, row in enumerate(drawn, start=1)}
    return Priors(tuple(found), np.stack(list(found.values())))


def moved_view(key: jax.Array, x: jax.Array, *, shift: int, noise: float) -> jax.Array:
    """A random view of one input [*axes, C]: moved, zeros filled in, with noise.

    Args:
        key: a typed key.
        x: the input; one of rank 1 has no position and is not moved.
        shift: largest displacement along every axis but the last.
        noise: deviation of the Gaussian noise.

    Returns:
        [*axes, C].
    """
    move, shake = jax.random.split(key)
    axes = x.ndim - 1
    if shift and axes:
        padded = jnp.pad(x, [(shift, shift)] * axes + [(0, 0)])
        start = jax.random.randint(move, (axes,), 0, 2 * shift + 1)
        start = [*start, jnp.zeros((), start.dtype)]
        x = jax.lax.dynamic_slice(padded, start, x.shape)
    return x + noise * jax.random.normal(shake, x.shape, x.dtype)


def make(options: PriorOptions, setting: EvaluatorSetting) -> Evaluator:
    """Metrics "priors_mean", "priors_std", "priors_worst" and one of each prior.

    With `correct`, the same of predictions that know the prior: "corrected_mean", ...

    Args:
        options: see `PriorOptions`.
        setting: the method's prediction, with "logits" [B, K], and "expert_logits"
            [B, E, K] for weights by stability.

    Returns:
        `Evaluator`.

    Raises:
        ValueError: if `correct` is "loss" and the loss is not of the form
            w_y CE(scale z + shift, y); (when judging) if weights are wanted but there
            are no experts.
    """
    counts = np.asarray(setting.class_counts)
    num_classes, priors = len(counts), named_priors(options, counts)
    zeros = jnp.zeros(num_classes, jnp.int32)
    by_stability = options.experts == "stability"
    corrects = options.correct != "none"
    log_priors = np.log(priors.shares).astype(np.float32)

    def hits(state, sums, batch, extra):
        right, support = sums
        logits = setting.predict(state, batch["inputs"])["logits"]
        hit = jnp.argmax(logits, axis=-1) == batch["label"]
        row = jnp.where(batch["mask"], batch["label"], num_classes)
        return (
            right.at[row].add(hit.astype(jnp.int32), mode="drop"),
            support.at[row].add(1, mode="drop"),
        )

    def corrected_hits(unbiased):
        def judge(state, sums, batch, extra):
            *sums, corrected = sums
            z = unbiased(state, batch["inputs"])
            named = jnp.argmax(z[:, None] + log_priors[None], axis=-1)
            hit = (named == batch["label"][:, None]).astype(jnp.int32)
            row = jnp.where(batch["mask"], batch["label"], num_classes)
            corrected = corrected.at[row].add(hit, mode="drop")
            return *hits(state, sums, batch, extra), corrected

        return judge

    def views(state, batch, extra):
        base, x = jax.random.key(options.seed), batch["inputs"]
        keys = jax.vmap(lambda index: jax.random.fold_in(base, index))(batch["index"])

        def view(number):
            def one(key, x):
                key = jax.random.fold_in(key, number)
                return moved_view(key, x, shift=options.shift, noise=options.noise)

            return jax.vmap(one)(keys, x)

        outputs = [setting.predict(state, one) for one in (x, view(0), view(1))]
        if "expert_logits" not in outputs[0]:
            raise ValueError(
                "test_priors: experts is 'stability', but the method predicts no"
                f" 'expert_logits', only {', '.join(sorted(outputs[0]))}; expected"
                " 'mean'"
            )
        return *(one["expert_logits"] for one in outputs), batch["label"]

    @jax.jit
    def weigh(first, second, labels, shares):
        """[P, E], adapted on each prior's test set."""
        support = jnp.zeros(num_classes).at[labels].add(1)
        key = jax.random.key(options.seed)

        def one(share):
            often = share[labels] / support[labels]
            return stable_expert_weights(first, second, key=key, example_weights=often)

        return jax.lax.map(one, shares)

    def adapted(clean, first, second, labels) -> dict[str, Any]:
        """Of one replica: accuracy of each prior [P] and its weights [P, E]."""
        shares = np.asarray(priors.shares, np.float32)
        weights = np.asarray(weigh(first, second, labels, shares))
        support = np.bincount(labels, minlength=num_classes)
        accuracy = []
        for prior, w in zip(priors.shares, weights, strict=True):
            hit = np.einsum("e,nek->nk", w, clean).argmax(-1) == labels
            right = np.bincount(labels, weights=hit, minlength=num_classes)
            accuracy.append(prior_accuracy(_recall(right, support), prior[None])[0])
        return {"priors_accuracy": np.array(accuracy), "priors_weights": weights}

    def arrays(found, extra, about):
        if by_stability:
            each = [adapted(*map(np.asarray, one)) for one in zip(*found, strict=True)]
            kept = {name: np.stack([one[name] for one in each]) for name in each[0]}
        else:
            right, support, *more = (np.asarray(part, np.int64) for part in found)
            recall = _recall(right, support)
            kept = {"priors_accuracy": prior_accuracy(recall, priors.shares)}
            for corrected in more:
                each = [
                    prior_accuracy(_recall(corrected[..., p], support), one[None])
                    for p, one in enumerate(priors.shares)
                ]
                kept["priors_corrected"] = np.concatenate(each, axis=-1)
        replicas = len(kept["priors_accuracy"])
        shares = np.broadcast_to(priors.shares, (replicas, *priors.shares.shape))
        return {**kept, **profiles(kept), "priors_shares": shares}

    def profiles(kept: dict[str, Any]) -> dict[str, Any]:
        """Charts of the report: priors that are not drawn, and the experts' weights."""
        found = {}
        for p, name in enumerate(priors.names[: 2 * len(set(options.ratios)) + 1]):
            told = name.replace("_", " ")
            for key, title in TITLES.items():
                if key in kept:
                    found[f"profiles/{title} (%)/{told}"] = 100 * kept[key][:, p]
            weights = kept.get("priors_weights", np.empty((0, 0, 0)))
            for e in range(weights.shape[-1]):
                title = f"weight of expert {e + 1} by test prior"
                found[f"profiles/{title}/{told}"] = weights[:, p, e]
        return found

    def summarize(arrays):
        kinds = {"priors": "priors_accuracy", "corrected": "priors_corrected"}
        found = {}
        for kind, key in kinds.items():
            if key not in arrays:
                continue
            accuracy = arrays[key]
            found |= {
                f"{kind}_mean": accuracy.mean(axis=1),
                f"{kind}_std": accuracy.std(axis=1),
                f"{kind}_worst": accuracy.min(axis=1),
            }
            for p, name in enumerate(priors.names):
                found[f"{kind}_{name}"] = accuracy[:, p]
        return found

    empty = (zeros, zeros)
    judge = Sweep(views) if by_stability else Sweep(hits, empty)
    if corrects:
        wide = jnp.zeros((num_classes, len(priors.names)), jnp.int32)
        unbiased = unbiased_logits(options, setting)
        judge = Sweep(corrected_hits(unbiased), (*empty, wide))
    ends = (f"forward_{max(options.ratios):g}", f"backward_{max(options.ratios):g}")
    return Evaluator(
        judge=judge,
        arrays=arrays,
        summarize=summarize,
        columns=(
            Column("priors_mean", "Priors", "max", "mean accuracy over test priors"),
            Column("priors_std", "± priors", "min", "deviation over test priors"),
            Column(
                "priors_worst",
                "Worst prior",
                "max",
                "accuracy under the worst test prior",
                brief="worst prior",
            ),
            *(
                Column(f"priors_{end}", end.replace("_", " "), "max", "that test prior")
                for end in ends
            ),
            *(
                Column(
                    f"corrected_{end}",
                    f"{end.replace('_', ' ')}, known",
                    "max",
                    "that test prior, by predictions that know it",
                )
                for end in (*ends, "uniform")
                if corrects
            ),
        ),
        judged="priors_mean",
    )


def unbiased_logits(options: PriorOptions, setting: EvaluatorSetting):
    r"""(state, inputs) -> [B, K], log-likelihoods of the classes up to a constant.

    A loss :math:`w_y \mathrm{CE}(s z + t, y)` is least where
    :math:`\mathrm{softmax}(s z + t) \propto w\, p(y \mid x)`, so that

    .. math:: \log p(x \mid y) = s z + t - \log w - \log \pi + \text{const}

    with the training shares :math:`\pi`.
    """
    counts = np.asarray(setting.class_counts, np.float64)
    log_shares = np.log(np.maximum(counts, 1e-9) / counts.sum()).astype(np.float32)
    training, adjustment = options.correct == "training", setting.adjustment

    def of_prediction(state, inputs):
        logits = setting.predict(state, inputs)["logits"]
        return logits - log_shares[None] if training else logits

    if options.correct != "loss":
        return of_prediction
    if adjustment is None:
        raise ValueError(
            "test_priors: correct is 'loss', but the loss of this method does not have"
            " the form w_y CE(scale z + shift, y); expected 'training' or 'uniform',"
            " the prior that its logits have"
        )

    def of_loss(state, inputs):
        params, model_state = averaged(state, ema=setting.evaluate_ema)
        network = setting.networks["main"]
        outputs, _ = network.forward(params, model_state, inputs, train=False)
        weight, scale, shift = (
            jnp.broadcast_to(x, log_shares.shape)[None] for x in adjustment(state)
        )
        return outputs["logits"] * scale + shift - jnp.log(weight) - log_shares[None]

    return of_loss


def _needs(options: PriorOptions, config) -> list[str]:
    faults = []
    if options.correct != "none" and options.experts == "stability":
        faults.append(
            "config.evaluators.test_priors.experts is 'stability', which adapts to each"
            " prior by itself, expected correct = 'none'"
        )
    if options.correct == "loss":
        faults += affine_needs(config, "evaluators.test_priors.correct is 'loss'")
    if options.correct in ("loss", "training") and config.sampler.facts.reads_labels:
        faults.append(
            f"config.evaluators.test_priors.correct is {options.correct!r}, which takes"
            f" examples as they come, but sampler {config.sampler.name!r} draws by"
            " label, expected 'uniform' or the sampler 'instance'"
        )
    return faults


def _recall(right: np.ndarray, support: np.ndarray) -> np.ndarray:
    return np.where(support > 0, right / np.maximum(support, 1), np.nan)


TEST_PRIORS = Component(
    "accuracy under other test priors (Zhang 2022, Yang 2024)",
    PriorOptions,
    make,
    _needs,
)
