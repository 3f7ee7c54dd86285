"""Which losses are consistent for the balanced error, in the population and on samples.

    python experiments/consistency/run.py population
    python experiments/consistency/run.py samples
    python experiments/consistency/run.py table

`population` minimizes the expected loss over free scores on finite joint distributions,
`samples` fits linear models to Gaussian mixtures of growing size, and `table` writes
both into the README and draws the regret curves. Rows that exist are not computed
twice.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterable

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from bench.common import provenance  # noqa: E402
from grid import mean_std, replace_block  # noqa: E402

from ltjax.consistency import (  # noqa: E402
    CASES,
    TEXTBOOK,
    gaussian_cube,
    gaussian_line,
    judge,
    random_joints,
    regret_curve,
)
from ltjax.report.style import (  # noqa: E402
    PAGE_WIDTH,
    figure_style,
    legend_on_top,
    method_styles,
    new_figure,
)
from ltjax.report.tables import append_csv, markdown_grid, read_rows  # noqa: E402

RESULTS = HERE / "results"
POPULATION = RESULTS / "population.csv"
SAMPLES = RESULTS / "samples.csv"
FIGURE = RESULTS / "regret.png"

JOINTS = {
    3: [TEXTBOOK, *random_joints(0, 200)],
    5: random_joints(1, 30, num_classes=5, imbalance_factor=100.0),
}
MIXTURES = {
    "pair": gaussian_line(2, gap=2.0, dim=8, imbalance_factor=100.0),
    "cube": gaussian_cube(3, gap=3.0, dim=8, imbalance_factor=100.0),
}
ABOUT = {
    "pair": "two classes 2 standard deviations apart",
    "cube": "eight classes at the corners of a cube of edge 3",
}
NUMBERS = (1_000, 3_162, 10_000, 31_623, 100_000)
SEEDS = (0, 1, 2)
# Linear models are fitted with these; the names are those of `CASES`.
FITTED = (
    "cross_entropy",
    "cross_entropy + post-hoc tau=1",
    "cross_entropy + plug-in",
    "logit_adjusted tau=1",
    "balanced_softmax",
    "pairwise_consistent delta=sqrt(pi)",
    "weighted cross_entropy 1/pi",
    "tla_adrw tau=0.75 nu=0.25",
    "tla_adrw tau=1 nu=0.15",
    "logit_adjusted tau=1.5",
    "ldam",
    "focal gamma=2",
    "class_dependent_temperature gamma=0.2",
    "vector_scaling gamma=0.2 tau=1",
)
DRAWN = (
    "cross_entropy",
    "cross_entropy + post-hoc tau=1",
    "logit_adjusted tau=1",
    "weighted cross_entropy 1/pi",
    "logit_adjusted tau=1.5",
    "ldam",
    "focal gamma=2",
)


def population() -> None:
    for num_classes, joints in JOINTS.items():
        for name, case in CASES.items():
            key = {"classes": str(num_classes), "case": name}
            if _has(POPULATION, key):
                continue
            print(" ".join(key.values()), flush=True)
            verdict = judge(name, case, joints)
            row = {
                **key,
                "joints": str(len(joints)),
                "theory": _word(verdict.theory),
                "found": _word(verdict.consistent),
                "worst_regret": f"{verdict.worst_regret:.3e}",
                "mean_regret": f"{verdict.mean_regret:.3e}",
                "posterior_gap": f"{verdict.posterior_gap:.1e}",
                "why": verdict.why,
            }
            append_csv(POPULATION, [row | provenance()])


def samples() -> None:
    for mixture_name, mixture in MIXTURES.items():
        for number in NUMBERS:
            for seed in SEEDS:
                key = {
                    "mixture": mixture_name,
                    "number": str(number),
                    "seed": str(seed),
                }
                cases = {
                    name: CASES[name]
                    for name in FITTED
                    if not _has(SAMPLES, {"case": name, **key})
                }
                if not cases:
                    continue
                print(" ".join(key.values()), flush=True)
                points = regret_curve(mixture, [number], cases, seeds=[seed])
                rows = [
                    {
                        "case": point.name,
                        **key,
                        "bayes_error": f"{mixture.bayes_balanced_error:.6f}",
                        "regret": f"{point.regret:.6f}",
                        "balanced_error": f"{point.balanced_error:.6f}",
                    }
                    | provenance()
                    for point in points
                ]
                append_csv(SAMPLES, rows)


def table() -> None:
    readme = HERE / "README.md"
    replace_block(readme, "population", _population_table())
    replace_block(readme, "samples", _samples_tables())
    _draw(FIGURE)


def _has(path: pathlib.Path, key: dict[str, str]) -> bool:
    return any(key.items() <= row.items() for row in read_rows(path))


def _word(flag: bool) -> str:
    return "yes" if flag else "no"


def _population_table() -> str:
    rows = read_rows(POPULATION)
    sizes = sorted({int(row["classes"]) for row in rows})
    lines = []
    for name in CASES:
        mine = {int(row["classes"]): row for row in rows if row["case"] == name}
        found = _word(all(row["found"] == "yes" for row in mine.values()))
        first = mine[sizes[0]]
        regrets = [f"{100 * float(mine[size]['worst_regret']):.2f}" for size in sizes]
        reason = first["why"].replace("|", r"\|")
        lines.append([name, first["theory"], found, *regrets, reason])
    titles = [f"worst regret, K = {size}" for size in sizes]
    head = ["loss and rule", "theory", "found", *titles, "reason"]
    return markdown_grid(head, lines, align="lll" + "r" * len(sizes) + "l")


def _regrets(rows: Iterable[dict[str, str]], mixture: str, case: str) -> np.ndarray:
    """[sizes, seeds] in points."""
    return np.array(
        [
            [
                100 * float(row["regret"])
                for row in rows
                if (row["mixture"], row["case"]) == (mixture, case)
                and row["number"] == str(number)
            ]
            for number in NUMBERS
        ]
    )


def _samples_tables() -> str:
    rows = read_rows(SAMPLES)
    blocks = []
    for mixture, problem in MIXTURES.items():
        best = 100 * problem.bayes_balanced_error
        lines = []
        for case in FITTED:
            values = _regrets(rows, mixture, case)
            cells = [mean_std(v.mean(), v.std(ddof=1), 2) for v in values]
            lines.append([case, _word(CASES[case].consistent), *cells])
        sizes = [f"N = {number:,}" for number in NUMBERS]
        head, align = ["loss and rule", "consistent", *sizes], "ll" + "r" * len(sizes)
        blocks.append(
            f"### {mixture}: {ABOUT[mixture]}, best balanced error {best:.2f}\n\n"
            + markdown_grid(head, lines, align=align).rstrip()
        )
    return "\n\n".join(blocks)


def _draw(path: pathlib.Path) -> None:
    rows = read_rows(SAMPLES)
    styles = method_styles(DRAWN, "cross_entropy")
    with figure_style():
        figure = new_figure(PAGE_WIDTH, 3.4)
        panels = figure.subplots(1, len(MIXTURES), sharey=True)
        for axes, (mixture, problem) in zip(panels, MIXTURES.items(), strict=True):
            for case, look in styles.items():
                values = _regrets(rows, mixture, case).mean(axis=1)
                axes.loglog(
                    NUMBERS,
                    values,
                    label=case,
                    color=look.color,
                    marker=look.marker,
                    linestyle=look.line,
                    linewidth=look.width,
                )
            best = 100 * problem.bayes_balanced_error
            axes.set_title(f"{mixture}, best error {best:.1f} %")
            axes.set_xlabel("training examples")
        panels[0].set_ylabel("balanced regret, points")
        legend_on_top(figure, *panels[0].get_legend_handles_labels())
        figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("population", "samples", "table"))
    {"population": population, "samples": samples, "table": table}[
        parser.parse_args().what
    ]()


if __name__ == "__main__":
    main()
