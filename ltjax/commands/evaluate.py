"""`ltjax eval RUN`: metrics of a checkpoint, by its own or another classifier."""

import argparse
from typing import Any

from ltjax.commands.arguments import CHECKPOINT, metric_lines
from ltjax.config_file import UsageError


def add_parser(commands) -> None:
    """Adds the command."""
    parser = commands.add_parser("eval", help="evaluate a checkpoint of a run")
    parser.add_argument("workdir")
    parser.add_argument("--checkpoint", **CHECKPOINT)
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object: metrics by split and replica, seeds, checkpoint, step",
    )
    parser.add_argument(
        "--posthoc-tau",
        type=float,
        help="also subtract tau times the log-prior from the logits",
    )
    other = parser.add_argument_group(
        "another classifier on the same features",
        "`ltjax options classifiers` lists them; every option is an argument, such as"
        " --tau 0.5 or --select-on train",
    )
    other.add_argument("--classifier", help="la, tau_norm, ncm, ...")
    other.add_argument("--out", help="write a folder that `ltjax report` can read")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Evaluates, and prints metrics."""
    if args.classifier is None and args.out:
        raise UsageError(
            "ltjax eval: --out is given, which goes with another classifier; expected"
            " --classifier NAME (`ltjax list classifiers`)"
        )
    if args.classifier is not None and args.posthoc_tau is not None:
        raise UsageError(
            "ltjax eval: --posthoc-tau adjusts the run itself; with another"
            " classifier, expected --classifier la --tau TAU"
        )
    if args.classifier is None:
        from ltjax.train.restore import judge_run

        tau = args.posthoc_tau
        changes = {} if tau is None else {"method.posthoc_tau": tau}
        found = judge_run(args.workdir, changes=changes, step=args.checkpoint)
    else:
        from ltjax.train.posthoc import judge_classifier

        found = judge_classifier(
            args.workdir,
            args.classifier,
            out=args.out,
            step=args.checkpoint,
            **_classifier_options(rest),
        )
    print(_json(args, found) if args.json else metric_lines(found.values))
    return 0


def _json(args: argparse.Namespace, found: Any) -> str:
    """One object in one line; a metric that is not finite is null."""
    import json
    import math

    import numpy as np

    values = {
        key: [v if math.isfinite(v) else None for v in np.atleast_1d(value).tolist()]
        for key, value in found.values.items()
    }
    splits: dict[str, dict[str, list]] = {}
    for key in [key for key in values if key.startswith("eval/")]:
        _, split, metric = key.split("/", 2)
        splits.setdefault(split, {})[metric] = values.pop(key)
    told = {
        "workdir": args.workdir,
        "checkpoint": args.checkpoint,
        "step": found.step,
        "replicas": found.replicas,
        "metrics": splits,
    }
    return json.dumps(told | ({"chosen": values} if values else {}), allow_nan=False)


def _classifier_options(rest: list[str]) -> dict:
    """--name value (or --name=value) pairs as options of a classifier."""
    chosen, rest = {}, list(rest)
    while rest:
        flag, given, value = rest.pop(0).partition("=")
        if not flag.startswith("--"):
            raise UsageError(f"ltjax eval: unknown argument {flag!r}")
        if not given:
            if not rest:
                raise UsageError(f"ltjax eval: {flag} needs a value")
            value = rest.pop(0)
        name = {"bias": "bias_mode"}.get(flag[2:], flag[2:].replace("-", "_"))
        try:
            chosen[name] = float(value)
        except ValueError:
            chosen[name] = value
    return chosen
