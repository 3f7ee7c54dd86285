"""Arguments that several commands share."""

import argparse
import csv
import difflib
import os
import pathlib
import re
from typing import Any

from ltjax.config_file import UsageError


def checkpoint(text: str) -> int | str:
    """Of a checkpoint: "last", "best" or a training step."""
    if text in ("last", "best"):
        return text
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(
        f"it is {text!r}, expected 'last', 'best' or a training step"
    )


WORDS = ("uniform", "train")  # as `ltjax.serving.priors` knows them

CHECKPOINT: dict[str, Any] = {
    "type": checkpoint,
    "default": "last",
    "metavar": "last|best|STEP",
    "help": "which checkpoint; default: %(default)s",
}


class OptionsHelp(argparse.Action):
    """--help that ends with every option of the engine, read off its tables."""

    def __init__(self, option_strings, dest, **kwargs):
        kwargs["help"] = "show this help message and exit"
        super().__init__(option_strings, dest, nargs=0, **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):
        """Prints and exits; only this imports the engine."""
        from ltjax.train.listing import options_page

        parser.print_help()
        print(
            "\nEvery option is an argument, --config.batch_size=64 or"
            " --config.optimizer.lr=0.1.\n`ltjax options KIND NAME` prints those of a"
            f" component.\n\n{options_page('engine')}"
        )
        parser.exit()


def add_trackers(parser: argparse.ArgumentParser) -> None:
    """The arguments that say where records go, besides metrics.jsonl."""
    parser.add_argument(
        "--tracker",
        action="append",
        metavar="tensorboard|wandb|mlflow",
        help="where records go besides metrics.jsonl, once or more; default:"
        " tensorboard, whose files are in the workdir",
    )
    parser.add_argument(
        "--no-tensorboard", action="store_true", help="no TensorBoard files"
    )


def trackers_of(args: argparse.Namespace) -> dict[str, Any]:
    """What `ltjax.train.loop.run` takes: whether TensorBoard is written, and sinks.

    Raises:
        UsageError: for an unknown tracker.
        ImportError: if the package of one is not installed.
    """
    from ltjax.options import nearest
    from ltjax.train.trackers import TENSORBOARD, TRACKERS, make_writers

    asked = [TENSORBOARD] if args.tracker is None else args.tracker
    known = (TENSORBOARD, *TRACKERS)
    for name in asked:
        if name not in known:
            raise UsageError(
                f"ltjax {args.command}: --tracker is {name!r}, unknown"
                f"{nearest(name, known)}"
            )
    others = dict.fromkeys(name for name in asked if name != TENSORBOARD)
    return {
        "tensorboard": TENSORBOARD in asked and not args.no_tensorboard,
        "writers": make_writers(others),
    }


def refuse(args: argparse.Namespace, rest: list[str], *, configured: bool) -> None:
    """Refuses arguments that a command does not have, with what may have been meant.

    Args:
        args: parsed; `args.parser` is the command's parser.
        rest: what it did not know.
        configured: whether the command takes --config and --config.FIELD=VALUE, which
            are then left to it.

    Raises:
        UsageError: for the first one.
    """
    if configured:
        rest = [word for word in rest if re.match(r"--?[a-zA-Z]", word)]
        rest = [word for word in rest if not re.match(r"--config\b", word)]
    if not rest:
        return
    flag = rest[0].partition("=")[0]
    shown = re.findall(r"^ +(?:-\w, )?(--[\w-]+)", args.parser.format_help(), re.M)
    flags, fields = sorted(set(shown)), []
    if configured:
        flags = ["--config", *flags]
        from ltjax.train.listing import option_names

        name = flag.strip("-").replace("-", "_")
        fields = [f"--config.{k}" for k in option_names() if k.split(".")[-1] == name]
    meant = fields[:2] or difflib.get_close_matches(flag, flags, n=1)
    hint = f"did you mean {' or '.join(map(repr, meant))}? (" if meant else ""
    valid = ", ".join([*flags, *(["--config.FIELD"] if configured else [])])
    raise UsageError(
        f"ltjax {args.command}: unknown argument {flag!r}; {hint}valid: {valid}"
        f"{')' if meant else ''}"
    )


def metric_lines(found: dict[str, Any]) -> str:
    """Metrics as lines of "name  mean ± deviation" over replicas.

    One that means nothing for the run, such as the accuracy of a group without a class,
    is NaN throughout and left out.
    """
    import numpy as np

    lines = []
    for key, values in found.items():
        values = np.atleast_1d(values)
        if np.isnan(values).all():
            continue
        spread = f" ± {values.std(ddof=1):.4f}" if values.size > 1 else ""
        lines.append(f"{key:<34} {values.mean():.4f}{spread}")
    return "\n".join(lines)


def add_run(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which network is meant, and under which prior."""
    parser.add_argument("workdir", metavar="RUN", help="workdir of the run")
    parser.add_argument("--checkpoint", **CHECKPOINT)
    parser.add_argument(
        "--replica", type=int, default=0, help="which of its seeds; default: 0"
    )
    parser.add_argument(
        "--prior",
        metavar="uniform|train|FILE",
        help="class prior where the network is used; default: as the run predicts. FILE"
        " is a .csv of 'class,number' lines or an .npy of one number per class",
    )
    parser.add_argument(
        "--trained-prior",
        metavar="uniform|train|FILE",
        help="the prior that training implies, for losses that do not tell it",
    )


def read_prior(command: str, flag: str, text: str | None) -> Any:
    """The value of --prior: a word as it is, or what a file says.

    Args:
        command: for messages.
        flag: likewise.
        text: as it was given, or None.

    Returns:
        None, a word, an array [K] or {class name: number}.

    Raises:
        UsageError: for a file that is missing or says something else.
    """
    if text is None or text in WORDS:
        return text
    if not os.path.isfile(text):
        (near, *_) = difflib.get_close_matches(text, WORDS, n=1) or ("",)
        hint = f"did you mean {near!r}?" if near else "there is no such file"
        raise UsageError(
            f"ltjax {command}: {flag} is {text!r}; {hint} (valid: uniform, train, or a"
            " file of numbers)"
        )
    if text.endswith(".npy"):
        from ltjax.data.arrays import read_npy

        try:
            return read_npy(pathlib.Path(text))
        except ValueError as error:
            raise UsageError(f"ltjax {command}: {flag}: {error}") from None
    found: dict[str, float] = {}
    line: list[str] = []
    try:
        with open(text, newline="", encoding="utf-8-sig") as file:
            for line in csv.reader(file):
                if line:
                    name, number = line
                    found[name.strip()] = float(number)
    except UnicodeDecodeError:
        raise UsageError(
            f"ltjax {command}: {flag} {text} is not UTF-8 text, expected lines of"
            " 'class,number'"
        ) from None
    except (ValueError, csv.Error):
        raise UsageError(
            f"ltjax {command}: {flag} {text} has the line {','.join(line)!r}, expected"
            " 'class,number'"
        ) from None
    return found
