"""The command line: `ltjax train · eval · report · spectrum · list · prepare`.

Parses, calls, and exits with a code: 0 done, 2 a mistake of the user's in one readable
message, 75 stopped on request with all saved (start it again), 1 training failed.
"""

import argparse
import logging
import os
import sys
import warnings

EXIT_USAGE = 2
EXIT_FAILED = 1
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: what schedulers requeue on


class UsageError(ValueError):
    """A mistake on the command line."""


class _Parser(argparse.ArgumentParser):
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
        if rest and args.command != "train":
            raise UsageError(f"ltjax {args.command}: unknown argument {rest[0]!r}")
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        logging.getLogger("absl").setLevel(logging.ERROR)
        logging.getLogger("jax").setLevel(logging.WARNING)
        return args.run(args, rest)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, LookupError, ImportError) as error:
        if os.environ.get("LTJAX_TRACEBACK"):
            raise
        print(f"error: {_message(error)}", file=sys.stderr)
        return EXIT_USAGE


def _message(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error}; install it with pip install 'ltjax[all]'"
    # str() of a KeyError is the repr of its message.
    repeated = isinstance(error, (KeyError, AttributeError)) and error.args
    text = str(error.args[0]) if repeated else str(error)
    return text or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ltjax", description="Learning from imbalanced and long-tailed data."
    )
    commands = parser.add_subparsers(
        dest="command", required=True, parser_class=_Parser, metavar="COMMAND"
    )

    train = commands.add_parser(
        "train",
        help="train (or resume) a run",
        description="Trains the run of a config, or resumes it where it stopped."
        " Arguments of the config file follow a colon; any field can be overridden:"
        " --config configs/cifar_lt.py:method=ldam_drw,imf=100 --config.seed=1",
        allow_abbrev=False,
    )
    train.add_argument("--workdir", required=True, help="where the run lives")
    train.add_argument("--no-tensorboard", action="store_true")
    train.add_argument(
        "--multihost", action="store_true", help="join the processes of a cluster"
    )
    train.add_argument("--coordinator", help="host:port of process 0 (--multihost)")
    train.add_argument("--num-processes", type=int)
    train.add_argument("--process-id", type=int)
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("eval", help="evaluate a run's newest checkpoint")
    evaluate.add_argument("workdir")
    evaluate.add_argument(
        "--posthoc-tau",
        type=float,
        help="also subtract tau times the log-prior from the logits",
    )
    other = evaluate.add_argument_group("another classifier on the same features")
    other.add_argument("--classifier", help="la, tau_norm or ncm")
    other.add_argument(
        "--tau", type=float, help="of la and tau_norm; default: chosen on --select-on"
    )
    other.add_argument("--rule", help="one_standard_error (default) or best")
    other.add_argument("--select-on", help="val (default) or train")
    other.add_argument("--bias", help="of tau_norm: drop (default) or keep")
    other.add_argument("--transform", help="of ncm: none, l2n or cl2n (default)")
    other.add_argument("--average", help="of cl2n: examples (default) or classes")
    other.add_argument("--score", help="of ncm: euclidean (default) or dot")
    other.add_argument("--out", help="write a folder that `ltjax report` can read")
    evaluate.set_defaults(run=_evaluate)

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
        "--checkpoint", type=int, help="training step of it; default: the newest"
    )
    spectrum.add_argument("--steps", type=int, default=64, help="Lanczos steps")
    spectrum.add_argument("--starts", type=int, default=3, help="random starts")
    spectrum.add_argument("--replica", type=int, default=0)
    spectrum.set_defaults(run=_spectrum)

    listing = commands.add_parser(
        "list", help="methods, losses, models and data sets, a line each"
    )
    listing.add_argument("kind", nargs="?", default="", help="one of these, or all")
    listing.set_defaults(run=_list)

    prepare = commands.add_parser(
        "prepare", help="download a data set (the only command that does)"
    )
    prepare.add_argument("name")
    prepare.add_argument("--data-dir", default="", help="default: LTJAX_DATA_DIR")
    prepare.set_defaults(run=_prepare)
    return parser


def load_config(arguments: list[str]):
    """The ConfigDict that "--config FILE:args --config.field=value ..." describe.

    Args:
        arguments: only `--config` options.

    Returns:
        The ConfigDict with its overrides.

    Raises:
        UsageError: for an argument that is none, a missing file, or a bad override.
    """
    from absl import flags
    from ml_collections import config_flags

    spec, overrides = _split_config(arguments)
    path, _, arg = spec.partition(":")
    config = _run_config_file(path, arg)
    _check_names(config, overrides)
    values = flags.FlagValues()
    argv = ["ltjax", *overrides]
    try:
        config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, lock_config=True, sys_argv=argv
        )
        left = values(argv)[1:]
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        text = " ".join(_message(error).replace("\\n", " ").split())
        raise UsageError(f"ltjax train: {text}") from None
    if left:
        raise UsageError(f"ltjax train: unknown argument {left[0]!r}")
    return values.config


