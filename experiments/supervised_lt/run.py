"""The supervised table: every loss, schedule and classifier on one data and budget.

    python experiments/supervised_lt/run.py tune  [--dataset mnist1d]
    python experiments/supervised_lt/run.py train [--dataset mnist1d] [--imf 100]
                                                  [--profile exp]
    python experiments/supervised_lt/run.py table

`tune` sets each method's one dial at ratio 100, on seeds and data that `train` never
sees; every dial has three candidates. `train` runs five seeds at any ratio.
"""

import argparse
import math
import pathlib
import sys
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from grid import (  # noqa: E402
    ROOT,
    Point,
    cell,
    read_rows,
    replace_block,
    run_points,
    score,
    small_config,
)

from ltjax.report.tables import markdown_grid  # noqa: E402

RESULTS = HERE / "results" / "supervised.csv"
TUNING = HERE / "results" / "tune.csv"
RUNS = ROOT / "runs" / "supervised_lt"  # finished runs that others build on
COLUMNS = ("balanced_accuracy", "many", "medium", "few", "worst", "ece")
SETTING = ("dataset", "profile", "imf")


class Method(NamedTuple):
    """A row of the table.

    Attributes:
        preset: a named method of the config family.
        dial: what is tuned: an option of the config, or of the classifier; "" for
            nothing.
        values: its candidates.
        changes: further options of the config.
        classifier: put on the finished CE run; nothing is trained then.
        second_stage: whether training starts from the finished CE run.
    """

    preset: str
    dial: str = ""
    values: tuple = (None,)
    changes: dict = {}
    classifier: str = ""
    second_stage: bool = False


BETA = ("weights.beta", (0.9, 0.99, 0.9999))
GAMMA = ("loss.gamma", (0.1, 0.2, 0.3))
MARGIN = ("loss.max_margin", (0.25, 0.5, 1.0))
TAU = (0.5, 1.0, 1.5)
RATE = ("optimizer.lr", (0.01, 0.05, 0.25))  # of the second stage
# Dials that the published rows call otherwise than a config does.
PLACES = {"loss.mixup": "method.mixup"}

METHODS = {
    "CE": Method("ce"),
    "RW": Method("rw", "weights.power", (0.25, 0.5, 1.0)),
    "RS": Method("rs"),
    "Focal": Method("focal", "loss.gamma", (0.5, 1.0, 2.0)),
    "CB": Method("cb", *BETA),
    "CB-sigmoid": Method(
        "cb_focal", *BETA, changes={"loss.name": "sigmoid", "label": "CB-sigmoid"}
    ),
    "CB-Focal": Method("cb_focal", *BETA),
    "CE-DRW": Method("ce_drw", *BETA),
    "LDAM": Method("ldam", *MARGIN),
    "LDAM-DRS": Method("ldam_drs", *MARGIN),
    "LDAM-DRW": Method("ldam_drw", *MARGIN),
    "LA": Method("la", "loss.tau", TAU),
    "LA post hoc": Method("ce", "tau", TAU, classifier="la"),
    "BS": Method("balanced_softmax"),
    "CDT": Method("cdt", *GAMMA),
    "VS": Method("vs", *GAMMA),
    "TLA+ADRW": Method("tla_adrw", "weights.power", (0.1, 0.2, 0.4)),
    "cRT": Method("crt", *RATE, second_stage=True),
    "LWS": Method("lws", *RATE, second_stage=True),
    "tau-norm": Method("ce", "tau", TAU, classifier="tau_norm"),
    "NCM": Method("ce", "transform", ("none", "l2n", "cl2n"), classifier="ncm"),
    "ETF+DR": Method("etf_dr", "loss.mixup", (0.0, 0.2, 1.0)),
}


def point(dataset: str, imf: int, profile: str, name: str, value, *, tuning: bool):
    """The run of one method with its dial at `value`."""
    method = METHODS[name]
    base = RUNS / f"{'tune' if tuning else 'train'}-{dataset}-{profile}-{imf}"
    arg = f"method={method.preset},imf={imf},profile={profile}"
    if method.second_stage:
        arg += f",init_from={base}"
    config = small_config(dataset, arg, tuning=tuning)
    changes = dict(method.changes)
    if method.dial and not method.classifier:
        changes[PLACES.get(method.dial, method.dial)] = value
    for place, wanted in changes.items():
        section, _, field = place.rpartition(".")
        (config[section] if section else config)[field] = wanted
    if not method.second_stage:
        config.total = "1500 steps"
    key = {"dataset": dataset, "profile": profile, "imf": imf, "method": name}
    key["dial"] = f"{method.dial}={value}" if method.dial else "none"
    command = f"configs/{dataset}_lt.py:{arg.replace(str(base), 'CE')}"
    if method.classifier:
        options = {method.dial: value}
        return Point(key, config, command, str(base), method.classifier, options)
    return Point(key, config, command, str(base) if name == "CE" else "")


def tune(dataset: str) -> None:
    run_points(
        [
            point(dataset, 100, "exp", name, value, tuning=True)
            for name, method in METHODS.items()
            if method.dial or name == "CE"
            for value in method.values
        ],
        TUNING,
    )


def tuned(dataset: str, name: str):
    """The candidate with the best balanced accuracy on the tuning seeds."""
    method = METHODS[name]
    if not method.dial:
        return None
    wanted = {"dataset": dataset, "method": name}
    rows = [row for row in read_rows(TUNING) if wanted.items() <= row.items()]
    scores = {row["dial"]: score(row) for row in rows}
    missing = [v for v in method.values if f"{method.dial}={v}" not in scores]
    if missing:
        raise SystemExit(
            f"no tuning rows of {name} on {dataset} for {missing}; run 'tune' first"
        )
    return max(method.values, key=lambda value: scores[f"{method.dial}={value}"])


