"""The command line: `ltjax train`, `eval`, `predict`, `export`, `report`, `list`...

Parses, calls, and exits with a code: 0 done, 2 a mistake of the user's in one readable
message, 75 stopped on request with all saved (start it again), 1 training failed.
"""

import argparse
import errno
import logging
import os
import sys
import warnings

from ltjax import __version__
from ltjax.commands import evaluate, export, predict, sweep
from ltjax.commands.arguments import (
    CHECKPOINT,
    OptionsHelp,
    add_trackers,
    metric_lines,
    refuse,
    trackers_of,
)
from ltjax.config_file import UsageError, message_of
from ltjax.options import nearest
from ltjax.train_arguments import add_data_arguments, default_workdir, train_config

EXIT_USAGE = 2
EXIT_FAILED = 1
EXIT_PIPE = 141  # 128 + SIGPIPE, as a shell reports it
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: what schedulers requeue on


class _Parser(argparse.ArgumentParser):
    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(
                action, f"invalid choice: {value!r}{nearest(value, action.choices)}"
            )

    def error(self, message: str):
        raise UsageError(f"{self.prog}: {message}; see '{self.prog} --help'")


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: arguments after the program's name; default those of the process.

    Returns:
        The exit code.
    """
    # Failures of the user's are ValueErrors and OSErrors with a message of their own;
    # anything else is a bug of ours and keeps its traceback.
    try:
        args, rest = _parser().parse_known_args(argv)
        takes_more = args.command in ("train", "sweep")
        if rest and not getattr(args, "classifier", None):
            refuse(args, rest, configured=takes_more)
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        logging.getLogger("absl").setLevel(logging.ERROR)
        logging.getLogger("jax").setLevel(logging.WARNING)
        return args.run(args, rest)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `ltjax list | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except (ValueError, TypeError, OSError, LookupError, ImportError) as error:
        if os.environ.get("LTJAX_TRACEBACK"):
            raise
        print(f"error: {message_of(error)}", file=sys.stderr)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
        return EXIT_FAILED if full else EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ltjax", description="Learning from imbalanced and long-tailed data."
    )
    parser.add_argument("--version", action="version", version=f"ltjax {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, parser_class=_Parser, metavar="COMMAND"
    )

    train = commands.add_parser(
        "train",
        help="train (or resume) a run",
        usage="ltjax train (--data PATH | --config FILE:args) [--workdir DIR]"
        " [--config.FIELD=VALUE ...]",
        description="Trains the run of a config, or resumes it where it stopped."
        " Arguments of the config file follow a colon; any field can be overridden:"
        " --config cifar_lt:method=ldam_drw,imf=100 --config.seed=1."
        " With --data the config is made for data of your own.",
        allow_abbrev=False,
        add_help=False,
    )
    train.add_argument("-h", "--help", action=OptionsHelp)
    train.add_argument(
        "--workdir",
        help="where the run lives; with --data by default runs/<data>_<method>",
    )
    add_data_arguments(train)
    add_trackers(train)
    train.add_argument(
        "--multihost", action="store_true", help="join the processes of a cluster"
    )
    train.add_argument("--coordinator", help="host:port of process 0 (--multihost)")
    train.add_argument("--num-processes", type=int)
    train.add_argument("--process-id", type=int)
    train.set_defaults(run=_train)

    sweep.add_parser(commands)
    evaluate.add_parser(commands)
    predict.add_parser(commands)
    export.add_parser(commands)

    report = commands.add_parser("report", help="tables and figures of finished runs")
    report.add_argument("workdirs", nargs="+", metavar="DIR")
    report.add_argument(
        "--out", default="", help="default: DIR/report of the first DIR"
    )
    report.set_defaults(run=_report)

    spectrum = commands.add_parser(
        "spectrum", help="Hessian spectra of a run's checkpoint, by class group"
    )
    spectrum.add_argument("workdir")
    spectrum.add_argument(
        "--grouping", default="head_tail", help="head_tail, shots or classes"
    )
    spectrum.add_argument(
        "--eta",
        type=int,
        help="head_tail: fewer training examples are tail; default: the gradient's own",
    )
    spectrum.add_argument("--checkpoint", **CHECKPOINT)
    spectrum.add_argument("--steps", type=int, default=64, help="Lanczos steps")
    spectrum.add_argument("--starts", type=int, default=3, help="random starts")
    spectrum.add_argument("--replica", type=int, default=0)
    spectrum.set_defaults(run=_spectrum)

    listing = commands.add_parser(
        "list", help="presets, losses, methods, models, data sets..., a line each"
    )
    listing.add_argument("kind", nargs="?", default="", help="one of these, or all")
    listing.set_defaults(run=_list)

    configs = commands.add_parser(
        "configs", help="config files that come with the library, a line each"
    )
    configs.set_defaults(run=_configs)

    options = commands.add_parser(
        "options", help="every option of a component: default, meaning, range"
    )
    options.add_argument("kind", nargs="?", default="", help="engine, losses, ...")
    options.add_argument("name", nargs="?", default="", help="of one component")
    options.set_defaults(run=_options)

    prepare = commands.add_parser(
        "prepare", help="download a data set (the only command that does)"
    )
    prepare.add_argument("name")
    prepare.add_argument("--data-dir", default="", help="default: LTJAX_DATA_DIR")
    prepare.set_defaults(run=_prepare)
    for one in commands.choices.values():
        one.set_defaults(parser=one)
    return parser


def _train(args, rest: list[str]) -> int:
    from ltjax.train.checkpoint import SaveFailed
    from ltjax.train.loop import Preempted
    from ltjax.train.mesh import initialize
    from ltjax.train.records import NonFinite
    from ltjax.train.stages import check_stages, train_stages

    def join() -> None:
        if args.multihost:
            initialize(args.coordinator, args.num_processes, args.process_id)

    args.workdir = args.workdir or default_workdir(args)
    if args.data is not None:  # the batch size follows from the devices of all
        join()
    stages, trackers = check_stages(train_config(args, rest)), trackers_of(args)
    if args.data is None:
        join()
    try:
        result = train_stages(stages, args.workdir, **trackers)
    except Preempted as stop:
        print(stop, file=sys.stderr)
        return EXIT_PREEMPTED
    except (NonFinite, SaveFailed) as failure:
        print(f"error: {failure}", file=sys.stderr)
        return EXIT_FAILED
    import jax

    if jax.process_index() == 0:
        print(metric_lines(result.metrics))
        if args.data:
            from ltjax.report.closing import closing_table
            from ltjax.report.reading import read_run

            place = os.path.join(args.workdir, stages[-1].folder)
            print(f"\n{closing_table(read_run(place))}")
    return 0


def _report(args, rest) -> int:
    from ltjax.report import write_report

    out = args.out or os.path.join(args.workdirs[0], "report")
    paths = write_report(args.workdirs, out)
    with open(paths["table.md"]) as table:
        print(table.read())
    for name, path in paths.items():
        print(f"{name:<24} {path}")
    return 0


def _spectrum(args, rest) -> int:
    from ltjax.report.spectra import plot_spectra
    from ltjax.train.spectra import run_spectra

    spectra = run_spectra(
        args.workdir,
        grouping=args.grouping,
        eta=args.eta,
        replica=args.replica,
        step=args.checkpoint,
        num_steps=args.steps,
        num_starts=args.starts,
    )
    print(f"{'group':<12}{'lambda min':>12}{'lambda max':>12}{'trace':>12}{'score':>8}")
    for name, found in spectra.items():
        print(
            f"{name:<12}{found.lambda_min:>12.4g}{found.lambda_max:>12.4g}"
            f"{found.trace:>12.4g}{found.nonconvexity:>8.3f}"
        )
    figure = plot_spectra(
        {name: (found.grid, found.density) for name, found in spectra.items()},
        extremes={
            n: (found.lambda_min, found.lambda_max) for n, found in spectra.items()
        },
        title="Hessian of the cross-entropy on the training set",
    )
    at = "" if args.checkpoint == "last" else f"_{args.checkpoint}"
    path = os.path.join(args.workdir, "spectrum", f"{args.grouping}{at}.png")
    figure.savefig(path, dpi=150)
    print(f"figure {path}")
    return 0


def _list(args, rest) -> int:
    from ltjax.train.listing import listing

    print(listing(args.kind))
    return 0


def _configs(args, rest) -> int:
    from ltjax.shipped_configs import listing

    print(listing())
    return 0


def _options(args, rest) -> int:
    from ltjax.train.listing import options_page

    print(options_page(args.kind, args.name))
    return 0


def _prepare(args, rest) -> int:
    from ltjax.data.prepare import prepare

    prepare(args.name, args.data_dir or None)
    return 0


if __name__ == "__main__":
    warnings.simplefilter("default")
    sys.exit(main())
