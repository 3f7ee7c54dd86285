"""What a fixed frame is worth: heads x losses x balance x normalization x mixup.

    python experiments/etf_factorial/run.py train [--dataset mnist1d] [--imf 100]
                               [--features 0] [--steps 1500] [--seeds 3]
    python experiments/etf_factorial/run.py table

Can be stopped and started again: what has a row in results/factorial.csv is done.
"""

import argparse
import itertools
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
from grid import (  # noqa: E402
    Point,
    cell,
    read_rows,
    replace_block,
    run_points,
    small_config,
)

from ltjax.methods.presets import FRAME_SCALE  # noqa: E402
from ltjax.report.tables import markdown_grid  # noqa: E402

# Every level is what it changes in a config; the first of each factor is the baseline.
HEADS = {
    "learnable": ("linear", {}),
    "fixed random": ("etf", {"frame": "random"}),
    "fixed ETF": ("etf", {"frame": "etf"}),
    "ETF start": ("linear", {"kernel_init": "etf"}),
}
LOSSES = {"CE": "ce", "LA": "la", "DR": "dot_regression"}
BALANCE = {"none": "none", "batch": "batch"}
NORMALIZATION = {
    "plain": {"batch_norm": False, "normalize": "none"},
    "BN+l2": {"batch_norm": True, "normalize": "l2"},
}
MIXUP = {"no": 0.0, "yes": 1.0}
FACTORS = {
    "head": HEADS,
    "loss": LOSSES,
    "balance": BALANCE,
    "features": NORMALIZATION,
    "mixup": MIXUP,
}
RESULTS = HERE / "results" / "factorial.csv"
MORE = {
    "nc1": "eval/train/nc1_balanced",
    "nc2_angles": "eval/train/nc2_equiangle_means",
    "few_cosine": "eval/train/minority_collapse",
}
# The widths of the networks, and what they are called; `--features` sets the last.
WIDTHS = {"mnist1d": ("widths", (32, 64, 64)), "mnist": ("hidden", (256, 256))}
SETTING = ("dataset", "profile", "imf", "width", "steps")


def point(dataset: str, imf: int, width: int, steps: int, seeds: int, levels) -> Point:
    head, loss, balance, features, mixup = levels
    arg = f"method=ce,imf={imf}"
    config = small_config(dataset, arg, tuning=False)
    kind, options = HEADS[head]
    options = {**options, **NORMALIZATION[features]}
    if kind == "linear":
        options["use_bias"] = False  # a frame has none either
    if features == "BN+l2" and loss != "DR":
        options["scale"] = FRAME_SCALE  # of unit features, learnable heads' too
    config.head.choose(kind, **options)
    config.loss.name, config.method.mixup = LOSSES[loss], MIXUP[mixup]
    config.weights.name = BALANCE[balance]
    name, widths = WIDTHS[dataset]
    if width:
        config.model[name] = (*widths[:-1], width)
    config.total = f"{steps} steps"
    config.replicas.seeds = tuple(range(seeds))
    config.evaluators = {"classification": {}, "collapse": {}}
    key = {
        "dataset": dataset,
        "profile": "exp",
        "imf": imf,
        "width": width or widths[-1],
        "steps": steps,
        **dict(zip(FACTORS, levels, strict=True)),
    }
    changes = " ".join(f"{name}={value}" for name, value in key.items())
    return Point(key, config, f"configs/{dataset}_lt.py:{arg} with {changes}")


def points(dataset: str, imf: int, width: int, steps: int, seeds: int):
    """All cells; those like the published comparison (BN+l2, mixup) come first."""
    cells = list(itertools.product(*FACTORS.values()))
    cells.sort(key=lambda levels: levels.count("plain") + levels.count("no"))
    for levels in cells:
        yield point(dataset, imf, width, steps, seeds, levels)


def baseline_of(rows: list[dict], factor: str) -> str:
    """The first level of a factor that occurs."""
    return next(
        level for level in FACTORS[factor] if any(r[factor] == level for r in rows)
    )