def train(dataset: str, imf: int, profile: str) -> None:
    run_points(
        [
            point(dataset, imf, profile, name, tuned(dataset, name), tuning=False)
            for name in METHODS
        ],
        RESULTS,
    )


def setting_table(rows: list[dict]) -> str:
    head = ("method", "dial", "all", "many", "medium", "few", "worst", "ECE")
    lines = []
    for row in rows:
        dial = "" if row["dial"] == "none" else _dial(row["dial"])
        lines.append([row["method"], dial, *(cell(row, name) for name in COLUMNS)])
    return markdown_grid(head, lines, align="llrrrrrr")


def _dial(text: str) -> str:
    place, value = text.split("=")
    return f"{place.split('.')[-1]} {value}"


def _all_and_few(row: dict) -> str:
    balanced, few = (float(row[f"{n}_mean"]) for n in ("balanced_accuracy", "few"))
    return f"{balanced:.1f}" + ("" if math.isnan(few) else f" ({few:.1f})")


def summary_table(rows: list[dict], settings: list[tuple]) -> str:
    """Balanced and few-shot accuracy of every method, a column per setting."""
    table = {(tuple(r[n] for n in SETTING), r["method"]): r for r in rows}
    lines = []
    for method in METHODS:
        found = [table.get((setting, method)) for setting in settings]
        lines.append([method, *(_all_and_few(row) if row else "" for row in found)])
    titles = [f"{d} {p} {imf}" for d, p, imf in settings]
    return markdown_grid(["method", *titles], lines)


def figure(rows: list[dict], settings: list[tuple], path: pathlib.Path) -> None:
    """Balanced accuracy over CE's by imbalance ratio: a row of axes per profile."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves: dict[tuple, dict] = {}
    for row in rows:
        found = curves.setdefault((row["dataset"], row["profile"]), {})
        found[row["method"], int(row["imf"])] = float(row["balanced_accuracy_mean"])
    datasets, profiles = (list(dict.fromkeys(s[k] for s in settings)) for k in (0, 1))
    fig, axes = plt.subplots(
        len(profiles),
        len(datasets),
        figsize=(6.4 * len(datasets), 5.2 * len(profiles)),
        squeeze=False,
    )
    for r, profile in enumerate(profiles):
        for c, dataset in enumerate(datasets):
            found = curves.get((dataset, profile))
            if found:
                _gains(axes[r, c], found)
            axes[r, c].set(title=f"{dataset}, {profile} profile")
        axes[r, 0].set_ylabel("balanced accuracy over CE's, points")
    for axis in axes[-1]:
        axis.set_xlabel("imbalance ratio")
    fig.tight_layout()
    fig.savefig(path, dpi=110)


def _gains(axis, found: dict[tuple[str, int], float]) -> None:
    ratios = sorted({ratio for _, ratio in found})
    ends = []
    for k, method in enumerate(METHODS):
        gain = [
            found.get((method, ratio), float("nan")) - found["CE", ratio]
            for ratio in ratios
        ]
        style = ("-", "--", ":")[k // 10]
        axis.plot(ratios, gain, style, marker="o", ms=3, color=f"C{k % 10}")
        ends.append((gain[-1], method, f"C{k % 10}"))
    ends.sort()
    places = _apart([end[0] for end in ends], *axis.get_ylim())
    for place, (value, method, color) in zip(places, ends, strict=True):
        axis.annotate(
            method,
            (ratios[-1], value),
            (1.02, place),
            textcoords=axis.get_yaxis_transform(),
            color=color,
            fontsize=8,
            va="center",
        )
    axis.axhline(0, color="0.6", lw=0.8)
    axis.set_xscale("log")
    axis.set_xticks(ratios, map(str, ratios))
    axis.minorticks_off()


def _apart(values: list[float], low: float, high: float) -> list[float]:
    """Increasing values, moved: labels there neither meet nor leave the axis."""
    gap, places = (high - low) / 34, []
    for value in values:
        places.append(max(value, places[-1] + gap if places else value))
    top = high
    for k in reversed(range(len(places))):
        places[k] = min(places[k], top)
        top = places[k] - gap
    return places


def table() -> None:
    """Writes everything of the README that is a number, from the CSV."""
    rows = read_rows(RESULTS)
    settings = list(dict.fromkeys(tuple(r[n] for n in SETTING) for r in rows))
    settings.sort(key=lambda s: (s[0] != "mnist1d", s[1], int(s[2])))
    order = list(METHODS)
    rows.sort(key=lambda r: order.index(r["method"]))
    blocks = [summary_table(rows, settings).rstrip()] if rows else ["No rows yet."]
    for setting in settings:
        mine = [r for r in rows if tuple(r[n] for n in SETTING) == setting]
        blocks.append(
            f"### {setting[0]}, {setting[1]} profile, ratio {setting[2]}\n\n"
            + setting_table(mine).rstrip()
        )
    replace_block(HERE / "README.md", "results", "\n\n".join(blocks))
    if rows:
        figure(rows, settings, HERE / "results" / "gain.png")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("tune", "train", "table"))
    parser.add_argument("--dataset", default="mnist1d", choices=("mnist1d", "mnist"))
    parser.add_argument("--imf", type=int, default=100)
    parser.add_argument("--profile", default="exp", choices=("exp", "step"))
    args = parser.parse_args(argv)
    if args.stage == "table":
        table()
    elif args.stage == "tune":
        tune(args.dataset)
    else:
        train(args.dataset, args.imf, args.profile)
    return 0


if __name__ == "__main__":
    sys.exit(main())