def _check_names(config, overrides: list[str]) -> None:
    """Refuses overrides of fields that do not exist, all at once."""
    from ltjax.train.config import ConfigError, nearest

    faults = []
    for override in overrides:
        if not override.startswith("--config."):
            continue
        place, names = config, override.partition("=")[0].split(".")[1:]
        for k, name in enumerate(names):
            known = list(place) if hasattr(place, "keys") else []
            if name not in known:
                path = ".".join(["config", *names[: k + 1]])
                faults.append(f"{path} is unknown{nearest(name, known)}")
                break
            place = place[name]
    if faults:
        raise ConfigError(faults)


def _split_config(arguments: list[str]) -> tuple[str, list[str]]:
    """FILE:args of --config, and the other arguments."""
    rest, spec, arguments = [], None, list(arguments)
    while arguments:
        argument = arguments.pop(0)
        if argument == "--config" and arguments:
            spec = arguments.pop(0)
        elif argument.startswith("--config="):
            spec = argument.partition("=")[2]
        else:
            rest.append(argument)
    if not spec:
        raise UsageError("ltjax train: --config FILE is missing")
    return spec, rest


def _run_config_file(path: str, arg: str):
    """`get_config(arg)` of a config file."""
    import importlib.util

    if not os.path.isfile(path):
        raise UsageError(f"ltjax train: there is no config file {path!r}")
    spec = importlib.util.spec_from_file_location("ltjax_config_file", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"ltjax train: {path!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_config(arg)
    except ValueError:  # has a message of its own
        raise
    except Exception as error:
        raise UsageError(
            f"ltjax train: config file {path!r} failed: {type(error).__name__}: {error}"
        ) from error


def _train(args, rest: list[str]) -> int:
    config = load_config(rest)
    from ltjax.train.loop import NonFinite, Preempted, run
    from ltjax.train.mesh import initialize
    from ltjax.train.validate import validate

    checked = validate(config)
    if args.multihost:
        initialize(args.coordinator, args.num_processes, args.process_id)
    from ltjax.train.build import build

    try:
        result = run(build(checked), args.workdir, tensorboard=not args.no_tensorboard)
    except Preempted as stop:
        print(stop, file=sys.stderr)
        return EXIT_PREEMPTED
    except NonFinite as failure:
        print(f"error: {failure}", file=sys.stderr)
        return EXIT_FAILED
    import jax
    import numpy as np

    if jax.process_index() == 0:
        for key, values in result.metrics.items():
            values = np.atleast_1d(values)
            spread = f" ± {values.std(ddof=1):.4f}" if values.size > 1 else ""
            print(f"{key:<34} {values.mean():.4f}{spread}")
    return 0


# Options of `ltjax eval --classifier NAME`: flag -> (name, classifiers that have it).
_CLASSIFIER_OPTIONS = {
    "tau": ("tau", ("la", "tau_norm")),
    "rule": ("rule", ("la", "tau_norm")),
    "select_on": ("select_on", ("la", "tau_norm")),
    "bias": ("bias_mode", ("tau_norm",)),
    "transform": ("transform", ("ncm",)),
    "average": ("average", ("ncm",)),
    "score": ("score", ("ncm",)),
    "out": ("out", ("la", "tau_norm", "ncm")),
}


def _classifier_options(args) -> dict:
    chosen = {}
    for flag, (name, owners) in _CLASSIFIER_OPTIONS.items():
        value = getattr(args, flag)
        if value is None:
            continue
        if args.classifier not in owners:
            raise UsageError(
                f"ltjax eval: --{flag.replace('_', '-')} belongs to --classifier"
                f" {' or '.join(owners)}, not to {args.classifier or 'the run itself'}"
            )
        chosen[name] = value
    return chosen


def _evaluate(args, rest) -> int:
    import numpy as np

    options = _classifier_options(args)
    if args.classifier is None:
        from ltjax.train.restore import evaluate_run

        found = evaluate_run(args.workdir, posthoc_tau=args.posthoc_tau)
    else:
        if args.posthoc_tau is not None:
            raise UsageError(
                "ltjax eval: --posthoc-tau adjusts the run itself; with another"
                " classifier, expected --classifier la --tau TAU"
            )
        from ltjax.train.posthoc import evaluate_classifier

        found = evaluate_classifier(args.workdir, args.classifier, **options)
    for key, values in found.items():
        values = np.atleast_1d(values)
        spread = f" ± {values.std(ddof=1):.4f}" if values.size > 1 else ""
        print(f"{key:<34} {values.mean():.4f}{spread}")
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
    at = "" if args.checkpoint is None else f"_{args.checkpoint}"
    path = os.path.join(args.workdir, "spectrum", f"{args.grouping}{at}.png")
    figure.savefig(path, dpi=150)
    print(f"figure {path}")
    return 0


def _list(args, rest) -> int:
    from ltjax.train.listing import listing

    print(listing(args.kind))
    return 0


def _prepare(args, rest) -> int:
    from ltjax.data.prepare import prepare

    prepare(args.name, args.data_dir or None)
    return 0


if __name__ == "__main__":
    warnings.simplefilter("default")
    sys.exit(main())
