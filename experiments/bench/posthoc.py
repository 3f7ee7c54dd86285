"""The exact path of post-hoc tau, as a ratio to a grid of 61 values.

    python -m experiments.bench.posthoc            # appends to results/posthoc.csv
    python -m experiments.bench.posthoc --quick    # prints only

The grid is tau = 0, 0.05, ..., 3, in float32 and in blocks that stay in cache.
Target: the exact path costs no more than the grid.
"""

import jax
import numpy as np

from experiments.bench import common
from ltjax.class_stats import log_prior
from ltjax.classifiers import select_tau

SHAPES = ((100_000, 1000), (24_426, 8142))  # the second: iNaturalist 2018 validation
GRID = np.arange(61) * 0.05


def problem(examples: int, num_classes: int):
    """Logits of a classifier that leans to the head, labels, training counts."""
    rng = np.random.default_rng(0)
    counts = np.floor(1280 * 256 ** (-np.linspace(0, 1, num_classes)))
    labels = rng.integers(0, num_classes, examples)
    logits = rng.standard_normal((examples, num_classes), np.float32)
    logits += log_prior(counts).astype(np.float32)
    logits[np.arange(examples), labels] += 3
    return logits, labels, counts


def grid_scores(logits, labels, counts, *, block: int) -> np.ndarray:
    """Class-mean accuracy at every tau of the grid."""
    support = np.bincount(labels, minlength=logits.shape[1])
    scores = []
    for tau in GRID:
        shift = (tau * log_prior(counts)).astype(np.float32)
        right = np.concatenate(
            [
                np.argmax(logits[i : i + block] - shift, axis=1)
                == labels[i : i + block]
                for i in range(0, len(labels), block)
            ]
        )
        hits = np.bincount(labels, weights=right, minlength=len(support))
        scores.append(np.mean(hits[support > 0] / support[support > 0]))
    return np.array(scores)


def measure(examples: int, num_classes: int, repeats: int) -> dict[str, str]:
    logits, labels, counts = problem(examples, num_classes)
    block = max(1, (1 << 18) // num_classes)
    path = select_tau(logits, labels, counts).path
    best_on_grid = grid_scores(logits, labels, counts, block=block).max()
    ratio = common.interleaved_ratios(
        lambda: grid_scores(logits, labels, counts, block=block),
        {"path": lambda: select_tau(logits, labels, counts)},
        repeats=repeats,
    )["path"]
    return {
        "examples": str(examples),
        "num_classes": str(num_classes),
        "pieces": str(path.scores.size),
        "best_on_path": f"{path.scores.max():.6f}",
        "best_on_grid": f"{best_on_grid:.6f}",
        **ratio.columns(),
        **common.provenance(),
    }


def main() -> None:
    parser = common.argument_parser(__doc__.splitlines()[0], output="posthoc.csv")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    for examples, num_classes in ((5000, 100),) if args.quick else SHAPES:
        row = measure(examples, num_classes, args.repeats or (3 if args.quick else 7))
        print(
            f"[{examples}, {num_classes}] {row['ratio']}"
            f" ({row['ratio_low']} to {row['ratio_high']}),"
            f" {row['pieces']} pieces in {row['milliseconds']} ms,"
            f" best {row['best_on_path']}, on the grid {row['best_on_grid']}"
        )
        if not args.quick:
            common.append_csv(args.output, [row])


if __name__ == "__main__":
    main()
