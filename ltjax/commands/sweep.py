"""`ltjax sweep --config FILE --grid KEY=VALUES --workdir DIR`: a grid of runs."""

import argparse
import difflib
import os
import sys
from collections.abc import Mapping
from typing import Any

from ltjax.commands.arguments import add_trackers, trackers_of
from ltjax.config_file import UsageError, load_config, split_config
from ltjax.train_arguments import add_data_arguments, train_config

EXIT_FAILED = 1
EXIT_PREEMPTED = 75

# Flags of data of your own that a grid may vary -> their type.
_FLAGS = {"method": str, "model": str, "image_size": int, "epochs": int}


def add_parser(commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "sweep",
        help="train every point of a grid, and report on all of them",
        usage="ltjax sweep (--data PATH | --config FILE:args) --grid KEY=VALUE,..."
        " --workdir DIR [--config.FIELD=VALUE ...]",
        description="Trains every point of a grid. Seeds, and options that a program"
        " can hold several values of (`ltjax options` calls them sweepable), become"
        " replicas of one run; the rest are runs of their own, one after the other."
        " Started again, it goes on where it stopped; with another grid it trains the"
        " points that are new. A point that fails does not stop the others. A KEY is an"
        " option (loss.tau, batch_size, optimizer.name), seed, or an argument of the"
        " config file (method).",
        allow_abbrev=False,
    )
    parser.add_argument("--workdir", required=True, help="folder of all runs")
    parser.add_argument(
        "--grid",
        action="append",
        required=True,
        metavar="KEY=VALUE,VALUE,...",
        help="values of an option; once for each option",
    )
    parser.add_argument(
        "--replicas",
        type=int,
        default=8,
        metavar="N",
        help="most points of one program; default: %(default)s",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and train nothing"
    )
    add_data_arguments(parser)
    add_trackers(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Plans, trains and reports."""
    from ltjax.sweeps import open_sweep, read_grid, run_sweep
    from ltjax.train.loop import Preempted

    if args.replicas < 1:
        raise UsageError(
            f"ltjax sweep: --replicas is {args.replicas}, expected at least 1"
        )
    grid = read_grid(args.grid)
    trackers = trackers_of(args)
    sweep = open_sweep(
        grid, config_maker(args, rest), args.workdir, limit=args.replicas
    )
    if args.dry_run:
        print(_plan(sweep))
        return 0
    print(_plan(sweep), file=sys.stderr)
    try:
        outcome = run_sweep(sweep, **trackers)
    except Preempted as stop:
        print(stop, file=sys.stderr)
        return EXIT_PREEMPTED
    _report(args.workdir, outcome.folders)
    for points, reason in outcome.failures.items():
        print(f"failed: {points}: {reason}", file=sys.stderr)
    return EXIT_FAILED if outcome.failures else 0


def _plan(sweep: Any) -> str:
    """The runs, a line each."""
    from ltjax.sweeps.grid import told
    from ltjax.sweeps.run import state_of

    runs = sweep.asked
    count = sum(len(entry.points) for entry in runs)
    others = len(sweep.entries) - len(runs)
    lines = [f"{count} points in {len(runs)} runs, {len(sweep.waiting)} to train"]
    lines += [
        f"{state_of(entry, sweep.workdir):<9}{len(entry.points):>3}  {entry.folder}"
        f"  {told(entry.grid)}"
        for entry in runs
    ]
    if others:
        lines.append(f"and {others} runs of earlier grids, which stay")
    return "\n".join(lines)


def _report(workdir: str, folders: list) -> None:
    from ltjax.report import ReportError, write_report

    if not folders:
        return
    try:
        paths = write_report(folders, os.path.join(workdir, "report"))
    except ReportError as error:
        print(f"no report: {error}", file=sys.stderr)
        return
    print(paths["table.md"].read_text())
    for name, path in paths.items():
        print(f"{name:<24} {path}")


def config_maker(args: argparse.Namespace, rest: list[str]) -> Any:
    """What makes the config of a run from what the grid fixes."""
    spec, overrides = split_config(rest)

    def make(fixed: Mapping[str, str]) -> Any:
        inside = {key: value for key, value in fixed.items() if not _is_option(key)}
        changes = [f"--config.{k}={v}" for k, v in fixed.items() if k not in inside]
        if args.data is not None:
            given = argparse.Namespace(**{**vars(args), **_flags(inside)})
            config = [] if spec is None else ["--config", spec]
            return train_config(given, [*config, *overrides, *changes])
        if spec is None:
            return train_config(args, rest)  # which says what is missing
        arguments = ",".join(f"{key}={value}" for key, value in inside.items())
        path, _, own = spec.partition(":")
        whole = ",".join(filter(None, (own, arguments)))
        config = ["--config", f"{path}:{whole}" if whole else path]
        if inside:
            _check_arguments(path, own, inside)
        return load_config([*config, *overrides, *changes], command="sweep")

    return make


def _is_option(key: str) -> bool:
    """Whether a key of the grid is an option of the config, and no argument."""
    from ltjax.options import options_of
    from ltjax.train.config import EngineOptions

    return "." in key or key in options_of(EngineOptions)


def _flags(inside: Mapping[str, str]) -> dict[str, Any]:
    """Flags of data of your own, with their types."""
    flags = {}
    for key, value in inside.items():
        name = key.replace("-", "_")
        if name not in _FLAGS:
            raise UsageError(f"ltjax sweep: --grid {key}: {_unknown(key, _FLAGS)}")
        try:
            flags[name] = _FLAGS[name](value)
        except ValueError:
            raise UsageError(
                f"ltjax sweep: --grid {key}: {value!r} is not a whole number"
            ) from None
    return flags


def _check_arguments(path: str, own: str, inside: Mapping[str, str]) -> None:
    """Refuses what is neither an argument of the config file nor an option."""
    from ltjax.options import ConfigError

    for key, value in inside.items():
        whole = ",".join(filter(None, (own, f"{key}={value}")))
        try:
            load_config(["--config", f"{path}:{whole}"], command="sweep")
        except ConfigError as error:
            unknown = [f for f in error.faults if f"argument {key!r} is unknown" in f]
            if unknown:
                known = unknown[0].rpartition("valid: ")[2].rstrip(")").split(", ")
                raise UsageError(
                    f"ltjax sweep: --grid {key}: {_unknown(key, known)}"
                ) from None
            raise


def _unknown(key: str, arguments: Any) -> str:
    from ltjax.options import options_of
    from ltjax.train.config import EngineOptions
    from ltjax.train.sections import SECTIONS

    options = [*options_of(EngineOptions), *(f"{path}.name" for path in SECTIONS)]
    if key in SECTIONS:
        hint = f"did you mean '{key}.name'?"
    else:
        close = difflib.get_close_matches(key, [*arguments, *options], n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else ""
    return (
        f"{key!r} is no option of the config and no argument here; {hint}"
        f" (arguments: {', '.join(arguments)}; options: `ltjax options`)"
    )
