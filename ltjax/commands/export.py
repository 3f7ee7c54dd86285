"""`ltjax export RUN --format F --out PATH`: a trained network for other programs."""

import argparse

from ltjax.commands.arguments import add_run, read_prior

_ABOUT = {
    "safetensors": "parameters and batch statistics, flat names (needs safetensors)",
    "msgpack": "the same as nested dicts, for flax.serialization",
    "orbax": "the same as an Orbax checkpoint folder",
    "stablehlo": "the function inputs -> probabilities, for jax.export",
}


def add_parser(commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "export",
        help="a trained network as a file for other programs",
        description="Writes PATH, and beside it PATH.json: class names, shape and dtype"
        " of the inputs, prior, normalization. Formats: "
        + "; ".join(f"{name}: {about}" for name, about in _ABOUT.items())
        + ".",
    )
    add_run(parser)
    parser.add_argument("--format", required=True, metavar="|".join(_ABOUT))
    parser.add_argument("--out", required=True, metavar="PATH")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Loads the run and writes the file."""
    prior = read_prior("export", "--prior", args.prior)
    trained = read_prior("export", "--trained-prior", args.trained_prior)
    from ltjax.serving import export, load

    predictor = load(args.workdir, checkpoint=args.checkpoint, replica=args.replica)
    for path in export(
        predictor, args.out, format=args.format, prior=prior, trained_prior=trained
    ):
        print(path)
    return 0
