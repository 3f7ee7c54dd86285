"""The tables of convolutions.md, made of results/convolutions.csv."""

import pathlib
from collections.abc import Mapping, Sequence

from experiments.bench.convolution_peer import PASSES
from experiments.bench.convolution_ways import WAYS
from experiments.bench.suites import HERE, RESULTS
from experiments.grid import replace_block
from ltjax.report.tables import markdown_grid, read_rows

TODAY = "library NHWC"
CHANNELS = ("16", "32", "64")

Rows = Sequence[Mapping[str, str]]


def label(row: Mapping[str, str]) -> str:
    """What a row measures; the library's convolution, channels last, goes unnamed."""
    way, where = row["way"], row["environment"]
    if where == "torch":
        return f"PyTorch {row['torch'].partition('+')[0]}, {way}"
    flags = "".join(where.partition(",")[1:])
    return f"jax {row['jax']}{flags}" if way == TODAY else way


def newest(rows: Rows) -> dict[tuple[str, str, str], Mapping[str, str]]:
    """The last row that ran of each (label, pass, channels), in order of the ways."""
    found = {
        (_environment(row), row["way"], row["pass"], row["channels"]): row
        for row in rows
        if not row["error"]
    }
    ways = [*WAYS]

    def order(key):
        way = ways.index(key[1]) if key[1] in ways else len(ways)
        return key[0] != "jax", way

    ordered = sorted(found, key=order)
    return {(label(found[key]), *key[2:]): found[key] for key in ordered}


def _environment(row: Mapping[str, str]) -> str:
    """Without the version, which a newer row replaces."""
    name, comma, flags = row["environment"].partition(",")
    return ("another jax" if name.startswith("jax ") else name) + comma + flags


def layers(rows: Rows) -> str:
    """Processor time of every way over today's, per pass and number of channels."""
    found = newest([row for row in rows if row["pass"] != "step"])
    columns = [(what, size) for size in CHANNELS for what in PASSES]
    names = dict.fromkeys(name for name, *_ in found)
    cells = []
    for name in names:
        of_name = [found.get((name, *column)) for column in columns]
        cells.append([name] + [_two(row) for row in of_name])
    heads = [f"{what.replace('_', ' ')}, {size}" for what, size in columns]
    return markdown_grid(["", *heads], cells, align="l" + "r" * len(columns))


def _two(row: Mapping[str, str] | None) -> str:
    return f"{float(row['ratio_processor_time']):.2f}" if row else ""


def steps(rows: Rows) -> str:
    """Whole training steps of ResNet-32: the time over today's."""
    found = newest([row for row in rows if row["pass"] == "step"])
    cells = [
        (
            name,
            row["ratio"],
            f"{row['ratio_low']} to {row['ratio_high']}",
            row["ratio_fastest"],
            row["ratio_processor_time"],
        )
        for (name, *_), row in found.items()
    ]
    heads = ("", "time", "quartiles", "fastest", "processor time")
    return markdown_grid(heads, cells, align="lrrrr")


def made(rows: Rows) -> str:
    """When and where the rows of both tables were measured."""
    places = sorted(
        {
            f"{row['date']}, ltjax {row['commit']}, {row['device']},"
            f" {row['cores']} cores"
            for row in newest(rows).values()
        }
    )
    return f"{'; '.join(places)}.\n"


def write(
    results: pathlib.Path = RESULTS, page: pathlib.Path = HERE / "convolutions.md"
) -> None:
    """Writes the tables of the page."""
    rows = read_rows(results / "convolutions.csv")
    replace_block(page, "layers", layers(rows))
    replace_block(page, "steps", steps(rows))
    replace_block(page, "made", made(rows))
