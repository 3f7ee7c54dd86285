"""All gradient rules on the same losses, data, budget and loss normalization.

    python experiments/sharpness/run.py tune  [--dataset mnist1d]
    python experiments/sharpness/run.py final [--dataset mnist1d] [--imf 100]
    python experiments/sharpness/run.py spectra --losses la
    python experiments/sharpness/run.py table

`tune` picks each rule's radius at ratio 100, on seeds and data that `final` never sees;
every rule has three candidates. `final` runs five seeds with it at any ratio. `spectra`
looks at the Hessian of head and tail before and after SSE-SAM's stage switch.
"""

import argparse
import pathlib
import sys
import tempfile
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
from grid import (  # noqa: E402
    ROOT,
    Point,
    append_csv,
    cell,
    mean_std,
    provenance_row,
    read_rows,
    replace_block,
    run_points,
    score,
    small_config,
)

from ltjax.report.tables import markdown_grid  # noqa: E402

# Presets, and what they change in the loss: VS as published over-corrects here, so that
# it also runs with the gamma that was tuned for ../supervised_lt.
LOSSES = {
    "ce": ("ce", {}),
    "la": ("la", {}),
    "ldam_drw": ("ldam_drw", {}),
    "vs": ("vs", {}),
    "vs_mild": ("vs", {"gamma": 0.1}),
}


class Rule(NamedTuple):
    """A gradient rule of the comparison.

    Attributes:
        gradient: its name in a config.
        changes: further options of the rule.
        dial: the option that is tuned, as rows call it; "" for nothing.
        values: its candidates.
        losses: what it is combined with.
    """

    gradient: str
    changes: dict = {}
    dial: str = "rho"
    values: tuple = (0.05, 0.1, 0.2)
    losses: tuple = tuple(LOSSES)


# ImbSAM in three normalizations: the paper's, the released code's since 2023-09 (the
# tail doubled), and that of the SSE-SAM authors' code (group means).
RULES = {
    "plain": Rule("plain", dial="", values=()),
    "sam": Rule("sam"),
    "asam": Rule("asam", {"tensors": "all"}, values=(0.5, 1.0, 2.0)),
    "imbsam": Rule("imbsam"),
    "imbsam_doubled": Rule("imbsam", {"tail_scale": 2.0}),
    "imbsam_group_mean": Rule("imbsam", {"group_normalize": "group_mean"}),
    "sse_sam": Rule("sse_sam", dial="rho_tail"),
    "focal_sam": Rule("focal_sam"),
    "rwsam": Rule("rwsam"),
    "cc_sam": Rule(  # 0: radii without a bound, as published
        "cc_sam", dial="cc_max_rho", values=(0.0, 0.05, 0.1, 0.2), losses=("ce",)
    ),
}
OPTIONS = {"cc_max_rho": "max_rho"}  # dials that rows call otherwise than a config does
STATIC = ("cc_max_rho",)  # dials that no replica grid can vary
WITH_TAIL = ("imbsam", "sse_sam")  # rules that ask which classes are tail
RESULTS = HERE / "results"
SPECTRA = RESULTS / "spectra.csv"
RUNS = ROOT / "runs" / "sharpness"
STEPS = 1500
LANCZOS = {"num_steps": 40, "num_starts": 1, "trace_probes": 20}
CURVATURES = ("lambda_min", "lambda_max", "trace", "nonconvexity")


def point(
    dataset: str,
    rule: str,
    loss: str,
    imf: int,
    *,
    tuned: float | None,
    candidate: float | None = None,
) -> Point:
    """A run with the dial at `tuned`; None tunes, over all or at one `candidate`."""
    chosen, tuning = RULES[rule], tuned is None
    preset, loss_changes = LOSSES[loss]
    arg = f"method={preset},gradient={chosen.gradient},imf={imf}"
    config = small_config(dataset, arg, tuning=tuning)
    for name, value in loss_changes.items():
        config.loss[name] = value
    for name, value in chosen.changes.items():
        config.gradient[name] = value
    if rule == "rwsam":
        config.gradient.density_weights = str(density_file(dataset, imf, tuning))
    if chosen.gradient in WITH_TAIL:
        config.gradient.eta = rarer_half(config.data.max_count, imf)
    config.total = f"{STEPS} steps"
    command = f"configs/{dataset}_lt.py:{arg}"
    command += "".join(f" loss.{k}={v}" for k, v in loss_changes.items())
    key = {"dataset": dataset, "imf": imf, "loss": loss, "rule": rule}
    option = OPTIONS.get(chosen.dial, chosen.dial)
    if not tuning:
        if option:
            config.gradient[option] = tuned
        key["radius"] = f"{tuned:g}"
    elif candidate is not None:
        config.gradient[option] = candidate
        key[chosen.dial] = f"{candidate:g}"
    else:
        config.replicas.grid = {f"gradient.{option}": chosen.values}
    return Point(key, config, command)


