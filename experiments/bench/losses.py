"""Forward and backward of every loss, as a ratio to optax's softmax cross-entropy.

    python -m experiments.bench.losses            # appends to results/losses.csv
    python -m experiments.bench.losses --quick    # prints only

The baseline is `optax.softmax_cross_entropy_with_integer_labels` on the same logits.
Target: the affine family within 1.3 of it on a CPU. `dot_regression` has no logits; its
features have 256 dimensions.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ltjax.losses as losses
from experiments.bench import common

SHAPES = ((4096, 1000), (4096, 8142))  # ImageNet-LT and iNaturalist 2018
DIM = 256


def subjects(counts: np.ndarray, table: jax.Array) -> dict[str, Callable]:
    """Every public loss as a function of (logits, labels)."""
    priors = counts / counts.sum()
    cases = {
        "optax": optax.softmax_cross_entropy_with_integer_labels,
        "optax[sigmoid]": lambda z, y: jnp.sum(
            optax.sigmoid_binary_cross_entropy(z, jax.nn.one_hot(y, len(counts))), -1
        ),
        "optax[sigmoid_focal]": lambda z, y: jnp.sum(
            optax.sigmoid_focal_loss(z, jax.nn.one_hot(y, len(counts)), gamma=2.0), -1
        ),
        "softmax_cross_entropy": losses.softmax_cross_entropy,
        "affine_softmax": lambda z, y: losses.affine_softmax(
            z, y, weight=1 / counts, scale=priors**0.1, shift=np.log(priors)
        ),
        "affine_softmax[rows]": lambda z, y: losses.affine_softmax(z, y, shift=table),
        "balanced_softmax": lambda z, y: losses.balanced_softmax(z, y, counts),
        "class_dependent_temperature": lambda z, y: losses.class_dependent_temperature(
            z, y, counts, gamma=0.2
        ),
        "focal": losses.focal,
        "ldam": lambda z, y: losses.ldam(z, y, counts),
        "ldam_hinge": lambda z, y: losses.ldam_hinge(z, y, counts),
        "logit_adjusted": lambda z, y: losses.logit_adjusted(z, y, counts, tau=1.5),
        "pairwise_consistent": lambda z, y: losses.pairwise_consistent(
            z, y, counts, np.sqrt(priors)
        ),
        "pairwise_margin": lambda z, y: losses.pairwise_margin(
            z, y, np.ones(len(counts)), table
        ),
        "sigmoid_cross_entropy": losses.sigmoid_cross_entropy,
        "sigmoid_focal": losses.sigmoid_focal,
        "vector_scaling": lambda z, y: losses.vector_scaling(
            z, y, counts, gamma=0.2, tau=1.2
        ),
    }
    cases |= weakly_labelled(table)
    for base in ("softmax", "sigmoid", "focal"):
        cases[f"class_balanced[{base}]"] = functools.partial(
            losses.class_balanced, class_counts=counts, beta=0.999, base=base
        )
    return cases


def weakly_labelled(table: jax.Array) -> dict[str, Callable]:
    """Losses of guessed labels and of candidates, half of the classes on average."""

    def candidates(y):
        return table[y] > 0

    return {
        "cavl": lambda z, y: losses.cavl(z, candidates(y)),
        "consistency[cross_entropy]": lambda z, y: losses.consistency(z, y),
        "consistency[squared_error]": lambda z, y: losses.consistency(
            z, y, distance="squared_error"
        ),
        "corr": lambda z, y: losses.corr(z, jnp.exp(table[y]), candidates(y)),
        "leveraged_weighted": lambda z, y: losses.leveraged_weighted(
            z, jnp.exp(table[y]), candidates(y)
        ),
        "proden": lambda z, y: losses.proden(z, jnp.exp(table[y])),
    }


def regressions(counts: np.ndarray, frame: jax.Array) -> dict[str, Callable]:
    """The variants of dot regression as functions of (features, labels)."""
    return {
        f"dot_regression[{balance}]": functools.partial(
            losses.dot_regression,
            frame=frame,
            class_balance=balance,
            class_counts=counts if balance == "global" else None,
        )
        for balance in ("none", "batch", "sqrt_batch", "global")
    }


def measure(batch: int, num_classes: int, repeats: int) -> list[dict[str, str]]:
    keys = jax.random.split(jax.random.key(0), 5)
    logits = 3 * jax.random.normal(keys[0], (batch, num_classes))
    labels = jax.random.randint(keys[1], (batch,), 0, num_classes)
    features = jax.random.normal(keys[2], (batch, DIM))
    table = jax.random.normal(keys[3], (num_classes, num_classes))
    frame = jax.random.normal(keys[4], (DIM, num_classes))
    counts = np.floor(1280 * 256 ** (-np.linspace(0, 1, num_classes)))

    def step(loss: Callable, predictions: jax.Array) -> Callable:
        # Each gradient is written over the one before, as memory is reused in training;
        # fresh pages from the system would cost more than the loss, and unevenly.
        @functools.partial(jax.jit, donate_argnums=2, keep_unused=True)
        def graded(predictions, labels, gradient):
            def risk(predictions):
                return jnp.mean(loss(predictions, labels))

            return jax.value_and_grad(risk)(predictions)

        gradient = jnp.zeros_like(predictions)

        def call():
            nonlocal gradient
            value, gradient = graded(predictions, labels, gradient)
            return value, gradient

        return call

    steps = {name: step(f, logits) for name, f in subjects(counts, table).items()}
    for name, loss in regressions(counts, frame).items():
        steps[name] = step(loss, features)
    baseline = step(optax.softmax_cross_entropy_with_integer_labels, logits)
    ratios = common.interleaved_ratios(baseline, steps, repeats=repeats)
    origin = common.provenance()
    return [
        {
            "loss": name,
            "batch": str(batch),
            "num_classes": str(num_classes),
            **ratio.columns(),
            **origin,
        }
        for name, ratio in sorted(ratios.items())
    ]


def main() -> None:
    parser = common.argument_parser(__doc__.splitlines()[0], output="losses.csv")
    args = parser.parse_args()
    for batch, num_classes in ((256, 100),) if args.quick else SHAPES:
        rows = measure(batch, num_classes, args.repeats or (5 if args.quick else 31))
        for row in rows:
            print(
                f"[{batch}, {num_classes}] {row['loss']:30} {row['ratio']:>7}"
                f"  ({row['ratio_low']} to {row['ratio_high']})"
                f"  {row['milliseconds']:>9} ms"
            )
        if not args.quick:
            common.append_csv(args.output, rows)


if __name__ == "__main__":
    main()
