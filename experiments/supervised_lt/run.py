"""The supervised table: every loss and schedule on the same data and budget.

    python experiments/supervised_lt/run.py train [--dataset mnist1d] [--imf 100]
                                                  [--profile exp]
    python experiments/supervised_lt/run.py table

Five seeds each, the presets' hyper-parameters, 3000 steps (MNIST-1D) or 1500 (MNIST).
"""

import argparse
import importlib
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from grid import Point, cell, read_rows, replace_block, run_points  # noqa: E402

METHODS = (
    "ce",
    "rw",
    "rs",
    "focal",
    "cb",
    "cb_focal",
    "ce_drw",
    "ldam",
    "ldam_drw",
    "ldam_drs",
    "la",
    "la_posthoc",
    "balanced_softmax",
    "cdt",
    "vs",
    "tla_adrw",
)
RESULTS = HERE / "results" / "supervised.csv"


def points(dataset: str, imf: int, profile: str):
    family = importlib.import_module(f"configs.{dataset}_lt")
    for method in METHODS:
        arg = f"method={method},imf={imf},profile={profile}"
        config = family.get_config(arg)
        config.replicas.seeds = (0, 1, 2, 3, 4)
        config.eval_every, config.checkpoint_every = "100%", "100%"
        key = {"dataset": dataset, "profile": profile, "imf": imf, "method": method}
        yield Point(key, config, f"configs/{dataset}_lt.py:{arg}")


def table() -> None:
    rows = read_rows(RESULTS)
    blocks = []
    for setting in dict.fromkeys((r["dataset"], r["profile"], r["imf"]) for r in rows):
        lines = [
            f"### {setting[0]}, {setting[1]} profile, ratio {setting[2]}",
            "",
            "| method | all | many | medium | few | worst | ECE |",
            "| :-- | --: | --: | --: | --: | --: | --: |",
        ]
        for row in rows:
            if (row["dataset"], row["profile"], row["imf"]) != setting:
                continue
            names = ("balanced_accuracy", "many", "medium", "few", "worst", "ece")
            cells = [row["method"], *(cell(row, name) for name in names)]
            lines.append(f"| {' | '.join(cells)} |")
        blocks.append("\n".join(lines))
    replace_block(HERE / "README.md", "results", "\n\n".join(blocks) or "No rows yet.")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("train", "table"))
    parser.add_argument("--dataset", default="mnist1d", choices=("mnist1d", "mnist"))
    parser.add_argument("--imf", type=int, default=100)
    parser.add_argument("--profile", default="exp", choices=("exp", "step"))
    args = parser.parse_args(argv)
    if args.stage == "table":
        table()
    else:
        run_points(points(args.dataset, args.imf, args.profile), RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