def density_file(dataset: str, imf: int, tuning: bool) -> pathlib.Path:
    """Where rwSAM's example weights are; see `make_density`."""
    return RUNS / f"density-{'tune' if tuning else 'final'}-{dataset}-{imf}.npy"


def make_density(dataset: str, imf: int, tuning: bool) -> None:
    """Example weights from the features of a plain CE run on the same examples."""
    path = density_file(dataset, imf, tuning)
    if path.exists():
        return
    from ltjax.sharpness import density_weights
    from ltjax.train.build import build
    from ltjax.train.check import check
    from ltjax.train.loop import run
    from ltjax.train.restore import split_outputs

    config = small_config(dataset, f"method=ce,imf={imf}", tuning=tuning)
    config.total = f"{STEPS} steps"
    config.replicas.seeds = config.replicas.seeds[:1]
    built = build(check(config))
    with tempfile.TemporaryDirectory() as nowhere:
        state = run(built, nowhere, tensorboard=False).state
    found, _ = split_outputs(built, state, "train", outputs=("features",))
    features = found["features"][0]
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(density_weights(features)))


def rarer_half(max_count: int, imf: float) -> int:
    """The eta that makes the rarer five of ten classes tail, at any ratio."""
    return 1 + int(max_count * imf ** (-5 / 9))


def tune(dataset: str, losses: tuple[str, ...], rules: tuple[str, ...]) -> None:
    for rule in rules:
        chosen = RULES[rule]
        if rule == "rwsam":
            make_density(dataset, 100, tuning=True)
        for loss in losses:
            if not chosen.dial or loss not in chosen.losses:
                continue
            singly = chosen.values if chosen.dial in STATIC else (None,)
            points = [
                point(dataset, rule, loss, 100, tuned=None, candidate=value)
                for value in singly
            ]
            run_points(points, RESULTS / f"tune_{chosen.dial}.csv")


def tuned_radius(dataset: str, rule: str, loss: str) -> float:
    """The candidate with the best balanced accuracy on the tuning seeds."""
    dial = RULES[rule].dial
    if not dial:
        return 0.0
    wanted = {"dataset": dataset, "imf": "100", "loss": loss, "rule": rule}
    rows = [
        row
        for row in read_rows(RESULTS / f"tune_{dial}.csv")
        if wanted.items() <= row.items()
    ]
    if not rows:
        raise SystemExit(f"no tuning rows for {wanted}; run 'tune' first")
    return float(max(rows, key=score)[dial])


def final(
    dataset: str, imf: int, losses: tuple[str, ...], rules: tuple[str, ...]
) -> None:
    if "rwsam" in rules:
        make_density(dataset, imf, tuning=False)
    points = (
        point(dataset, rule, loss, imf, tuned=tuned_radius(dataset, rule, loss))
        for loss in losses
        for rule in rules
        if loss in RULES[rule].losses
    )
    run_points(points, RESULTS / "final.csv")


def spectra(loss: str) -> None:
    """Hessians of the cross-entropy of head and tail classes, seed by seed.

    The same network is looked at where SSE-SAM changes its stage and at the end; plain
    and SAM runs at the same two steps.
    """
    from ltjax.train.build import build
    from ltjax.train.check import check
    from ltjax.train.loop import run
    from ltjax.train.spectra import run_spectra

    switch = STEPS * 7 // 10
    for rule in ("plain", "sam", "sse_sam"):
        radius = tuned_radius("mnist1d", rule, loss)
        one = point("mnist1d", rule, loss, 100, tuned=radius)
        config = one.config
        config.replicas.seeds = (0, 1, 2)
        if rule == "sse_sam":
            config.gradient.switch = f"{switch} steps"
        config.checkpoint_every = f"{switch} steps"
        built = build(check(config))
        workdir = RUNS / f"{loss}-{rule}"
        chosen = {**LANCZOS, "eta": rarer_half(config.data.max_count, 100)}
        run(built, workdir, tensorboard=False)
        for step in (switch, STEPS):
            for replica, seed in enumerate(config.replicas.seeds):
                key = {**one.key, "step": str(step), "seed": str(seed)}
                key["imf"] = "100"
                if any(key.items() <= row.items() for row in read_rows(SPECTRA)):
                    continue
                found = run_spectra(workdir, replica=replica, step=step, **chosen)
                for group, spectrum in found.items():
                    numbers = {c: f"{getattr(spectrum, c):.5g}" for c in CURVATURES}
                    made_by = provenance_row(built, one.command, seeds=[seed])
                    row = {**key, "group": group, **numbers, **made_by}
                    append_csv(SPECTRA, [row])
    draw_switch(RUNS / f"{loss}-sse_sam", loss, (switch, STEPS))


