"""Pairwise losses, the loss of pixels and AUC metrics: time, memory, and their growth.

    python -m experiments.bench.auc            # appends to results/auc.csv
    python -m experiments.bench.auc --torch-python PYTHON  # and LibAUC and XCurve
    python -m experiments.bench.auc --quick    # prints only

Four comparisons:

- losses, forward and backward, binary, with a tenth of positives, or of ten classes
  ("ovo", "ovr"), against the same surrogate over the whole table of pairs. That is
  timed for at most 2^24 pairs (a block of positives against all negatives) and scaled
  up to all: 10^6 examples have 9 * 10^10;
- losses against those of LibAUC and XCurve (PyTorch), on the same scores and the same
  cores, in a process of the interpreter that --torch-python names. Values must agree
  (they are compared in float64 first, gradients too, and printed);
  XCurve's hinge is not a pairwise hinge, and its losses of several classes need a GPU;
- the loss of all pixels of a batch, in chunks, against all its scores at once;
- metrics against scikit-learn's function of the same arrays; both give the same number.

Times are processor times, which other programs do not lengthen; next to PyTorch, whose
process is another one, they are those of a clock.

`growth` is the exponent of a subject's time from the size before to this one: 1.1 or
less for n log n, 2 for all pairs.
"""

import dataclasses
import math
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial

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
from experiments.bench.auc_pairs import LOSSES, SURROGATES, all_class_pairs, all_pairs
from experiments.bench.peer_process import PeerProcess
from ltjax._numerics import double_precision

SIZES = (10**3, 10**4, 2 * 10**4, 10**5, 10**6)
PAIRS = 2**24  # of the baseline
IMAGES = (8, 512, 512, 20)  # and classes of their pixels
CLASSES = 10
# Sizes up to which something takes no minutes: quadratic losses, loops over rows.
LARGEST = {
    "auc_logistic": 2 * 10**4,
    "partial_auc_kl": 2 * 10**4,
    "LibAUC": 2 * 10**4,
    "label_ranking_average_precision": 10**5,
}
# Metrics that scikit-learn takes seconds for from 10^5 rows on: few repeats there.
SLOW = ("ovo_auc", "ovr_auc", "ranking_loss", "label_ranking_average_precision")


# (name, which pairs) of losses of several classes
OF_CLASSES = [
    (name, pairs)
    for name in ("auc_square", "auc_hinge[1]", "auc_exp")
    for pairs in ("ovo", "ovr")
]


def aucm(scores, labels):
    duals = losses.init_saddle_duals()
    return losses.aucm(scores, labels, duals, version="v1").values


# A loss of a peer -> our name of it, the loss, and how many of ours theirs is.
PEERS = {
    ("LibAUC", "squared"): ("auc_square", losses.auc_square, 2.0),
    ("LibAUC", "squared_hinge"): (
        "auc_hinge[2]",
        partial(losses.auc_hinge, power=2),
        1.0,
    ),
    ("LibAUC", "logistic"): ("auc_logistic", losses.auc_logistic, 1.0),
    ("LibAUC", "aucm"): ("aucm", aucm, 1.0),
    ("XCurve", "square"): ("auc_square", losses.auc_square, 1.0),
    ("XCurve", "exp"): ("auc_exp", losses.auc_exp, 1.0),
}
LINEAR = ("aucm", "square", "exp")  # losses of the peers that are no table of pairs


def binary(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores in [0, 1] and labels, a tenth of them positive."""
    rng = np.random.default_rng(0)
    labels = (np.arange(size) % 10 == 0).astype(np.int32)
    scores = 1 / (1 + np.exp(-rng.normal(labels - 0.5, 1.0)))
    return scores.astype(np.float32), labels


def several_classes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of `CLASSES` classes, the first ones more frequent."""
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.ones(CLASSES), size)
    classes = rng.geometric(0.3, size) % CLASSES
    classes[:CLASSES] = np.arange(CLASSES)
    return shares, classes


def fast(loss: Callable, scores: jax.Array, labels: jax.Array):
    """Value and gradient of the mean of a loss, compiled."""
    graded = jax.jit(jax.value_and_grad(lambda s, y: jnp.mean(loss(s, y))))
    return graded.lower(scores, labels).compile()


def against_pairs(
    name: str, size: int, subject, inputs, table, parts, scale: float, repeats: int
) -> dict[str, str]:
    """A row of a loss next to some of the pairs, whose time is scaled up to all."""
    if scale == 1:
        pair = subject(*inputs)[0], table(*parts)[0]
        np.testing.assert_allclose(*pair, rtol=1e-4)
    found = common.interleaved_ratios(
        partial(table, *parts),
        {name: partial(subject, *inputs)},
        repeats=repeats,
        clock=time.process_time,
    )[name]
    ratio = dataclasses.replace(
        found,
        median=found.median / scale,
        low=found.low / scale,
        high=found.high / scale,
        baseline_seconds=found.baseline_seconds * scale,
    )
    memory = common.megabytes(subject), common.megabytes(table)
    whole = memory if scale == 1 else (memory[0], None)
    return row(name, "all pairs", size, ratio, *whole)


