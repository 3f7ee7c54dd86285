"""The tables of the README, from the CSV files."""

import pathlib
from collections.abc import Mapping

from experiments.reliability.table import provenance as provenance_of_fork

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"
README = HERE / "README.md"


def append(
    path: pathlib.Path, row: Mapping[str, str], *, place: pathlib.Path | None
) -> None:
    """Adds a row with its provenance to a results file.

    Args:
        path: of the file.
        row: column -> text.
        place: a folder for a fork that asks for the devices, where this process may
            not; None: this one asks.
    """
    from ltjax.report.cells import append_csv

    if place is None:
        from experiments.bench.common import provenance

        made = provenance()
    else:
        made = provenance_of_fork(place)
    append_csv(path, [{**row, **made}])


def write() -> None:
    raise NotImplementedError
