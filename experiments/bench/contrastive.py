"""Contrastive losses by blocks, nearest neighbors, and probes: memory and time.

    python -m experiments.bench.contrastive          # appends to its CSV in results/
    python -m experiments.bench.contrastive --torch-python PYTHON  # and Lightly
    python -m experiments.bench.contrastive --faiss-python PYTHON  # and faiss
    python -m experiments.bench.contrastive peer knn --views 1024  # some of them
    python -m experiments.bench.contrastive losses --processor-time  # on a busy machine
    python -m experiments.bench.contrastive --quick  # prints only

Four comparisons:

- NT-Xent and SupCon, value and gradient, of 1024 to 16384 views with 128 features: the
  similarities in blocks against all at once, in time and in the compiler's peak of
  temporary memory. The matrix alone has 1 GiB at 16384 views;
- NT-Xent, blockwise and dense, against that of Lightly (PyTorch), on the same views and
  the same cores, in a process of the interpreter that --torch-python names;
- k-NN on the device against scikit-learn's brute force, k = 10, and against faiss's
  exact search and the same vote, in a process of --faiss-python;
- the probe at its optimum against epochs of SGD from zero (learning rate 30, momentum
  0.9, batch 128: Jiang et al., ICML 2021), both on features that are there already.
  What SGD is short of the optimum is in the column `gap`.
"""

import functools
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ltjax.losses as losses
from experiments.bench import common
from experiments.bench.contrastive_faiss import NEIGHBORS
from experiments.bench.peer_process import PeerProcess
from ltjax.classifiers import logistic_probe, probe_logits
from ltjax.metrics import knn_predict

DIM = 128
VIEWS = (1024, 2048, 4096, 8192, 16384)
BLOCKS = (128, 256, 1024)
PARTS = ("losses", "peer", "knn", "probe")
# Losses that need no row in losses.py, where all take logits and labels.
OF_FEATURES = (
    "balanced_contrastive",
    "byol",
    "dnc_distillation",
    "focal_nt_xent",
    "geometric_harmonization",
    "info_nce",
    "kcl",
    "moclr",
    "nt_xent",
    "paco",
    "simsiam",
    "sup_con",
)


def subjects(labels: jax.Array) -> dict[str, Callable]:
    """Losses of (first, second, block)."""
    return {
        "nt_xent": lambda a, b, block: losses.nt_xent(a, b, block=block),
        "sup_con": lambda a, b, block: losses.sup_con(
            jnp.stack([a, b], axis=1), labels, block=block
        ),
    }


def compile_step(loss: Callable, pair, block: int | None) -> jax.stages.Compiled:
    """Value and gradient of the mean of `loss` at a pair of views."""

    def risk(first, second):
        return jnp.mean(loss(first, second, block))

    return jax.jit(jax.value_and_grad(risk, (0, 1))).lower(*pair).compile()


def measure_losses(views: int, blocks: tuple[int, ...], repeats: int, of_cpu: bool):
    """Each loss by blocks next to itself all at once; `of_cpu`: in processor time."""
    baseline = "all at once, processor time" if of_cpu else "all at once"
    size = views // 2
    first, second = jax.random.normal(jax.random.key(0), (2, size, DIM))
    labels = jax.random.randint(jax.random.key(1), (size,), 0, 100)
    rows = []
    for name, loss in subjects(labels).items():
        compiled = functools.partial(compile_step, loss, (first, second))
        dense = compiled(None)
        steps = {block: compiled(block) for block in blocks if block < views}
        ratios = common.interleaved_ratios(
            functools.partial(dense, first, second),
            {
                str(block): functools.partial(step, first, second)
                for block, step in steps.items()
            },
            repeats=repeats,
            clock=time.process_time if of_cpu else None,
        )
        for block, step in steps.items():
            value, gradients = step(first, second)
            expected, dense_gradients = dense(first, second)
            gap = max(
                float(jnp.max(jnp.abs(one - two)) / jnp.max(jnp.abs(two)))
                for one, two in zip(
                    (value, *gradients), (expected, *dense_gradients), strict=True
                )
            )
            rows.append(
                row(
                    f"{name}[{block}]",
                    baseline,
                    views,
                    ratios[str(block)],
                    common.megabytes(step),
                    common.megabytes(dense),
                    gap,
                )
            )
    return rows


