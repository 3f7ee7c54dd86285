"""Arguments that several commands share."""

import argparse
import csv
import difflib
import os
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
        import numpy as np

        try:
            return np.load(text, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UsageError(
                f"ltjax {command}: {flag} {text} is not a .npy file: {error}"
            ) from None
    found: dict[str, float] = {}
    try:
        with open(text, newline="", encoding="utf-8-sig") as file:
            for line in csv.reader(file):
                if line:
                    name, number = line
                    found[name.strip()] = float(number)
    except (ValueError, csv.Error):
        raise UsageError(
            f"ltjax {command}: {flag} {text} has the line {','.join(line)!r}, expected"
            " 'class,number'"
        ) from None
    return found