def draw_switch(workdir: pathlib.Path, loss: str, steps: tuple[int, int]) -> None:
    """The figure of SSE-SAM's spectra before and after the switch, first seed."""
    from ltjax.report.spectra import plot_spectra
    from ltjax.train.spectra import run_spectra

    found = {step: run_spectra(workdir, step=step, **LANCZOS) for step in steps}
    chosen = {
        f"{group}, step {step}": found[step][group]
        for group in ("head", "tail")
        for step in steps
    }
    figure = plot_spectra(
        {name: (s.grid, s.density) for name, s in chosen.items()},
        extremes={name: (s.lambda_min, s.lambda_max) for name, s in chosen.items()},
        title=f"SSE-SAM, {loss}: before and after the stage switch",
    )
    figure.savefig(RESULTS / "spectra.png", dpi=130)


def spectra_table(rows: list[dict]) -> str:
    names = ("loss", "rule", "step", "group")
    lines = []
    for cells in dict.fromkeys(tuple(row[n] for n in names) for row in rows):
        if cells[-1] == "all":
            continue
        mine = [row for row in rows if tuple(row[n] for n in names) == cells]
        numbers = []
        for name in CURVATURES:
            values = np.asarray([float(row[name]) for row in mine])
            spread = values.std(ddof=1) if len(values) > 1 else float("nan")
            digits = 3 if name == "nonconvexity" else 2 if name == "lambda_min" else 1
            numbers.append(mean_std(values.mean(), spread, digits))
        lines.append([*cells, *numbers])
    head = [*names, "λ min", "λ max", "trace", "−λ min / λ max"]
    return markdown_grid(head, lines, align="llrlrrrr")


def table() -> None:
    """Writes everything of the README that is a number, from the CSV files."""
    found = read_rows(SPECTRA)
    text = spectra_table(found) if found else "No rows yet."
    replace_block(HERE / "README.md", "spectra", text)
    rows = read_rows(RESULTS / "final.csv")
    place = {name: k for k, name in enumerate((*LOSSES, *RULES))}
    rows.sort(key=lambda r: (place[r["loss"]], place[r["rule"]]))
    settings = sorted(
        {(r["dataset"], int(r["imf"])) for r in rows},
        key=lambda setting: (setting[0] != "mnist1d", setting[1]),
    )
    by_setting = {
        (dataset, imf): [
            r for r in rows if (r["dataset"], r["imf"]) == (dataset, str(imf))
        ]
        for dataset, imf in settings
    }
    blocks = [gains_table(by_setting).rstrip()] if rows else ["No rows yet."]
    names = ("balanced_accuracy", "many", "medium", "few", "worst")
    head = ("loss", "rule", "radius", "all", *names[1:])
    for (dataset, imf), mine in by_setting.items():
        lines = [
            [row["loss"], row["rule"], row["radius"], *(cell(row, n) for n in names)]
            for row in mine
        ]
        grid = markdown_grid(head, lines, align="llrrrrrr")
        blocks.append(f"### {dataset}, ratio {imf}\n\n{grid.rstrip()}")
    replace_block(HERE / "README.md", "results", "\n\n".join(blocks))


def gains_table(by_setting: dict[tuple, list[dict]]) -> str:
    """Balanced accuracy of the plain gradient, and what every rule adds to it."""
    found = {
        (r["loss"], r["rule"], setting): float(r["balanced_accuracy_mean"])
        for setting, rows in by_setting.items()
        for r in rows
    }
    lines = []
    for loss, rule in dict.fromkeys(key[:2] for key in found):
        cells = [loss, rule]
        for setting in by_setting:
            value = found.get((loss, rule, setting), np.nan)
            if rule == "plain":
                cells.append(f"{value:.1f}")
            else:
                plain = found.get((loss, "plain", setting), np.nan)
                cells.append(f"{round(value - plain, 1) + 0.0:+.1f}")  # no -0.0
        lines.append(cells)
    titles = [f"{dataset} {imf}" for dataset, imf in by_setting]
    align = "ll" + "r" * len(titles)
    return markdown_grid(["loss", "rule", *titles], lines, align=align)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("tune", "final", "spectra", "table"))
    parser.add_argument("--dataset", default="mnist1d", choices=("mnist1d", "mnist"))
    parser.add_argument("--imf", type=int, default=100)
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=LOSSES)
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=RULES)
    args = parser.parse_args(argv)
    losses, rules = tuple(args.losses), tuple(args.rules)
    if args.stage == "table":
        table()
    elif args.stage == "tune":
        tune(args.dataset, losses, rules)
    elif args.stage == "final":
        final(args.dataset, args.imf, losses, rules)
    else:
        for loss in losses:
            spectra(loss)
    return 0


if __name__ == "__main__":
    sys.exit(main())