def effect(rows: list[dict], factor: str, level: str, metric: str):
    """Mean change against the factor's baseline over pairs of cells that else agree.

    Returns:
        (mean, standard error over pairs, number of pairs); NaNs without pairs.
    """
    baseline = baseline_of(rows, factor)
    others = [name for name in FACTORS if name != factor]
    table = {(tuple(r[n] for n in others), r[factor]): r for r in rows}
    changes = [
        float(row[f"{metric}_mean"]) - float(table[rest, baseline][f"{metric}_mean"])
        for (rest, own), row in table.items()
        if own == level and (rest, baseline) in table
    ]
    changes = [change for change in changes if not np.isnan(change)]  # both converged
    if not changes:
        return np.nan, np.nan, 0
    spread = np.std(changes, ddof=1) if len(changes) > 1 else np.nan
    return np.mean(changes), spread / np.sqrt(len(changes)), len(changes)


def _number(mean: float, error: float) -> str:
    if np.isnan(mean):
        return "–"
    return f"{mean:+.1f}" + ("" if np.isnan(error) else f" ± {error:.1f}")


def effects_table(rows: list[dict]) -> str:
    lines = []
    for factor, levels in FACTORS.items():
        baseline = baseline_of(rows, factor)
        for level in levels:
            if level == baseline or not any(r[factor] == level for r in rows):
                continue
            found = {
                metric: effect(rows, factor, level, metric)
                for metric in ("balanced_accuracy", "many", "few")
            }
            pairs = found["few"][2]
            cells = [_number(*value[:2]) for value in found.values()]
            lines.append([factor, level, baseline, pairs, *cells])
    head = ("factor", "level", "against", "pairs", "all", "many", "few")
    return markdown_grid(head, lines, align="lllrrrr")


def parts(rows: list[dict]) -> dict[str, list[dict]]:
    """The two sub-factorials in which every level of every factor makes sense.

    Dot regression pulls features to vectors that do not move: with a learned head it
    has a trivial solution.
    """
    return {
        "All heads, with CE and LA": [r for r in rows if r["loss"] != "DR"],
        "Fixed heads, with all losses": [
            r for r in rows if r["head"] in ("fixed random", "fixed ETF")
        ],
    }


def cells_table(rows: list[dict]) -> str:
    names = ("balanced_accuracy", "many", "medium", "few")
    lines = []
    score = {id(r): float(r["balanced_accuracy_mean"]) for r in rows}
    best_first = sorted(rows, key=lambda r: np.nan_to_num(-score[id(r)], nan=1.0))
    for row in best_first:
        cells = [row[name] for name in FACTORS] + [cell(row, name) for name in names]
        numbers = (float(row[name]) for name in ("nc1", "few_cosine"))
        cells += ["–" if np.isnan(x) else f"{x:.2f}" for x in numbers]
        lines.append(cells)
    head = [*FACTORS, "all", "many", "medium", "few", "NC1", "few cosine"]
    return markdown_grid(head, lines, align="l" * len(FACTORS) + "rrrrrr")


def table() -> None:
    """Writes everything of the README that is a number, from the CSV."""
    rows = read_rows(RESULTS)
    blocks = []
    for setting in dict.fromkeys(tuple(r[n] for n in SETTING) for r in rows):
        mine = [r for r in rows if tuple(r[n] for n in SETTING) == setting]
        seeds = max(len(r["seeds"].split()) for r in mine)
        blocks += [
            f"### {setting[0]}, {setting[1]} profile, ratio {setting[2]},"
            f" {setting[3]} features",
            f"{len(mine)} of 96 cells, {seeds} seeds, {setting[4]} steps.",
        ]
        for title, part in parts(mine).items():
            blocks += [f"{title}:", effects_table(part).rstrip()]
        blocks.append(cells_table(mine).rstrip())
    replace_block(HERE / "README.md", "results", "\n\n".join(blocks) or "No rows yet.")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("train", "table"))
    parser.add_argument("--dataset", default="mnist1d", choices=("mnist1d", "mnist"))
    parser.add_argument("--imf", type=int, default=100)
    parser.add_argument(
        "--features", type=int, default=0, help="width of the last layer; 0 = as it is"
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args(argv)
    if args.stage == "table":
        table()
    else:
        chosen = points(args.dataset, args.imf, args.features, args.steps, args.seeds)
        run_points(chosen, RESULTS, more=MORE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
