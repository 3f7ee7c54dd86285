"""The suites: what each compares, and how its rows are shown in the README."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.grid import replace_block
from ltjax.report.tables import markdown_grid, markdown_text, read_rows

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"
README = HERE / "README.md"


class Suite(NamedTuple):
    """A script of this folder, `python -m experiments.bench.<name>`.

    Attributes:
        subject: what is measured.
        baseline: what next to.
        target: of the ratios.
        names: columns of its CSV file that tell its rows apart.
        more: further columns worth showing.
        calls: arguments of each call that a whole run makes.
        same_task: whether the baseline does the same as the subject, so that a ratio
            above 1 means that we are slower.
        other: first names of rows to which that does not apply.
        of_rates: whether the ratio is that of rates, ours over the baseline's.
        with_torch: whether it takes --torch-python.
    """

    subject: str
    baseline: str
    target: str
    names: tuple[str, ...] = ("subject", "baseline")
    more: tuple[str, ...] = ()
    calls: tuple[tuple[str, ...], ...] = ((),)
    same_task: bool = True
    other: tuple[str, ...] = ()
    of_rates: bool = False
    with_torch: bool = False


SUITES = {
    "startup": Suite(
        "imports, and `ltjax --version`, `--help` and `list`, as whole processes",
        "`import jax, optax`",
        "commands that need no JAX below 0.5",
        same_task=False,
    ),
    "smote": Suite(
        "SMOTE, 10 classes, imbalance factor 100, exact neighbors: 100 000 x 64, and"
        " the first call at 2000 x 20",
        "imbalanced-learn's `SMOTE`",
        "at most 1 on a CPU; 1 000 000 x 128 (`smote large`) below 4 GiB",
        ("examples", "features"),
        ("first_call",),
        ((), ("small",), ("large",)),
    ),
    "losses": Suite(
        "forward and backward of every loss at [4096, 1000] and [4096, 8142]",
        "`optax.softmax_cross_entropy_with_integer_labels`",
        "affine family within 1.3 on a CPU",
        ("loss", "num_classes"),
        same_task=False,
    ),
    "contrastive": Suite(
        "NT-Xent and SupCon in blocks, 1024 to 16384 views; k-NN of 50 000 x 128; a"
        " probe at its optimum",
        "the same losses all at once; Lightly's NT-Xent; scikit-learn and faiss; 100"
        " epochs of SGD",
        "memory under 1/10 of dense at 8192 views and 1.2 in time",
        ("subject", "baseline", "size"),
        ("mib", "baseline_mib", "gap"),
        with_torch=True,
    ),
    "auc": Suite(
        "forward and backward of the pairwise losses, and AUC and ranking metrics, at"
        " 10^3 to 10^6 examples; the loss of 8 x 512 x 512 pixels of 20 classes",
        "the sum over all pairs; LibAUC and XCurve; scikit-learn; all scores at once",
        "below 0.01 of LibAUC's pairs at 20 000, growth of n log n, metrics at most 1"
        " (logistic: bounded memory)",
        ("subject", "baseline", "examples"),
        ("growth", "mib", "baseline_mib"),
        with_torch=True,
    ),
    "darp": Suite(
        "DARP's refinement by Newton's method, and by exact passes",
        "the published loop in numpy",
        "violation under 1e-10 in at most 15 steps; 50 000 x 100 in about a second",
        ("solver", "examples", "num_classes", "noise"),
        ("steps", "violation", "published_violation"),
    ),
    "posthoc": Suite(
        "exact path of post-hoc tau at 100 000 x 1000 and 24 426 x 8142",
        "grid of 61 values",
        "at most 1",
        ("examples", "num_classes"),
    ),
    "augment": Suite(
        "RandAugment of 256 images of 32x32 and whole views, on the device",
        "RandAugment by Pillow, one image after the other; torchvision's on tensors",
        "at most 1 on a CPU, per core",
        ("subject", "baseline", "batch", "size"),
        ("images_per_second", "baseline_images_per_second"),
        with_torch=True,
        other=("switch", "weak_strong", "simclr_cifar", "distort_color"),
    ),
    "feeds": Suite(
        "batches of 128 images of CIFAR's shape on the device, resident and streaming",
        "`device_put(images[order])`",
        "at most 1",
        more=("images_per_s",),
    ),
    "engine": Suite(
        "images/s of our training step: ResNet-32 on the CIFAR recipe; the demo's"
        " network, 1 and 3 replicas",
        "a minimal hand-written jitted loop; PyTorch",
        "at least 0.97 of the loop's rate (ResNet-32)",
        ("model", "replicas", "peer"),
        ("images_per_s", "peer_images_per_s"),
        of_rates=True,
        with_torch=True,
    ),
    "fixmatch": Suite(
        "steps of FixMatch (conv1d: 32 and 128 labelled signals, 3 unlabelled to each;"
        " WRN-28-2: 8 labelled images, 2 to each)",
        "a hand-written jitted loop of the same",
        "at most 1.05",
        ("subject", "baseline", "model", "batch"),
        ("steps_per_s", "ratio_processor_time"),
    ),
    "sharpness": Suite(
        "a ResNet-32 training step under every sharpness rule",
        "the plain step",
        "XLA's operation counts: SAM 2, ImbSAM 2.67, SSE-SAM 3.67 and 2.67",
        ("rule", "model", "norm"),
        ("flops_ratio",),
        same_task=False,
    ),
    "compiling": Suite(
        "trace and compile a training step, from an empty cache and from a full one",
        "the hand-written loop's step",
        "at most 2",
        ("subject", "baseline", "model"),
        same_task=False,
    ),
    "evaluation": Suite(
        "a pass over 50 000 signals with every metric of the default evaluator",
        "a hand-written jitted loop that counts right answers",
        "at most 1.5",
        ("subject", "baseline", "model"),
        ("examples_per_s",),
        same_task=False,
    ),
    "checkpoint": Suite(
        "saving a state: until the loop goes on (stall), until it is complete (whole)",
        "`numpy.savez`",
        "stall at most 1",
        ("subject", "baseline", "mib"),
    ),
}

# Of all CSV files with a ratio; what is worth showing of them.
_MEASURED = {
    "ratio": "ratio",
    "ratio_low": "from",
    "ratio_high": "to",
    "milliseconds": "ms",
    "baseline_milliseconds": "baseline ms",
}
# Ratios beyond this are not the noise of a shared machine.
_SLOWER = 1.05

Rows = Sequence[Mapping[str, str]]


def newest(name: str, results: pathlib.Path = RESULTS) -> Rows:
    """The last row of a suite for each of its names, on each device."""
    found = {}
    for row in read_rows(results / f"{name}.csv"):
        found[*(row[column] for column in SUITES[name].names), row["device"]] = row
    return list(found.values())


def overview() -> str:
    """What the suites compare, as Markdown."""
    rows = [
        (f"`{name}`", suite.subject, suite.baseline, suite.target)
        for name, suite in SUITES.items()
    ]
    return markdown_grid(("suite", "subject", "baseline", "target"), rows, align="llll")


def table(name: str, rows: Rows) -> str:
    """The rows of a suite as Markdown, and where they come from."""
    suite = SUITES[name]
    if not rows:
        return f"### {name}\n\nNot measured yet.\n"
    shown = {n: n for n in suite.names} | _MEASURED | {n: n for n in suite.more}
    columns = [column for column in shown if column in rows[0]]
    cells = [[markdown_text(row[column]) for column in columns] for row in rows]
    align = "".join("l" if c in ("subject", "baseline") else "r" for c in columns)
    grid = markdown_grid([shown[c] for c in columns], cells, align=align)
    made = {
        f"{row['date']}, ltjax {row['commit']}, jax {row['jax']}, Python"
        f" {row['python']}, {row['device']}, {row['cores']} cores"
        for row in rows
    }
    return f"### {name}\n\n{grid}\n{'; '.join(sorted(made))}.\n"


def slower(name: str, rows: Rows) -> list[str]:
    """Lines about the rows in which the baseline, which does the same, is faster."""
    suite, lines = SUITES[name], []
    for row in rows if suite.same_task else ():
        if row[suite.names[0]] in suite.other:
            continue
        ratio = float(row["ratio"])
        times = 1 / ratio if suite.of_rates else ratio
        if times > _SLOWER:
            what = ", ".join(row[column] for column in suite.names)
            lines.append(
                f"- {name}: {markdown_text(what)}: {times:.2f} times as long\n"
            )
    return lines


def write(results: pathlib.Path = RESULTS, readme: pathlib.Path = README) -> None:
    """Writes the tables of a README from the CSV files."""
    rows = {name: newest(name, results) for name in SUITES}
    behind = [line for name, found in rows.items() for line in slower(name, found)]
    replace_block(readme, "suites", overview())
    replace_block(readme, "slower", "".join(behind) or "Nowhere.\n")
    replace_block(readme, "results", "\n".join(map(table, rows, rows.values())))