def measure_losses(size: int, repeats: int) -> Iterator[dict[str, str]]:
    """Every binary loss against the sum over all pairs."""
    inputs = scores, labels = tuple(map(jnp.asarray, binary(size)))
    up, down = scores[labels == 1], scores[labels == 0]
    block = max(1, min(len(up), PAIRS // len(down)))
    parts = up[:block], down
    for name, (loss, table) in LOSSES.items():
        if size > LARGEST.get(name, size):
            continue
        subject, pairs = fast(loss, *inputs), all_pairs(table, *parts)
        scale = len(up) / block
        yield against_pairs(name, size, subject, inputs, pairs, parts, scale, repeats)


def measure_class_losses(size: int, repeats: int) -> Iterator[dict[str, str]]:
    """Every loss of several classes against the sums over all pairs of each."""
    scores, labels = several_classes(size)
    inputs = jnp.asarray(scores, jnp.float32), jnp.asarray(labels)
    counts = np.bincount(labels, minlength=CLASSES)
    every = int((counts * (size - counts)).sum())
    blocks = [max(1, int(n * min(1, PAIRS / every))) for n in counts]
    scale = every / sum(b * (size - n) for b, n in zip(blocks, counts, strict=True))
    up = [inputs[0][labels == k, k][:block] for k, block in enumerate(blocks)]
    down = [inputs[0][labels != k, k] for k in range(CLASSES)]
    for name, pairs in OF_CLASSES:
        loss, surrogate = SURROGATES[name]
        weights = [
            jnp.asarray(1 / ((CLASSES - 1) * counts[labels[labels != k]]), jnp.float32)
            if pairs == "ovo"
            else jnp.full(size - counts[k], 1 / (size - counts[k]))
            for k in range(CLASSES)
        ]
        subject = fast(partial(loss, pairs=pairs), *inputs)
        table = all_class_pairs(surrogate, up, down, weights)
        told = f"{name}, {pairs}"
        yield against_pairs(
            told, size, subject, inputs, table, (up, down), scale, repeats
        )


def differences_in_float64(
    size: int, peer: PeerProcess
) -> Iterator[tuple[str, float, float]]:
    """(Loss of a peer, largest relative differences of its value and its gradient).

    The prior of LibAUC's AUCM is float32.
    """
    scores, labels = binary(size)
    scores = scores.astype(np.float64)
    with tempfile.TemporaryDirectory() as folder, double_precision():
        place, kept = (pathlib.Path(folder) / name for name in ("in.npz", "grad.npy"))
        np.savez(place, scores=scores, labels=labels)
        placed = jnp.asarray(scores), jnp.asarray(labels)
        for (library, theirs), (_, loss, factor) in PEERS.items():
            expected = peer.ask(f"{library} {theirs} {place} {kept}")
            value, gradient = fast(loss, *placed)(*placed)
            slopes = np.load(kept)
            apart = np.abs(factor * np.asarray(gradient) - slopes).max()
            yield (
                f"{library} {theirs}",
                abs(factor * float(value) / expected - 1),
                float(apart / np.abs(slopes).max()),
            )


def measure_peers(size: int, repeats: int, peer: PeerProcess):
    """Our losses against those of LibAUC and XCurve."""
    scores, labels = binary(size)
    versions = dict(zip(("torch", "LibAUC", "XCurve"), peer.told, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder) / "scores.npz"
        np.savez(place, scores=scores, labels=labels)
        placed = jnp.asarray(scores), jnp.asarray(labels)
        for (library, theirs), (name, loss, factor) in PEERS.items():
            most = size if theirs in LINEAR else LARGEST[library]
            if size > min(most, LARGEST.get(name, size)):
                continue
            subject = fast(loss, *placed)
            value = peer.ask(f"{library} {theirs} {place}")
            ours = factor * subject(*placed)[0]
            np.testing.assert_allclose(ours, value, rtol=1e-3)
            call = {name: partial(subject, *placed)}
            found = common.interleaved_ratios(peer.ask, call, repeats=repeats)
            told = f"{library} {versions[library]}, torch {versions['torch']}"
            memory = common.megabytes(subject), None
            yield row(name, told, size, found[name], *memory)


def measure_pixels(shape: tuple[int, ...], repeats: int) -> Iterator[dict[str, str]]:
    """The loss of all pixels of a batch against all its scores at once."""
    logits = jax.random.normal(jax.random.key(0), shape)
    labels = jax.random.randint(jax.random.key(1), shape[:-1], 0, shape[-1])

    def at_once(logits, labels):
        flat = jax.nn.sigmoid(logits).reshape(-1, shape[-1])
        return losses.auc_square(flat, labels.ravel())

    chunks, whole = (fast(f, logits, labels) for f in (losses.pixel_auc, at_once))
    values = [one(logits, labels)[0] for one in (chunks, whole)]
    np.testing.assert_allclose(*values, rtol=1e-4)
    found = common.interleaved_ratios(
        partial(whole, logits, labels),
        {"pixel_auc": partial(chunks, logits, labels)},
        repeats=repeats,
        clock=time.process_time,
    )["pixel_auc"]
    memory = common.megabytes(chunks), common.megabytes(whole)
    name = f"all scores, {shape[-1]} classes"
    yield row("pixel_auc", name, math.prod(shape[:-1]), found, *memory)


def metric_cases(size: int) -> dict[str, tuple[Callable, Callable]]:
    """name -> (ours, scikit-learn's), each without arguments."""
    (scores, labels), (shares, classes) = binary(size), several_classes(size)
    rng = np.random.default_rng(2)
    relevant = (rng.random((size, CLASSES)) < 0.3).astype(int)
    return {
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
        "ranking_loss": (
            lambda: metrics.ranking_loss(shares, relevant).mean(),
            lambda: label_ranking_loss(relevant, shares),
        ),
        "label_ranking_average_precision": (
            lambda: metrics.label_ranking_average_precision(shares, relevant).mean(),
            lambda: label_ranking_average_precision_score(relevant, shares),
        ),
    }


def measure_metrics(size: int, repeats: int) -> Iterator[dict[str, str]]:
    """Every metric against scikit-learn's."""
    for name, (ours, theirs) in metric_cases(size).items():
        if size > LARGEST.get(name, size):
            continue
        np.testing.assert_allclose(ours(), theirs(), rtol=1e-9)
        few = min(repeats, 3) if size >= 10**5 and name in SLOW else repeats
        found = common.interleaved_ratios(
            theirs, {name: ours}, repeats=few, clock=time.process_time
        )
        yield row(name, "scikit-learn", size, found[name], None, None)


def row(subject, baseline, size, ratio, memory, baseline_memory) -> dict[str, str]:
    """One line of the table; memory in MiB, empty where it is not known."""
    # Of four orders of magnitude: three digits, wherever they are.
    outcomes = (ratio.median, ratio.low, ratio.high)
    names = ("ratio", "ratio_low", "ratio_high")
    shown = {n: f"{x:.3g}" for n, x in zip(names, outcomes, strict=True)}
    return {
        "subject": subject,
        "baseline": baseline,
        "examples": str(size),
        "growth": "",
        "mib": "" if memory is None else f"{memory:.2f}",
        "baseline_mib": "" if baseline_memory is None else f"{baseline_memory:.2f}",
        **ratio.columns(),
        **shown,
        **common.provenance(),
    }


def with_growth(rows: Iterator[dict[str, str]]) -> Iterator[dict[str, str]]:
    """The rows, by ascending size, with the growth of their subjects filled in."""
    before: dict[tuple[str, str], tuple[int, float]] = {}
    for one in rows:
        key = one["subject"], one["baseline"]
        size, time = int(one["examples"]), float(one["milliseconds"])
        if key in before and time > 0:
            smaller, less = before[key]
            growth = math.log(time / less) / math.log(size / smaller)
            one = {**one, "growth": f"{growth:.2f}"}
        before[key] = size, time
        yield one


def measure(
    sizes: tuple[int, ...], images: tuple[int, ...], repeats: int, python: str | None
) -> Iterator[dict[str, str]]:
    """Every comparison, by ascending size."""
    peer = None
    try:
        peer = PeerProcess(python, "auc_torch") if python else None
    except RuntimeError as error:
        print(f"LibAUC and XCurve are left out: {error}", file=sys.stderr)
    try:
        found = differences_in_float64(sizes[0], peer) if peer else ()
        for name, value, slope in found:
            told = f"value within {value:.1e}, gradient within {slope:.1e}"
            print(f"float64, {name}: {told}", flush=True)
        for size in sizes:
            yield from measure_losses(size, repeats)
            yield from measure_class_losses(size, repeats)
            yield from measure_peers(size, repeats, peer) if peer else ()
            yield from measure_metrics(size, repeats)
        yield from measure_pixels(images, repeats)
    finally:
        if peer:
            peer.close()


def main() -> None:
    parser = common.argument_parser(__doc__.splitlines()[0], output="auc.csv")
    args = common.parse_with_torch(parser)
    repeats = args.repeats or (3 if args.quick else 11)
    sizes, images = (SIZES[:2], (1, 64, 64, 20)) if args.quick else (SIZES, IMAGES)
    for one in with_growth(measure(sizes, images, repeats, args.torch_python)):
        print(
            f"{one['examples']:>8} {one['subject']:32} {one['ratio']:>9} of"
            f" {one['baseline']:13} {one['milliseconds']:>10} ms {one['growth']}",
            flush=True,
        )
        if not args.quick:
            common.append_csv(args.output, [one])


if __name__ == "__main__":
    main()
