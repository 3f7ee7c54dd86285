"""All gradient rules on the same losses, data, budget and loss normalization.

    python experiments/sharpness/run.py tune  [--dataset mnist1d] [--imf 100]
    python experiments/sharpness/run.py final [--dataset mnist1d] [--imf 100]
    python experiments/sharpness/run.py table

`tune` picks each rule's radius on seeds (and, for MNIST-1D, data) that `final` never
sees; every rule has the same three candidates. `final` runs five seeds with it.
"""

import argparse
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from grid import Point, cell, read_rows, replace_block, run_points  # noqa: E402

LOSSES = ("ce", "la", "ldam_drw", "vs")
# The rule, and whether ImbSAM divides by group sizes as in the SSE-SAM authors' code.
RULES = {
    "plain": ("plain", {}),
    "sam": ("sam", {}),
    "asam": ("asam", {"asam": "all"}),
    "imbsam": ("imbsam", {}),
    "imbsam_group_mean": ("imbsam", {"group_normalize": "group_mean"}),
    "sse_sam": ("sse_sam", {}),
    "focal_sam": ("focal_sam", {}),
}
CANDIDATES = {"asam": (0.5, 1.0, 2.0)}  # ASAM's radius is in units of the weights
RHO = (0.05, 0.1, 0.2)
RESULTS = HERE / "results"


def point(
    dataset: str, rule: str, loss: str, imf: int, *, tuned: float | None
) -> Point:
    import importlib

    family = importlib.import_module(f"configs.{dataset}_lt")
    gradient, changes = RULES[rule]
    arg = f"method={loss},gradient={gradient},imf={imf}"
    config = family.get_config(arg)
    for name, value in changes.items():
        config.gradient[name] = value
    config.total = "1500 steps"
    config.eval_every, config.checkpoint_every = "100%", "100%"
    config.log_every = "500 steps"
    command = f"configs/{dataset}_lt.py:{arg}"
    radius = "rho_tail" if rule == "sse_sam" else "rho"
    if tuned is None:
        config.replicas.seeds = (100, 101)
        with config.unlocked():
            config.replicas.grid = {radius: CANDIDATES.get(rule, RHO)}
        if dataset == "mnist1d":
            config.data.options = {"seed": 7}
    else:
        config.replicas.seeds = (0, 1, 2, 3, 4)
        config.gradient[radius] = tuned
    key = {"dataset": dataset, "imf": imf, "loss": loss, "rule": rule}
    if tuned is not None:
        key["radius"] = f"{tuned:g}"
    return Point(key, config, command)


def tune(dataset: str, imf: int, losses: tuple[str, ...]) -> None:
    for rule in RULES:
        if rule == "plain":
            continue
        for loss in losses:
            one = point(dataset, rule, loss, imf, tuned=None)
            run_points([one], RESULTS / f"tune_{_radius(rule)}.csv")


def _radius(rule: str) -> str:
    return "rho_tail" if rule == "sse_sam" else "rho"


def tuned_radius(dataset: str, rule: str, loss: str, imf: int) -> float:
    """The candidate with the best balanced accuracy on the tuning seeds."""
    if rule == "plain":
        return 0.0
    wanted = {"dataset": dataset, "imf": str(imf), "loss": loss, "rule": rule}
    rows = [
        row
        for row in read_rows(RESULTS / f"tune_{_radius(rule)}.csv")
        if wanted.items() <= row.items()
    ]
    if not rows:
        raise SystemExit(f"no tuning rows for {wanted}; run 'tune' first")
    best = max(rows, key=lambda row: float(row["balanced_accuracy_mean"]))
    return float(best[_radius(rule)])


def final(dataset: str, imf: int, losses: tuple[str, ...]) -> None:
    points = (
        point(dataset, rule, loss, imf, tuned=tuned_radius(dataset, rule, loss, imf))
        for loss in losses
        for rule in RULES
    )
    run_points(points, RESULTS / "final.csv")


def table() -> None:
    rows = read_rows(RESULTS / "final.csv")
    blocks = []
    for setting in dict.fromkeys((r["dataset"], r["imf"]) for r in rows):
        lines = [
            f"### {setting[0]}, ratio {setting[1]}",
            "",
            "| loss | rule | radius | all | many | medium | few | worst |",
            "| :-- | :-- | --: | --: | --: | --: | --: | --: |",
        ]
        for row in rows:
            if (row["dataset"], row["imf"]) != setting:
                continue
            names = ("balanced_accuracy", "many", "medium", "few", "worst")
            cells = [row["loss"], row["rule"], row["radius"]]
            cells += [cell(row, name) for name in names]
            lines.append(f"| {' | '.join(cells)} |")
        blocks.append("\n".join(lines))
    replace_block(HERE / "README.md", "results", "\n\n".join(blocks) or "No rows yet.")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("tune", "final", "table"))
    parser.add_argument("--dataset", default="mnist1d", choices=("mnist1d", "mnist"))
    parser.add_argument("--imf", type=int, default=100)
    parser.add_argument("--losses", nargs="+", default=LOSSES, choices=LOSSES)
    args = parser.parse_args(argv)
    if args.stage == "table":
        table()
    else:
        stage = {"tune": tune, "final": final}[args.stage]
        stage(args.dataset, args.imf, tuple(args.losses))
    return 0


if __name__ == "__main__":
    sys.exit(main())
