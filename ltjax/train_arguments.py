"""Arguments of `ltjax train` for your own data, and the config that they make."""

import argparse
import os
import pathlib
from typing import Any

from ltjax.config_file import UsageError, load_config, override

# Flag -> keyword of `ltjax.own_data.own_config`, all given with --data only.
_FLAGS = (
    *("test", "method", "model", "image_size", "epochs", "label"),
    *("pretrained", "finetune"),
)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--data` and what goes with it."""
    own = parser.add_argument_group("data of your own, instead of --config")
    own.add_argument(
        "--data",
        metavar="PATH",
        help="folder with a folder of images per class (or train/ and test/ with"
        " such; those in unlabelled/ have no class), FILE.csv, FILE.parquet, FILE.npz"
        " or tfds:NAME",
    )
    own.add_argument(
        "--test",
        metavar="PATH",
        help="test data; default: found beside the training data, or a fifth of each"
        " class is split off",
    )
    own.add_argument(
        "--method",
        help="`ltjax list presets`; default: la; of several labels per example: tkpr,"
        " sigmoids or distribution_balanced; with unlabelled examples: fixmatch, darp,"
        " abc, ...; of candidates: proden, lw, cavl, corr or solar; of wrong labels:"
        " coteaching, cdr, har or rolt",
    )
    own.add_argument(
        "--model",
        help="`ltjax list models`, or my_pkg:make for one of your own; default: by the"
        " inputs",
    )
    own.add_argument(
        "--image-size", type=int, metavar="N", help="default: by the images' sizes"
    )
    own.add_argument("--epochs", type=int, metavar="N", help="default: by their number")
    own.add_argument(
        "--label",
        metavar="COLUMN",
        help="of a table, or columns of 0 and 1 as sky,sea; default: found",
    )
    own.add_argument(
        "--pretrained",
        metavar="FILE",
        help=".safetensors weights of a ResNet or Vision Transformer of torchvision,"
        " timm or CLIP",
    )
    own.add_argument(
        "--finetune",
        metavar="ROUTE",
        help="probe (the head), last:N (and N blocks), lora:RANK, or full:DECAY of the"
        " rate by depth; default: full",
    )


def default_workdir(args: argparse.Namespace) -> str:
    """The default workdir of a run on your own data.

    Raises:
        UsageError: for a run of a config.
    """
    if args.data is None:
        raise UsageError(
            f"ltjax {args.command}: the following arguments are required: --workdir;"
            f" see 'ltjax {args.command} --help'"
        )
    name = pathlib.PurePath(args.data.rpartition(":")[2]).stem or "data"
    name = name.replace("{split}", "").strip("_.")
    return os.path.join("runs", f"{name}_{args.method or 'la'}")


def train_config(args: argparse.Namespace, rest: list[str]) -> Any:
    """The config of a `ltjax train`, with what `--config.field=value` changes.

    Args:
        args: parsed.
        rest: the other arguments.

    Returns:
        A ConfigDict.

    Raises:
        UsageError: for a flag of your own data without `--data`, or both kinds of
            config.
    """
    given = {name: getattr(args, name) for name in _FLAGS}
    given = {name: value for name, value in given.items() if value is not None}
    if args.data is None:
        if given:
            flag = next(iter(given)).replace("_", "-")
            raise UsageError(
                f"ltjax {args.command}: --{flag} goes with --data PATH; with --config"
                " FILE it is an argument of the file, or an option such as"
                " --config.total"
            )
        return load_config(rest, command=args.command)
    if any(argument.partition("=")[0] == "--config" for argument in rest):
        raise UsageError(
            f"ltjax {args.command}: expected one of --data and --config, not both"
        )
    import jax

    from ltjax.own_data import own_config

    config = own_config(args.data, devices=len(jax.devices()), **given)
    return override(config, rest, command=args.command)