def measure_peer(views: int, blocks: tuple[int, ...], repeats: int, python: str):
    """NT-Xent against Lightly's; `gap`: relative distance of the two values."""
    pair = jax.random.normal(jax.random.key(0), (2, views // 2, DIM))
    loss = subjects(jnp.zeros(views // 2, jnp.int32))["nt_xent"]
    chosen = (None, *(block for block in blocks if block < views))
    steps = {
        "nt_xent" + f"[{block}]" * bool(block): compile_step(loss, tuple(pair), block)
        for block in chosen
    }
    try:
        peer = PeerProcess(python, "contrastive_torch")
    except RuntimeError as error:
        print(f"Lightly is left out: {error}", file=sys.stderr)
        return []
    try:
        with tempfile.TemporaryDirectory() as folder:
            place = pathlib.Path(folder) / "views.npy"
            np.save(place, np.asarray(pair))
            theirs = peer.ask(place)
        calls = {name: functools.partial(step, *pair) for name, step in steps.items()}
        ratios = common.interleaved_ratios(peer.ask, calls, repeats=repeats)
    finally:
        peer.close()
    name = f"Lightly, torch {peer.told[0]}"
    return [
        row(
            subject,
            name,
            views,
            ratios[subject],
            common.megabytes(step),
            None,
            abs(float(step(*pair)[0]) - theirs) / theirs,
        )
        for subject, step in steps.items()
    ]


def row(subject, baseline, size, ratio, memory, baseline_memory, gap) -> dict[str, str]:
    """One line of the table; memory in MiB, empty where it is not known."""

    def shown(value):
        return "" if value is None else f"{value:.2f}"

    return {
        "subject": subject,
        "baseline": baseline,
        "size": str(size),
        "mib": shown(memory),
        "baseline_mib": shown(baseline_memory),
        "gap": f"{gap:.3g}",
        **ratio.columns(),
        **common.provenance(),
    }


def clusters(
    count: int, dim: int, num_classes: int, *, whole: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Features of long-tailed classes that overlap a little, float32.

    With `whole` there is an example of every class.
    """
    rng = np.random.default_rng(0)
    shares = 0.01 ** (np.arange(num_classes) / (num_classes - 1))
    labels = rng.choice(num_classes, count, p=shares / shares.sum())
    if whole:
        labels[:num_classes] = np.arange(num_classes)
    means = rng.normal(size=(num_classes, dim)) / np.sqrt(dim)
    features = 3 * means[labels] + rng.normal(size=(count, dim)) / np.sqrt(dim)
    return features.astype(np.float32), labels


def measure_knn(queries: int, bank: int, repeats: int, faiss_python: str | None = None):
    """The vote of ten neighbors against others'; `gap`: share of other votes."""
    from sklearn.neighbors import KNeighborsClassifier

    features, labels = clusters(queries + bank, DIM, 100)
    asked, bank_features, labels = (
        features[:queries],
        features[queries:],
        labels[queries:],
    )
    peer = KNeighborsClassifier(n_neighbors=NEIGHBORS, algorithm="brute")
    peer.fit(bank_features, labels)
    placed = jax.device_put((asked, bank_features, labels))
    predict = jax.jit(
        functools.partial(knn_predict, num_classes=100, k=NEIGHBORS, metric="euclidean")
    )
    votes = np.asarray(predict(*placed))
    memory = common.megabytes(predict.lower(*placed).compile())
    call = {"knn_predict": functools.partial(predict, *placed)}

    def against(name, ask, theirs):
        ratios = common.interleaved_ratios(ask, call, repeats=repeats)
        gap = float(np.mean(theirs != votes))
        found = ratios["knn_predict"]
        return row("knn_predict", name, bank, found, memory, None, gap)

    rows = [against("scikit-learn", lambda: peer.predict(asked), peer.predict(asked))]
    if not faiss_python:
        return rows
    try:
        process = PeerProcess(faiss_python, "contrastive_faiss")
    except RuntimeError as error:
        print(f"faiss is left out: {error}", file=sys.stderr)
        return rows
    try:
        with tempfile.TemporaryDirectory() as folder:
            place = pathlib.Path(folder) / "features.npz"
            np.savez(place, queries=asked, bank=bank_features, labels=labels)
            process.ask(place)
            theirs = np.load(f"{place}.votes.npy")
        rows.append(against(f"faiss {process.told[0]}", process.ask, theirs))
    finally:
        process.close()
    return rows


def measure_probe(count: int, dim: int, epochs: int, repeats: int, l2: float = 1e-4):
    """The optimum against SGD; `gap`: how far above it SGD's objective ends."""
    features, labels = jax.device_put(clusters(count, dim, 100, whole=True))
    solve = functools.partial(logistic_probe, num_classes=100, l2=l2)
    batch = 128
    per_epoch = count // batch
    drops = {part * epochs // 3 * per_epoch: 0.1 for part in (1, 2)}
    optimizer = optax.sgd(optax.piecewise_constant_schedule(30.0, drops), momentum=0.9)

    def objective(probe, features, labels):
        logits = features @ probe[0] + probe[1][None, :]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(loss) + 0.5 * l2 * jnp.sum(jnp.square(probe[0]))

    @jax.jit
    def by_sgd(features, labels):
        def step(carry, key):
            probe, state = carry
            rows = jax.random.randint(key, (batch,), 0, count)
            gradient = jax.grad(objective)(probe, features[rows], labels[rows])
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(probe, updates), state), None

        start = (jnp.zeros((dim, 100)), jnp.zeros(100))
        keys = jax.random.split(jax.random.key(0), epochs * per_epoch)
        carry = (start, optimizer.init(start))
        return jax.lax.scan(step, carry, keys)[0][0]

    ratios = common.interleaved_ratios(
        lambda: by_sgd(features, labels),
        {"logistic_probe": lambda: solve(features, labels)},
        repeats=repeats,
    )
    probe = solve(features, labels)
    trained = objective(by_sgd(features, labels), features, labels)
    gap = float(trained - probe.objective)
    accuracy = jnp.mean(jnp.argmax(probe_logits(probe, features), axis=1) == labels)
    print(
        f"probe: gradient norm {float(probe.gradient_norm):.1e} after"
        f" {int(probe.iterations)} steps, training accuracy {float(accuracy):.3f}"
    )
    found, baseline = ratios["logistic_probe"], f"{epochs} epochs of SGD"
    return [row("logistic_probe", baseline, count, found, None, None, gap)]


def main() -> None:
    parser = common.argument_parser(__doc__.splitlines()[0], output="contrastive.csv")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {PARTS}")
    parser.add_argument("--views", type=int, nargs="+", default=VIEWS)
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="of the losses: what other programs take does not count",
    )
    parser.add_argument(
        "--faiss-python",
        metavar="PYTHON",
        help="one that has faiss (default: that of --torch-python)",
    )
    args = common.parse_with_torch(parser)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(unknown)}; expected some of {PARTS}")
    parts, repeats = args.parts or PARTS, args.repeats or (3 if args.quick else 11)
    for views in (512,) if args.quick else args.views:
        if "losses" in parts:
            found = measure_losses(views, BLOCKS, repeats, args.processor_time)
            show(found, args)
        if "peer" in parts and args.torch_python:
            show(measure_peer(views, BLOCKS, repeats, args.torch_python), args)
    if "knn" in parts:
        sizes = (256, 2000) if args.quick else (2000, 50_000)
        python = args.faiss_python or args.torch_python
        show(measure_knn(*sizes, repeats, python), args)
    if "probe" in parts:
        sizes = (1000, 8, 6) if args.quick else (10_000, 512, 100)
        show(measure_probe(*sizes, min(repeats, 5)), args)


def show(rows, args) -> None:
    """Prints the rows, and writes them unless quick."""
    for line in rows:
        print(
            f"{line['subject']:16} {line['size']:>6} {line['ratio']:>7}"
            f" of {line['baseline']}"
            f"  ({line['ratio_low']} to {line['ratio_high']})"
            f"  {line['milliseconds']:>10} ms  {line['mib']:>8} MiB"
            f" against {line['baseline_mib']:>8}  gap {line['gap']}"
        )
    if not args.quick:
        common.append_csv(args.output, rows)


if __name__ == "__main__":
    main()
