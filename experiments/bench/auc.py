"""Pairwise losses against the sum over all pairs, and AUC metrics against scikit-learn.

    python -m experiments.bench.auc            # appends to results/auc.csv
    python -m experiments.bench.auc --quick    # prints only

Losses: forward and backward, binary, with a tenth of positives. The baseline is the
same surrogate over the whole table of pairs, timed for at most 2^24 of them (a block of
positives against all negatives) and scaled up to all: 10^6 examples have 9 * 10^10.
Metrics: scikit-learn's function of the same arrays; both give the same number.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    label_ranking_loss,
    roc_auc_score,
)

import ltjax.losses as losses
import ltjax.metrics as metrics
from experiments.bench import common

SIZES = (10**3, 10**4, 10**5, 10**6)
PAIRS = 2**24  # of the baseline
SLOW = 10**4  # up to here what takes minutes beyond is measured as well
CLASSES = 10


def hinge(t):
    return jnp.maximum(1 - t, 0)


# name -> (loss, surrogate of the margin)
LOSSES = {
    "auc_square": (losses.auc_square, lambda t: jnp.square(1 - t) / 2),
    "auc_hinge[1]": (losses.auc_hinge, hinge),
    "auc_hinge[2]": (
        functools.partial(losses.auc_hinge, power=2),
        lambda t: jnp.square(hinge(t)),
    ),
    "auc_exp": (losses.auc_exp, lambda t: jnp.exp(-t)),
    "auc_logistic": (losses.auc_logistic, lambda t: jax.nn.softplus(-t)),
}


def binary(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores in [0, 1] and labels, a tenth of them positive."""
    rng = np.random.default_rng(0)
    labels = (np.arange(size) % 10 == 0).astype(np.int32)
    scores = 1 / (1 + np.exp(-rng.normal(labels - 0.5, 1.0)))
    return scores.astype(np.float32), labels


def all_pairs(surrogate: Callable, up: jax.Array, down: jax.Array) -> Callable:
    """Value and gradient of the mean over a table of pairs."""

    def mean(up, down):
        return jnp.mean(surrogate(up[:, None] - down[None, :]))

    graded = jax.jit(jax.value_and_grad(mean, argnums=(0, 1)))
    return lambda: graded(up, down)


def fast(loss: Callable, scores: jax.Array, labels: jax.Array) -> Callable:
    graded = jax.jit(jax.value_and_grad(lambda s, y: jnp.mean(loss(s, y))))
    return lambda: graded(scores, labels)


def measure_losses(size: int, repeats: int) -> list[dict[str, str]]:
    scores, labels = binary(size)
    up, down = scores[labels == 1], scores[labels == 0]
    block = max(1, min(len(up), PAIRS // len(down)))
    scale = len(up) / block
    rows = []
    for name, (loss, surrogate) in LOSSES.items():
        if name == "auc_logistic" and size > SLOW:
            continue
        subject = fast(loss, jnp.asarray(scores), jnp.asarray(labels))
        baseline = all_pairs(surrogate, jnp.asarray(up[:block]), jnp.asarray(down))
        if block == len(up):
            np.testing.assert_allclose(subject()[0], baseline()[0], rtol=1e-4)
        ratio = common.interleaved_ratios(baseline, {name: subject}, repeats=repeats)
        ratio = dataclasses.replace(
            ratio[name],
            median=ratio[name].median / scale,
            low=ratio[name].low / scale,
            high=ratio[name].high / scale,
            baseline_seconds=ratio[name].baseline_seconds * scale,
        )
        rows.append(_row(name, "all pairs", size, ratio))
    return rows


def metric_cases(size: int) -> dict[str, tuple[Callable, Callable]]:
    """name -> (ours, scikit-learn's), each without arguments."""
    scores, labels = binary(size)
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.ones(CLASSES), size)
    classes = rng.geometric(0.3, size) % CLASSES
    classes[:CLASSES] = np.arange(CLASSES)
    relevant = (rng.random((size, CLASSES)) < 0.3).astype(int)
    cases = {
        "auc": (
            lambda: metrics.auc(scores, labels),
            lambda: roc_auc_score(labels, scores),
        ),
        "partial_auc": (
            lambda: metrics.partial_auc(scores, labels, max_fpr=0.1).standardized,
            lambda: roc_auc_score(labels, scores, max_fpr=0.1),
        ),
        "average_precision": (
            lambda: metrics.average_precision(scores, labels),
            lambda: average_precision_score(labels, scores),
        ),
        "ovo_auc": (
            lambda: metrics.ovo_auc(shares, classes),
            lambda: roc_auc_score(classes, shares, multi_class="ovo"),
        ),
        "ovr_auc": (
            lambda: metrics.ovr_auc(shares, classes),
            lambda: roc_auc_score(classes, shares, multi_class="ovr"),
        ),
    }
    if size > SLOW:  # scikit-learn loops over the rows
        return cases
    return cases | {
        "ranking_loss": (
            lambda: metrics.ranking_loss(shares, relevant).mean(),
            lambda: label_ranking_loss(relevant, shares),
        ),
        "label_ranking_average_precision": (
            lambda: metrics.label_ranking_average_precision(shares, relevant).mean(),
            lambda: label_ranking_average_precision_score(relevant, shares),
        ),
    }


def measure_metrics(size: int, repeats: int) -> list[dict[str, str]]:
    rows = []
    for name, (ours, theirs) in metric_cases(size).items():
        np.testing.assert_allclose(ours(), theirs(), rtol=1e-9)
        ratio = common.interleaved_ratios(theirs, {name: ours}, repeats=repeats)
        rows.append(_row(name, "scikit-learn", size, ratio[name]))
    return rows


def _row(name: str, baseline: str, size: int, ratio: common.Ratio) -> dict[str, str]:
    columns = ratio.columns() | {"ratio": f"{ratio.median:.3g}"}
    columns |= {"ratio_low": f"{ratio.low:.3g}", "ratio_high": f"{ratio.high:.3g}"}
    head = {"subject": name, "baseline": baseline, "examples": str(size)}
    return {**head, **columns, **common.provenance()}


def main() -> None:
    parser = common.argument_parser(__doc__.splitlines()[0], output="auc.csv")
    args = parser.parse_args()
    repeats = args.repeats or (3 if args.quick else 11)
    for size in SIZES[:2] if args.quick else SIZES:
        for row in measure_losses(size, repeats) + measure_metrics(size, repeats):
            print(
                f"{size:>8} {row['subject']:32} {row['ratio']:>9} of"
                f" {row['baseline']:13} {row['milliseconds']:>10} ms",
                flush=True,
            )
            if not args.quick:
                common.append_csv(args.output, [row])


if __name__ == "__main__":
    main()
